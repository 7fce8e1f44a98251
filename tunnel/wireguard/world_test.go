package wireguard

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel"
)

// A world is two of our devices, a network that loses, repeats, delays and
// reorders between them, somebody on the way who replays and alters what he saw,
// and a clock that nobody waits for.
type world struct {
	t      *testing.T
	r      *rand.Rand
	now    time.Time
	events happenings
	count  int // of events so far
	end    [2]*end

	loss, twice [2]float64    // towards the other end, 0 to 1
	hostile     bool          // somebody interferes
	seen        [2][][]byte   // what went towards an end
	delay       time.Duration // at most

	// settled says that every packet has to arrive; due are those that have not yet.
	settled bool
	due     map[uint64]bool
	opened  map[uint64]bool
	last    uint64 // number of a packet
}

// end is one of the devices.
type end struct {
	name    string
	i       int
	conf    Config
	skew    time.Duration // of its clock
	d       *Device
	started time.Time
	ticks   int // the valid tick; those planned before are void
	rate    time.Duration
}

type happening struct {
	at  time.Time
	seq int
	do  func()
}

type happenings []happening

func (e happenings) Len() int { return len(e) }
func (e happenings) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e happenings) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *happenings) Push(x any)   { *e = append(*e, x.(happening)) }
func (e *happenings) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		delay: 80 * time.Millisecond, due: map[uint64]bool{}, opened: map[uint64]bool{},
	}
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	var keys [2]PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = NewPrivateKey(random); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"a", "b"} {
		w.end[i] = &end{name: name, i: i, skew: time.Duration(i) * time.Hour, rate: 50 * time.Millisecond, conf: Config{
			MTU: testMTU, Remote: netip.MustParseAddr("192.0.2.1"), Random: random, PrivateKey: keys[i], PeerPublicKey: keys[1-i].Public(),
		}}
	}
	for _, e := range w.end {
		w.start(e)
		w.talk(e)
	}
	return w
}

// start makes a device anew: all sessions are gone.
func (w *world) start(e *end) {
	if err := e.conf.check(); err != nil {
		w.t.Fatal(err)
	}
	e.d = &Device{}
	e.d.mtu.Store(int64(e.conf.MTU))
	e.d.m = newMachine(e.conf, &e.d.table, w.now.Add(e.skew))
	e.started = w.now
	w.tick(e)
}

// configure gives a running device other keys.
func (w *world) configure(e *end, change func(*Config)) {
	change(&e.conf)
	if err := e.conf.check(); err != nil {
		w.t.Fatal(err)
	}
	e.d.m.configure(e.conf, w.now.Add(e.skew))
	w.tick(e)
}

func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.events, happening{w.now.Add(d), w.count, do})
}

// run lets a time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); ; {
		if len(w.events) == 0 || w.events[0].at.After(end) {
			w.now = end
			return
		}
		e := heap.Pop(&w.events).(happening)
		w.now = e.at
		e.do()
	}
}

func (w *world) tick(e *end) {
	next := e.d.m.tick(w.now.Add(e.skew), w.sender(e))
	e.ticks++
	mine := e.ticks
	w.after(max(0, next.Sub(w.now.Add(e.skew))), func() {
		if mine == e.ticks {
			w.tick(e)
		}
	})
}

func (w *world) sender(from *end) func([]byte) {
	return func(b []byte) { w.post(from, b) }
}

// post takes a datagram to the other end, or not.
func (w *world) post(from *end, b []byte) {
	to := w.end[1-from.i]
	b = bytes.Clone(b)
	if w.hostile && w.r.IntN(4) == 0 {
		w.seen[to.i] = append(w.seen[to.i], b)
	}
	for {
		if w.r.Float64() >= w.loss[from.i] {
			w.after(time.Duration(w.r.Int64N(int64(w.delay)))+time.Millisecond, func() { w.arrive(to, bytes.Clone(b)) })
		}
		if w.r.Float64() >= w.twice[from.i] {
			return
		}
	}
}

// interfere replays something old to an end, as it was or altered.
func (w *world) interfere(to *end) {
	if len(w.seen[to.i]) == 0 {
		return
	}
	b := bytes.Clone(w.seen[to.i][w.r.IntN(len(w.seen[to.i]))])
	if w.r.IntN(2) == 0 {
		b[w.r.IntN(len(b))] ^= 1 << w.r.IntN(8)
	}
	w.arrive(to, b[:len(b)-w.r.IntN(2)*w.r.IntN(len(b))])
}

func (w *world) arrive(to *end, b []byte) {
	inner, _, kind, r := to.d.Open(b)
	switch {
	case r != tunnel.DropNone:
	case kind == tunnel.Control:
		to.d.m.message(w.now.Add(to.skew), inner, w.hostile && w.r.IntN(4) == 0, w.sender(to))
		w.tick(to)
	case kind == tunnel.Packet:
		n := binary.BigEndian.Uint64(inner[20:])
		if w.opened[n] {
			w.t.Fatalf("%s: packet %d arrived twice", to.name, n)
		}
		w.opened[n] = true
		delete(w.due, n)
	}
}

// talk sends packets now and then, for ever.
func (w *world) talk(e *end) {
	w.after(time.Duration(w.r.ExpFloat64()*float64(e.rate)), func() {
		w.data(e)
		w.talk(e)
	})
}

// data sends one packet and checks the main promise: what is sealed can be opened
// at the other end, which has the session.
func (w *world) data(e *end) {
	w.last++
	pkt := ping(8)
	binary.BigEndian.PutUint64(pkt[20:], w.last)
	s, other := e.d.table.current.Load(), w.end[1-e.i]
	buf := make([]byte, headerLen+len(pkt)+e.d.Trailer())
	copy(buf[headerLen:], pkt)
	from, to, r := e.d.Seal(buf, headerLen, len(pkt))
	if r != tunnel.DropNone {
		if w.settled {
			w.t.Fatalf("%s: %s: a packet could not be sent: %s", w.now.Format(time.TimeOnly), e.name, r)
		}
		return
	}
	// A session ends at both ends at nearly the same time, and with its process.
	born := s.born.Add(-e.skew)
	if other.d.table.find(s.remote) == nil && !born.Before(other.started) && w.now.Sub(born) < RejectAfter-time.Second {
		w.t.Fatalf("%s: %s sends by a session of %s which the other end does not have", w.now.Format(time.TimeOnly), e.name, w.now.Sub(born))
	}
	if w.settled {
		w.due[w.last] = true
	}
	w.post(e, buf[from:to])
}

// calm ends all trouble. From then on nothing is lost any more, after the time
// that a handshake may take.
func (w *world) calm(within, long time.Duration) {
	w.loss, w.twice, w.hostile = [2]float64{}, [2]float64{}, false
	w.run(within)
	w.settled = true
	w.run(long)
	w.settled = false
	w.run(w.delay + 2*time.Millisecond)
	if len(w.due) > 0 {
		w.t.Fatalf("%s: %d packets did not arrive", w.now.Format(time.TimeOnly), len(w.due))
	}
}

// trouble is a time of bad weather.
func (w *world) trouble(long time.Duration) {
	for i := range w.loss {
		w.loss[i] = []float64{0, 0.05, 0.3, 0.8, 1}[w.r.IntN(5)]
		w.twice[i] = []float64{0, 0.1, 0.5}[w.r.IntN(3)]
	}
	w.hostile = w.r.IntN(2) == 0
	if w.r.IntN(3) == 0 {
		w.after(time.Duration(w.r.Int64N(int64(long))), func() { w.start(w.end[w.r.IntN(2)]) })
	}
	for range int(long / (200 * time.Millisecond)) {
		if w.hostile {
			w.interfere(w.end[w.r.IntN(2)])
		}
		w.run(200 * time.Millisecond)
	}
}

// Whatever happens, there is a working session shortly after it has ended, and
// nothing is ever sealed that the other end could not open.
func TestWorldOfTrouble(t *testing.T) {
	calmly(t)
	for seed := range uint64(12) {
		w := newWorld(t, seed)
		for range 15 {
			for _, e := range w.end { // busy or nearly idle
				e.rate = []time.Duration{20 * time.Millisecond, 300 * time.Millisecond, 40 * time.Second}[w.r.IntN(3)]
			}
			w.trouble(time.Duration(1+w.r.IntN(300)) * time.Second)
			w.calm(2*rekeyTimeout+time.Second, time.Duration(1+w.r.IntN(200))*time.Second)
		}
		t.Logf("seed %d: %d events, %d packets, %s; %d and %d handshakes", seed, w.count, w.last, w.now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Round(time.Second),
			w.end[0].d.m.status.Handshakes, w.end[1].d.m.status.Handshakes)
		if w.count < 10000 {
			t.Errorf("seed %d: only %d events", seed, w.count)
		}
	}
}

// calmly leaves a long test of pure machines out under the race detector; .ci/race-tests runs it without.
func calmly(t *testing.T) {
	t.Helper()
	if testing.Short() || raceEnabled {
		t.Skip("long, and pure: left out by -short and -race")
	}
	t.Parallel()
}

// In fair weather a session is replaced when it is two minutes old, by nobody
// more often, and without the loss of a packet.
func TestWorldOfPeace(t *testing.T) {
	calmly(t)
	for name, rates := range map[string][2]time.Duration{
		"both busy":    {10 * time.Millisecond, 10 * time.Millisecond},
		"one way":      {100 * time.Millisecond, 1000 * time.Hour},
		"now and then": {20 * time.Second, 25 * time.Second},
		"nearly idle":  {100 * time.Second, 170 * time.Second},
		"idle":         {1000 * time.Hour, 1000 * time.Hour},
	} {
		w := newWorld(t, 99)
		w.end[0].rate, w.end[1].rate = rates[0], rates[1]
		w.run(time.Second) // both begin at once
		before := w.end[0].d.m.status.Handshakes
		w.calm(time.Second, time.Hour)
		if got := w.end[0].d.m.status.Handshakes - before; got < 27 || got > 31 {
			t.Errorf("%s: %d handshakes in an hour", name, got)
		}
		for _, e := range w.end {
			if e.d.m.status.Unanswered > 0 {
				t.Errorf("%s: %s: %d handshakes were not answered", name, e.name, e.d.m.status.Unanswered)
			}
		}
	}
}

// A peer that is restarted without a word is found again by whoever sends.
func TestWorldRestart(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed)
		w.calm(2*time.Second, 10*time.Second)
		w.start(w.end[seed%2])
		w.calm(time.Second, 10*time.Second)
	}
}
