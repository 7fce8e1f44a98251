package probe

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// options of a prober's socket.
type options struct {
	df  bool // set the "do not fragment" bit and let nothing be learned about the path's MTU
	ttl int  // 0: the kernel's default
}

// receiveBuffer is how much may wait for a prober that the machine gives no time
// to: more than half a second of the fastest stream. What overflows here would be
// taken for lost on the way.
const receiveBuffer = 4 << 20

// roomy gives a socket that buffer, whatever the machine's limit for users is.
func roomy(raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	})
	return cmp.Or(cerr, err)
}

func (o options) set(raw syscall.RawConn) error {
	if err := roomy(raw); err != nil {
		return fmt.Errorf("make room for what is received: %w", err)
	}
	var err error
	cerr := raw.Control(func(fd uintptr) {
		discover := unix.IP_PMTUDISC_DONT
		if o.df {
			discover = unix.IP_PMTUDISC_PROBE
		}
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover)
		if err == nil && o.ttl > 0 {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, o.ttl)
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// listenICMP opens a raw ICMP socket in a namespace. source may be the zero address: the kernel chooses.
func listenICMP(ns netns.NS, source netip.Addr, o options) (*net.IPConn, error) {
	var c *net.IPConn
	err := ns.Do(func() error {
		local := &net.IPAddr{}
		if source.IsValid() {
			local.IP = source.AsSlice()
		}
		var err error
		c, err = net.ListenIP("ip4:icmp", local)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open an ICMP socket in %s: %w", ns.Name, err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		err = o.set(raw)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("prepare an ICMP socket in %s: %w", ns.Name, err)
	}
	return c, nil
}

// dial opens a TCP or UDP connection from inside a namespace.
func dial(ctx context.Context, ns netns.NS, network string, to netip.AddrPort, o options) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		if network == "tcp4" {
			return nil
		}
		return o.set(raw)
	}}
	var c net.Conn
	err := ns.Do(func() error {
		var err error
		c, err = d.DialContext(ctx, network, to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect from %s: %w", ns.Name, err)
	}
	return c, nil
}

// ICMP types of RFC 792 that a prober sends or understands.
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpEcho         = 8
	icmpTimeExceeded = 11

	codeFragNeeded = 4 // of icmpUnreachable
	headerLen      = 8 // of an ICMP echo
	ipHeaderLen    = 20
)

// appendEcho appends an echo request of n bytes altogether.
func appendEcho(b []byte, id, seq uint16, n int) []byte {
	start := len(b)
	b = append(b, icmpEcho, 0, 0, 0, byte(id>>8), byte(id), byte(seq>>8), byte(seq))
	for i := len(b) - start; i < n; i++ {
		b = append(b, byte(i))
	}
	binary.BigEndian.PutUint16(b[start+2:], checksum(b[start:]))
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// answer is what an ICMP message says about one of our echo requests.
type answer struct {
	kind, code byte
	seq        uint16
	size       int // of an echo reply, bytes with the IP header
	mtu        int // of "fragmentation needed"
}

// parseAnswer reads an ICMP message; ok is false if it is not about an echo request with this id.
func parseAnswer(b []byte, id uint16) (a answer, ok bool) {
	if len(b) < headerLen {
		return answer{}, false
	}
	a = answer{kind: b[0], code: b[1], size: len(b) + ipHeaderLen}
	echo := b
	switch a.kind {
	case icmpEchoReply:
	case icmpTimeExceeded, icmpUnreachable:
		a.mtu = int(binary.BigEndian.Uint16(b[6:]))
		orig := b[headerLen:]
		if len(orig) < ipHeaderLen || orig[9] != unix.IPPROTO_ICMP {
			return answer{}, false
		}
		hl := int(orig[0]&0x0f) * 4
		if hl < ipHeaderLen || len(orig) < hl+headerLen || orig[hl] != icmpEcho {
			return answer{}, false
		}
		echo = orig[hl:]
	default:
		return answer{}, false
	}
	a.seq = binary.BigEndian.Uint16(echo[6:])
	return a, binary.BigEndian.Uint16(echo[4:]) == id
}
