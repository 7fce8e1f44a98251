package bfd

import (
	"testing"
	"time"
)

const ms = time.Millisecond

func TestDetectionTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		ours        time.Duration // required receive interval
		minTx       time.Duration // the peer's
		multiplier  uint8         // the peer's
		want        time.Duration
		ourMultiple uint8 // has no part in it
	}{
		{"ours is slower", 300 * ms, 100 * ms, 3, 900 * ms, 50},
		{"theirs is slower", 100 * ms, 400 * ms, 5, 2 * time.Second, 2},
		{"one packet", 10 * ms, 10 * ms, 1, 10 * ms, 3},
		{"the slowest", time.Minute, 0xffffffff * time.Microsecond, 255, 255 * 0xffffffff * time.Microsecond, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *Config) { cfg.Interval, cfg.Multiplier = c.ours, c.ourMultiple })
			r.up()
			p := from(Up)
			p.minTx, p.multiplier = c.minTx, c.multiplier
			r.hear(p)
			if got := r.detectionTime(); got != c.want {
				t.Errorf("detection time %s, want %s", got, c.want)
			}
			r.pass(c.want - 1)
			if r.state != Up {
				t.Fatal("lost too early")
			}
			r.pass(1)
			if r.state != Down || r.diagnostic != DetectionTimeExpired || r.flaps != 1 || r.peer.discriminator != 0 {
				t.Errorf("%s, %s, %d flaps, peer %x", r.state, r.diagnostic, r.flaps, r.peer.discriminator)
			}
			if p := r.last(); p.state != Down || p.yours != 0 || p.minTx < time.Second {
				t.Errorf("said %+v", p)
			}
		})
	}
}

// gaps are the times between periodic packets of a session whose peer keeps talking.
func (r *rig) gaps(n int) (list []time.Duration) {
	r.t.Helper()
	last := r.lastTx
	for len(list) < n {
		at, _ := r.deadline()
		r.pass(at.Sub(r.now))
		if r.lastTx != last {
			list = append(list, r.lastTx.Sub(last))
			last = r.lastTx
		}
		r.heard = r.now
	}
	return list
}

func TestJitter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		multiplier uint8
		up         bool
		minRx      time.Duration // the peer's
		low, high  time.Duration
	}{
		{"up", 3, true, 100 * ms, 225 * ms, 300 * ms},
		{"a slower peer", 3, true, 400 * ms, 300 * ms, 400 * ms},
		{"multiplier 1", 1, true, 100 * ms, 225 * ms, 270 * ms},
		{"down", 3, false, 100 * ms, 750 * ms, time.Second},
		{"down with multiplier 1", 1, false, 100 * ms, 750 * ms, 900 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *Config) { cfg.Multiplier = c.multiplier })
			r.pass(0)
			if c.up {
				r.up()
				r.peer.minRx = c.minRx
			}
			gaps := r.gaps(2000)[1:]
			least, most := gaps[0], gaps[0]
			for _, g := range gaps {
				least, most = min(least, g), max(most, g)
			}
			slack := (c.high - c.low) / 50 // of a spread that has to be used
			if least < c.low || most > c.high || least > c.low+slack || most < c.high-slack {
				t.Errorf("gaps of %s to %s, want %s to %s", least, most, c.low, c.high)
			}
		})
	}
}

func TestSlowUnlessUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.pass(10 * time.Second)
	if n := len(r.sent); n < 10 || n > 14 {
		t.Errorf("%d packets in 10 s without a peer", n)
	}
	if p := r.last(); p.minTx != time.Second || p.minRx != 300*ms || p.state != Down || p.multiplier != 3 || p.yours != 0 || p.mine != ours || p.poll {
		t.Errorf("sent %+v", p)
	}
	r.hear(from(Down))
	if p := r.last(); p.minTx != time.Second || p.state != Init || p.yours != theirs || p.poll {
		t.Errorf("sent %+v", p)
	}
	slow := newRig(t, func(c *Config) { c.Interval = 2 * time.Second })
	slow.pass(0)
	if p := slow.last(); p.minTx != 2*time.Second {
		t.Errorf("sent %+v", p)
	}
	slow.hear(from(Init))
	if slow.polling {
		t.Error("polls though no timer has changed")
	}
}

func TestIntervalFollowsThePeer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.up()
	slow := from(Up)
	slow.minRx = 10 * time.Second
	r.hear(slow)
	n := len(r.sent)
	for range 8 {
		r.pass(800 * ms)
		r.hear(slow)
	}
	if len(r.sent) != n {
		t.Fatalf("sent %+v", r.sent[n:])
	}
	r.hear(from(Up)) // much faster: the last packet is too long ago
	if len(r.sent) != n+1 {
		t.Error("waits for the end of the slow interval")
	}
}

func TestShutdownSaysAdminDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.up()
	r.keep(r.shutdown(r.now))
	r.keep(r.tick(r.now))
	if p := r.last(); p.state != AdminDown || p.diagnostic != AdministrativelyDown || p.yours != theirs {
		t.Errorf("sent %+v", p)
	}
	c := r.changes[len(r.changes)-1]
	if c.To != AdminDown || c.Failure() || r.flaps != 0 {
		t.Errorf("change %+v, %d flaps", c, r.flaps)
	}
	if again := r.shutdown(r.now); again.changed {
		t.Error("twice")
	}
}

func TestGraceAfterBeingFrozen(t *testing.T) {
	t.Parallel()
	frozen := func(r *rig, d time.Duration) {
		r.now = r.now.Add(d)
		r.late(r.now, d)
		r.keep(r.tick(r.now))
	}
	r := newRig(t, nil)
	r.up()
	frozen(r, 5*time.Second) // nothing in the socket afterwards
	if r.state != Up || r.graces != 1 {
		t.Fatalf("%s, %d graces", r.state, r.graces)
	}
	r.pass(374 * ms)
	if r.state != Up {
		t.Fatal("no time was given")
	}
	r.pass(ms)
	if r.state != Down || r.diagnostic != DetectionTimeExpired {
		t.Fatalf("%s after the grace", r.state)
	}

	// The peer lives, and everything is as before.
	r = newRig(t, nil)
	r.up()
	frozen(r, 850*ms)
	r.pass(300 * ms)
	r.hear(from(Up))
	r.pass(899 * ms)
	if r.state != Up {
		t.Fatal("lost within the detection time")
	}
	r.pass(ms)
	if r.state != Down {
		t.Fatal("the grace was not over")
	}

	// Starved again and again, with a dead peer: only one grace.
	r = newRig(t, nil)
	r.up()
	start := r.now
	for r.state == Up && r.now.Sub(start) < time.Minute {
		frozen(r, 350*ms)
	}
	if got := r.now.Sub(start); got > 1400*ms {
		t.Errorf("took %s to see a dead peer", got)
	}
	// A little late is nothing special.
	r = newRig(t, nil)
	r.up()
	frozen(r, 300*ms)
	if r.graces != 0 {
		t.Error("grace without need")
	}
}
