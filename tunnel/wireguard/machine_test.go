package wireguard

import (
	"bytes"
	"container/heap"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel"
)

// network is two devices, a clock of its own, and datagrams that are under way.
type network struct {
	t       testing.TB
	r       *rand.Rand
	now     time.Time
	queue   events
	ends    [2]*Device
	next    [2]time.Time // when the machine wants to be asked again
	loss    float64
	repeat  float64
	delay   time.Duration // up to
	blocked [2]bool       // nothing arrives at this end
	sent    [2]int        // packets by this end
	arrived [2]int        // packets of this end
	refused map[tunnel.DropReason]int
}

type event struct {
	at time.Time
	to int
	b  []byte
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

func newNetwork(t testing.TB, seed uint64, a, b Config) *network {
	t.Helper()
	n := &network{t: t, r: rand.New(rand.NewPCG(seed, 7)), now: time.Now(), refused: map[tunnel.DropReason]int{}}
	n.start(0, a)
	n.start(1, b)
	return n
}

// start starts an end, or starts it again.
func (n *network) start(i int, c Config) {
	n.ends[i] = newDevice(n.t, c)
	n.ends[i].m.retry, n.ends[i].m.status.Since = n.now, n.now
	n.next[i] = n.now
}

// put sends from an end.
func (n *network) put(from int, b []byte) {
	for range 1 + n.chance(n.repeat) {
		if n.chance(n.loss) == 0 {
			at := n.now.Add(time.Millisecond + time.Duration(n.r.Int64N(int64(n.delay)+1)))
			heap.Push(&n.queue, event{at, 1 - from, bytes.Clone(b)})
		}
	}
}

func (n *network) chance(p float64) int {
	if n.r.Float64() < p {
		return 1
	}
	return 0
}

// run lets time pass, with a packet from each end in every step.
func (n *network) run(d, step time.Duration) {
	for end := n.now.Add(d); n.now.Before(end); n.now = n.now.Add(step) {
		for len(n.queue) > 0 && !n.queue[0].at.After(n.now) {
			e := heap.Pop(&n.queue).(event)
			n.receive(e.to, e.b)
		}
		for i, d := range n.ends {
			if !n.now.Before(n.next[i]) {
				n.next[i] = d.m.tick(n.now, func(b []byte) { n.put(i, b) })
			}
			n.sent[i]++
			buf := make([]byte, 200)
			copy(buf[headerLen:], ping(40))
			if start, end, r := d.Seal(buf, headerLen, 60); r == tunnel.DropNone {
				n.put(i, buf[start:end])
			}
		}
	}
}

func (n *network) receive(i int, b []byte) {
	if n.blocked[i] {
		return
	}
	inner, _, kind, r := n.ends[i].Open(b)
	switch {
	case r != tunnel.DropNone:
		n.refused[r]++
	case kind == tunnel.Control:
		n.ends[i].m.message(n.now, inner, false, func(b []byte) { n.put(i, b) })
		n.next[i] = n.now
	case kind == tunnel.Packet:
		n.arrived[1-i]++
	}
}

// lost is how many packets did not arrive since the last call.
func (n *network) lost() (lost [2]int) {
	for i := range lost {
		lost[i] = n.sent[i] - n.arrived[i]
		n.sent[i], n.arrived[i] = 0, 0
	}
	return lost
}

func twoKeys(t testing.TB) (a, b Config) {
	t.Helper()
	ka, kb := testKey(t), testKey(t)
	return Config{PrivateKey: ka, PeerPublicKey: kb.Public()}, Config{PrivateKey: kb, PeerPublicKey: ka.Public()}
}

// On a network that loses nothing, ten rekeys lose nothing, whoever begins.
func TestRekeysLoseNothing(t *testing.T) {
	for seed := range uint64(3) {
		a, b := twoKeys(t)
		n := newNetwork(t, seed, a, b)
		n.delay = 30 * time.Millisecond
		n.run(time.Second, 10*time.Millisecond)
		n.lost()
		n.run(20*time.Minute, 50*time.Millisecond)
		if l := n.lost(); max(l[0], l[1]) > 1 || len(n.refused) > 0 { // one may be under way
			t.Errorf("seed %d: %v lost, refused %v", seed, l, n.refused)
		}
		if h := n.ends[0].Status().Handshakes; h < 9 || h > 30 {
			t.Errorf("seed %d: %d handshakes in 20 minutes", seed, h)
		}
	}
}

// Whatever happens to the network and to the ends, both are up again soon after.
func TestNeverStuck(t *testing.T) {
	for seed := range uint64(8) {
		a, b := twoKeys(t)
		if seed%2 == 0 {
			a.PresharedKey, b.PresharedKey = PresharedKey{1}, PresharedKey{1}
		}
		n := newNetwork(t, seed, a, b)
		for range 12 {
			switch n.r.IntN(6) {
			case 0:
				n.start(0, a)
			case 1:
				n.start(1, b)
			case 2:
				n.blocked[n.r.IntN(2)] = true
			}
			n.loss, n.repeat, n.delay = n.r.Float64()*0.9, n.r.Float64()/4, time.Duration(n.r.IntN(300))*time.Millisecond
			n.run(time.Duration(n.r.IntN(400))*time.Second, 200*time.Millisecond)

			n.loss, n.repeat, n.delay, n.blocked = 0, 0, 10*time.Millisecond, [2]bool{}
			n.run(40*time.Second, 100*time.Millisecond) // 15 s until a dead peer is noticed, and a few tries
			n.lost()
			n.run(5*time.Second, 20*time.Millisecond)
			for i, l := range n.lost() {
				if l > 5 || !n.ends[i].Resolved() { // a few are under way
					t.Fatalf("seed %d: end %d lost %d: %+v", seed, i, l, n.ends[i].Status())
				}
			}
		}
	}
}

// Both keys are replaced, one after the other, and nothing is lost.
func TestRotation(t *testing.T) {
	for seed := range uint64(5) {
		a, b := twoKeys(t)
		n := newNetwork(t, seed, a, b)
		n.delay = 20 * time.Millisecond
		pause := func() { n.run(time.Duration(n.r.IntN(90))*time.Second, 20*time.Millisecond) }
		change := func(i int, c Config) {
			c.MTU = testMTU
			n.ends[i].m.configure(c, n.now)
			n.next[i] = n.now
		}
		n.run(2*time.Second, 20*time.Millisecond)
		n.lost()
		for range 2 {
			next := testKey(t)
			a.NextPrivateKey, b.NextPeerPublicKey = next, next.Public()
			steps := []func(){func() { change(0, a) }, func() { change(1, b) }}
			n.r.Shuffle(2, func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
			steps[0]()
			pause()
			steps[1]()
			n.run(2*time.Minute, 20*time.Millisecond)
			if s := n.ends[1].Status(); s.Theirs() != next.Public() {
				t.Errorf("seed %d: the new key is not used: %+v", seed, s)
			}
			a.PrivateKey, a.NextPrivateKey = next, PrivateKey{}
			b.PeerPublicKey, b.NextPeerPublicKey = next.Public(), PublicKey{}
			steps[1]()
			pause()
			steps[0]()
			pause()
			a, b = b, a // the other end's turn
			n.ends[0], n.ends[1] = n.ends[1], n.ends[0]
			n.next = [2]time.Time{n.now, n.now}
			for i := range n.queue {
				n.queue[i].to = 1 - n.queue[i].to
			}
			n.sent[0], n.sent[1] = n.sent[1], n.sent[0]
			n.arrived[0], n.arrived[1] = n.arrived[1], n.arrived[0]
		}
		for i, l := range n.lost() {
			if l > 3 {
				t.Errorf("seed %d: end %d lost %d packets; refused %v", seed, i, l, n.refused)
			}
		}
	}
}

// The reasons are told in words.
func TestWhy(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a, b *Config)
		end    int
		want   string
	}{
		"nobody there":           {func(_, b *Config) { b.PrivateKey = PrivateKey{} }, 0, "no answer to"},
		"our key is unknown":     {func(_, b *Config) { b.PeerPublicKey = PublicKey{5} }, 1, "which is not the one that is configured"},
		"their key is wrong":     {func(a, _ *Config) { a.PeerPublicKey = PublicKey{7} }, 1, "made for another public key than ours"},
		"preshared keys differ":  {func(a, _ *Config) { a.PresharedKey = PresharedKey{3} }, 0, "the preshared keys differ"},
		"a preshared key is new": {func(_, b *Config) { b.PresharedKey = PresharedKey{4} }, 0, "the preshared keys differ"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := twoKeys(t)
			real := b
			c.change(&a, &b)
			if b.PrivateKey == (PrivateKey{}) {
				b = real
			}
			n := newNetwork(t, 1, a, b)
			if name == "nobody there" {
				n.blocked = [2]bool{true, true}
			}
			n.run(20*time.Second, 100*time.Millisecond)
			s := n.ends[c.end].Status()
			if why := s.Why(n.now); s.Up || !strings.Contains(why, c.want) {
				t.Errorf("up %v: %s", s.Up, why)
			}
		})
	}
}

// A clock that went back is told, and so is a replayed initiation.
func TestReplayedInitiation(t *testing.T) {
	a, b := twoKeys(t)
	n := newNetwork(t, 1, a, b)
	var first []byte
	n.ends[0].m.tick(n.now, func(m []byte) { first = bytes.Clone(m) })
	for range 2 {
		n.ends[1].m.message(n.now, first, false, func([]byte) {})
		n.now = n.now.Add(time.Second)
	}
	if s := n.ends[1].Status(); s.Responses != 1 || !strings.Contains(s.Why(n.now), "a second time") {
		t.Errorf("%+v", s)
	}
}

// Under load only who has a cookie is answered; the cookie comes by itself.
func TestCookies(t *testing.T) {
	a, b := twoKeys(t)
	n := newNetwork(t, 1, a, b)
	var post []byte
	keep := func(m []byte) { post = bytes.Clone(m) }
	n.ends[0].m.tick(n.now, keep)
	n.ends[1].m.message(n.now, post, true, keep)
	if post[0] != typeCookie || len(post) != cookieLen {
		t.Fatalf("answered with % x", post)
	}
	n.ends[0].m.message(n.now, post, false, keep)
	n.now = n.now.Add(2 * rekeyTimeout)
	n.ends[0].m.tick(n.now, keep)
	n.ends[1].m.message(n.now, post, true, keep)
	if post[0] != typeResponse {
		t.Fatalf("with the cookie: % x", post)
	}
	if s, p := n.ends[0].Status(), n.ends[1].Status(); s.CookiesTaken != 1 || p.CookiesSent != 1 || p.Responses != 1 {
		t.Errorf("%+v\n%+v", s, p)
	}
}
