package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// TCP sends bytes to an echo service and compares them.
type TCP struct {
	From    netns.NS
	To      netip.Addr    // port EchoPort
	Bytes   int           // 0: 1 MiB
	Timeout time.Duration // for all; 0: 10 s
}

// Run returns how long it took until the last byte came back unchanged.
func (t TCP) Run(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, or(t.Timeout, 10*time.Second))
	defer cancel()
	start := time.Now()
	c, err := dial(ctx, t.From, "tcp4", netip.AddrPortFrom(t.To, EchoPort), options{})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	want := pattern(uint32(start.UnixNano()), or(t.Bytes, 1<<20))
	var wg sync.WaitGroup
	var werr error
	wg.Go(func() {
		if _, werr = c.Write(want); werr == nil {
			werr = c.(*net.TCPConn).CloseWrite()
		}
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	switch {
	case err != nil:
		return 0, fmt.Errorf("read the echo of %d bytes from %s: %w", len(want), t.To, err)
	case werr != nil:
		return 0, fmt.Errorf("send %d bytes to %s: %w", len(want), t.To, werr)
	case !bytes.Equal(got, want):
		return 0, fmt.Errorf("%s sent %d bytes back that are not the %d bytes sent", t.To, len(got), len(want))
	}
	return time.Since(start), nil
}

// Throughput sends to a discard service as fast as TCP does.
type Throughput struct {
	From     netns.NS
	To       netip.Addr    // port DiscardPort
	Duration time.Duration // 0: 3 s
	Bytes    int64         // if not 0: stop after so many bytes instead
}

// Rate is a measured throughput.
type Rate struct {
	Bytes    uint64        `json:"bytes"` // what the other end counted
	Duration time.Duration `json:"duration_ns"`
}

// Mbps is the rate in megabits per second.
func (r Rate) Mbps() float64 {
	if r.Duration <= 0 {
		return 0
	}
	return float64(r.Bytes) * 8 / 1e6 / r.Duration.Seconds()
}

// Run sends, closes its half, and waits for the count of the other end.
func (t Throughput) Run(ctx context.Context) (Rate, error) {
	c, err := dial(ctx, t.From, "tcp4", netip.AddrPortFrom(t.To, DiscardPort), options{})
	if err != nil {
		return Rate{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 256<<10)
	start := time.Now()
	var sent int64
	for more := true; more; {
		n, err := c.Write(buf)
		sent += int64(n)
		if err != nil {
			return Rate{}, fmt.Errorf("send to %s after %d bytes: %w", t.To, sent, err)
		}
		if t.Bytes > 0 {
			more = sent < t.Bytes
		} else {
			more = time.Since(start) < or(t.Duration, 3*time.Second)
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return Rate{}, fmt.Errorf("close the stream to %s: %w", t.To, err)
	}
	var counted [8]byte
	if _, err := io.ReadFull(c, counted[:]); err != nil {
		return Rate{}, fmt.Errorf("read the count of %s: %w", t.To, err)
	}
	return Rate{Bytes: binary.BigEndian.Uint64(counted[:]), Duration: time.Since(start)}, nil
}

// Connect tries to open a TCP connection; nil means that somebody accepted it.
func Connect(ctx context.Context, from netns.NS, to netip.AddrPort, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := dial(ctx, from, "tcp4", to, options{})
	if err != nil {
		return err
	}
	return c.Close()
}
