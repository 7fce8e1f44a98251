package load

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sink receives what Send of another machine sends.
type Sink struct {
	fd   int
	addr netip.AddrPort
}

// NewSink opens the sink's socket; from then on nothing that arrives is missed.
func NewSink(e Endpoint, port uint16) (*Sink, error) {
	fd, err := e.open(port, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	return &Sink{fd, netip.AddrPortFrom(e.Addr, port)}, nil
}

// Count counts until ctx is done and nothing more comes. Of the result it
// knows what was received, and not what was sent or how long it took.
func (s *Sink) Count(ctx context.Context, flows int) (r Result, err error) {
	var done atomic.Bool
	stop := context.AfterFunc(ctx, func() { done.Store(true) })
	defer stop()
	if err := r.sink(s.fd, max(flows, 1), &done); err != nil {
		return r, fmt.Errorf("receive on %s: %w", s.addr, err)
	}
	return r, nil
}

// Close closes the socket.
func (s *Sink) Close() error {
	if err := unix.Close(s.fd); err != nil {
		return fmt.Errorf("close the sink on %s: %w", s.addr, err)
	}
	return nil
}

// Send sends a load to a Sink of another machine and returns how many packets
// the sockets took, and in which time.
func Send(ctx context.Context, l Load) (sent uint64, elapsed time.Duration, err error) {
	fds, err := l.sources()
	defer closeAll(fds)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	sent = l.generate(ctx, fds, began)
	return sent, time.Since(began), ctx.Err()
}
