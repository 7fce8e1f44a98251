package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// network is two sites with one to three NVAs each, full mesh of tunnels
// between the sites and among siblings, and a Route Server with its fabric a
// site. Messages are delivered, nodes think and Route Servers program the
// fabric one at a time, in any order, so every intermediate state is seen.
type network struct {
	rng   *rand.Rand
	sites [2]*site
	nodes []*node
	links []*link
	broke func(Verdict, Route, Target) Verdict // a deliberately wrong rule; nil: none
	err   error
}

type site struct {
	i       int
	name    string
	vnet    netip.Prefix
	nodes   []*node
	circuit map[netip.Prefix][]uint32 // what ExpressRoute tells, as [12076 …]
	heard   map[*node]map[netip.Prefix]Route
	fabric  map[netip.Prefix][]*node // nil list: the circuit
	coming  map[netip.Prefix][]*node // what the fabric is about to be; nil: nothing new
}

type node struct {
	name     string
	s        *site
	env      Env
	alive    bool
	news     bool                   // of its Route Server, not looked at yet
	ghosts   map[netip.Prefix]bool  // withdrawn from the Route Server, and the fabric may not know
	fromARS  map[netip.Prefix]Route // inbox
	from     map[*link]map[netip.Prefix]Route
	selected map[netip.Prefix]choice
	out      map[string]map[netip.Prefix]Route // by target: what it says
}

type choice struct {
	route Route
	ways  []*link // Tunnel and Sibling
}

type link struct {
	a, b *node
	up   bool
}

func (l *link) other(n *node) *node {
	if l.a == n {
		return l.b
	}
	return l.a
}

func (l *link) name(n *node) string { return "to-" + l.other(n).name }

func (l *link) role() Role {
	if l.a.s == l.b.s {
		return Sibling
	}
	return Tunnel
}

// The pool: nested, so that longest-prefix traps appear; also at both sites.
func poolPrefix(rng *rand.Rand) netip.Prefix {
	return pfx(pick(rng, "0.0.0.0/0", "0.0.0.0/1", "10.0.0.0/8", "10.0.0.0/16", "10.0.3.0/24", "10.1.0.0/16", "10.50.0.0/16", "10.50.1.0/24", "172.16.0.0/12", "172.16.5.0/24", "10.0.2.4/32", "172.16.5.5/32"))
}

var destinations = []netip.Addr{
	netip.MustParseAddr("10.50.1.9"), netip.MustParseAddr("10.50.9.9"), netip.MustParseAddr("172.16.5.5"), netip.MustParseAddr("172.17.0.1"),
	netip.MustParseAddr("10.0.3.3"), netip.MustParseAddr("10.1.9.9"), netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("200.0.0.1"),
}

func newNetwork(rng *rand.Rand) *network {
	w := &network{rng: rng}
	for i, name := range []string{"hub", "transit"} {
		s := &site{i: i, name: name, vnet: pfx(fmt.Sprintf("10.%d.0.0/16", i)), circuit: map[netip.Prefix][]uint32{}, heard: map[*node]map[netip.Prefix]Route{}, fabric: map[netip.Prefix][]*node{}}
		w.sites[i] = s
		for k := range 1 + rng.IntN(3) {
			n := &node{
				name: fmt.Sprintf("%s-%d", name, k), s: s, alive: true, fromARS: map[netip.Prefix]Route{}, from: map[*link]map[netip.Prefix]Route{},
				selected: map[netip.Prefix]choice{}, out: map[string]map[netip.Prefix]Route{}, ghosts: map[netip.Prefix]bool{},
				env: Env{
					ASN: 64512 + uint32(i), Site: name, VNet: []netip.Prefix{s.vnet}, VNetKnown: true, TunnelASNs: []uint32{64513 - uint32(i)},
					Protected: prefixes("10.0.1.0/27", "10.1.1.0/27", "10.0.2.4/30", "10.1.2.4/30", "169.254.77.0/24"), Priority: uint8(k * rng.IntN(2)),
				},
			}
			s.nodes, w.nodes = append(s.nodes, n), append(w.nodes, n)
		}
		for range rng.IntN(4) {
			w.announceCircuit(s)
		}
	}
	for i, a := range w.nodes {
		for _, b := range w.nodes[i+1:] {
			w.links = append(w.links, &link{a: a, b: b, up: rng.IntN(8) > 0})
		}
	}
	if rng.IntN(2) == 0 { // a default of the hub's own
		for _, n := range w.sites[0].nodes {
			for _, far := range w.sites[1].nodes {
				n.env.Originate = append(n.env.Originate, Origination{Prefix: pfx("0.0.0.0/0"), To: []string{"to-" + far.name}})
			}
		}
	}
	return w
}

func (w *network) announceCircuit(s *site) {
	path := []uint32{12076}
	for range w.rng.IntN(3) {
		path = append(path, pick[uint32](w.rng, 398656, 65010, 65020, 64900))
	}
	s.circuit[poolPrefix(w.rng)] = path
}

// linksOf are a node's links.
func (w *network) linksOf(n *node) (list []*link) {
	for _, l := range w.links {
		if l.a == n || l.b == n {
			list = append(list, l)
		}
	}
	return list
}

// serve lets a Route Server choose, program the fabric and tell the NVAs.
func (w *network) serve(s *site) {
	type told struct {
		path []uint32
		from *node
	}
	best := map[netip.Prefix]told{}
	fabric := map[netip.Prefix][]*node{}
	for _, n := range s.nodes {
		for p, r := range s.heard[n] {
			if slices.Contains(r.ASPath, 65515) {
				continue
			}
			old, ok := best[p]
			switch {
			case !ok || len(r.ASPath) < len(old.path):
				best[p], fabric[p] = told{r.ASPath, n}, []*node{n}
			case len(r.ASPath) == len(old.path):
				fabric[p] = append(fabric[p], n)
			}
		}
	}
	for p, path := range s.circuit {
		best[p], fabric[p] = told{path, nil}, nil
		s.fabric[p] = nil // see docs/decisions/0007: what appears is known to the cards at once here
	}
	s.coming = fabric
	for _, n := range s.nodes {
		if !n.alive {
			continue
		}
		n.news = true
		from := Source{Neighbor: s.name + "-ars", Role: RouteServer, ASN: 65515}
		n.fromARS = map[netip.Prefix]Route{s.vnet: {Prefix: s.vnet, ASPath: []uint32{65515}, From: from}}
		for p, b := range best {
			if b.from != n {
				n.fromARS[p] = Route{Prefix: p, ASPath: append([]uint32{65515}, b.path...), From: from}
			}
		}
	}
}

// program brings the fabric up to date. Azure takes seconds for that (azure.md
// 1.4), an NVA milliseconds to read an UPDATE: so the NVAs have heard of it by
// then. The other way round no NVA could help it: a route that only the NVA
// still believes in leads back into the fabric, which no longer has it.
func (w *network) program(s *site) {
	if s.coming == nil || slices.ContainsFunc(s.nodes, func(n *node) bool { return n.alive && n.news }) {
		return
	}
	s.fabric, s.coming = s.coming, nil
}

// deliver brings what a node says to where it goes: its Route Server (l is nil) or the other end of a link.
func (w *network) deliver(n *node, l *link) {
	if !n.alive {
		return
	}
	if l == nil {
		n.s.heard[n] = n.out[n.s.name+"-ars"]
		return
	}
	far := l.other(n)
	if !l.up || !far.alive {
		delete(far.from, l)
		return
	}
	in := map[netip.Prefix]Route{}
	for p, r := range n.out[l.name(n)] {
		r.From = Source{Neighbor: l.name(far), Role: l.role(), ASN: n.env.ASN}
		in[p] = r
	}
	far.from[l] = in
}

// think lets a node judge everything anew.
func (w *network) think(n *node) {
	if !n.alive {
		return
	}
	n.news = false
	links := w.linksOf(n)
	var standings []Standing
	for _, l := range links {
		if l.role() == Sibling {
			st := Standing{Seen: true}
			for _, r := range n.from[l] {
				if p, ok := PriorityOf(r, n.env.ASN); ok {
					st.Priority, st.Alive = p, true
				}
			}
			standings = append(standings, st)
		}
	}
	n.env.Prepend = Prepend(n.env.Priority, standings, false)
	candidates := map[netip.Prefix][]Route{}
	take := func(r Route) {
		if v := Import(&n.env, r); v.Accept {
			candidates[r.Prefix] = append(candidates[r.Prefix], v.Route)
		}
	}
	for _, r := range Originated(&n.env) {
		candidates[r.Prefix] = append(candidates[r.Prefix], r)
	}
	for _, r := range n.fromARS {
		take(r)
	}
	for _, in := range n.from {
		for _, r := range in {
			take(r)
		}
	}
	n.selected = map[netip.Prefix]choice{}
	before := n.out[n.s.name+"-ars"]
	n.out = map[string]map[netip.Prefix]Route{}
	targets := []Target{{Neighbor: n.s.name + "-ars", Role: RouteServer, ASN: 65515, NextHop: netip.MustParseAddr("10.0.2.4"), DefaultRoute: DefaultRoute(n.s.i)}}
	for _, l := range links {
		targets = append(targets, Target{Neighbor: l.name(n), Role: l.role(), ASN: l.other(n).env.ASN, NextHop: netip.MustParseAddr("169.254.77.1")})
	}
	for _, t := range targets {
		n.out[t.Neighbor] = map[netip.Prefix]Route{}
	}
	for p, list := range candidates {
		best, _ := Select(list)
		c := choice{route: list[best]}
		names := append([]string{list[best].From.Neighbor}, Sharing(list, best)...)
		for _, l := range links {
			if slices.Contains(names, l.name(n)) {
				c.ways = append(c.ways, l)
			}
		}
		n.selected[p] = c
		for _, t := range targets {
			v := Export(&n.env, c.route, t)
			if w.broke != nil {
				v = w.broke(v, c.route, t)
			}
			if !v.Accept {
				continue
			}
			w.checkSaid(n, c.route, v.Route, t)
			if t.Role != Sibling {
				v.Route.ASPath = append([]uint32{n.env.ASN}, v.Route.ASPath...)
			}
			n.out[t.Neighbor][p] = v.Route
		}
	}
	n.remember(before)
}

// remember keeps what was withdrawn from the Route Server in mind, as long as
// packets for it may still come: the speaker does that for a minute.
func (n *node) remember(before map[netip.Prefix]Route) {
	for p := range before {
		if _, still := n.out[n.s.name+"-ars"][p]; !still {
			n.ghosts[p] = true
		}
	}
	for p := range n.ghosts {
		_, heard := n.s.heard[n][p]
		_, again := n.selected[p]
		if again || !heard && !slices.Contains(n.s.fabric[p], n) && !slices.Contains(n.s.coming[p], n) {
			delete(n.ghosts, p)
		}
	}
}

// checkSaid: nothing goes back to the site it came from, and nothing that is forbidden goes anywhere.
func (w *network) checkSaid(n *node, r, said Route, to Target) {
	fail := func(format string, args ...any) {
		if w.err == nil {
			w.err = fmt.Errorf("%s says %s to %s: "+format, append([]any{n.name, said.Prefix, to.Neighbor}, args...)...)
		}
	}
	if _, protected := within(said.Prefix, n.env.Protected); protected || isHostRoute(said.Prefix) {
		fail("forbidden")
	}
	switch to.Role {
	case RouteServer:
		_, vnet := within(said.Prefix, n.env.VNet)
		if vnet || IsDefault(said.Prefix) && to.DefaultRoute == DefaultDeny || slices.ContainsFunc(said.ASPath, azureASN) || len(said.Large) > 0 {
			fail("path %v, tags %v", said.ASPath, said.Large)
		}
		if r.From.Role != Local && (r.From.Role != Tunnel || n.env.hasSite(r.Large, SiteNumber(n.s.name))) {
			fail("came from %+v", r.From)
		}
	case Tunnel:
		if r.From.Role != RouteServer && r.From.Role != Local {
			fail("came from %+v", r.From)
		}
	case Sibling:
		if r.From.Role != Tunnel {
			fail("came from %+v", r.From)
		}
	case Local:
	}
}

// place is where a packet is: at a node, with how it got in.
type place struct {
	n  *node
	by Role // RouteServer: by the card
}

// checkLoops follows packets from every card, by every way that hashing may choose.
func (w *network) checkLoops() {
	for _, dst := range destinations {
		for _, n := range w.nodes {
			if w.err == nil && w.loops(place{n, RouteServer}, dst, nil) {
				w.err = fmt.Errorf("a packet for %s that enters %s by the card goes round", dst, n.name)
			}
		}
	}
}

func (w *network) loops(at place, dst netip.Addr, seen []place) bool {
	if slices.Contains(seen, at) {
		return true
	}
	seen = append(seen, at)
	for _, next := range w.next(at, dst) {
		if next.n.alive && w.loops(next, dst, seen) {
			return true
		}
	}
	return false
}

// next says where a packet may go, as the kernel's rules have it (package fib).
func (w *network) next(at place, dst netip.Addr) (list []place) {
	n := at.n
	c, ok := longest(n.selected, dst)
	role := c.route.From.Role
	switch {
	case !ok:
		return nil
	case at.by == Tunnel && role != RouteServer && role != Local, // table site
		at.by == Sibling && role != Tunnel: // table relay
		return nil
	case len(c.ways) == 0 && at.by == RouteServer && ghosted(n.ghosts, c.route.Prefix, dst):
		return nil
	case len(c.ways) > 0:
		for _, l := range c.ways {
			if l.up {
				list = append(list, place{l.other(n), l.role()})
			}
		}
		return list
	case n.s.vnet.Contains(dst):
		return nil // arrived
	}
	nvas, _ := longest(n.s.fabric, dst)
	for _, nva := range nvas {
		list = append(list, place{nva, RouteServer})
	}
	return list
}

// ghosted: a withdrawn prefix is the longer match than what would lead out of the card.
func ghosted(ghosts map[netip.Prefix]bool, p netip.Prefix, dst netip.Addr) bool {
	for g := range ghosts {
		if g.Bits() > p.Bits() && g.Contains(dst) {
			return true
		}
	}
	return false
}

func longest[T any](m map[netip.Prefix]T, dst netip.Addr) (found T, any bool) {
	bits := -1
	for p, v := range m {
		if p.Bits() > bits && p.Contains(dst) {
			found, bits, any = v, p.Bits(), true
		}
	}
	return found, any
}

// event does one thing at random.
func (w *network) event() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	s := w.sites[w.rng.IntN(2)]
	switch w.rng.IntN(16) {
	case 0, 1, 2:
		w.think(n)
	case 3, 4, 5:
		w.deliver(n, nil)
	case 6, 7, 8:
		links := w.linksOf(n)
		if len(links) > 0 {
			w.deliver(n, links[w.rng.IntN(len(links))])
		}
	case 9, 10:
		w.serve(s)
	case 11:
		l := w.links[w.rng.IntN(len(w.links))]
		l.up = !l.up
		if !l.up { // BFD tells both ends, at its time
			delete(pick(w.rng, l.a, l.b).from, l)
		}
	case 12:
		if w.rng.IntN(2) == 0 {
			w.announceCircuit(s)
		} else {
			delete(s.circuit, poolPrefix(w.rng))
		}
	case 14, 15:
		w.program(s)
	case 13:
		n.alive = !n.alive
		if !n.alive { // the kernel keeps a refusal behind each announced route (package fib)
			for p := range n.s.heard[n] {
				n.ghosts[p] = true
			}
		}
		if n.alive {
			n.from, n.fromARS, n.selected, n.out = map[*link]map[netip.Prefix]Route{}, map[netip.Prefix]Route{}, map[netip.Prefix]choice{}, map[string]map[netip.Prefix]Route{}
		} else if w.rng.IntN(2) == 0 { // a Cease; else silently, and the Route Server keeps its routes
			delete(n.s.heard, n)
		}
	}
}

// settle brings everything up and lets everybody talk until nothing changes.
func (w *network) settle() {
	for _, n := range w.nodes {
		if !n.alive {
			n.alive = true
			n.from, n.selected, n.out = map[*link]map[netip.Prefix]Route{}, map[netip.Prefix]choice{}, map[string]map[netip.Prefix]Route{}
		}
	}
	for _, l := range w.links {
		l.up = true
	}
	for range 8 {
		for _, n := range w.nodes {
			w.think(n)
			w.deliver(n, nil)
			for _, l := range w.linksOf(n) {
				w.deliver(n, l)
			}
		}
		for _, s := range w.sites {
			w.serve(s)
			w.checkLoops()
			if w.err != nil {
				return
			}
			for _, n := range s.nodes {
				w.think(n)
			}
			w.program(s)
			w.checkLoops()
			if w.err != nil {
				return
			}
		}
	}
	for i, s := range w.sites {
		w.checkReach(s, w.sites[1-i])
	}
}

// checkReach: what a circuit tells, and is allowed to leave, is reached from the other site's fabric.
func (w *network) checkReach(from, to *site) {
	for p := range to.circuit {
		_, near := from.circuit[p]
		_, ownVNet := within(p, []netip.Prefix{from.vnet})
		_, theirVNet := within(p, []netip.Prefix{to.vnet})
		_, protected := within(p, from.nodes[0].env.Protected)
		if near || ownVNet || theirVNet || protected || IsDefault(p) || isHostRoute(p) {
			continue
		}
		if nvas, ok := from.fabric[p]; w.err == nil && (!ok || len(nvas) == 0) {
			w.err = fmt.Errorf("%s of %s is not known to the fabric of %s", p, to.name, from.name)
		}
	}
}

// steps are the random events of a case.
const steps = 30

// runNetwork is one case: random events, each followed by every check; then, in
// every eighth case because it takes most of the time, peace.
func runNetwork(seed uint64, broke func(Verdict, Route, Target) Verdict) error {
	w := newNetwork(rand.New(rand.NewPCG(seed, 4)))
	w.broke = broke
	for i := range steps {
		w.event()
		w.checkLoops()
		if w.err != nil {
			return fmt.Errorf("seed %d, step %d: %w", seed, i, w.err)
		}
	}
	if seed%8 == 0 {
		w.settle()
	}
	if w.err != nil {
		return fmt.Errorf("seed %d, at rest: %w", seed, w.err)
	}
	return nil
}

// TestPropertyTopologies: 100,000 networks (a tenth with -short).
func TestPropertyTopologies(t *testing.T) {
	t.Parallel()
	cases := uint64(100_000)
	if testing.Short() || raceEnabled {
		cases /= 10
	}
	var next atomic.Uint64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for seed := next.Add(1); seed <= cases && !t.Failed(); seed = next.Add(1) {
				if err := runNetwork(seed, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestPropertyTopologiesCatch: each wrong rule is found.
func TestPropertyTopologiesCatch(t *testing.T) {
	t.Parallel()
	for name, broke := range map[string]func(Verdict, Route, Target) Verdict{
		"a route goes back to the Route Server that told it": func(v Verdict, r Route, to Target) Verdict {
			if r.From.Role == RouteServer && to.Role == RouteServer && len(r.ASPath) > 1 {
				v.Accept, v.Route = true, r
				v.Route.ASPath = cleanPath(r.ASPath)
			}
			return v
		},
		"what came through a tunnel goes into a tunnel": func(v Verdict, r Route, to Target) Verdict {
			v.Accept = v.Accept || v.Rule == RuleTunnelToTunnel
			return v
		},
		"a protected prefix leaves": func(v Verdict, _ Route, _ Target) Verdict {
			v.Accept = v.Accept || v.Rule == RuleHostRoute
			return v
		},
		"Azure's ASNs stay in": func(v Verdict, r Route, _ Target) Verdict {
			v.Route.ASPath = r.ASPath
			return v
		},
		"nothing crosses": func(v Verdict, _ Route, to Target) Verdict {
			v.Accept = v.Accept && to.Role != Tunnel
			return v
		},
		"a sibling's route is announced": func(v Verdict, _ Route, to Target) Verdict {
			v.Accept = v.Accept || v.Rule == RuleFromSibling && to.Role == RouteServer
			return v
		},
	} {
		caught := false
		for seed := uint64(1); seed < 3000 && !caught; seed++ {
			caught = runNetwork(seed, broke) != nil
		}
		if !caught {
			t.Errorf("not found in 3,000 networks: %s", name)
		}
	}
}
