package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// longest is the longest round trip that a histogram tells apart; longer ones count as this.
const longest = 10 * time.Second

// LatencyResult is what a measurement of round trips gave.
type LatencyResult struct {
	// Sent is how many packets went out, Received how many came back, each counted once.
	Sent, Received uint64
	// Hist is the round trips in nanoseconds, with three digits.
	Hist *hdrhistogram.Histogram
}

// Latency sends at the load's rate, one packet at a time, to a reflector at the other end. The
// sender never waits for an answer, and a round trip begins when its packet was due: what
// holds the sender up is not hidden (no coordinated omission). Load.PPS must not be 0.
//
// Round trips include waking the reflector up, and reading in user space at both ends.
func Latency(ctx context.Context, l Load) (LatencyResult, error) {
	res := LatencyResult{Hist: hdrhistogram.New(1, int64(longest), 3)}
	l, err := l.validate()
	if err == nil && l.PPS == 0 {
		err = errors.New("round trips are measured at a rate, which is 0")
	}
	if err != nil {
		return res, err
	}
	reflectorFD, to, err := l.listen(receiveBuffer)
	if err != nil {
		return res, err
	}
	defer closeAll([]int{reflectorFD})
	fds, err := l.dial(to)
	if err != nil {
		return res, err
	}
	defer closeAll(fds)

	id := rand.Uint32()
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := newPinger(l, id, fds)
	reflector := newSink(reflectorFD, l, id)
	reflector.v = newVector(reflector.v.stride, true)
	var wg sync.WaitGroup
	var over atomic.Bool
	thread(&wg, func() {
		if err := reflector.reflect(running, &over); err != nil {
			cancel(fmt.Errorf("reflector at %s: %w", to, err))
		}
	})
	thread(&wg, func() {
		if err := p.ping(running, res.Hist); err != nil {
			cancel(fmt.Errorf("round trips from %s to %s: %w", l.From.Addr, to, err))
		}
		over.Store(true)
	})
	wg.Wait()
	res.Sent, res.Received = p.sent, p.received
	switch {
	case running.Err() != nil:
		return res, context.Cause(running)
	case res.Received == 0:
		return res, fmt.Errorf("%d packets from %s to %s and back: %w", res.Sent, l.From.Addr, to, ErrNothing)
	}
	return res, nil
}

// reflect sends the run's packets back to where they came from, until it is over. What
// cannot be sent is lost, as on any path.
func (s *sink) reflect(ctx context.Context, over *atomic.Bool) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	for ctx.Err() == nil && !over.Load() {
		n, err := s.v.receive(s.fd)
		switch err {
		case nil:
		case unix.EAGAIN:
			if err := await(fds, tick); err != nil {
				return fmt.Errorf("wait for packets: %w", err)
			}
			continue
		default:
			return fmt.Errorf("receive packets: %w", err)
		}
		for i := range n {
			// Somebody else's packet would become a packet between strangers.
			if h, ok := readHeader(s.v.received(i)); ok && h.run == s.run {
				s.v.iovs[i].SetLen(int(s.v.msgs[i].n))
				_, _ = mmsg(unix.SYS_SENDMMSG, s.fd, s.v.msgs[i:i+1])
			}
		}
	}
	return nil
}

// pinger sends packets one by one and receives their answers. It is used by one thread: an
// answer is not late because the thread for answers was not on a processor while the sender spun.
type pinger struct {
	load  Load
	run   uint32
	fds   []int
	polls []unix.PollFd
	gap   float64 // ns between packets
	round []int
	out   []byte
	in    *sink // checks and counts answers

	sent, received uint64
}

func newPinger(l Load, run uint32, fds []int) *pinger {
	p := &pinger{load: l, run: run, fds: fds, gap: float64(time.Second) / l.PPS, round: l.round(), in: newSink(-1, l, run)}
	p.out = newPattern(len(p.in.pattern))
	for _, fd := range fds {
		p.polls = append(p.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return p
}

// due is when packet n of all flows is to be sent, since the start.
func (p *pinger) due(n uint64) time.Duration { return time.Duration(float64(n) * p.gap) }

func (p *pinger) ping(ctx context.Context, h *hdrhistogram.Histogram) error {
	if err := exactTimers(); err != nil {
		return fmt.Errorf("set the timers' slack: %w", err)
	}
	// What a thread may sleep past its time; it spins for so long.
	const late = 20 * time.Microsecond
	start := time.Now()
	var last time.Duration // when something was sent or received
	for n := uint64(0); ctx.Err() == nil; {
		now := time.Since(start)
		wait := tick
		if due := p.due(n); due < p.load.Duration {
			wait = due - now
		} else if p.received == p.sent || now-last >= quiet {
			return nil
		}
		if wait <= 0 {
			if err := p.send(n); err != nil {
				return err
			}
			n, last = n+1, now
		}
		// Also while behind, so that answers are not read late because of packets that are due.
		got, err := p.receive(start, h)
		if err != nil {
			return err
		}
		if got {
			last = time.Since(start)
		} else if wait > late {
			if err := await(p.polls, min(wait-late, tick)); err != nil {
				return fmt.Errorf("wait for answers: %w", err)
			}
		}
	}
	return nil
}

// send sends packet n of all flows. One that a full queue refuses is lost; it was due.
func (p *pinger) send(n uint64) error {
	flow := int(n % uint64(len(p.fds)))
	seq := n / uint64(len(p.fds))
	header{p.run, uint16(flow), seq}.put(p.out)
	_, err := unix.Write(p.fds[flow], p.out[:p.round[seq%uint64(len(p.round))]])
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EINTR):
		p.sent++
		return nil
	}
	return fmt.Errorf("send: %w", err)
}

// receive takes the answers that are there.
func (p *pinger) receive(start time.Time, h *hdrhistogram.Histogram) (got bool, err error) {
	for flow, fd := range p.fds {
		n, err := p.in.v.receive(fd)
		switch {
		case err == nil:
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ECONNREFUSED):
			continue
		default:
			return got, fmt.Errorf("receive: %w", err)
		}
		now := time.Since(start)
		for i := range n {
			payload := p.in.v.received(i)
			before := p.in.received
			p.in.packet(payload)
			if p.in.received == before {
				continue // not ours, changed, or once more
			}
			seq, _ := readHeader(payload)
			due := p.due(seq.seq*uint64(len(p.fds)) + uint64(flow))
			_ = h.RecordValue(int64(min(max(now-due, 1), longest))) // never out of range
			p.received, got = p.received+1, true
		}
	}
	return got, nil
}
