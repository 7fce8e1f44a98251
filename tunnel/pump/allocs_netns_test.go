package pump

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/streamtest"
)

// byHand stops the only loop of a tunnel's endpoint, so that the test can do its rounds.
func (r *rig) byHand(tn *Tunnel) *loop {
	r.t.Helper()
	e := tn.e
	e.stop.Store(true)
	e.bells[0].ring()
	e.loops.Wait()
	e.stop.Store(false)
	l := newLoop(e, 0)
	l.adopt(e.publish())
	r.t.Cleanup(func() { e.loops.Go(l.run) }) // for Close, which waits for it
	return l
}

// until does rounds until so many packets have been counted.
func (l *loop) until(t *testing.T, c *tunnel.Counters, packets uint64) {
	t.Helper()
	for c.Packets() < packets {
		if l.round() {
			continue
		}
		if n, err := unix.Poll(l.fds, 5000); n == 0 {
			t.Fatalf("%d packets of %d (%v)", c.Packets(), packets, err)
		}
	}
}

// A whole round allocates nothing: packets of all kinds go from a device to a
// socket, and from the socket at the other end to its device.
func TestNetnsRoundAllocates(t *testing.T) {
	for _, test := range []struct {
		name     string
		plain    bool
		protocol uint8 // it carries VXLAN all the same: a sync.Pool, which ESP has, forgets things under the race detector
	}{{name: "UDP_SEGMENT"}, {name: "plain", plain: true}, {name: "without UDP", protocol: protocolESP}} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.plain, r.queues, r.protocol = test.plain, 1, test.protocol
			a, b := r.pump(r.us, us, them, nil), r.pump(r.them, them, us, nil)
			r.resolved(a)
			from, to := r.byHand(a), r.byHand(b)
			inject, err := streamtest.NewInjector(r.us, "tr0", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := inject.Close(); err != nil {
					t.Error(err)
				}
			}()
			units := streamtest.Stream(rand.New(rand.NewPCG(1, 1)), 1, 12, mtu)
			sent, received := a.out[0].Packets(), b.in[0].Packets()
			var before, after runtime.MemStats
			var packets, allocs uint64
			for i, u := range units {
				if err := inject.Send(u); err != nil {
					t.Fatal(err)
				}
				packets += uint64(len(u.Packets))
				if i%20 < 19 && i < len(units)-1 {
					continue
				}
				runtime.ReadMemStats(&before)
				from.until(t, &a.out[0], sent+packets)
				to.until(t, &b.in[0], received+packets)
				runtime.ReadMemStats(&after)
				allocs += after.Mallocs - before.Mallocs
			}
			if s := r.stats(r.them, b); len(s.Drops) > 0 {
				t.Errorf("dropped %v", s.Drops)
			}
			// The tunnels' goroutines that ask for the peer, and those of the test binary, may allocate now and then.
			if allocs > packets/100 {
				t.Errorf("%d allocations for %d packets", allocs, packets)
			}
			t.Logf("%d allocations for %d packets", allocs, packets)
		})
	}
}
