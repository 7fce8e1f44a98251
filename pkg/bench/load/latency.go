package load

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// LatencyResult is what a measurement of round trips gave.
type LatencyResult struct {
	Sent uint64
	Hist *hdrhistogram.Histogram // nanoseconds, to 10 s with three digits
}

// Latency sends at the load's rate, which it needs, to a reflector at the other
// end and measures round trips from the time at which a packet was due: a
// sender that is held up does not hide it.
func Latency(ctx context.Context, l Load) (LatencyResult, error) {
	r := LatencyResult{Hist: hdrhistogram.New(1, int64(10*time.Second), 3)}
	reflectorFD, err := l.To.open(l.Port, netip.AddrPort{})
	if err != nil {
		return r, err
	}
	defer unix.Close(reflectorFD) //nolint:errcheck // nothing is buffered
	l.Flows = 1
	fds, err := l.sources()
	defer closeAll(fds)
	if err != nil {
		return r, err
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	var reflectErr, receiveErr error
	began := time.Now()
	wg.Go(func() { reflectErr = reflect(reflectorFD, &done) })
	wg.Go(func() { receiveErr = r.receive(fds[0], began, &done) })
	r.Sent = l.pace(ctx, fds[0], began)
	sleep(drain)
	done.Store(true)
	wg.Wait()
	switch {
	case reflectErr != nil:
		return r, fmt.Errorf("reflect on %s: %w", l.To.Addr, reflectErr)
	case receiveErr != nil:
		return r, fmt.Errorf("receive on %s: %w", l.From.Addr, receiveErr)
	case ctx.Err() != nil:
		return r, ctx.Err()
	case r.Hist.TotalCount() == 0:
		return r, fmt.Errorf("%d packets from %s to %s and back: %w", r.Sent, l.From.Addr, l.To.Addr, ErrNothing)
	}
	return r, nil
}

// pace sends one packet at a time, each when it is due.
func (l Load) pace(ctx context.Context, fd int, began time.Time) (sent uint64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sharpTimer()
	buf := make([]byte, lengths(l.Sizes)[0])
	gap := time.Duration(float64(time.Second) / l.PPS)
	for at := time.Duration(0); at < l.Duration && ctx.Err() == nil; at += gap {
		sleep(at - time.Since(began))
		stamp{0, sent, at}.put(buf)
		_, _ = unix.Write(fd, buf) // what is not sent is missing in the histogram
		sent++
	}
	return sent
}

// reflect sends back what comes.
func reflect(fd int, done *atomic.Bool) error {
	runtime.LockOSThread()
	v := newVector(true)
	for !done.Load() {
		n, err := v.receive(fd, 10)
		if err != nil {
			return err
		}
		for i := range n {
			v.iovs[i].SetLen(int(v.msgs[i].n))
		}
		v.send(fd, n)
	}
	return nil
}

func (r *LatencyResult) receive(fd int, began time.Time, done *atomic.Bool) error {
	runtime.LockOSThread()
	v := newVector(false)
	for !done.Load() {
		n, err := v.receive(fd, 10)
		if err != nil {
			return err
		}
		now := time.Since(began)
		for i := range n {
			if s, ok := readStamp(v.buf[i][:v.msgs[i].n]); ok {
				_ = r.Hist.RecordValue(int64(now - s.at)) // beyond 10 s: lost
			}
		}
	}
	return nil
}
