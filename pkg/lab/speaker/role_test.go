package speaker

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Azure's numbers, since they are the point here.
const (
	hubNVA, transitNVA = "10.0.2.4", "10.1.2.4"
	arsA, arsB         = "10.0.1.4", "10.0.1.5"
	mseeAddr           = "10.0.3.4"
	onpremAddr         = "172.16.0.1"
)

func hubRouteServer(a string) RouteServerConfig {
	return RouteServerConfig{
		Addr: addr(a), Subnet: prefix("10.0.1.0/27"), VNets: prefixes("10.0.0.0/16"),
		Peers: []RouteServerPeer{
			{Name: "nva", Addr: addr(hubNVA), ASN: 64512, Passive: true},
			{Name: "nva2", Addr: addr("10.0.2.5"), ASN: 64514, Passive: true},
			{Name: "gateway", Addr: addr(mseeAddr), ASN: MSEEASN, Gateway: true},
		},
	}
}

// nvaConfig is an NVA that announces its own paths to the instances, and nothing else.
func nvaConfig(a string, asn uint32, paths ...Path) Config {
	c := testConfig(asn, a)
	c.Originate = paths
	for _, rs := range []string{arsA, arsB} {
		p := testPeer("ars-"+rs, rs, RouteServerASN)
		p.Export = func(r Path) (Path, bool) { return r, r.From == "" }
		c.Peers = append(c.Peers, p)
	}
	return c
}

func mseeConfig(edgeASN uint32) MSEEConfig {
	return MSEEConfig{
		RouterID: addr(mseeAddr), Listen: at(mseeAddr),
		RouteServers: []MSEEPeer{{Name: "ars0", Addr: addr(arsA)}, {Name: "ars1", Addr: addr(arsB)}},
		Edge:         MSEEPeer{Name: "edge", Addr: addr(onpremAddr)}, EdgeASN: edgeASN,
	}
}

func edgeConfig(asn uint32, prefix ...string) EdgeConfig {
	return EdgeConfig{
		ASN: asn, RouterID: addr(onpremAddr), Listen: at(onpremAddr),
		Peers:    []EdgePeer{{Name: "msee", Addr: addr(mseeAddr)}},
		Prefixes: prefixes(prefix...),
	}
}

// hub is a VNet with both Route Server instances, an MSEE, its edge and two NVAs.
type hub struct {
	rs         [2]*Speaker
	msee, edge *Speaker
	nva, nva2  *Speaker
}

func startHub(t *testing.T, edge EdgeConfig, change func(*RouteServerConfig), nva, nva2 []Path) hub {
	t.Helper()
	n := newPipeNet()
	var h hub
	for i, a := range []string{arsA, arsB} {
		c := hubRouteServer(a)
		if change != nil {
			change(&c)
		}
		h.rs[i], _ = n.start(t, RouteServer(c))
	}
	h.msee, _ = n.start(t, MSEE(mseeConfig(edge.ASN)))
	h.edge, _ = n.start(t, Edge(edge))
	h.nva, _ = n.start(t, nvaConfig(hubNVA, 64512, nva...))
	h.nva2, _ = n.start(t, nvaConfig("10.0.2.5", 64514, nva2...))
	waitEstablished(t, h.rs[0], h.rs[1], h.msee, h.edge, h.nva, h.nva2)
	synctest.Wait()
	return h
}

func wantRoutes(t *testing.T, s *Speaker, peer string, want ...string) {
	t.Helper()
	if d := diff(want, seen(s.Received(peer))); d != "" {
		t.Errorf("AS %d received from %s (-want +got):\n%s", s.cfg.ASN, peer, d)
	}
}

func TestPathsThroughAzure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		avs := testRoute("10.50.0.0/22", 4200000123, 64600, 3356)
		h := startHub(t, edgeConfig(AVSASN, "172.16.0.0/16"), nil, []Path{avs}, nil)
		for i, rs := range []string{arsA, arsB} {
			wantRoutes(t, h.nva, "ars-"+rs,
				"10.0.0.0/16 via "+rs+": 65515",
				"172.16.0.0/16 via "+rs+": 65515 12076 398656")
			wantRoutes(t, h.nva2, "ars-"+rs,
				"10.0.0.0/16 via "+rs+": 65515",
				"10.50.0.0/22 via "+rs+": 65515 64512 4200000123 64600 3356",
				"172.16.0.0/16 via "+rs+": 65515 12076 398656")
			wantRoutes(t, h.rs[i], "gateway", "172.16.0.0/16 via 10.0.3.4: 12076 398656")
		}
		// Without private ASNs, 65515 among them; 12076 in front.
		wantRoutes(t, h.edge, "msee",
			"10.0.0.0/16 via 10.0.3.4: 12076",
			"10.50.0.0/22 via 10.0.3.4: 12076 3356")
		for _, p := range h.msee.Status().Peers {
			if p.Dropped != (Dropped{}) {
				t.Errorf("MSEE dropped from %s: %+v", p.Name, p.Dropped)
			}
		}
	})
}

func TestRouteServerDropsItsOwnASSilently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, edgeConfig(65010), nil, []Path{
			testRoute("10.50.0.0/22", RouteServerASN, MSEEASN, AVSASN),
			testRoute("10.60.0.0/22", MSEEASN, AVSASN),
		}, nil)
		for _, rs := range h.rs {
			st := peerStatus(t, rs, "nva")
			if st.Dropped.ASLoop != 1 || st.State != Established || st.PrefixesIn != 1 {
				t.Errorf("status %+v, want one dropped, one kept, established", st)
			}
		}
		// What still has 12076 is dropped by the MSEE, silently too.
		wantRoutes(t, h.edge, "msee", "10.0.0.0/16 via 10.0.3.4: 12076")
		if st := peerStatus(t, h.msee, "ars0"); st.Dropped.ASLoop != 1 || st.State != Established {
			t.Errorf("MSEE: %+v, want one dropped", st)
		}
	})
}

func TestRouteServerRefusesWhatAzureRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, edgeConfig(65010), nil, []Path{
			testRoute("10.0.1.0/27"),  // RouteServerSubnet
			testRoute("10.0.0.0/16"),  // the VNet
			testRoute("10.0.99.0/24"), // inside the VNet
			testRoute("10.0.0.0/8"),   // supernet
			testRoute("10.2.0.0/16"),  // a spoke that is not peered yet
		}, nil)
		want := []string{
			"10.0.0.0/8 via 10.0.1.4: 65515 64512",
			"10.0.0.0/16 via 10.0.1.4: 65515",
			"10.2.0.0/16 via 10.0.1.4: 65515 64512",
		}
		wantRoutes(t, h.nva2, "ars-"+arsA, want...)
		var programmed []netip.Prefix
		for _, b := range h.rs[0].Best() {
			if !b.Local() {
				programmed = append(programmed, b.Prefix)
				if d := diff([]netip.Addr{addr(hubNVA)}, b.NextHops()); d != "" {
					t.Errorf("%v: next hops (-want +got):\n%s", b.Prefix, d)
				}
			}
		}
		if d := diff(prefixes("10.0.0.0/8", "10.2.0.0/16"), programmed); d != "" {
			t.Errorf("programmed (-want +got):\n%s", d)
		}
		// A peering is made, and undone: the NVA's route gives way, and comes back.
		if err := h.rs[0].Originate(testRoute("10.2.0.0/16")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		spoke := slices.Clone(want)
		spoke[2] = "10.2.0.0/16 via 10.0.1.4: 65515"
		wantRoutes(t, h.nva2, "ars-"+arsA, spoke...)
		h.rs[0].Withdraw(prefix("10.2.0.0/16"))
		synctest.Wait()
		wantRoutes(t, h.nva2, "ars-"+arsA, want...)
	})
}

func TestNoAdvertiseStaysInTheVNet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hidden := testRoute("0.0.0.0/0")
		hidden.Communities = []uint32{NoAdvertise}
		shown := testRoute("10.50.0.0/22")
		shown.Communities = []uint32{0x12345678}
		shown.Large = []LargeCommunity{{64512, 1, 2}}
		h := startHub(t, edgeConfig(65010), nil, []Path{hidden, shown}, nil)
		wantRoutes(t, h.edge, "msee", "10.0.0.0/16 via 10.0.3.4: 12076", "10.50.0.0/22 via 10.0.3.4: 12076")
		got, _ := h.nva2.Received("ars-" + arsA)
		if len(got) != 2 || diff(shown.Communities, got[1].Communities) != "" || diff(shown.Large, got[1].Large) != "" {
			t.Errorf("other NVA received %+v, want the shown route with its communities", got)
		}
		if got := h.rs[0].Best(); len(got) != 3 { // with the VNet
			t.Errorf("best %v, want the hidden route among 3", got)
		}
	})
}

func TestExpressRouteIsPreferred(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, edgeConfig(65010, "172.16.0.0/16"), nil,
			[]Path{testRoute("172.16.0.0/16"), testRoute("10.50.0.0/22")}, []Path{testRoute("10.50.0.0/22")})
		for _, b := range h.rs[0].Best() {
			switch b.Prefix {
			case prefix("172.16.0.0/16"):
				if b.Paths[0].From != "gateway" {
					t.Errorf("best is %+v, want the gateway's", b.Paths[0])
				}
			case prefix("10.50.0.0/22"):
				if d := diff([]netip.Addr{addr(hubNVA), addr("10.0.2.5")}, b.NextHops()); d != "" {
					t.Errorf("ECMP next hops (-want +got):\n%s", d)
				}
			}
		}
	})
}

func TestIsolatedBranches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, edgeConfig(65010, "172.16.0.0/16"), func(c *RouteServerConfig) { c.IsolateBranches = true },
			[]Path{testRoute("10.50.0.0/22")}, nil)
		wantRoutes(t, h.edge, "msee", "10.0.0.0/16 via 10.0.3.4: 12076")
		wantRoutes(t, h.nva2, "ars-"+arsA, "10.0.0.0/16 via 10.0.1.4: 65515", "10.50.0.0/22 via 10.0.1.4: 65515 64512")
	})
}

func TestRouteServerCapCountsCurrentAndIncoming(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var own []Path
		for i := range 6 {
			own = append(own, testRoute(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 24).String()))
		}
		h := startHub(t, edgeConfig(65010), func(c *RouteServerConfig) { c.PrefixCap = 10 }, own, nil)
		if st := peerStatus(t, h.rs[0], "nva"); st.PrefixesIn != 6 || st.LimitExceeded != 0 {
			t.Fatalf("at first: %+v, want 6 prefixes", st)
		}
		time.Sleep(time.Minute)
		// The answer to a refresh is everything again: 6 there and 6 more are over 10.
		if err := h.rs[0].Refresh("nva"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		st := peerStatus(t, h.rs[0], "nva")
		if st.State != Idle || st.LimitExceeded != 1 || st.PrefixesIn != 0 {
			t.Errorf("after refresh: %+v, want the session torn down", st)
		}
		want := "received Cease/Maximum Number of Prefixes Reached"
		if got := peerStatus(t, h.nva, "ars-"+arsA).LastError; got != want {
			t.Errorf("the NVA was told %q, want %q", got, want)
		}
		if st := peerStatus(t, h.rs[1], "nva"); st.State != Established {
			t.Errorf("the other instance: %+v, want untouched", st)
		}
		waitEstablished(t, h.rs[0], h.nva) // after the pause it is let in again
	})
}

// What an MSEE originates is as from its customer: the VNet hears it, the customer does not.
func TestMSEEOriginatesTowardsTheVNet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, edgeConfig(65010), nil, nil, nil)
		if err := h.msee.Originate(testRoute("172.24.0.0/24", 64999, 64998)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, rs := range []string{arsA, arsB} {
			wantRoutes(t, h.nva, "ars-"+rs, "10.0.0.0/16 via "+rs+": 65515", "172.24.0.0/24 via "+rs+": 65515 12076 64999 64998")
		}
		wantRoutes(t, h.edge, "msee", "10.0.0.0/16 via 10.0.3.4: 12076")
		h.msee.Withdraw(netip.MustParsePrefix("172.24.0.0/24"))
		synctest.Wait()
		wantRoutes(t, h.nva, "ars-"+arsA, "10.0.0.0/16 via "+arsA+": 65515")
	})
}

func TestMSEEKeepsTheCircuitLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := mseeConfig(65010)
		c.RouteCap = 3
		n := newPipeNet()
		msee, _ := n.start(t, MSEE(c))
		rs := testConfig(RouteServerASN, arsA)
		rs.Peers = []Peer{testPeer("msee", mseeAddr, MSEEASN)}
		rs.Originate = []Path{testRoute("10.0.0.0/16"), testRoute("10.1.0.0/16"), testRoute("10.2.0.0/16")}
		ars, _ := n.start(t, rs)
		waitEstablished(t, ars)
		time.Sleep(time.Second)
		if err := msee.Refresh("ars0"); err != nil { // repeated routes count once here
			t.Fatal(err)
		}
		synctest.Wait()
		if st := peerStatus(t, msee, "ars0"); st.State != Established || st.PrefixesIn != 3 {
			t.Fatalf("at the limit: %+v", st)
		}
		if err := ars.Originate(testRoute("10.3.0.0/16")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := peerStatus(t, msee, "ars0"); st.State != Idle || st.LimitExceeded != 1 {
			t.Errorf("over the limit: %+v", st)
		}
	})
}

// TestNaiveNVAsPassEverything: both ends hear each other's routes through two
// naive NVAs, with everything that would have stopped the loop removed.
func TestNaiveNVAsPassEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		ars := func(a string, nva string, asn uint32, vnet string, edge Path) *Speaker {
			c := testConfig(RouteServerASN, a)
			c.Peers = []Peer{testPeer("nva", nva, asn)}
			c.Originate = []Path{testRoute(vnet), edge}
			s, _ := n.start(t, c)
			return s
		}
		hubARS := ars(arsA, hubNVA, 64512, "10.0.0.0/16", testRoute("172.16.0.0/16", MSEEASN, 65010))
		transitARS := ars("10.1.1.4", transitNVA, 64513, "10.1.0.0/16", testRoute("10.50.0.0/22", MSEEASN, AVSASN))
		hubNaive, _ := n.start(t, Naive(NaiveConfig{
			ASN: 64512, Addr: addr(hubNVA),
			RouteServers: []NaivePeer{{Name: "ars", Addr: addr(arsA)}},
			NVAs:         []NaivePeer{{Name: "transit", Addr: addr(transitNVA), ASN: 64513}},
		}))
		transitNaive, _ := n.start(t, Naive(NaiveConfig{
			ASN: 64513, Addr: addr(transitNVA),
			RouteServers: []NaivePeer{{Name: "ars", Addr: addr("10.1.1.4")}},
			NVAs:         []NaivePeer{{Name: "hub", Addr: addr(hubNVA), ASN: 64512}},
		}))
		waitEstablished(t, hubARS, transitARS, hubNaive, transitNaive)
		synctest.Wait()
		wantRoutes(t, hubARS, "nva", "10.1.0.0/16 via 10.0.2.4: 64512 64513", "10.50.0.0/22 via 10.0.2.4: 64512 64513")
		wantRoutes(t, transitARS, "nva", "10.0.0.0/16 via 10.1.2.4: 64513 64512", "172.16.0.0/16 via 10.1.2.4: 64513 64512 65010")
		wantRoutes(t, transitNaive, "hub", "10.0.0.0/16 via 10.0.2.4: 64512", "172.16.0.0/16 via 10.0.2.4: 64512 65010")
	})
}

func TestRouteServerInstanceRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, edgeConfig(65010), nil, []Path{testRoute("10.50.0.0/22")}, nil)
		if err := h.rs[0].Restart("", 30*time.Second); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantRoutes(t, h.nva, "ars-"+arsA)
		wantRoutes(t, h.edge, "msee", "10.0.0.0/16 via 10.0.3.4: 12076", "10.50.0.0/22 via 10.0.3.4: 12076")
		time.Sleep(30 * time.Second)
		waitEstablished(t, h.rs[0], h.rs[1], h.msee, h.edge, h.nva, h.nva2)
		synctest.Wait()
		wantRoutes(t, h.nva, "ars-"+arsA, "10.0.0.0/16 via 10.0.1.4: 65515")
	})
}
