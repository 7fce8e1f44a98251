package bfd

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// pair is two machines and the wire between them, in virtual time.
type pair struct {
	t      *testing.T
	now    time.Time
	ends   [2]*machine
	flight []flying // in the order of arrival
	delay  time.Duration
	// lose says whether the packet that end sends now gets lost.
	lose    func(end int) bool
	changes [2][]Change
}

type flying struct {
	at      time.Time
	to      int
	payload [packetLen]byte
}

func newPair(t *testing.T, seed uint64, a, b Config) *pair {
	t.Helper()
	p := &pair{t: t, now: epoch(), delay: 5 * ms, lose: func(int) bool { return false }}
	addrs := [2]netip.Addr{local(), remote()}
	for i, c := range [2]Config{a, b} {
		c.Local, c.Peer = addrs[i], addrs[1-i]
		c, err := c.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		p.ends[i] = newMachine(c, uint32(100+i), rand.New(rand.NewPCG(seed, uint64(i))), p.now)
	}
	return p
}

func (p *pair) do(end int, out output) {
	if out.changed {
		p.changes[end] = append(p.changes[end], out.change)
	}
	if !out.send || p.lose(end) {
		return
	}
	f := flying{at: p.now.Add(p.delay), to: 1 - end}
	out.packet.encode(&f.payload)
	p.flight = append(p.flight, f)
}

// pass plays the time; it ends early when done says so.
func (p *pair) pass(d time.Duration, done func() bool) (took time.Duration, ok bool) {
	start := p.now
	for end := p.now.Add(d); !done(); {
		next := end
		for _, m := range p.ends {
			if t, ok := m.deadline(); ok && t.Before(next) {
				next = t
			}
		}
		if len(p.flight) > 0 && p.flight[0].at.Before(next) {
			next = p.flight[0].at
		}
		if next.After(p.now) {
			p.now = next
		}
		for len(p.flight) > 0 && !p.flight[0].at.After(p.now) {
			f := p.flight[0]
			p.flight = p.flight[1:]
			from := [2]netip.Addr{remote(), local()}[f.to]
			p.do(f.to, p.ends[f.to].receive(p.now, datagram{f.payload[:], from, 255}))
		}
		for i, m := range p.ends {
			p.do(i, m.tick(p.now))
		}
		if !p.now.Before(end) {
			return p.now.Sub(start), done()
		}
	}
	return p.now.Sub(start), true
}

func (p *pair) up() bool { return p.ends[0].state == Up && p.ends[1].state == Up }

func (p *pair) calm() bool { return p.up() && !p.ends[0].polling && !p.ends[1].polling }

func never() bool { return false }

func TestPairComesUpAndAgrees(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1, Config{Interval: 100 * ms, Multiplier: 3}, Config{Interval: 400 * ms, Multiplier: 5})
	took, ok := p.pass(3*time.Second, p.calm)
	if !ok || took > 1500*ms {
		t.Fatalf("up %t after %s", ok, took)
	}
	p.pass(time.Second, never)
	a, b := p.ends[0], p.ends[1]
	if a.txInterval() != 400*ms || b.txInterval() != 400*ms {
		t.Errorf("intervals %s and %s", a.txInterval(), b.txInterval())
	}
	if a.detectionTime() != 2*time.Second || b.detectionTime() != 1200*ms {
		t.Errorf("detection times %s and %s", a.detectionTime(), b.detectionTime())
	}
	if a.peer.discriminator != b.mine || b.peer.discriminator != a.mine {
		t.Error("discriminators are not known")
	}
}

// TestPairAfterLoss: whatever was lost, the session comes up when the loss ends.
func TestPairAfterLoss(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 99))
		cfg := func() Config {
			return Config{Interval: time.Duration(10+random.IntN(2000)) * ms, Multiplier: uint8(1 + random.IntN(6))}
		}
		p := newPair(t, seed, cfg(), cfg())
		rate := [2]float64{random.Float64(), random.Float64()}
		p.lose = func(end int) bool { return random.Float64() < rate[end] }
		p.pass(30*time.Second, never)
		p.lose = func(int) bool { return false }
		// At worst an old detection time has to pass, then the three steps of a second or two each.
		worst := max(p.ends[0].detectionTime(), p.ends[1].detectionTime()) + 8*time.Second
		if p.pass(worst, never); !p.calm() { // all of it: the last loss may still cost a session of multiplier 1
			t.Fatalf("seed %d: %s and %s after %s without loss", seed, p.ends[0].state, p.ends[1].state, worst)
		}
		before := p.ends[0].flaps + p.ends[1].flaps
		p.pass(time.Minute, never)
		if p.ends[0].flaps+p.ends[1].flaps != before || !p.up() {
			t.Fatalf("seed %d: flaps without loss", seed)
		}
	}
}

// TestPairSurvivesBursts: less than a multiplier of consecutive losses is no failure, in either direction.
func TestPairSurvivesBursts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 7))
		mult := [2]uint8{uint8(2 + random.IntN(4)), uint8(2 + random.IntN(4))}
		p := newPair(t, seed, Config{Interval: 100 * ms, Multiplier: mult[0]}, Config{Interval: 300 * ms, Multiplier: mult[1]})
		if _, ok := p.pass(5*time.Second, p.calm); !ok {
			t.Fatal("not up")
		}
		var row [2]uint8 // losses in a row
		p.lose = func(end int) bool {
			if row[end] < mult[end]-1 && random.IntN(10) > 0 {
				row[end]++
				return true
			}
			row[end] = 0
			return false
		}
		p.pass(5*time.Minute, never)
		if f := p.ends[0].flaps + p.ends[1].flaps; f > 0 {
			t.Fatalf("seed %d: %d flaps", seed, f)
		}
	}
}

// TestPairDetectsACut in one direction or both, and both ends know.
func TestPairDetectsACut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cut  [2]bool
		want [2]Diagnostic
	}{
		{"both", [2]bool{true, true}, [2]Diagnostic{DetectionTimeExpired, DetectionTimeExpired}},
		{"from the first", [2]bool{true, false}, [2]Diagnostic{NeighborSignaledDown, DetectionTimeExpired}},
		{"from the second", [2]bool{false, true}, [2]Diagnostic{DetectionTimeExpired, NeighborSignaledDown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 5, Config{}, Config{})
			if _, ok := p.pass(5*time.Second, p.calm); !ok {
				t.Fatal("not up")
			}
			p.pass(10*time.Second, never)
			p.lose = func(end int) bool { return c.cut[end] }
			took, ok := p.pass(5*time.Second, func() bool { return p.ends[0].state != Up && p.ends[1].state != Up })
			if !ok || took > 910*ms {
				t.Errorf("detected %t after %s", ok, took)
			}
			for i, list := range p.changes {
				var down *Change
				for _, ch := range list {
					if ch.Failure() {
						down = &ch
					}
				}
				if down == nil || down.Diagnostic != c.want[i] {
					t.Errorf("end %d: %+v", i, list)
				}
			}
		})
	}
}

// TestPairAdminDown: a planned end is known as one, and nobody counts a flap.
func TestPairAdminDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, 5, Config{}, Config{})
	if _, ok := p.pass(5*time.Second, p.calm); !ok {
		t.Fatal("not up")
	}
	p.do(0, p.ends[0].shutdown(p.now))
	p.pass(time.Minute, never)
	last := p.changes[1][len(p.changes[1])-1]
	if last.To != Down || !last.PeerAdminDown || last.Failure() || p.ends[1].flaps != 0 || p.ends[1].peer.state != AdminDown {
		t.Errorf("%+v", last)
	}
}
