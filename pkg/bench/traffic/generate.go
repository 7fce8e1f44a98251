package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// maxSegmented is the most payload that one send with UDP_SEGMENT takes, of IPv4 and IPv6.
const maxSegmented = maxIP - 40 - udpHeader

// retry is how long the generator lets the kernel recover that has no memory or no place in a queue.
const retry = 50 * time.Microsecond

// generator sends one load. It is used by one thread.
type generator struct {
	load    Load
	run     uint32
	to      netip.AddrPort // for errors
	fds     []int          // one a flow
	next    []uint64       // sequence number of each flow's next packet
	round   []int          // payload lengths, by sequence number
	segment int            // packets that UDP_SEGMENT takes in one message, 0 is without it
	v       *vector

	sent    uint64
	elapsed time.Duration // from the first packet to the end
}

func newGenerator(l Load, run uint32, to netip.AddrPort, fds []int) *generator {
	g := &generator{load: l, run: run, to: to, fds: fds, next: make([]uint64, len(fds)), round: l.round()}
	largest := 0
	for _, n := range g.round {
		largest = max(largest, n)
	}
	g.v = newVector(largest, false)
	pattern := newPattern(largest)
	for i := range batch {
		copy(g.v.slot(i), pattern)
	}
	if l.Segment && single(g.round) {
		g.segment = min(batch, maxSegmented/largest)
	}
	return g
}

// generate sends until the load's duration is over or ctx is done.
func (g *generator) generate(ctx context.Context) error {
	if err := exactTimers(); err != nil {
		return fmt.Errorf("set the timers' slack: %w", err)
	}
	burst, p := batch, (*pacer)(nil)
	if g.load.PPS > 0 {
		var gap time.Duration
		burst, gap = plan(g.load.PPS)
		p = &pacer{gap: gap}
	}
	if err := g.setSegment(burst); err != nil {
		return err
	}
	start := time.Now()
	now := time.Duration(0)
	for flow := 0; now < g.load.Duration && ctx.Err() == nil; now = time.Since(start) {
		if p != nil {
			// A packet that is due after the end is not sent.
			if wait := p.wait(now); wait > 0 {
				idle(min(wait, g.load.Duration-now))
				continue
			}
			p.sent(now)
		}
		if err := g.burst(ctx, flow, burst, start); err != nil {
			return fmt.Errorf("send from %s to %s: %w", g.load.From.Addr, g.to, err)
		}
		flow = (flow + 1) % len(g.fds)
	}
	g.elapsed = now
	return nil
}

// idle lets at most d pass: it sleeps while a sleep is sure to end in time, and spins
// the rest, which is for the caller's loop.
func idle(d time.Duration) {
	// What a thread may sleep past its time on a machine that has something to do; measured.
	const late, longest = 60 * time.Microsecond, 900 * time.Microsecond
	if d > late {
		napRaw(min(d-late, longest))
	}
}

// setSegment switches UDP_SEGMENT on where bursts are of more than one packet.
func (g *generator) setSegment(burst int) error {
	if g.segment == 0 {
		return nil
	}
	g.segment = min(g.segment, burst)
	size := g.round[0]
	if g.segment < 2 {
		g.segment, size = 0, 0
	}
	for _, fd := range g.fds {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size); err != nil {
			return fmt.Errorf("set UDP_SEGMENT: %w", err)
		}
	}
	return nil
}

// burst sends the next n packets of a flow. It sends fewer only when the load is over.
func (g *generator) burst(ctx context.Context, flow, n int, start time.Time) error {
	for i := range n {
		seq := g.next[flow] + uint64(i)
		header{g.run, uint16(flow), seq}.put(g.v.slot(i))
		g.v.iovs[i].SetLen(g.round[seq%uint64(len(g.round))])
	}
	for at := 0; at < n; {
		k, err := g.send(g.fds[flow], at, n)
		if err == nil {
			at += k
			g.next[flow] += uint64(k)
			g.sent += uint64(k)
			continue
		}
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS):
			napRaw(retry)
		case errors.Is(err, unix.ECONNREFUSED):
			// The answer to an earlier packet, from before the sink or from something on the path; asking has cleared it.
		case g.segment > 0 && (errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL)):
			// The path does not take segments (no checksum offload, a policy on the route): without them, then.
			g.segment = 1
			if err := g.setSegment(1); err != nil {
				return err
			}
		default:
			return err
		}
		if time.Since(start) >= g.load.Duration || ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// send hands the kernel packets at to n of the batch and returns how many it took.
func (g *generator) send(fd, at, n int) (int, error) {
	if g.segment == 0 {
		return mmsg(unix.SYS_SENDMMSG, fd, g.v.msgs[at:n])
	}
	// All packets have the buffer's stride as their length, so they are in one piece.
	k := min(n-at, g.segment)
	g.v.iovs[at].SetLen(k * g.v.stride)
	if _, err := mmsg(unix.SYS_SENDMMSG, fd, g.v.msgs[at:at+1]); err != nil {
		g.v.iovs[at].SetLen(g.v.stride)
		return 0, err
	}
	return k, nil
}
