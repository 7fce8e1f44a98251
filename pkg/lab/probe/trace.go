package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// Trace finds the routers on the way, as traceroute does.
type Trace struct {
	From    netns.NS
	To      netip.Addr
	MaxHops int           // 0: 30
	Timeout time.Duration // for each hop; 0: 500 ms
}

// Hop is what answered to one TTL; the zero address means silence.
type Hop struct {
	TTL     int        `json:"ttl"`
	Addr    netip.Addr `json:"addr,omitzero"`
	Reached bool       `json:"reached,omitempty"` // the destination itself answered
}

// String is the address, or "*" as traceroute prints it.
func (h Hop) String() string {
	if !h.Addr.IsValid() {
		return "*"
	}
	return h.Addr.String()
}

// Hops is a way through the network.
type Hops []Hop

// String joins the hops by arrows.
func (hs Hops) String() string {
	parts := make([]string, len(hs))
	for i, h := range hs {
		parts[i] = h.String()
	}
	return strings.Join(parts, " → ")
}

// Reached reports whether the destination answered.
func (hs Hops) Reached() bool { return len(hs) > 0 && hs[len(hs)-1].Reached }

// Names reports whether a router with this address answered.
func (hs Hops) Names(a netip.Addr) bool { return hs.Count(a) > 0 }

// Count tells how often a router answered: more than once means that packets come back to it.
func (hs Hops) Count(a netip.Addr) int {
	n := 0
	for _, h := range hs {
		if h.Addr == a {
			n++
		}
	}
	return n
}

// Run probes hop by hop until the destination answers, MaxHops are done or ctx ends.
func (t Trace) Run(ctx context.Context) (Hops, error) {
	c, err := listenICMP(t.From, netip.Addr{}, options{})
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing is buffered
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	id := uint16(rand.Uint32())
	var hops Hops
	for ttl := 1; ttl <= or(t.MaxHops, 30) && ctx.Err() == nil; ttl++ {
		if err := (options{ttl: ttl}).set(raw); err != nil {
			return hops, fmt.Errorf("set TTL %d: %w", ttl, err)
		}
		h, err := t.hop(c, id, ttl)
		if err != nil {
			return hops, err
		}
		hops = append(hops, h)
		if h.Reached {
			break
		}
	}
	return hops, ctx.Err()
}

// hop asks twice at most: one lost packet is no silent router.
func (t Trace) hop(c *net.IPConn, id uint16, ttl int) (Hop, error) {
	h := Hop{TTL: ttl}
	for try := range 2 {
		seq := uint16(ttl<<1 | try)
		msg := appendEcho(nil, id, seq, headerLen+32)
		if _, err := c.WriteTo(msg, &net.IPAddr{IP: t.To.AsSlice()}); err != nil && !answersLater(err) {
			return h, fmt.Errorf("probe hop %d: %w", ttl, err)
		}
		if err := c.SetReadDeadline(time.Now().Add(or(t.Timeout, 500*time.Millisecond))); err != nil {
			return h, err
		}
		if t.await(c, id, ttl, &h) {
			return h, nil
		}
	}
	return h, nil
}

// await reads until an answer to this hop's probes comes or the socket's deadline passes.
func (t Trace) await(c *net.IPConn, id uint16, ttl int, h *Hop) bool {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		if err != nil {
			continue // an ICMP error that the kernel put on the socket; the message itself comes too
		}
		a, ok := parseAnswer(buf[:n], id)
		if !ok || int(a.seq>>1) != ttl {
			continue
		}
		h.Addr, _ = netip.ParseAddr(from.String())
		h.Reached = a.kind == icmpEchoReply
		return true
	}
}

// answersLater: the kernel reports an earlier ICMP error on the next send; the probe was not at fault.
func answersLater(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.ECONNREFUSED)
}
