package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNothing says that packets were sent and none arrived: the path is broken, which is not a rate of zero.
var ErrNothing = errors.New("no packet arrived")

// Result is what became of a load.
type Result struct {
	// Sent is how many packets the kernel took, Received how many different ones of them arrived unharmed.
	Sent, Received uint64
	// Reordered arrived after one of their flow with a higher number; they are among Received.
	Reordered uint64
	// Duplicated arrived once more; they are not among Received.
	Duplicated uint64
	// Elapsed is how long sending took.
	Elapsed time.Duration
	// SendPPS is Sent per second of Elapsed. It is below Load.PPS when the generator, or the
	// part of the path that runs in its system calls, could not keep up.
	SendPPS float64
	// ReceivePPS is Received per second of Elapsed, or of the time between the first and the
	// last arrival where that is longer because queues had to be emptied.
	ReceivePPS float64
	// Bits is what arrived, 8 for each byte of an IP packet.
	Bits uint64
	// BadPayload arrived with another length or content than was sent; they count as lost.
	BadPayload uint64
	// SinkOverflow were dropped at the sink's own socket, because the sink got too little of
	// a processor or their checksum was wrong. They count as lost, but the path has not lost them.
	SinkOverflow uint64
	// Foreign are whole packets of another run, stragglers; they count for nothing.
	Foreign uint64
}

// Loss is the share of packets sent that did not arrive, 0 to 1.
func (r Result) Loss() float64 {
	if r.Sent == 0 {
		return 0
	}
	return float64(r.Sent-min(r.Received, r.Sent)) / float64(r.Sent)
}

// Run sends a load and counts what arrives, until nothing has arrived for 100 ms.
// When nothing arrives at all, it is ErrNothing. With an error, the
// result has what was counted until then.
func Run(ctx context.Context, l Load) (Result, error) { return run(ctx, l, receiveBuffer) }

// run is Run with a choice of the sink's buffer.
func run(ctx context.Context, l Load, sinkBytes int) (Result, error) {
	l, err := l.validate()
	if err != nil {
		return Result{}, err
	}
	sinkFD, to, err := l.listen(sinkBytes)
	if err != nil {
		return Result{}, err
	}
	defer closeAll([]int{sinkFD})
	fds, err := l.dial(to)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(fds)

	id := rand.Uint32()
	s, g := newSink(sinkFD, l, id), newGenerator(l, id, to, fds)
	// The first error ends the other thread.
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var over atomic.Bool
	thread(&wg, func() {
		if err := s.receive(running, &over); err != nil {
			cancel(fmt.Errorf("sink at %s: %w", to, err))
		}
	})
	thread(&wg, func() {
		if err := g.generate(running); err != nil {
			cancel(err)
		}
		over.Store(true)
	})
	wg.Wait()
	r, err := conclude(s, g)
	switch {
	case running.Err() != nil:
		return r, context.Cause(running)
	case err != nil:
		return r, err
	case r.Received == 0:
		return r, fmt.Errorf("%d packets from %s to %s: %w", r.Sent, l.From.Addr, to, ErrNothing)
	}
	return r, nil
}

// listen opens the socket of the load's receiving end and says where it is.
func (l Load) listen(receiveBytes int) (fd int, at netip.AddrPort, err error) {
	fd, err = l.To.open(l.Port, receiveBytes)
	if err != nil {
		return -1, at, err
	}
	port, err := localPort(fd)
	if err != nil {
		closeAll([]int{fd})
		return -1, at, fmt.Errorf("ask for the port of the socket at %s: %w", l.To.Addr, err)
	}
	return fd, netip.AddrPortFrom(l.To.Addr, port), nil
}

// conclude puts together what both threads counted.
func conclude(s *sink, g *generator) (Result, error) {
	r := Result{
		Sent: g.sent, Received: s.received, Reordered: s.reordered, Duplicated: s.duplicated,
		Elapsed: g.elapsed, Bits: 8 * s.bytes, BadPayload: s.bad, Foreign: s.foreign,
	}
	if g.elapsed > 0 {
		r.SendPPS = float64(r.Sent) / g.elapsed.Seconds()
		r.ReceivePPS = float64(r.Received) / max(g.elapsed, s.last.Sub(s.first)).Seconds()
	}
	var err error
	if r.SinkOverflow, err = overflow(s.fd); err != nil {
		return r, fmt.Errorf("ask for the sink's drops: %w", err)
	}
	return r, nil
}
