package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// Defaults of a prober where its field is zero.
const (
	defaultCount    = 5
	defaultInterval = 20 * time.Millisecond
	defaultTimeout  = time.Second
)

// Ping sends ICMP echo requests.
type Ping struct {
	From   netns.NS
	Source netip.Addr // zero: the kernel chooses
	To     netip.Addr
	// Size is that of the IP packet in bytes, 28 to 65535; 0 means 84, as ping does.
	Size     int
	DF       bool
	TTL      int           // 0: the kernel's default
	Count    int           // 0: 5
	Interval time.Duration // 0: 20 ms
	Timeout  time.Duration // after the last request; 0: 1 s
}

// Result is what a prober that counts answers found.
type Result struct {
	Sent     int           `json:"sent"`
	Received int           `json:"received"`
	RTT      time.Duration `json:"rtt_ns"` // median
	// Errors counts what came instead of an answer, "time exceeded from 192.0.2.1" say, and what could not be sent.
	Errors map[string]int `json:"errors,omitempty"`
}

// Loss is the share without an answer, 0 to 1; 1 if nothing was sent.
func (r Result) Loss() float64 {
	if r.Sent == 0 {
		return 1
	}
	return 1 - float64(r.Received)/float64(r.Sent)
}

// Run sends all requests and collects the answers. It ends early when ctx does; the error is for what kept it from
// probing, not for loss.
func (p Ping) Run(ctx context.Context) (Result, error) {
	size, count := or(p.Size, 84), or(p.Count, defaultCount)
	c, err := listenICMP(p.From, p.Source, options{df: p.DF, ttl: p.TTL})
	if err != nil {
		return Result{}, err
	}
	defer c.Close() //nolint:errcheck // nothing is buffered
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	id := uint16(rand.Uint32())
	r := Result{Errors: map[string]int{}}
	sentAt := make([]time.Time, count)
	rtts := make([]time.Duration, 0, count)
	for seq := range count {
		sentAt[seq] = time.Now()
		r.Sent++
		msg := appendEcho(nil, id, uint16(seq), size-ipHeaderLen)
		if _, err := c.WriteTo(msg, &net.IPAddr{IP: p.To.AsSlice()}); err != nil {
			r.Errors[sendError(err)]++
		}
		wait := or(p.Interval, defaultInterval)
		if seq == count-1 {
			wait = or(p.Timeout, defaultTimeout)
		}
		rtts = collect(c, id, size, time.Now().Add(wait), sentAt, rtts, &r)
		if ctx.Err() != nil {
			break
		}
	}
	r.Received, r.RTT = len(rtts), median(rtts)
	return r, ctx.Err()
}

// collect reads answers until the deadline, or until every request has one.
func collect(c *net.IPConn, id uint16, size int, deadline time.Time, sentAt []time.Time, rtts []time.Duration, r *Result) []time.Duration {
	buf := make([]byte, 65536)
	if err := c.SetReadDeadline(deadline); err != nil {
		r.Errors[err.Error()]++
		return rtts
	}
	for len(rtts) < len(sentAt) {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return rtts
		}
		if err != nil {
			r.Errors[sendError(err)]++
			continue
		}
		a, ok := parseAnswer(buf[:n], id)
		if !ok || int(a.seq) >= len(sentAt) {
			continue
		}
		switch {
		case a.kind != icmpEchoReply:
			r.Errors[describe(a)+" from "+from.String()]++
		case a.size != size:
			r.Errors[fmt.Sprintf("answer of %d bytes instead of %d", a.size, size)]++
		case !sentAt[a.seq].IsZero():
			rtts = append(rtts, time.Since(sentAt[a.seq]))
			sentAt[a.seq] = time.Time{} // a duplicate counts once
		}
	}
	return rtts
}

func describe(a answer) string {
	switch {
	case a.kind == icmpTimeExceeded:
		return "time exceeded"
	case a.code == codeFragNeeded:
		return fmt.Sprintf("fragmentation needed (mtu %d)", a.mtu)
	}
	return fmt.Sprintf("unreachable (code %d)", a.code)
}

// sendError shortens a socket's error to its cause.
func sendError(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// or is a with a default for zero.
func or[T comparable](a, byDefault T) T {
	var zero T
	if a == zero {
		return byDefault
	}
	return a
}
