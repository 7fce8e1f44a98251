package hops

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Path says where to look.
type Path struct {
	To     netip.Addr
	Source netip.Addr // zero: the kernel chooses
	Device string     // by which to send, whatever the routes say; empty: by the routes
	Mark   uint32     // of the packets; 0: none
	// Max is the number of hops, 0: 30. Silent is how many in a row may be silent, 0: 4.
	Max, Silent int
	Timeout     time.Duration // for an answer, 0: 700 ms
}

// Hop is who answered to one TTL.
type Hop struct {
	TTL  int
	Addr netip.Addr // the zero Addr is silence
	RTT  time.Duration
	Kind Kind
	Code uint8 // of Unreachable
}

// enough is how often the same router is met before the way is a loop.
const enough = 3

// tries is how often a silent hop is asked: one lost packet is no silent router.
const tries = 2

// Find probes hop by hop and calls each with what it finds, until the address
// answers, somebody says that it cannot be reached, too many are silent, the same
// router came three times, or ctx ends. It needs CAP_NET_RAW.
func Find(ctx context.Context, p Path, each func(Hop)) error {
	c, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is buffered
	// A deadline in the past ends a read.
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	f := finder{p: p, c: c, id: uint16(rand.Uint32()), token: rand.Uint64(), buf: make([]byte, 2048)}
	silent, seen := 0, map[netip.Addr]int{}
	for ttl := 1; ttl <= cmp.Or(p.Max, 30) && silent < cmp.Or(p.Silent, 4); ttl++ {
		h, err := f.hop(ctx, ttl)
		if err != nil {
			return err
		}
		each(h)
		switch h.Kind {
		case Reached, Unreachable:
			return nil
		case Silence:
			silent++
		case Exceeded:
			silent = 0
			if seen[h.Addr]++; seen[h.Addr] == enough {
				return nil
			}
		}
	}
	return nil
}

func (p Path) open(ctx context.Context) (*net.IPConn, error) {
	network, any := "ip4:icmp", "0.0.0.0"
	if p.To.Is6() {
		network, any = "ip6:ipv6-icmp", "::"
	}
	if p.Source.IsValid() {
		any = p.Source.String()
	}
	index := 0
	if p.Device != "" {
		ifi, err := net.InterfaceByName(p.Device)
		if err != nil {
			return nil, fmt.Errorf("find device %s: %w", p.Device, err)
		}
		index = ifi.Index
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) {
			if p.Mark != 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark))
			}
			if err == nil && index != 0 {
				err = p.sendBy(int(fd), index)
			}
		})
		return errors.Join(cerr, err)
	}}
	c, err := lc.ListenPacket(ctx, network, any)
	if err != nil {
		return nil, fmt.Errorf("open a socket for the way to %s: %w", p.To, err)
	}
	return c.(*net.IPConn), nil
}

// sendBy chooses the device of what is sent. What is received may come by another:
// an NVA's own address is behind its card, also for answers to what went through
// a tunnel; so binding the socket would not do.
func (Path) sendBy(fd, index int) error {
	// IPV6_UNICAST_IF is not in x/sys; both options take network byte order (ip(7)).
	const unicastIF6 = 76
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(index))
	value := int(binary.NativeEndian.Uint32(b[:]))
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	if domain == unix.AF_INET6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unicastIF6, value)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_UNICAST_IF, value)
}

type finder struct {
	p     Path
	c     *net.IPConn
	id    uint16
	token uint64
	buf   []byte
}

func (f *finder) hop(ctx context.Context, ttl int) (Hop, error) {
	h := Hop{TTL: ttl}
	if err := f.setTTL(ttl); err != nil {
		return h, fmt.Errorf("set the TTL: %w", err)
	}
	for try := range tries {
		seq := uint16(ttl*tries + try)
		began := time.Now()
		_, err := f.c.WriteToIP(request(f.p.To.Is6(), f.id, seq, f.token), &net.IPAddr{IP: f.p.To.AsSlice()})
		switch {
		case ctx.Err() != nil:
			return h, ctx.Err()
		case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EACCES): // the kernel's route says so
			return Hop{TTL: ttl, Kind: Unreachable}, nil
		case err != nil:
			return h, fmt.Errorf("probe hop %d on the way to %s: %w", ttl, f.p.To, err)
		}
		if err := f.c.SetReadDeadline(began.Add(cmp.Or(f.p.Timeout, 700*time.Millisecond))); err != nil {
			return h, fmt.Errorf("set a deadline: %w", err)
		}
		if ctx.Err() != nil { // the deadline may have replaced the one that ends the read
			return h, ctx.Err()
		}
		if f.await(ttl, &h) {
			h.RTT = time.Since(began)
			return h, nil
		}
	}
	return h, ctx.Err()
}

func (f *finder) setTTL(ttl int) error {
	raw, err := f.c.SyscallConn()
	if err != nil {
		return err
	}
	level, option := unix.IPPROTO_IP, unix.IP_TTL
	if f.p.To.Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, ttl) })
	return errors.Join(cerr, err)
}

// await reads until an answer to this TTL comes or the deadline passes.
func (f *finder) await(ttl int, h *Hop) bool {
	for {
		n, from, err := f.c.ReadFromIP(f.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return false
		}
		if err != nil {
			continue // an ICMP error that the kernel put on the socket; the message itself comes too
		}
		a, ok := parse(f.buf[:n], f.p.To.Is6(), f.id, f.token)
		if !ok || int(a.seq)/tries != ttl {
			continue
		}
		addr, _ := netip.AddrFromSlice(from.IP)
		h.Addr, h.Kind, h.Code = addr.Unmap(), a.kind, a.code
		return true
	}
}
