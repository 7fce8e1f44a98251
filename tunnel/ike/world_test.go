package ike

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
	"github.com/transitd/transitd/tunnel/sa"
)

// A world is two machines, a network that loses, repeats, delays and reorders
// between them, packets of ESP, and a clock that nobody waits for.
type world struct {
	t      testing.TB
	r      *rand.Rand
	now    time.Time
	events happenings
	count  int // of events so far
	end    [2]*end

	loss, twice float64       // 0 to 1
	delay       time.Duration // at most
	again       float64       // how often somebody sends an old message once more, to whoever it was for, or back
	old         [][]byte      // that he has
	excused     time.Time     // until when packets may come without an SA: somebody gave up, or began anew
	carried     int           // packets of ESP that arrived
	psk         []byte        // that both ends have, or will have soon
	esp         string        // the same of proposals
	// hold, if set, decides what becomes of an IKE message instead of the network.
	hold func(from int, datagram []byte) bool
}

// end is one of the machines, with its data plane.
type end struct {
	w      *world
	i      int
	conf   Config
	m      *Machine
	ticks  int // the valid tick; those planned before are void
	pairs  map[uint32]*installed
	out    uint32          // the pair in use, by its inbound SPI
	had    map[uint32]bool // SPIs of pairs that were installed at one time
	log    []string
	sent   int
	alarms []string
	spent  map[uint32]bool // pairs that have carried what they may
}

type installed struct {
	sa.Pair
	in, out int
	first   bool
	waits   bool // for the first packet that comes by it
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

// proposals reads them, for tests.
func proposals(t testing.TB, p message.Protocol, texts ...string) []suite.Proposal {
	t.Helper()
	out, err := suite.ParseList(p, texts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func identity(t testing.TB, text string) auth.Identity {
	t.Helper()
	id, err := auth.ParseIdentity(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// anywhere is 0.0.0.0/0 and ::/0.
func anywhere() []message.Selector {
	return []message.Selector{message.SelectorOf(netip.MustParsePrefix("0.0.0.0/0")), message.SelectorOf(netip.MustParsePrefix("::/0"))}
}

// newWorld has two ends that share a key. a begins; change may alter that.
func newWorld(t testing.TB, seed uint64, change ...func(a, b *Config)) *world {
	t.Helper()
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), delay: 20 * time.Millisecond,
	}
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	at := [2]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("192.0.2.2:4500")}
	ids := [2]string{"a.example", "b.example"}
	for i := range w.end {
		w.end[i] = &end{w: w, i: i, conf: Config{
			Local: at[i], Remote: at[1-i], LocalID: identity(t, ids[i]), RemoteID: identity(t, ids[1-i]), PSK: []byte("a secret of the test"),
			IKE: proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519"), ESP: proposals(t, message.ProtocolESP, "aes256gcm16-x25519-esn-noesn"),
			LocalTS: anywhere(), RemoteTS: anywhere(), Initiate: i == 0,
			IKELifetime: 8 * time.Hour, ChildLifetime: time.Hour, DPDDelay: 10 * time.Second, Random: random,
		}}
	}
	for _, f := range change {
		f(&w.end[0].conf, &w.end[1].conf)
	}
	for _, e := range w.end {
		w.start(e)
	}
	return w
}

// start makes a machine anew: all SAs are gone.
func (w *world) start(e *end) {
	m, err := New(e.conf, e, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	e.m, e.pairs, e.out, e.had = m, map[uint32]*installed{}, 0, map[uint32]bool{}
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
	next := e.m.Tick(w.now)
	e.ticks++
	mine := e.ticks
	w.after(max(time.Millisecond, next.Sub(w.now)), func() {
		if mine == e.ticks {
			w.tick(e)
		}
	})
}

// do calls a machine, and looks at what is due then.
func (w *world) do(e *end, f func(m *Machine)) {
	f(e.m)
	w.tick(e)
}

// Send implements Effects.
func (e *end) Send(port Port, _ netip.AddrPort, datagram []byte) {
	w := e.w
	e.sent++
	if w.hold != nil && w.hold(e.i, datagram) {
		return
	}
	w.carry(e.i, port, datagram)
}

// carry is the network, and somebody in it who records.
func (w *world) carry(from int, port Port, datagram []byte) {
	if w.again > 0 && w.r.Float64() < w.again {
		if len(w.old) < 200 {
			w.old = append(w.old, nil)
		}
		w.old[w.r.IntN(len(w.old))] = bytes.Clone(datagram)
		d, to, by := w.old[w.r.IntN(len(w.old))], w.r.IntN(2), Port(w.r.IntN(2))
		w.after(time.Duration(w.r.Int64N(int64(10*time.Second))), func() {
			if d != nil {
				w.deliver(1-to, by, d)
			}
		})
	}
	copies := 1
	if w.r.Float64() < w.twice {
		copies = 2
	}
	for range copies {
		if w.r.Float64() < w.loss {
			continue
		}
		w.after(time.Duration(w.r.Int64N(int64(w.delay)+1)), func() { w.deliver(from, port, datagram) })
	}
}

func (w *world) deliver(from int, port Port, datagram []byte) {
	e := w.end[1-from]
	e.m.Message(w.now, port, e.conf.Remote, bytes.Clone(datagram))
	w.tick(e)
}

// Log implements Effects.
func (e *end) Log(v Event) {
	e.log = append(e.log, fmt.Sprintf("%s %d %s", e.w.now.Format("15:04:05.000"), e.i, v.Text))
	if v.Problem {
		e.alarms = append(e.alarms, v.Text)
	}
	if strings.Contains(v.Text, "is given up") || strings.Contains(v.Text, "too old and could not be replaced") {
		// The network lost all of eight tries, or what is due by time. The other end
		// cannot know, and sends by what it has until it is told, or asks.
		e.w.excuse(45 * time.Second)
	}
}

// Install implements sa.Installer.
func (e *end) Install(p sa.Pair, use bool) error {
	if e.pairs[p.In.SPI] != nil {
		e.w.t.Errorf("end %d installs %08x twice", e.i, p.In.SPI)
	}
	if len(p.In.Key) != p.Cipher.KeyLen() || len(p.Out.Key) != p.Cipher.KeyLen() || bytes.Equal(p.In.Key, p.Out.Key) {
		e.w.t.Errorf("end %d: keys of %d and %d bytes for %s", e.i, len(p.In.Key), len(p.Out.Key), p.Cipher)
	}
	p.In.Key, p.Out.Key = bytes.Clone(p.In.Key), bytes.Clone(p.Out.Key)
	// Who answers has nothing else to send by when it makes the first pair, before the other end has the answer.
	first := use && e.out == 0
	e.pairs[p.In.SPI] = &installed{Pair: p, first: first, waits: !use}
	e.had[p.In.SPI] = true
	if use {
		e.out = p.In.SPI
	}
	return nil
}

// Use implements sa.Installer.
func (e *end) Use(in uint32) {
	if e.pairs[in] == nil {
		e.w.t.Errorf("end %d uses %08x, which is not there", e.i, in)
		return
	}
	e.out = in
	for _, p := range e.pairs {
		p.waits = false
	}
}

// Remove implements sa.Installer.
func (e *end) Remove(in uint32) {
	if e.pairs[in] == nil {
		e.w.t.Errorf("end %d removes %08x, which is not there", e.i, in)
	}
	delete(e.pairs, in)
	if e.out == in {
		e.out = 0
	}
}

// Usage implements sa.Installer.
func (e *end) Usage(in uint32) (sa.Usage, bool) {
	p := e.pairs[in]
	if p == nil {
		return sa.Usage{}, false
	}
	return sa.Usage{InPackets: uint64(p.in), OutPackets: uint64(p.out), Spent: e.spent[in]}, true
}

// packet sends a packet of ESP, if there is something to send it by.
func (w *world) packet(from int) {
	e, other := w.end[from], w.end[1-from]
	p := e.pairs[e.out]
	if p == nil {
		return
	}
	p.out++
	spi, key, first := p.Out.SPI, p.Out.Key, p.first
	w.after(time.Duration(w.r.Int64N(int64(w.delay)+1)), func() {
		in := other.pairs[spi]
		switch {
		case in != nil && bytes.Equal(in.In.Key, key):
			in.in++
			w.carried++
			if in.waits {
				other.Use(spi) // the peer is ready for it
			}
		case w.now.After(w.excused) && (other.had[spi] || !first):
			w.t.Fatalf("%s: a packet of end %d by %08x, which end %d does not have\n%s", w.now.Format("15:04:05.000"), from, spi, 1-from, w.describe())
		}
	})
}

func (w *world) describe() string {
	out := ""
	for _, e := range w.end {
		s := e.m.Status()
		out += fmt.Sprintf("end %d: out %08x, problem %q\n", e.i, e.out, s.Problem)
		for _, i := range s.IKE {
			out += fmt.Sprintf("  IKE %016x/%016x %s\n", i.InitiatorSPI, i.ResponderSPI, i.State)
		}
		for _, c := range s.Child {
			out += fmt.Sprintf("  CHILD %08x/%08x %s\n", c.InSPI, c.OutSPI, c.State)
		}
		for _, l := range e.log[max(0, len(e.log)-12):] {
			out += "  " + l + "\n"
		}
	}
	return out
}

// settled says what is not as it has to be when nothing happens: one IKE SA and one pair at each end, the same.
func (w *world) settled() error {
	a, b := w.end[0].m.Status(), w.end[1].m.Status()
	if len(a.IKE) != 1 || len(b.IKE) != 1 || len(a.Child) != 1 || len(b.Child) != 1 {
		return fmt.Errorf("%d and %d IKE SAs, %d and %d CHILD SAs", len(a.IKE), len(b.IKE), len(a.Child), len(b.Child))
	}
	x, y := a.IKE[0], b.IKE[0]
	if x.State != "established" || y.State != "established" || x.InitiatorSPI != y.InitiatorSPI || x.ResponderSPI != y.ResponderSPI {
		return fmt.Errorf("IKE SAs %+v and %+v", x, y)
	}
	c, d := a.Child[0], b.Child[0]
	if c.State != "installed" || d.State != "installed" || c.InSPI != d.OutSPI || c.OutSPI != d.InSPI {
		return fmt.Errorf("CHILD SAs %+v and %+v", c, d)
	}
	for i, e := range w.end {
		other := w.end[1-i]
		if len(e.pairs) != 1 || e.out == 0 {
			return fmt.Errorf("end %d has %d pairs installed, and uses %08x", i, len(e.pairs), e.out)
		}
		out := e.pairs[e.out]
		in := other.pairs[out.Out.SPI]
		if in == nil || !bytes.Equal(in.In.Key, out.Out.Key) || in.ESN != out.ESN || in.Cipher != out.Cipher {
			return fmt.Errorf("end %d sends by %08x what end %d cannot take", i, out.Out.SPI, 1-i)
		}
	}
	return nil
}

// calm waits until all is as it has to be.
func (w *world) calm(most time.Duration) {
	w.t.Helper()
	for end := w.now.Add(most); ; w.run(500 * time.Millisecond) {
		err := w.settled()
		if err == nil {
			return
		}
		if w.now.After(end) {
			w.t.Fatalf("not settled after %s: %v\n%s", most, err, w.describe())
		}
	}
}

func TestEstablish(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.calm(10 * time.Second)
	if !w.end[0].pairs[w.end[0].out].ESN {
		t.Error("without extended sequence numbers")
	}
	for i := range w.end {
		w.do(w.end[i], func(m *Machine) { _ = m.RekeyChild(w.now) })
		w.run(20 * time.Second)
		w.calm(10 * time.Second)
		w.do(w.end[i], func(m *Machine) { _ = m.RekeyIKE(w.now) })
		w.run(20 * time.Second)
		w.calm(10 * time.Second)
	}
	s := w.end[0].m.Status()
	if s.ChildRekeys != 2 || s.IKERekeys != 2 || s.Established != 1 {
		t.Errorf("%+v", s)
	}
}

// TestWorld lets everything happen that may, many times over. TRANSITD_SEED
// takes other worlds than the usual ones: it is the number of the first.
func TestWorld(t *testing.T) {
	t.Parallel()
	events, first := 1_000_000, uint64(1)
	switch {
	case testing.Short() || raceEnabled:
		events = 100_000
	case os.Getenv("TRANSITD_LONG") != "":
		events = 10_000_000
	}
	if text := os.Getenv("TRANSITD_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("TRANSITD_SEED: %v", err)
		}
		first = n
	}
	const seeds = 40
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			randomWorld(t, seed, events/seeds)
		})
	}
}

func randomWorld(t *testing.T, seed uint64, events int) {
	w := newWorld(t, seed, func(a, b *Config) {
		b.Initiate = seed%3 != 0
		for _, c := range []*Config{a, b} {
			if seed%5 == 0 { // so that what is due by time comes at the same moment too
				c.ChildLifetime, c.IKELifetime = 40*time.Second, 3*time.Minute
			}
			if seed%8 == 1 {
				c.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519-ke1_mlkem768")
			}
		}
		if seed%2 == 0 {
			a.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-esn-noesn")
			b.ESP = a.ESP
		}
	})
	w.again = float64(seed%4) * 0.2
	var talk func()
	talk = func() {
		w.packet(w.r.IntN(2))
		w.after(time.Duration(w.r.Int64N(int64(100*time.Millisecond))), talk)
	}
	talk()
	var ops int
	for w.count < events && !t.Failed() {
		w.loss, w.twice, w.delay = w.r.Float64()*0.3, w.r.Float64()*0.3, time.Duration(1+w.r.IntN(700))*time.Millisecond
		for range w.r.IntN(12) {
			w.after(time.Duration(w.r.Int64N(int64(20*time.Second))), func() { w.mischief() })
			ops++
		}
		w.run(time.Duration(w.r.Int64N(int64(30 * time.Second))))
		w.loss, w.twice, w.delay = 0, 0, 50*time.Millisecond
		w.run(20 * time.Second)
		w.calm(150 * time.Second)
		w.bounded(w.end[0])
		w.bounded(w.end[1])
	}
	t.Logf("%d events, %d deeds, %d packets carried, %s of time", w.count, ops, w.carried, w.now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	if w.carried == 0 {
		t.Error("no packet was carried")
	}
}

// excuse lets packets come without an SA for a while.
func (w *world) excuse(d time.Duration) {
	if until := w.now.Add(d); until.After(w.excused) {
		w.excused = until
	}
}

// mischief is something that happens to one end or to both.
func (w *world) mischief() {
	e := w.end[w.r.IntN(2)]
	child := func(m *Machine) { _ = m.RekeyChild(w.now) }
	ike := func(m *Machine) { _ = m.RekeyIKE(w.now) }
	switch n := w.r.IntN(100); {
	case n < 25:
		w.do(e, child)
	case n < 40:
		w.do(w.end[0], child)
		w.do(w.end[1], child)
	case n < 55:
		w.do(e, ike)
	case n < 70:
		w.do(w.end[0], ike)
		w.do(w.end[1], ike)
	case n < 80:
		w.do(w.end[0], child)
		w.do(w.end[1], ike)
	case n < 85: // a pair is lost
		w.excuse(40 * time.Second)
		w.do(e, func(m *Machine) {
			for _, s := range m.sas {
				for _, c := range s.children {
					s.deleteChild(c)
				}
			}
		})
	case n < 90:
		w.excuse(60 * time.Second)
		w.do(e, func(m *Machine) { m.Terminate(w.now) })
	case n < 92: // a new beginning: the peer does not know
		w.excuse(90 * time.Second)
		w.start(e)
	case n < 93: // of both
		w.excuse(90 * time.Second)
		w.start(w.end[0])
		w.start(w.end[1])
	case n < 95: // a pair has carried what it may
		e.spent = map[uint32]bool{e.out: true}
	case n < 96: // another secret, at the two ends one after the other
		w.psk = fmt.Appendf(nil, "secret %d of the test", w.r.Uint64())
		w.reloads(func(c *Config) { c.PSK = w.psk })
	case n < 97: // the same with ESP's proposals: the IKE SA comes about, and no pair
		w.esp = []string{"aes256gcm16-x25519-esn-noesn", "aes128gcm16-esn-noesn", "aes256gcm16-noesn"}[w.r.IntN(3)]
		w.reloads(func(c *Config) { c.ESP = proposals(w.t, message.ProtocolESP, w.esp) })
	default: // nothing gets through
		w.excuse(120 * time.Second)
		before := w.loss
		w.loss = 1
		w.after(time.Duration(w.r.Int64N(int64(40*time.Second))), func() { w.loss = min(before, 0.3) })
	}
}

// reloads gives both ends another configuration, at most ten seconds apart: the
// last one, if there is another one meanwhile.
func (w *world) reloads(change func(c *Config)) {
	w.excuse(3 * time.Minute)
	first := w.r.IntN(2)
	w.reload(first, change)
	w.after(time.Duration(w.r.Int64N(int64(10*time.Second))), func() { w.reload(1-first, change) })
}
