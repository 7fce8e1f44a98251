package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/pkg/control"
)

// drainRig is a drainer with traffic that the test makes.
type drainRig struct {
	*drainer
	packets atomic.Uint64
	mu      sync.Mutex
	taken   []bgp.Stance
	err     error
}

func newDrainRig(socket string) *drainRig {
	r := &drainRig{drainer: newDrainer(zap.NewNop(), socket)}
	r.forwarded = func() (uint64, error) { return r.packets.Load(), nil }
	r.take = func(_ context.Context, s bgp.Stance) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.taken = append(r.taken, s)
		return r.err
	}
	return r
}

// traffic forwards a packet every 100 ms for a while.
func (r *drainRig) traffic(d time.Duration) {
	for range d / (100 * time.Millisecond) {
		time.Sleep(100 * time.Millisecond)
		r.packets.Add(1)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		before, after time.Duration // how long traffic goes on, and again after the withdrawal
		until         string        // the state in which traffic starts again
		wantSafe      bool
		least, atMost time.Duration
	}{
		{"traffic leaves in 30 s", 30 * time.Second, 0, "", true, 34 * time.Second, 36 * time.Second},
		{"no other way: traffic ends with the withdrawal", 90 * time.Second, 0, "", true, 92 * time.Second, 96 * time.Second},
		{"somebody has a static route", time.Hour, 0, "", false, 180 * time.Second, 182 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "a.sock")
			synctest.Test(t, func(t *testing.T) {
				r := newDrainRig(socket)
				ctx, cancel := context.WithCancel(t.Context())
				var tasks sync.WaitGroup
				tasks.Go(func() { _ = r.run(ctx) })
				start := time.Now()
				if err := r.drain(ctx); err != nil {
					t.Fatal(err)
				}
				tasks.Go(func() {
					for end := start.Add(c.before); time.Now().Before(end) && ctx.Err() == nil; {
						r.traffic(100 * time.Millisecond)
					}
				})
				for r.view().State != control.DrainDone {
					time.Sleep(drainLook)
				}
				if took := time.Since(start); took < c.least || took > c.atMost {
					t.Errorf("drained after %s, want %s to %s", took, c.least, c.atMost)
				}
				if v := r.view(); v.Safe != c.wantSafe {
					t.Errorf("%+v", v)
				}
				if newDrainer(zap.NewNop(), socket).stance() != bgp.Refuse {
					t.Error("a restart forgets that the node is drained")
				}
				if err := r.undrain(ctx); err != nil {
					t.Fatal(err)
				}
				if newDrainer(zap.NewNop(), socket).stance() != bgp.Carry || r.view().State != control.DrainNone {
					t.Error("it is still drained")
				}
				cancel()
				tasks.Wait()
				if want := []bgp.Stance{bgp.Avoid, bgp.Refuse, bgp.Carry}; !slices.Equal(r.taken, want) {
					t.Errorf("stances %v", r.taken)
				}
			})
		})
	}
}

func TestDrainFails(t *testing.T) {
	t.Parallel()
	r := newDrainRig(filepath.Join(t.TempDir(), "no", "such", "dir", "a.sock"))
	if err := r.drain(t.Context()); err == nil || len(r.taken) > 0 {
		t.Errorf("%v, %v: want no change without a memory of it", err, r.taken)
	}
	r = newDrainRig(filepath.Join(t.TempDir(), "a.sock"))
	r.err = errors.New("the speaker has ended")
	if err := r.drain(t.Context()); !errors.Is(err, r.err) {
		t.Errorf("%v", err)
	}
}

func TestSNMPColumn(t *testing.T) {
	t.Parallel()
	const text = "Ip: Forwarding DefaultTTL ForwDatagrams\nIp: 1 64 4711\nIcmp: InMsgs\nIcmp: 7\n"
	if n, err := snmpColumn(text, "Ip:", "ForwDatagrams"); err != nil || n != 4711 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := snmpColumn(text, "Ip:", "Nothing"); err == nil {
		t.Error("a column that is not there was read")
	}
	if _, err := forwardedPackets(); err != nil {
		t.Errorf("this kernel: %v", err)
	}
}
