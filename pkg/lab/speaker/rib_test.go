package speaker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// testRIB is a RIB with neighbours a, b and c (192.0.2.11 to .13, AS 64511 to 64513), all with a session.
func testRIB(t *testing.T, change func(*Peer)) (*rib, map[string]*outbox) {
	t.Helper()
	r := newRIB(ourASN)
	boxes := make(map[string]*outbox)
	for i, name := range []string{"a", "b", "c"} {
		p := testPeer(name, fmt.Sprintf("192.0.2.%d", 11+i), uint32(64511+i))
		if change != nil {
			change(&p)
		}
		r.addPeer(p, &peerStats{})
		boxes[name] = newOutbox()
		boxes[name].as4 = true
		r.up(name, boxes[name], addr(ourID))
	}
	return r, boxes
}

func learn(t *testing.T, r *rib, peer string, paths ...Path) {
	t.Helper()
	for i := range paths {
		if !paths[i].NextHop.IsValid() {
			paths[i].NextHop = r.peerLocked(peer).cfg.Addr
		}
	}
	if err := r.update(peer, nil, paths, time.Time{}.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

func TestBestPath(t *testing.T) {
	t.Parallel()
	type route struct {
		peer string
		path Path
	}
	set := func(p Path, as ...uint32) Path {
		p.ASSet = as
		return p
	}
	for _, tt := range []struct {
		name   string
		routes []route
		own    []Path
		want   []string // neighbours of the ECMP set, best first
	}{
		{
			name:   "shorter AS path",
			routes: []route{{"a", testRoute("10.0.0.0/8", 1, 2)}, {"b", testRoute("10.0.0.0/8", 3)}},
			want:   []string{"b"},
		},
		{
			name:   "as short: ECMP, lowest address first",
			routes: []route{{"c", testRoute("10.0.0.0/8", 1)}, {"a", testRoute("10.0.0.0/8", 2)}, {"b", testRoute("10.0.0.0/8", 3, 3)}},
			want:   []string{"a", "c"},
		},
		{
			name:   "a set counts as one",
			routes: []route{{"a", set(testRoute("10.0.0.0/8", 1), 5, 6, 7)}, {"b", testRoute("10.0.0.0/8", 3, 4)}},
			want:   []string{"a", "b"},
		},
		{
			name:   "own path alone",
			routes: []route{{"a", testRoute("10.0.0.0/8")}},
			own:    []Path{testRoute("10.0.0.0/8", 1, 2, 3)},
			want:   []string{""},
		},
		{
			name:   "our AS in the path",
			routes: []route{{"a", testRoute("10.0.0.0/8", 1, ourASN)}, {"b", set(testRoute("10.0.0.0/8", 1), ourASN)}},
		},
		{
			name:   "replaced by a looped one",
			routes: []route{{"a", testRoute("10.0.0.0/8", 1)}, {"a", testRoute("10.0.0.0/8", ourASN)}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := testRIB(t, nil)
			for _, x := range tt.routes {
				learn(t, r, x.peer, x.path)
			}
			r.originate(tt.own)
			var got []string
			for _, b := range r.best() {
				for _, p := range b.Paths {
					got = append(got, p.From)
				}
			}
			if d := diff(tt.want, got); d != "" {
				t.Errorf("ECMP set (-want +got):\n%s", d)
			}
		})
	}
}

func TestPreferenceBeatsPathLength(t *testing.T) {
	t.Parallel()
	r, _ := testRIB(t, func(p *Peer) {
		if p.Name == "c" {
			p.Preference = 1
		}
	})
	learn(t, r, "a", testRoute("10.0.0.0/8", 1))
	learn(t, r, "c", testRoute("10.0.0.0/8", 1, 2, 3))
	if got := r.best()[0]; len(got.Paths) != 1 || got.Paths[0].From != "c" {
		t.Errorf("best %+v, want c alone", got)
	}
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	r, _ := testRIB(t, func(p *Peer) {
		if p.Name == "c" {
			p.Export = func(x Path) (Path, bool) { return RemoveAS(x, 3), x.Prefix != prefix("10.9.0.0/16") }
		}
	})
	hidden := testRoute("10.2.0.0/16", 64511)
	hidden.Communities = []uint32{NoAdvertise}
	noExport := testRoute("10.3.0.0/16", 64511)
	noExport.Communities = []uint32{1, NoExport}
	withMED := testRoute("10.1.0.0/16", 64511, 3, 4)
	withMED.MED, withMED.HasMED = 7, true
	withMED.Unknown = []RawAttribute{{Flags: 0xe0, Type: 200, Value: []byte{1}}}
	learn(t, r, "a", withMED, hidden, noExport, testRoute("10.9.0.0/16", 64511))
	r.originate([]Path{
		testRoute("10.4.0.0/16"),
		{Prefix: prefix("10.5.0.0/16"), ASPath: []uint32{5}, NextHop: addr("192.0.2.77"), Communities: []uint32{NoAdvertise}},
	})
	own := []string{"10.4.0.0/16 via 192.0.2.1: 64496", "10.5.0.0/16 via 192.0.2.77: 64496 5"}
	for peer, want := range map[string][]string{
		"a": own,
		"b": {"10.1.0.0/16 via 192.0.2.1: 64496 64511 3 4", own[0], own[1], "10.9.0.0/16 via 192.0.2.1: 64496 64511"},
		"c": {"10.1.0.0/16 via 192.0.2.1: 64496 64511 4", own[0], own[1]},
	} {
		if d := diff(want, seen(r.announced(peer), nil)); d != "" {
			t.Errorf("announced to %s (-want +got):\n%s", peer, d)
		}
	}
	got := r.announced("b")[0]
	if got.HasMED || got.MED != 0 || len(got.Unknown) != 1 {
		t.Errorf("passed on %+v, want no MED and the unknown attribute", got)
	}
	r.down("a")
	if d := diff(own, seen(r.announced("b"), nil)); d != "" {
		t.Errorf("announced to b after a went down (-want +got):\n%s", d)
	}
}

// TestOutboxFollowsChanges: for any order of changes, a neighbour that applies
// the outbox's messages knows what Adj-RIB-Out says, and nothing is said twice.
func TestOutboxFollowsChanges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r, boxes := testRIB(t, nil)
		rng := rand.New(rand.NewPCG(seed, 1))
		known := make(map[netip.Prefix]string)
		for range 300 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rng.IntN(8)), 0, 0}), 16)
			peer := []string{"a", "b"}[rng.IntN(2)]
			switch rng.IntN(8) {
			case 0:
				r.down(peer)
				r.up(peer, newOutbox(), addr(ourID))
			case 1, 2, 3:
				if err := r.update(peer, []netip.Prefix{p}, nil, time.Time{}); err != nil {
					t.Fatal(err)
				}
			default:
				learn(t, r, peer, testRoute(p.String(), []uint32{1, 2, 3}[:1+rng.IntN(3)]...))
			}
			if rng.IntN(4) == 0 {
				apply(t, boxes["c"], known)
			}
		}
		apply(t, boxes["c"], known)
		want := make(map[netip.Prefix]string)
		for _, p := range r.announced("c") {
			want[p.Prefix] = p.ASPathString()
		}
		if d := diff(want, known); d != "" {
			t.Fatalf("seed %d: neighbour knows (-want +got):\n%s", seed, d)
		}
		if msgs, err := boxes["c"].take(); err != nil || len(msgs) > 0 {
			t.Fatalf("seed %d: outbox is not empty: %v, %v", seed, msgs, err)
		}
	}
}

func apply(t *testing.T, box *outbox, known map[netip.Prefix]string) {
	t.Helper()
	msgs, err := box.take()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range msgs {
		m, err := ParseMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		u := m.(*Update)
		a, malformed, fatal := decodeAttributes(u.Attributes, true)
		if malformed != nil || fatal != nil {
			t.Fatal(malformed, fatal)
		}
		for _, p := range u.Withdrawn {
			delete(known, p)
		}
		for _, p := range u.NLRI {
			known[p] = a.path.ASPathString()
		}
	}
}

func TestUpdatesArePacked(t *testing.T) {
	t.Parallel()
	pending := make(map[netip.Prefix]change)
	hop := addr(ourID)
	for i := range 2000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		path := Path{Prefix: p, NextHop: hop, ASPath: []uint32{ourASN, uint32(1 + i%2)}}
		pending[p] = change{path: path, announce: i >= 1000}
	}
	tooLong := prefix("192.0.2.0/24")
	pending[tooLong] = change{announce: true, path: Path{Prefix: tooLong, NextHop: hop, Communities: make([]uint32, 1020)}}
	msgs, err := pack(pending, true)
	if err != nil {
		t.Fatal(err)
	}
	// 1,001 withdrawals of 4 octets fit in one message, as do 2 groups of 500
	// prefixes; what does not fit with its attributes is withdrawn.
	if len(msgs) != 3 {
		t.Fatalf("%d messages, want 3", len(msgs))
	}
	var counts []int
	for _, b := range msgs {
		m, err := ParseMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		u := m.(*Update)
		counts = append(counts, len(u.Withdrawn), len(u.NLRI))
	}
	if d := diff([]int{1001, 0, 0, 500, 0, 500}, counts); d != "" {
		t.Errorf("prefixes in messages (-want +got):\n%s", d)
	}
	for i := range 100 { // more than one message of 4,096 octets holds
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(i), 0}), 24)
		pending[p] = change{}
	}
	if msgs, err = pack(pending, true); err != nil || len(msgs) != 4 {
		t.Errorf("%d messages (%v), want 4", len(msgs), err)
	}
}

func TestPrefixLimit(t *testing.T) {
	t.Parallel()
	many := func(from, n int) []Path {
		var out []Path
		for i := range n {
			out = append(out, testRoute(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte((from + i) >> 8), byte(from + i), 0}), 24).String(), 64511))
		}
		return out
	}
	type step struct {
		at       time.Duration
		announce []Path
		withdraw int // how many of the first ones
		over     bool
	}
	for _, tt := range []struct {
		name     string
		incoming bool
		burst    time.Duration
		steps    []step
	}{
		{name: "at the limit", steps: []step{{announce: many(0, 10)}, {announce: many(0, 10)}}},
		{name: "over the limit", steps: []step{{announce: many(0, 10)}, {announce: many(10, 1), over: true}}},
		{name: "a withdrawal makes room", steps: []step{{announce: many(0, 10)}, {withdraw: 1}, {announce: many(10, 1)}}},
		{name: "incoming: half again is too much", incoming: true, steps: []step{{announce: many(0, 6)}, {at: time.Hour, announce: many(0, 5), over: true}}},
		{name: "incoming: half again fits", incoming: true, steps: []step{{announce: many(0, 5)}, {at: time.Hour, announce: many(0, 5)}, {at: 2 * time.Hour, announce: many(0, 5)}}},
		{
			name: "a burst of small updates", incoming: true, burst: time.Second,
			steps: []step{
				{announce: many(0, 5)},
				{at: time.Hour, announce: many(0, 3)},
				{at: time.Hour + 900*time.Millisecond, announce: many(3, 2)},
				{at: time.Hour + 1800*time.Millisecond, announce: many(0, 1), over: true},
			},
		},
		{
			name: "paced updates", incoming: true, burst: time.Second,
			steps: []step{{announce: many(0, 5)}, {at: 10 * time.Second, announce: many(0, 4)}, {at: 11 * time.Second, announce: many(0, 4)}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := testRIB(t, func(p *Peer) { p.MaxPrefixes, p.CountIncoming, p.Burst = 10, tt.incoming, tt.burst })
			begin := time.Unix(0, 0)
			for i, s := range tt.steps {
				var gone []netip.Prefix
				for _, p := range many(0, s.withdraw) {
					gone = append(gone, p.Prefix)
				}
				err := r.update("a", gone, s.announce, begin.Add(s.at))
				var me *MessageError
				if s.over != errors.As(err, &me) {
					t.Fatalf("step %d: %v, want over the limit: %v", i, err, s.over)
				}
				if want := (&Notification{Code: 6, Subcode: 1, Data: []byte{0, 1, 1, 0, 0, 0, 10}}); s.over {
					if d := diff(want, me.Notification()); d != "" {
						t.Errorf("notification (-want +got):\n%s", d)
					}
				}
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"AS 0":             func(c *Config) { c.ASN = 0 },
		"no router id":     func(c *Config) { c.RouterID = netip.Addr{} },
		"IPv6 router id":   func(c *Config) { c.RouterID = addr("2001:db8::1") },
		"hold time 2 s":    func(c *Config) { c.HoldTime = 2 * time.Second },
		"half a second":    func(c *Config) { c.HoldTime = 3500 * time.Millisecond },
		"IBGP":             func(c *Config) { c.Peers[0].ASN = ourASN },
		"neighbour AS 0":   func(c *Config) { c.Peers[0].ASN = 0 },
		"IPv6 neighbour":   func(c *Config) { c.Peers[0].Addr = addr("2001:db8::1") },
		"no name":          func(c *Config) { c.Peers[0].Name = "" },
		"same address":     func(c *Config) { c.Peers = append(c.Peers, testPeer("x", theirID, 1)) },
		"same name":        func(c *Config) { c.Peers = append(c.Peers, testPeer("them", "192.0.2.3", 1)) },
		"negative limit":   func(c *Config) { c.Peers[0].MaxPrefixes = -1 },
		"prefix with host": func(c *Config) { c.Originate = []Path{testRoute("192.0.2.1/24")} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := passive()
			change(&cfg)
			if _, err := New(cfg); err == nil {
				t.Error("no error")
			}
		})
	}
}
