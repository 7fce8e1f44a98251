package wireguard

import (
	"math/rand/v2"
	"testing"
	"time"
)

// rotate replaces the key of one end while packets go both ways: it is announced
// as the next one at both ends, in the given order, and made the only one.
func (w *world) rotate(e *end, oursFirst bool, pause func() time.Duration) {
	w.t.Helper()
	peer := w.end[1-e.i]
	next, err := NewPrivateKey(w.end[0].conf.Random)
	if err != nil {
		w.t.Fatal(err)
	}
	both := func(first bool, ours, theirs func(*Config)) {
		if first {
			w.configure(e, ours)
			w.run(pause())
			w.configure(peer, theirs)
		} else {
			w.configure(peer, theirs)
			w.run(pause())
			w.configure(e, ours)
		}
	}
	both(oursFirst, func(c *Config) { c.NextPrivateKey = next }, func(c *Config) { c.NextPeerPublicKey = next.Public() })
	// A pair that was not answered is tried again after a minute.
	w.run(preferAgain + 2*rekeyTimeout + time.Second)
	for _, x := range w.end {
		if k := x.d.table.current.Load().keys; k.ours != next.Public() && k.theirs != next.Public() {
			w.t.Fatalf("%s: the next key is not in use: %s and %s", x.name, k.ours, k.theirs)
		}
	}
	both(!oursFirst, func(c *Config) { c.PrivateKey, c.NextPrivateKey = next, PrivateKey{} },
		func(c *Config) { c.PeerPublicKey, c.NextPeerPublicKey = next.Public(), PublicKey{} })
}

// Keys are replaced, in either order of steps and at any moment of a session's
// life, without the loss of a packet.
func TestWorldRotation(t *testing.T) {
	calmly(t)
	for seed := range uint64(8) {
		w := newWorld(t, 1000+seed)
		r := rand.New(rand.NewPCG(seed, 3))
		w.end[0].rate, w.end[1].rate = 5*time.Millisecond, 20*time.Millisecond
		w.run(time.Second)
		w.settled = true
		for i := range 4 {
			w.run(time.Duration(r.Int64N(int64(150 * time.Second))))
			w.rotate(w.end[i%2], r.IntN(2) == 0, func() time.Duration { return time.Duration(r.Int64N(int64(100 * time.Second))) })
		}
		w.calm(0, time.Minute)
	}
}

// Both ends replace their keys at the same time.
func TestWorldRotationOfBoth(t *testing.T) {
	calmly(t)
	for seed := range uint64(10) {
		w := newWorld(t, 2000+seed)
		w.end[0].rate, w.end[1].rate = 5*time.Millisecond, 20*time.Millisecond
		w.run(time.Second)
		w.settled = true
		var next [2]PrivateKey
		for i := range next {
			var err error
			if next[i], err = NewPrivateKey(w.end[0].conf.Random); err != nil {
				t.Fatal(err)
			}
		}
		steps := []func(){}
		for i, e := range w.end {
			steps = append(steps,
				func() { w.configure(e, func(c *Config) { c.NextPrivateKey = next[i] }) },
				func() { w.configure(e, func(c *Config) { c.NextPeerPublicKey = next[1-i].Public() }) })
		}
		w.r.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		for _, do := range steps {
			do()
			w.run(time.Duration(w.r.Int64N(int64(40 * time.Second))))
		}
		w.run(preferAgain + 8*rekeyTimeout)
		for i, e := range w.end {
			if k := e.d.table.current.Load().keys; k.ours != next[i].Public() || k.theirs != next[1-i].Public() {
				t.Fatalf("%s: the next keys are not in use: %s and %s", e.name, k.ours, k.theirs)
			}
		}
		for i, e := range w.end {
			w.configure(e, func(c *Config) {
				c.PrivateKey, c.PeerPublicKey, c.NextPrivateKey, c.NextPeerPublicKey = next[i], next[1-i].Public(), PrivateKey{}, PublicKey{}
			})
			w.run(time.Second)
		}
		w.calm(0, time.Minute)
	}
}

// A key that is taken away takes its sessions with it, at once.
func TestRemovedKeyEndsSessions(t *testing.T) {
	w := newWorld(t, 1)
	w.calm(time.Second, time.Second)
	a := w.end[0]
	other, err := NewPrivateKey(a.conf.Random)
	if err != nil {
		t.Fatal(err)
	}
	w.configure(a, func(c *Config) { c.PrivateKey = other })
	if a.d.Resolved() || len(a.d.m.sessions) > 0 {
		t.Error("there are sessions of a key that was removed")
	}
	// The other end goes on sending by its session until it notices.
	if s := w.end[1].d.table.current.Load(); s == nil || a.d.table.find(s.remote) != nil {
		t.Error("a removed session still receives")
	}
}
