package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Load is a stream of packets.
type Load struct {
	From, To Endpoint
	Port     uint16 // of the sink
	Flows    int    // source ports, at least 1
	Sizes    []Size
	PPS      float64 // packets per second; 0: as fast as the generator can
	Duration time.Duration
}

// Result is what became of a load.
type Result struct {
	Sent, Received uint64
	Reordered      uint64 // arrived after a later one of their flow
	Bits           uint64 // received, of IP packets
	Elapsed        time.Duration
}

// Loss is the share of packets that did not arrive, 0 to 1.
func (r Result) Loss() float64 {
	if r.Sent == 0 {
		return 0
	}
	return float64(r.Sent-min(r.Received, r.Sent)) / float64(r.Sent)
}

// ReceivedPPS is how many packets arrived in a second of sending.
func (r Result) ReceivedPPS() float64 { return float64(r.Received) / r.Elapsed.Seconds() }

// ErrNothing says that no packet arrived: the path is broken, which is not a rate of zero.
var ErrNothing = errors.New("no packet arrived")

// drain is how long the sink waits for stragglers.
const drain = 150 * time.Millisecond

// Run sends a load and counts what arrives.
func Run(ctx context.Context, l Load) (Result, error) {
	sinkFD, err := l.To.open(l.Port, netip.AddrPort{})
	if err != nil {
		return Result{}, err
	}
	defer unix.Close(sinkFD) //nolint:errcheck // nothing is buffered
	fds, err := l.sources()
	defer closeAll(fds)
	if err != nil {
		return Result{}, err
	}
	var r Result
	var done atomic.Bool
	var wg sync.WaitGroup
	var sinkErr error
	wg.Go(func() {
		runtime.LockOSThread()
		sinkErr = r.sink(sinkFD, max(l.Flows, 1), &done)
	})
	began := time.Now()
	r.Sent = l.generate(ctx, fds, began)
	r.Elapsed = time.Since(began)
	done.Store(true)
	wg.Wait()
	switch {
	case sinkErr != nil:
		return r, fmt.Errorf("receive on %s: %w", l.To.Addr, sinkErr)
	case ctx.Err() != nil:
		return r, ctx.Err()
	case r.Received == 0:
		return r, fmt.Errorf("%d packets from %s to %s: %w", r.Sent, l.From.Addr, l.To.Addr, ErrNothing)
	}
	return r, nil
}

func (l Load) sources() (fds []int, err error) {
	for range max(l.Flows, 1) {
		fd, err := l.From.open(0, netip.AddrPortFrom(l.To.Addr, l.Port))
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// sink counts until done and nothing more comes.
func (r *Result) sink(fd, flows int, done *atomic.Bool) error {
	v := newVector(false)
	next := make([]uint64, flows)
	for quiet := time.Duration(0); !done.Load() || quiet < drain; {
		const wait = 10 * time.Millisecond
		n, err := v.receive(fd, int(wait/time.Millisecond))
		if err != nil {
			return err
		}
		if n == 0 {
			quiet += wait
			continue
		}
		quiet = 0
		for i := range n {
			b := v.buf[i][:v.msgs[i].n]
			s, ok := readStamp(b)
			if !ok || int(s.flow) >= flows {
				continue
			}
			r.Received++
			r.Bits += uint64(len(b)+ipUDP) * 8
			if s.seq < next[s.flow] {
				r.Reordered++
			} else {
				next[s.flow] = s.seq + 1
			}
		}
	}
	return nil
}

// generate sends until the duration is over and returns how many packets the
// sockets took.
func (l Load) generate(ctx context.Context, fds []int, began time.Time) (sent uint64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sharpTimer()
	v := newVector(false)
	round := lengths(l.Sizes)
	seqs := make([]uint64, len(fds))
	total := 0
	for flow := 0; ctx.Err() == nil; flow = (flow + 1) % len(fds) {
		now := time.Since(began)
		if now >= l.Duration {
			break
		}
		n := due(l.PPS, now, total)
		if n == 0 {
			sleep(wakeUp(l.PPS, total) - now)
			continue
		}
		for i := range n {
			size := round[(total+i)%len(round)]
			stamp{uint16(flow), seqs[flow], now}.put(v.buf[i])
			seqs[flow]++
			v.iovs[i].SetLen(size)
		}
		sent += uint64(v.send(fds[flow], n))
		total += n
	}
	return sent
}

// burst is how many packets are sent at once at the most when there is a rate:
// a search for the loss-free rate is not a test of bursts.
const burst = 32

// due is how many packets to send now, of a rate, when total have been.
func due(pps float64, now time.Duration, total int) int {
	if pps == 0 {
		return batchSize
	}
	n := int(pps*now.Seconds()) - total
	// Less than 100 µs worth of packets is not worth a wake-up, if that is more than one.
	if n < int(pps/10_000) {
		return 0
	}
	return min(max(n, 0), burst)
}

// wakeUp is when the next packets are due.
func wakeUp(pps float64, total int) time.Duration {
	return time.Duration(float64(total+max(int(pps/10_000), 1)) / pps * float64(time.Second))
}

// sleep is precise to some microseconds, after sharpTimer.
func sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	// As in receive: not through the Go scheduler. Woken early it comes back.
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// sharpTimer lets this thread's timers be late by a microsecond only, instead of 50.
func sharpTimer() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0) }
