package traffic

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long nothing may have arrived for all to have arrived.
	quiet = 100 * time.Millisecond
	// maxDrain bounds the wait for quiet, which does not come while somebody else sends to the sink.
	maxDrain = 5 * time.Second
	// gather is how long the sink lets packets collect in its buffer, so that it
	// does not wake up, and take a processor from what is measured, for each.
	gather = 100 * time.Microsecond
	// tick is how often a thread that waits looks whether it is over.
	tick = 10 * time.Millisecond
)

// sink receives and counts the packets of one load. It is used by one thread; its
// results are for others when that has ended.
type sink struct {
	fd       int
	run      uint32
	overhead int   // bytes of IP and UDP headers
	round    []int // payload lengths, by sequence number
	pattern  []byte
	flows    []tracker
	v        *vector

	received, reordered, duplicated uint64
	bad, foreign, bytes             uint64
	first, last                     time.Time // when a packet was read
}

func newSink(fd int, l Load, run uint32) *sink {
	s := &sink{fd: fd, run: run, overhead: l.overhead(), round: l.round(), flows: make([]tracker, l.Flows)}
	largest := 0
	for _, n := range s.round {
		largest = max(largest, n)
	}
	s.pattern = newPattern(largest)
	s.v = newVector(largest+1, false) // one more, so that a packet that has become longer is seen
	return s
}

// receive counts until nothing has arrived for a while after sending is over.
func (s *sink) receive(ctx context.Context, over *atomic.Bool) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	var end time.Time // of sending, as seen here
	for ctx.Err() == nil {
		n, err := s.v.receive(s.fd)
		now := time.Now()
		switch err {
		case nil:
			s.count(n, now)
			if n < batch {
				nap(gather)
			}
		case unix.EAGAIN:
			if err := await(fds, tick); err != nil {
				return fmt.Errorf("wait for packets: %w", err)
			}
		default:
			return fmt.Errorf("receive packets: %w", err)
		}
		if !over.Load() {
			continue
		}
		if end.IsZero() {
			end = now
		}
		if err != nil && now.Sub(end) >= quiet && now.Sub(s.last) >= quiet || now.Sub(end) >= maxDrain {
			return nil
		}
	}
	return nil
}

// count takes the first n packets of the vector.
func (s *sink) count(n int, now time.Time) {
	counted := s.received + s.duplicated
	for i := range n {
		s.packet(s.v.received(i))
	}
	if s.received+s.duplicated == counted {
		return
	}
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
}

func (s *sink) packet(payload []byte) {
	h, ok := readHeader(payload)
	switch {
	case !ok:
		s.bad++
		return
	case h.run != s.run:
		s.foreign++
		return
	}
	length := s.round[h.seq%uint64(len(s.round))]
	if int(h.flow) >= len(s.flows) || !intact(payload, s.pattern, length) {
		s.bad++
		return
	}
	switch s.flows[h.flow].add(h.seq) {
	case duplicate:
		s.duplicated++
		return
	case reordered:
		s.reordered++
	case inOrder:
	}
	s.received++
	s.bytes += uint64(length + s.overhead)
}
