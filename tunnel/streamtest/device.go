package streamtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/tunnel/gso"
)

// socketBytes is the memory of a packet socket, in bytes.
const socketBytes = 64 << 20

// packetSocket opens a packet socket (packet(7)) on a device; ethertype 0 receives nothing.
func packetSocket(ns netns.NS, device string, ethertype uint16) (fd, index int, err error) {
	err = ns.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return fmt.Errorf("find %s: %w", device, err)
		}
		index = i.Index
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open a packet socket: %w", err)
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBytes),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBytes),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(ethertype), Ifindex: index}),
		)
	})
	return fd, index, err
}

func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// Injector gives packets to a device for sending.
type Injector struct {
	fd, index int
	link      []byte // in front of the packet, but its ethertype
	buf       []byte
}

// NewInjector opens one. Link is the link-layer header in front of each packet,
// without the ethertype, where the device has one.
func NewInjector(ns netns.NS, device string, link []byte) (*Injector, error) {
	fd, index, err := packetSocket(ns, device, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("send super packets to %s: %w", device, err), unix.Close(fd))
	}
	return &Injector{fd: fd, index: index, link: link}, nil
}

// Send gives it a unit.
func (j *Injector) Send(u Unit) error {
	ethertype := uint16(unix.ETH_P_IP)
	if u.Data[0]>>4 == 6 {
		ethertype = unix.ETH_P_IPV6
	}
	h, n := u.Header, len(j.link)
	if n > 0 {
		n += 2
	}
	if h != (gso.Header{}) {
		h.HdrLen += uint16(n)
		h.ChecksumStart += uint16(n)
	}
	j.buf = append(j.buf[:0], make([]byte, gso.HeaderLen)...)
	h.Put(j.buf)
	j.buf = append(j.buf, j.link...)
	if n > 0 {
		j.buf = binary.BigEndian.AppendUint16(j.buf, ethertype)
	}
	j.buf = append(j.buf, u.Data...)
	if err := unix.Sendto(j.fd, j.buf, 0, &unix.SockaddrLinklayer{Protocol: bigEndian(ethertype), Ifindex: j.index}); err != nil {
		return fmt.Errorf("send a packet of %d bytes (%+v): %w", len(u.Data), h, err)
	}
	return nil
}

// Close closes the socket.
func (j *Injector) Close() error { return unix.Close(j.fd) }

// collector keeps what a file descriptor delivers.
type collector struct {
	fd   int
	next func(fd int, buf []byte) (n int, err error) // n is 0 for what is not to be kept
	stop chan struct{}
	done sync.WaitGroup
	more chan struct{} // there may be something new

	mu      sync.Mutex
	packets [][]byte
	err     error
}

func collect(fd int, next func(int, []byte) (int, error)) *collector {
	c := &collector{fd: fd, next: next, stop: make(chan struct{}), more: make(chan struct{}, 1)}
	c.done.Go(c.run)
	return c
}

func (c *collector) run() {
	buf := make([]byte, 1<<17)
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, 50); err != nil && !errors.Is(err, unix.EINTR) {
			c.keep(nil, err)
			return
		}
		for {
			n, err := c.next(c.fd, buf)
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				break
			}
			if n > 0 || err != nil {
				c.keep(slices.Clone(buf[:n]), err)
			}
			if err != nil {
				return
			}
		}
	}
}

func (c *collector) keep(p []byte, err error) {
	c.mu.Lock()
	if err != nil {
		c.err = err
	} else {
		c.packets = append(c.packets, p)
	}
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.packets)
}

// wait returns when there are n packets, or nothing came for a while.
func (c *collector) wait(n int, silence time.Duration) bool {
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for c.count() < n {
		select {
		case <-c.more:
			timer.Reset(silence)
		case <-timer.C:
			return c.count() >= n
		}
	}
	return true
}

// close ends it and returns what it kept.
func (c *collector) close() ([][]byte, error) {
	close(c.stop)
	c.done.Wait()
	return c.packets, errors.Join(c.err, unix.Close(c.fd))
}

// tap keeps packets that a device sends, or those it receives, after the kernel cut them.
func tap(ns netns.NS, device string, sent bool, keep func([]byte) bool) (*collector, error) {
	fd, _, err := packetSocket(ns, device, unix.ETH_P_ALL)
	if err != nil {
		return nil, err
	}
	return collect(fd, func(fd int, buf []byte) (int, error) {
		n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if ll, ok := from.(*unix.SockaddrLinklayer); err != nil || !ok || (ll.Pkttype == unix.PACKET_OUTGOING) != sent || !keep(buf[:n]) {
			return 0, err
		}
		return n, nil
	}), nil
}

// redirect takes the streams' packets that a device receives out of the
// kernel's hands before its IP stack, and keeps them. They leave by a TUN device
// without any offload, so the kernel cuts super packets and finishes checksums.
func redirect(ns netns.NS, device string) (*collector, error) {
	const sink = "sink0"
	fd := -1
	err := ns.Do(func() (err error) {
		fd, err = openTUN(sink)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"sysctl", "-qw", "net.ipv6.conf." + sink + ".disable_ipv6=1"}, // it says nothing of its own
		{"ip", "link", "set", sink, "txqueuelen", "10000", "mtu", "65535", "up"},
		{"tc", "qdisc", "add", "dev", device, "clsact"},
		{"tc", "filter", "add", "dev", device, "ingress", "pref", "1", "protocol", "ip", "u32", "match", "ip", "dst", net.IP(destination4).String(), "action", "mirred", "egress", "redirect", "dev", sink},
		{"tc", "filter", "add", "dev", device, "ingress", "pref", "2", "protocol", "ipv6", "u32", "match", "ip6", "dst", net.IP(destination6).String() + "/128", "action", "mirred", "egress", "redirect", "dev", sink},
	} {
		if err := run(ns, args...); err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
	}
	return collect(fd, unix.Read), nil
}

func openTUN(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("make the TUN device %s: %w", name, err), unix.Close(fd))
	}
	return fd, nil
}
