package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fitRoute is a route as Export makes it for a Route Server.
func fitRoute(prefix string, path ...uint32) Route {
	r := fromTunnel(prefix, path...)
	r.NextHop = toARS().NextHop
	return r
}

func fitRoutes(prefixes ...string) (routes []Route) {
	for _, p := range prefixes {
		routes = append(routes, fitRoute(p, 64513))
	}
	return routes
}

func fitNames(routes []Route) string {
	var s []string
	for _, r := range routes {
		s = append(s, r.Prefix.String())
	}
	return strings.Join(s, " ")
}

func TestFit(t *testing.T) {
	t.Parallel()
	noAdvertise := func(r *Route) { r.Communities = []uint32{communityNoAdvertise} }
	four := fitRoutes("10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.4.0/24")
	for name, c := range map[string]struct {
		b          Budget
		routes     []Route
		last       []Route
		want       string
		level      BudgetLevel
		held       bool
		aggregated int
	}{
		"nothing":                        {Budget{Cap: 4}, nil, four, "", BudgetOK, false, 0},
		"as they are":                    {Budget{Cap: 20}, four, nil, "10.0.0.0/24 10.0.1.0/24 10.0.2.0/24 10.0.4.0/24", BudgetOK, false, 0},
		"at the limit":                   {Budget{Cap: 8}, four, nil, "10.0.0.0/24 10.0.1.0/24 10.0.2.0/24 10.0.4.0/24", BudgetWarning, false, 0},
		"stays aggregated":               {Budget{Cap: 8, Aggregating: true}, four, nil, "10.0.0.0/23 10.0.2.0/24 10.0.4.0/24", BudgetOK, false, 2},
		"aggregated no more":             {Budget{Cap: 10, Aggregating: true}, four, nil, "10.0.0.0/24 10.0.1.0/24 10.0.2.0/24 10.0.4.0/24", BudgetWarning, false, 0},
		"merged":                         {Budget{Cap: 6}, four, nil, "10.0.0.0/23 10.0.2.0/24 10.0.4.0/24", BudgetWarning, false, 2},
		"supernet":                       {Budget{Cap: 6, Supernets: prefixes("10.0.0.0/16", "10.0.0.0/22")}, four, nil, "10.0.0.0/16", BudgetOK, false, 4},
		"supernet of one is not used":    {Budget{Cap: 6, Supernets: prefixes("10.0.4.0/22", "10.0.0.0/23")}, four, nil, "10.0.0.0/23 10.0.2.0/24 10.0.4.0/24", BudgetWarning, false, 2},
		"supernet too short":             {Budget{Cap: 6, Supernets: prefixes("0.0.0.0/0", "10.0.0.0/7")}, four, nil, "10.0.0.0/23 10.0.2.0/24 10.0.4.0/24", BudgetWarning, false, 2},
		"never into a /7":                {Budget{Cap: 2}, fitRoutes("10.0.0.0/8", "11.0.0.0/8"), nil, "10.0.0.0/8", BudgetExceeded, true, 0},
		"halves of a default":            {Budget{Cap: 2}, fitRoutes("0.0.0.0/1", "128.0.0.0/1"), nil, "0.0.0.0/1", BudgetExceeded, true, 0},
		"into a /8":                      {Budget{Cap: 2}, fitRoutes("10.0.0.0/9", "10.128.0.0/9"), nil, "10.0.0.0/8", BudgetWarning, false, 2},
		"other attributes":               {Budget{Cap: 2}, []Route{fitRoute("10.0.0.0/9", 1), fitRoute("10.128.0.0/9", 2)}, nil, "10.0.0.0/9", BudgetExceeded, true, 0},
		"parent with others":             {Budget{Cap: 4}, append(fitRoutes("10.0.0.0/9", "10.128.0.0/9"), fitRoute("10.0.0.0/8", 7)), nil, "10.0.0.0/8 10.0.0.0/9", BudgetExceeded, true, 0},
		"parent with the same":           {Budget{Cap: 4}, fitRoutes("10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/8"), nil, "10.0.0.0/8", BudgetOK, false, 2},
		"NO_ADVERTISE on one":            {Budget{Cap: 2, Supernets: prefixes("10.0.0.0/8")}, []Route{fitRoute("10.0.0.0/9"), with(fitRoute("10.128.0.0/9"), noAdvertise)}, nil, "10.0.0.0/9", BudgetExceeded, true, 0},
		"held":                           {Budget{Cap: 4}, fitRoutes("10.0.0.0/24", "10.0.2.0/24", "10.0.4.0/24"), fitRoutes("10.0.2.0/24", "10.9.0.0/24"), "10.0.2.0/24", BudgetExceeded, true, 0},
		"held, nothing left":             {Budget{Cap: 4}, fitRoutes("10.0.2.0/24", "10.0.4.0/22", "10.0.0.0/24"), fitRoutes("10.9.0.0/24"), "10.0.0.0/24 10.0.4.0/22", BudgetExceeded, true, 0},
		"held, more than a new, low cap": {Budget{Cap: 4}, fitRoutes("10.0.0.0/24", "10.0.2.0/24", "10.0.4.0/24"), fitRoutes("10.0.0.0/24", "10.0.2.0/24", "10.0.4.0/24"), "10.0.0.0/24 10.0.2.0/24", BudgetExceeded, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Fit(c.b, c.routes, c.last)
			if got := fitNames(p.Announce); got != c.want || p.Level != c.level || p.Held != c.held || len(p.Aggregated) != c.aggregated {
				t.Errorf("got %q %s held %v aggregated %v, want %q %s held %v, %d\n%s", got, p.Level, p.Held, p.Aggregated, c.want, c.level, c.held, c.aggregated, p.Reason)
			}
			if p.Limit != c.b.Cap/2 || p.Count != len(p.Announce) || p.Reason == "" {
				t.Errorf("limit %d, count %d, reason %q", p.Limit, p.Count, p.Reason)
			}
		})
	}
}

// TestFitJoin looks at the attributes of a supernet's route.
func TestFitJoin(t *testing.T) {
	t.Parallel()
	tag := LargeCommunity{64513, 9, 9}
	a := with(fitRoute("10.0.0.0/24", 64513, 65010, 65011), func(r *Route) {
		r.Origin, r.Communities, r.Large = 0, []uint32{5, 6}, []LargeCommunity{{1, 1, 1}, tag}
	})
	b := with(fitRoute("10.0.1.0/24", 64513, 65010, 65012), func(r *Route) {
		r.Origin, r.Communities, r.Large = 2, []uint32{6, 7}, []LargeCommunity{tag}
	})
	budget := Budget{Cap: 2, Supernets: prefixes("10.0.0.0/16")}
	want := Route{
		Prefix: pfx("10.0.0.0/16"), ASPath: []uint32{64513, 65010}, Origin: 2, NextHop: a.NextHop,
		Communities: []uint32{6}, Large: []LargeCommunity{tag}, From: Source{Neighbor: "aggregate", Role: Local},
	}
	p := Fit(budget, []Route{b, a}, nil)
	if diff := cmp.Diff([]Route{want}, p.Announce, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, Source{})); diff != "" {
		t.Error(diff)
	}
	// What the aggregate has is its own: an append must not write into a route's path.
	if _ = append(p.Announce[0].ASPath, 1); a.ASPath[2] != 65011 || b.ASPath[2] != 65012 {
		t.Error("the aggregate's path is a route's")
	}
	for name, change := range map[string]func(*Route){
		"next hop": func(r *Route) { r.NextHop = netip.MustParseAddr("10.0.2.5") },
		"MED":      func(r *Route) { r.HasMED = true },
		"AS_SET":   func(r *Route) { r.ASSet = true },
		"scope":    func(r *Route) { r.Communities = []uint32{communityNoExport} },
	} {
		if p := Fit(budget, []Route{a, with(b, change)}, nil); !p.Held || fitNames(p.Announce) != "10.0.0.0/24" {
			t.Errorf("routes with different %s are joined: %s", name, fitNames(p.Announce))
		}
	}
}

// TestFitHoldsAggregates follows an aggregate through a time with too many
// routes: it stays as long as something is in it, with what they say now.
func TestFitHoldsAggregates(t *testing.T) {
	t.Parallel()
	b := Budget{Cap: 4, Supernets: prefixes("10.0.0.0/16")}
	inside := fitRoutes("10.0.0.0/24", "10.0.2.0/24", "10.0.4.0/24")
	good := Fit(b, inside, nil)
	flood := fitRoutes("172.16.0.0/24", "172.16.2.0/24", "172.16.4.0/24")
	marked := with(inside[1], func(r *Route) { r.Communities = []uint32{communityNoAdvertise} })
	p := Fit(b, append(slices.Clone(flood), marked), good.Announce)
	if fitNames(p.Announce) != "10.0.0.0/16" || !p.Held || p.Aggregated[marked.Prefix] != pfx("10.0.0.0/16") {
		t.Errorf("held %v: %s, %v", p.Held, fitNames(p.Announce), p.Aggregated)
	}
	if !slices.Equal(p.Announce[0].Communities, marked.Communities) {
		t.Error("a route was marked NO_ADVERTISE, its aggregate was not")
	}
	// All gone: nothing of the last good set is left.
	if p := Fit(b, flood, good.Announce); fitNames(p.Announce) != "172.16.0.0/24 172.16.2.0/24" {
		t.Errorf("the aggregate of nothing is held: %s", fitNames(p.Announce))
	}
}

// fitMany makes n routes of every second /24 from 10.0.0.0 on: none are siblings.
func fitMany(n int) (routes []Route) {
	for i := range n {
		routes = append(routes, fitRoute(fmt.Sprintf("10.%d.%d.0/24", i/128, i%128*2), 64513))
	}
	return routes
}

func TestFitReasons(t *testing.T) {
	t.Parallel()
	mixed := fitMany(3)
	for i := range mixed {
		mixed[i].MED, mixed[i].HasMED = uint32(i), true
	}
	noAdvertise := fitMany(1500)
	for i := range noAdvertise {
		noAdvertise[i].Communities = []uint32{communityNoAdvertise}
	}
	for _, c := range []struct {
		b      Budget
		routes []Route
		level  BudgetLevel
		want   string
	}{
		{Budget{}, fitMany(799), BudgetOK, "799 of at most 2000 routes are announced"},
		{Budget{}, fitMany(800), BudgetWarning, "ExpressRoute"},
		{Budget{}, noAdvertise, BudgetOK, "1500 of at most 2000 routes are announced"},
		{Budget{Cap: 1000}, fitMany(400), BudgetWarning, "80 %"},
		{Budget{}, fitMany(2001), BudgetExceeded, "2001 routes even when aggregated, 1 more than the limit of 2000, so what was announced last is held; the supernet 10.0.0.0/20, if configured, would save 7"},
		{Budget{Cap: 2}, append(fitMany(2), fitRoutes("172.16.0.0/24", "172.16.2.0/24", "172.16.4.0/24")...), BudgetExceeded, "configure several supernets: 172.16.0.0/20 would save 2"},
		{Budget{Cap: 2}, mixed, BudgetExceeded, "no supernet helps"},
		{Budget{Supernets: prefixes("10.0.0.0/12")}, fitMany(2001), BudgetOK, "1 of at most 2000 routes are announced, aggregated from 2001"},
	} {
		p := Fit(c.b, c.routes, nil)
		if p.Level != c.level || !strings.Contains(p.Reason, c.want) {
			t.Errorf("%d routes, cap %d: %s, %q; want %s, %q", len(c.routes), c.b.Cap, p.Level, p.Reason, c.level, c.want)
		}
	}
	for level, want := range map[BudgetLevel]string{BudgetOK: "ok", BudgetWarning: "warning", BudgetExceeded: "exceeded", 9: "unknown(9)"} {
		if level.String() != want {
			t.Errorf("%q is not %q", level, want)
		}
	}
}

// A fitCase is a world of 32 leaves below one root: small enough to look at
// every address, dense enough to have siblings, nested prefixes and parents.
type fitCase struct {
	root   netip.Prefix
	b      Budget
	routes []Route
	last   []Route
}

const leafBits = 5

// below is a random prefix of the case's world, of any length from the root's to the leaves'.
func (c *fitCase) below(rng *rand.Rand, shortest int) netip.Prefix {
	n := rng.Uint32N(1 << leafBits)
	return netip.PrefixFrom(c.leaf(int(n)), c.root.Bits()+shortest+rng.IntN(leafBits+1-shortest)).Masked()
}

// leaf is the first address of the i-th of them.
func (c *fitCase) leaf(i int) netip.Addr {
	a := c.root.Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v |= uint32(i) << (32 - c.root.Bits() - leafBits)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func (c *fitCase) random(rng *rand.Rand) []Route {
	m := map[netip.Prefix]Route{}
	model := fitRoute("10.0.0.0/8", 64513)
	for range rng.IntN(30) {
		r := model
		r.Prefix = c.below(rng, rng.IntN(leafBits+1))
		switch rng.IntN(12) {
		case 0:
			r.ASPath = []uint32{64513, uint32(65000 + rng.IntN(2))}
		case 1:
			r.Communities = []uint32{communityNoAdvertise}
		case 2:
			r.NextHop = netip.MustParseAddr("10.0.2.5")
		}
		m[r.Prefix] = r
	}
	a := aggregator{set: m}
	return a.routes()
}

func newFitCase(rng *rand.Rand) *fitCase {
	c := &fitCase{root: pick(rng, pfx("10.0.0.0/7"), pfx("10.0.0.0/8"), pfx("10.32.0.0/12"), pfx("172.16.5.64/27"))}
	c.b = Budget{Cap: 2 + rng.IntN(30), Aggregating: rng.IntN(3) == 0}
	for range max(0, rng.IntN(5)-2) {
		c.b.Supernets = append(c.b.Supernets, c.below(rng, rng.IntN(4)))
	}
	c.routes = c.random(rng)
	if rng.IntN(2) == 0 { // a plan of something that is partly the same
		c.last = Fit(c.b, append(c.random(rng), c.routes[:len(c.routes)/2]...), nil).Announce
	}
	return c
}

// fitLookup is the route that a packet to the address takes.
func fitLookup(routes []Route, a netip.Addr) (best Route, ok bool) {
	for _, r := range routes {
		if r.Prefix.Contains(a) && (!ok || r.Prefix.Bits() > best.Prefix.Bits()) {
			best, ok = r, true
		}
	}
	return best, ok
}

// wrong is the first promise that a plan breaks, or "".
func (c *fitCase) wrong(p Plan) string {
	told := aggregator{set: map[netip.Prefix]Route{}}
	for _, r := range c.routes {
		told.set[r.Prefix] = r
	}
	if p.Limit != c.b.Cap/2 || p.Count != len(p.Announce) || p.Count > p.Limit || p.Held != (p.Level == BudgetExceeded) {
		return fmt.Sprintf("count %d of %d routes, limit %d, level %s", p.Count, len(p.Announce), p.Limit, p.Level)
	}
	for i, r := range p.Announce {
		if i > 0 && p.Announce[i-1].Prefix.Compare(r.Prefix) >= 0 {
			return "not sorted, or twice: " + r.Prefix.String()
		}
		same, told := told.set[r.Prefix]
		_, inSupernet := within(r.Prefix, c.b.Supernets)
		switch {
		case !told && r.Prefix.Bits() < 8:
			return "made " + r.Prefix.String()
		case told && !p.Held && !inSupernet && !sameAttributes(same, r):
			return r.Prefix.String() + " itself got other attributes"
		}
		if !touches(c.routes, r.Prefix) {
			return r.Prefix.String() + " is announced of nothing"
		}
	}
	for p1, p2 := range p.Aggregated {
		if _, there := told.set[p1]; !there || p1.Bits() <= p2.Bits() || !p2.Contains(p1.Addr()) {
			return fmt.Sprintf("%s stands for %s", p2, p1)
		}
	}
	if p.Held {
		return ""
	}
	return c.wrongCover(p)
}

// touches reports whether a route is equal to the prefix, or covers or is in it.
func touches(routes []Route, p netip.Prefix) bool {
	return slices.ContainsFunc(routes, func(r Route) bool { return r.Prefix.Overlaps(p) })
}

// wrongCover looks at every address: outside of supernets it takes exactly the
// way that it took, inside it is reached if it was.
func (c *fitCase) wrongCover(p Plan) string {
	for i := range 1 << leafBits {
		a := c.leaf(i)
		before, was := fitLookup(c.routes, a)
		after, is := fitLookup(p.Announce, a)
		inSupernet := slices.ContainsFunc(c.b.Supernets, func(s netip.Prefix) bool { return s.Contains(a) })
		switch {
		case was && !is:
			return a.String() + " is not covered any more"
		case is && !was && !inSupernet:
			return a.String() + " is covered, but by no route"
		case is && was && !inSupernet && !sameAttributes(before, after):
			return a.String() + " got other attributes"
		}
	}
	return ""
}

// TestPropertyFit tries random worlds; nothing, and any order of the input too.
func TestPropertyFit(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(10000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		c := newFitCase(rng)
		before := slices.Clone(c.routes)
		p := Fit(c.b, c.routes, c.last)
		if problem := c.wrong(p); problem != "" {
			t.Fatalf("seed %d: %s: cap %d supernets %v\n%s\n%s", seed, problem, c.b.Cap, c.b.Supernets, fitNames(c.routes), fitNames(p.Announce))
		}
		if !slices.EqualFunc(before, c.routes, Route.Equal) {
			t.Fatalf("seed %d: the input was changed", seed)
		}
		rng.Shuffle(len(before), func(i, j int) { before[i], before[j] = before[j], before[i] })
		rng.Shuffle(len(c.last), func(i, j int) { c.last[i], c.last[j] = c.last[j], c.last[i] })
		rng.Shuffle(len(c.b.Supernets), func(i, j int) {
			c.b.Supernets[i], c.b.Supernets[j] = c.b.Supernets[j], c.b.Supernets[i]
		})
		q := Fit(c.b, before, c.last)
		if !slices.EqualFunc(p.Announce, q.Announce, Route.Equal) || p.Reason != q.Reason || p.Level != q.Level {
			t.Fatalf("seed %d: the order of the input matters:\n%s\n%s", seed, fitNames(p.Announce), fitNames(q.Announce))
		}
		if none := Fit(c.b, nil, p.Announce); len(none.Announce) != 0 || none.Held || none.Level != BudgetOK {
			t.Fatalf("seed %d: of nothing: %+v", seed, none)
		}
		seen[fmt.Sprintf("held %v aggregated %v supernets %v", p.Held, len(p.Aggregated) > 0, len(c.b.Supernets) > 0)]++
	}
	if len(seen) != 8 {
		t.Errorf("some kinds of plans never came up: %v", seen)
	}
}

// TestPropertyFitCatches has the merging wrong, to see that the properties notice.
func TestPropertyFitCatches(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]halves{
		"no look for the sibling": func(_ map[netip.Prefix]Route, low Route) (Route, bool) { return low, true },
		"no look at the attributes": func(set map[netip.Prefix]Route, low Route) (Route, bool) {
			high, there := set[upperHalf(low.Prefix)]
			return high, there
		},
		"no look at the parent": func(set map[netip.Prefix]Route, low Route) (Route, bool) {
			high, there := set[upperHalf(low.Prefix)]
			return high, there && sameAttributes(low, high)
		},
	} {
		caught := 0
		for seed := range uint64(2000) {
			c := newFitCase(rand.New(rand.NewPCG(seed, 3)))
			if c.wrong(fit(c.b, c.routes, c.last, hook)) != "" {
				caught++
			}
		}
		if caught == 0 {
			t.Errorf("%s: nothing notices", name)
		}
		t.Logf("%s: caught in %d of 2000", name, caught)
	}
}
