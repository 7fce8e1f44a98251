package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// MaxMessage is the longest message: the kernel joins datagrams of a flow up
	// to this length (UDP_GRO).
	MaxMessage = 65535
	// batch is how many messages one system call takes. Their buffers, 3 MB in
	// all, are touched as far as messages are long.
	batch   = 48
	control = 96
	// stride is not a multiple of a page, so that the beginnings of the buffers
	// do not all fall into the same sets of the processor's caches.
	stride = 65536 + 192
)

// Receiver reads datagrams in batches. One goroutine uses it.
type Receiver struct {
	fd      int
	cfg     Config
	msgs    [batch]mmsghdr
	iovs    [batch]unix.Iovec
	names   [batch]unix.RawSockaddrInet6 // the larger of the two families
	control [batch][control]byte
	buf     []byte // batch times stride
	got     int
	ovfl    uint32
	lost    uint32
}

// Message is one or more datagrams of the same flow, one after the other. The
// bytes are the receiver's and may be changed until the next Receive.
type Message struct {
	Buf    []byte
	Size   int // of each datagram but the last, which may be shorter
	Source netip.Addr
	TOS    uint8
	// Truncated says that the message was longer than any should be.
	Truncated bool
}

// Listen opens n receivers on the same address and port; the kernel spreads
// the peers' source ports over them (SO_REUSEPORT). Without ports it spreads
// nothing, and each gets a copy of every packet: n has to be 1.
func Listen(cfg Config, n int) ([]*Receiver, error) {
	if cfg.raw() && n != 1 {
		return nil, fmt.Errorf("%d sockets for protocol %d: each would get all packets", n, cfg.Protocol)
	}
	list := make([]*Receiver, 0, n)
	for range n {
		r, err := newReceiver(cfg)
		if err != nil {
			for _, r := range list {
				err = errors.Join(err, r.Close())
			}
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

func newReceiver(cfg Config) (*Receiver, error) {
	fd, err := open(cfg)
	if err != nil {
		return nil, err
	}
	tos := option{"ask for the TOS", unix.IPPROTO_IP, unix.IP_RECVTOS, 1}
	if cfg.Local.Addr().Is6() {
		tos = option{"ask for the traffic class", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1}
	}
	options := []option{tos, {"ask for lost datagrams", unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1}}
	if !cfg.raw() {
		options = append(options, option{"let the kernel join datagrams", unix.SOL_UDP, unix.UDP_GRO, 1})
	}
	err = errors.Join(
		set(fd, options),
		setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF),
		setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF), // a Lane sends from here
		bind(fd, cfg.address(cfg.Local)),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	r := &Receiver{fd: fd, cfg: cfg, buf: make([]byte, batch*stride)}
	for i := range r.msgs {
		b := r.buf[i*stride:][:MaxMessage]
		r.iovs[i].Base = &b[0]
		r.iovs[i].SetLen(len(b))
		h := &r.msgs[i].hdr
		h.Iov, h.Name, h.Control = &r.iovs[i], (*byte)(unsafe.Pointer(&r.names[i])), &r.control[i][0]
		h.SetIovlen(1)
	}
	r.got = batch
	return r, nil
}

// FD is for polling.
func (r *Receiver) FD() int { return r.fd }

// Receive takes what is there, up to a batch, and returns how many datagrams;
// unix.EAGAIN if there is none.
func (r *Receiver) Receive() (int, error) {
	for i := range r.msgs[:r.got] { // the kernel overwrote the lengths of what it filled
		h := &r.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(r.names[i]))
		h.SetControllen(control)
		h.Flags = 0
	}
	n, err := mmsg(unix.SYS_RECVMMSG, r.fd, r.msgs[:])
	r.got = n
	return n, err
}

// Message describes message i of the last Receive.
func (r *Receiver) Message(i int) (d Message) {
	m := &r.msgs[i]
	d.Buf = r.buf[i*stride : i*stride+int(m.n)]
	if r.cfg.raw() && r.names[i].Family == unix.AF_INET {
		d.Buf = behindIPv4(d.Buf)
	}
	d.Size = len(d.Buf)
	d.Truncated = m.hdr.Flags&unix.MSG_TRUNC != 0
	d.Source = source(&r.names[i])
	b := r.control[i][:min(uint64(m.hdr.Controllen), control)]
	eachControl(b, func(level, typ int32, data []byte) {
		switch {
		case level == unix.IPPROTO_IP && typ == unix.IP_TOS && len(data) >= 1:
			d.TOS = data[0]
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_TCLASS && len(data) >= 4:
			d.TOS = uint8(binary.NativeEndian.Uint32(data))
		case level == unix.SOL_UDP && typ == unix.UDP_GRO && len(data) >= 4:
			if n := int(binary.NativeEndian.Uint32(data)); n > 0 && n < d.Size {
				d.Size = n
			}
		case level == unix.SOL_SOCKET && typ == unix.SO_RXQ_OVFL && len(data) >= 4:
			r.overflow(binary.NativeEndian.Uint32(data))
		}
	})
	return d
}

// behindIPv4 is what follows an IPv4 header and its options, which a raw socket
// gives as well (raw(7)); one for IPv6 does not. The kernel has looked at the
// lengths, but they are the packet's own.
func behindIPv4(b []byte) []byte {
	const least = 20
	if len(b) < least {
		return nil
	}
	n := int(b[0]&15) * 4
	if n < least || n > len(b) {
		return nil
	}
	return b[n:]
}

// overflow takes the kernel's count of what this socket dropped since it exists.
func (r *Receiver) overflow(total uint32) {
	r.lost += total - r.ovfl
	r.ovfl = total
}

// TakeLost returns how many datagrams the kernel dropped since the last call
// because the socket's buffer was full.
func (r *Receiver) TakeLost() int {
	n := int(r.lost)
	r.lost = 0
	return n
}

func source(name *unix.RawSockaddrInet6) netip.Addr {
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr)
}

// Close closes the socket. Nothing may use it any more.
func (r *Receiver) Close() error {
	if err := unix.Close(r.fd); err != nil {
		return fmt.Errorf("close a socket: %w", err)
	}
	return nil
}
