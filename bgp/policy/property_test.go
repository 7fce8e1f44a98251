package policy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// world is a random pair of sites: an NVA each, with its Route Server's routes,
// and what went through the tunnel. It follows routes until nothing changes.
type world struct {
	envs   [2]*Env
	told   [2][]Route // by the own Route Server, as received
	sent   [2][]Route // into the tunnel, as sent (own ASN prepended)
	toARS  [2][]Route // to the own Route Server, as sent
	routes [2][]Route // selected
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

// randomPrefix is mostly of a small pool, so that sites collide; some forbidden ones are in it.
func randomPrefix(rng *rand.Rand) netip.Prefix {
	if rng.IntN(4) > 0 {
		return pfx(pick(rng, "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/16", "10.0.3.0/24", "10.1.0.0/16", "10.1.2.4/32", "10.0.1.0/27",
			"10.1.1.0/27", "10.50.0.0/22", "10.50.1.0/24", "172.16.0.0/16", "10.0.0.0/8", "169.254.77.0/30", "168.63.129.16/32", "224.0.0.0/4", "172.16.5.5/32", "fe80::/10", "2001:db8::/32"))
	}
	var a [4]byte
	for i := range a {
		a[i] = byte(rng.Uint32())
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), rng.IntN(33)).Masked()
}

func randomRoute(rng *rand.Rand, first uint32, from Source) Route {
	r := Route{Prefix: randomPrefix(rng), ASPath: []uint32{first}, Origin: uint8(rng.IntN(3)), From: from}
	for range rng.IntN(5) {
		r.ASPath = append(r.ASPath, pick[uint32](rng, 65515, 12076, 398656, 65010, 65020, 64512, 64513, 23456, 4200000000))
	}
	for range rng.IntN(3) {
		r.Communities = append(r.Communities, pick[uint32](rng, 65535<<16|65282, 65535<<16|65281, 65517<<16|12001, 65010<<16|7, 12076<<16|51004))
	}
	for range rng.IntN(3) {
		r.Large = append(r.Large, LargeCommunity{
			Global: pick[uint32](rng, 64512, 64513, 65010), Local1: uint32(rng.IntN(3)), Local2: pick(rng, SiteNumber("hub"), SiteNumber("transit"), 5),
		})
	}
	return r
}

func randomEnv(rng *rand.Rand, asn, peer uint32, site, ars, vnet, arsSubnet string) *Env {
	env := &Env{
		ASN: asn, Site: site, VNet: prefixes(vnet), VNetKnown: true, TunnelASNs: []uint32{peer},
		Protected: prefixes(arsSubnet, "169.254.77.0/30", "10.1.2.4/32", "10.0.2.4/32"),
	}
	for range rng.IntN(3) {
		env.Originate = append(env.Originate, Origination{Prefix: randomPrefix(rng), To: []string{pick(rng, "tr0", ars)}})
	}
	if rng.IntN(2) == 0 {
		env.AllowHostRoutes = prefixes("172.16.5.5/32")
	}
	return env
}

func newWorld(rng *rand.Rand) *world {
	w := &world{envs: [2]*Env{
		randomEnv(rng, 64512, 64513, "hub", "ars0", "10.0.0.0/16", "10.0.1.0/27"),
		randomEnv(rng, 64513, 64512, "transit", "ars1", "10.1.0.0/16", "10.1.1.0/27"),
	}}
	for i := range w.told {
		for range rng.IntN(20) {
			w.told[i] = tell(w.told[i], randomRoute(rng, 65515, w.arsSource(i)))
		}
	}
	return w
}

// tell adds a route; a session has one of a prefix, so it replaces the old one.
func tell(routes []Route, r Route) []Route {
	others := slices.DeleteFunc(slices.Clone(routes), func(o Route) bool { return o.Prefix == r.Prefix })
	return append(others, r)
}

func (w *world) arsSource(i int) Source {
	return Source{Neighbor: []string{"ars0", "ars1"}[i], Role: RouteServer, ASN: 65515, Peer: netip.MustParseAddr("192.0.2.4")}
}

// step lets node i judge everything anew, and reports whether what it says changed.
func (w *world) step(rng *rand.Rand, i int) bool {
	env, peer := w.envs[i], 1-i
	byPrefix := map[netip.Prefix][]Route{}
	add := func(r Route) { byPrefix[r.Prefix] = append(byPrefix[r.Prefix], r) }
	for _, r := range Originated(env) {
		add(r)
	}
	received := slices.Clone(w.told[i])
	for _, r := range w.sent[peer] {
		r.From = Source{Neighbor: "tr0", Role: Tunnel, ASN: w.envs[peer].ASN, Peer: netip.MustParseAddr("198.51.100.2")}
		received = append(received, r)
	}
	rng.Shuffle(len(received), func(a, b int) { received[a], received[b] = received[b], received[a] })
	for _, r := range received {
		if v := Import(env, r); v.Accept {
			add(v.Route)
		}
	}
	var routes, sent, toARS []Route
	for _, candidates := range byPrefix {
		best, _ := Select(candidates)
		r := candidates[best]
		routes = append(routes, r)
		if v := Export(env, r, Target{Neighbor: "tr0", Role: Tunnel, ASN: w.envs[peer].ASN, NextHop: netip.MustParseAddr("198.51.100.1")}); v.Accept {
			v.Route.ASPath = append([]uint32{env.ASN}, v.Route.ASPath...)
			sent = append(sent, v.Route)
		}
		mode := DefaultRoute(i) // the hub denies, the transit side announces
		if v := Export(env, r, Target{Neighbor: w.arsSource(i).Neighbor, Role: RouteServer, ASN: 65515, DefaultRoute: mode, NextHop: netip.MustParseAddr("192.0.2.10")}); v.Accept {
			v.Route.ASPath = append([]uint32{env.ASN}, v.Route.ASPath...)
			toARS = append(toARS, v.Route)
		}
	}
	for _, l := range []*[]Route{&routes, &sent, &toARS} {
		slices.SortFunc(*l, func(a, b Route) int { return a.Prefix.Compare(b.Prefix) })
	}
	changed := !slices.EqualFunc(w.sent[i], sent, Route.Equal) || !slices.EqualFunc(w.toARS[i], toARS, Route.Equal)
	w.routes[i], w.sent[i], w.toARS[i] = routes, sent, toARS
	return changed
}

func (w *world) settle(t *testing.T, rng *rand.Rand) {
	t.Helper()
	for range 20 {
		a, b := w.step(rng, 0), w.step(rng, 1)
		w.check(t)
		if !a && !b {
			w.checkNoLoop(t)
			return
		}
	}
	t.Fatal("the two nodes never agree")
}

// check holds in every state on the way, not only at the end.
func (w *world) check(t *testing.T) {
	t.Helper()
	for i, env := range w.envs {
		for _, r := range w.toARS[i] {
			w.checkToARS(t, i, env, r)
		}
		for _, r := range w.sent[i] {
			if r.From.Role == Tunnel || IsDefault(r.Prefix) && r.From.Role != Local {
				t.Errorf("%s sent into the tunnel, learned from %+v", r.Prefix, r.From)
			}
			if slices.ContainsFunc(r.ASPath, azureASN) || !env.hasSite(r.Large, SiteNumber(env.Site)) {
				t.Errorf("%s sent into the tunnel with path %v and tags %v", r.Prefix, r.ASPath, r.Large)
			}
			checkForbidden(t, env, r)
		}
		for _, r := range w.routes[i] {
			own := slices.ContainsFunc(w.told[i], func(o Route) bool { return o.Prefix == r.Prefix && Import(env, o).Accept })
			if own && r.From.Role == Tunnel {
				t.Errorf("%s is told by the own Route Server, yet goes into the tunnel", r.Prefix)
			}
		}
	}
}

// checkNoLoop: what one node sends into the tunnel, the other does not send back.
func (w *world) checkNoLoop(t *testing.T) {
	t.Helper()
	remote := func(i int) map[netip.Prefix]bool {
		m := map[netip.Prefix]bool{}
		for _, r := range w.routes[i] {
			m[r.Prefix] = r.From.Role == Tunnel
		}
		return m
	}
	there := remote(1)
	for p, intoTunnel := range remote(0) {
		if intoTunnel && there[p] {
			t.Errorf("%s goes into the tunnel at both ends", p)
		}
	}
}

func (w *world) checkToARS(t *testing.T, i int, env *Env, r Route) {
	t.Helper()
	if r.From.Role == RouteServer {
		t.Errorf("%s goes back to site %s, from where it came", r.Prefix, env.Site)
	}
	if slices.ContainsFunc(r.ASPath, azureASN) {
		t.Errorf("%s goes to a Route Server with path %v", r.Prefix, r.ASPath)
	}
	if slices.ContainsFunc(r.Large, env.ours) || slices.ContainsFunc(r.Communities, azureOwned) {
		t.Errorf("%s goes to a Route Server with communities %v %v", r.Prefix, r.Communities, r.Large)
	}
	if _, ok := within(r.Prefix, env.VNet); ok {
		t.Errorf("%s of the own VNet goes to the Route Server", r.Prefix)
	}
	if IsDefault(r.Prefix) && i == 0 {
		t.Errorf("%s goes to a Route Server that denies a default", r.Prefix)
	}
	if r.Prefix.Addr().Is6() {
		t.Errorf("%s goes to a Route Server", r.Prefix)
	}
	checkForbidden(t, env, r)
}

func azureASN(asn uint32) bool { return asn == 65515 || asn == 12076 || asn == 398656 }

func checkForbidden(t *testing.T, env *Env, r Route) {
	t.Helper()
	_, protected := within(r.Prefix, env.Protected)
	_, listed := within(r.Prefix, env.AllowHostRoutes)
	if protected || martian(r.Prefix) != "" || r.Prefix.Addr().Is4() && r.Prefix.Bits() >= 30 && !listed {
		t.Errorf("%s must never leave the node", r.Prefix)
	}
}

// TestPropertyTwoSites follows random routes through random pairs of nodes.
func TestPropertyTwoSites(t *testing.T) {
	seed := uint64(1)
	for range 3000 {
		seed++
		rng := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(rng)
		w.settle(t, rng)
		before := w.toARS
		// What a Route Server tells changes, and changes back: the same end.
		old := w.told[0]
		w.told[0] = tell(old, randomRoute(rng, 65515, w.arsSource(0)))
		w.settle(t, rng)
		w.told[0] = old
		w.settle(t, rng)
		for i := range before {
			if !slices.EqualFunc(before[i], w.toARS[i], Route.Equal) {
				t.Errorf("site %d: %v before, %v after a change that was taken back", i, before[i], w.toARS[i])
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestPropertyInputsAreNotChanged: routes are shared between all steps.
func TestPropertyInputsAreNotChanged(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	env := randomEnv(rng, 64512, 64513, "hub", "ars0", "10.0.0.0/16", "10.0.1.0/27")
	for range 20000 {
		r := randomRoute(rng, 64513, Source{Neighbor: "tr0", Role: pick(rng, Tunnel, RouteServer), ASN: 64513})
		c := r
		c.ASPath, c.Communities, c.Large = slices.Clone(r.ASPath), slices.Clone(r.Communities), slices.Clone(r.Large)
		v := Import(env, r)
		to := Target{Neighbor: "x", Role: pick(rng, Tunnel, RouteServer), ASN: 65515, DefaultRoute: DefaultNoAdvertise}
		x := Export(env, v.Route, to)
		if again := Export(env, v.Route, to); again.Accept != x.Accept || again.Rule != x.Rule || !again.Route.Equal(x.Route) {
			t.Fatalf("two answers for %+v: %+v, %+v", v.Route, x, again)
		}
		if !r.Equal(c) {
			t.Fatalf("changed: %+v to %+v", c, r)
		}
	}
}

// FuzzPolicy: no route whatever makes the rules panic or leak.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte{10, 50, 0, 0, 24, 1, 2, 3}, true)
	f.Add([]byte{0, 0, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, b []byte, tunnel bool) {
		if len(b) < 5 {
			return
		}
		r := Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), int(b[4])%33).Masked(), From: Source{Neighbor: "n", Role: RouteServer, ASN: 65515}}
		if tunnel {
			r.From = Source{Neighbor: "tr0", Role: Tunnel, ASN: 64513}
		}
		r.ASPath = append(r.ASPath, r.From.ASN)
		for _, c := range b[5:] {
			r.ASPath = append(r.ASPath, []uint32{65515, 12076, 398656, 64513, 65010, uint32(c)}[c%6])
		}
		v := Import(hub(), r)
		for _, to := range []Target{toARS(), toTunnel()} {
			x := Export(hub(), v.Route, to)
			if x.Accept && v.Accept && (slices.ContainsFunc(x.Route.ASPath, azureASN) || x.Route.From.Role == to.Role) {
				t.Errorf("%+v goes to %+v", x.Route, to)
			}
		}
	})
}
