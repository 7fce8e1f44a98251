package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, pfx(p))
	}
	return list
}

// hub is the hub NVA's environment: AS 64512, tunnel tr0 to AS 64513.
func hub() *Env {
	return &Env{
		ASN: 64512, Site: "hub", VNet: prefixes("10.0.0.0/16"), VNetKnown: true,
		Protected:       prefixes("10.0.1.0/27", "169.254.77.0/30", "10.1.2.4/32"),
		AllowHostRoutes: prefixes("172.16.5.5/32", "172.17.0.0/24"),
		TunnelASNs:      []uint32{64513},
		Originate:       []Origination{{Prefix: pfx("0.0.0.0/0"), To: []string{"tr0"}}, {Prefix: pfx("10.0.0.0/8"), To: []string{"hub-ars"}}},
	}
}

// fromARS is a good route of the hub's own Route Server; the test breaks one thing.
func fromARS(prefix string, path ...uint32) Route {
	return Route{
		Prefix: pfx(prefix), ASPath: path, NextHop: netip.MustParseAddr("10.0.1.4"),
		From: Source{Neighbor: "hub-ars", Role: RouteServer, ASN: 65515, Peer: netip.MustParseAddr("10.0.1.4")},
	}
}

func fromTunnel(prefix string, path ...uint32) Route {
	return Route{
		Prefix: pfx(prefix), ASPath: path, NextHop: netip.MustParseAddr("169.254.77.2"),
		From: Source{Neighbor: "tr0", Role: Tunnel, ASN: 64513, Peer: netip.MustParseAddr("169.254.77.2")},
	}
}

func toARS() Target {
	return Target{Neighbor: "hub-ars", Role: RouteServer, ASN: 65515, NextHop: netip.MustParseAddr("10.0.2.4")}
}

func toTunnel() Target {
	return Target{Neighbor: "tr0", Role: Tunnel, ASN: 64513, NextHop: netip.MustParseAddr("169.254.77.1")}
}

func with(r Route, change func(*Route)) Route {
	change(&r)
	return r
}

func TestImportRefuses(t *testing.T) {
	ownTag := siteTag(64513, SiteNumber("hub"))
	tests := []struct {
		name  string
		route Route
		rule  string
	}{
		{"a path with our own ASN", fromARS("172.16.0.0/16", 65515, 64512, 65010), RuleOwnASN},
		{"an AS_SET", with(fromARS("172.16.0.0/16", 65515, 1, 2), func(r *Route) { r.ASSet = true }), RuleASSet},
		{"AS_TRANS", fromARS("172.16.0.0/16", 65515, 23456), RuleASTrans},
		{"a path that begins with another AS", fromARS("172.16.0.0/16", 65010, 65515), RuleFirstAS},
		{"an empty path", fromTunnel("172.16.0.0/16"), RuleFirstAS},
		{"IPv6 of a Route Server", fromARS("2001:db8::/32", 65515), RuleIPv6RouteServer},
		{"a Route Server subnet", fromTunnel("10.0.1.0/27", 64513), RuleProtected},
		{"part of the overlay", fromTunnel("169.254.77.0/31", 64513), RuleMartian},
		{"a tunnel endpoint", fromARS("10.1.2.4/32", 65515, 12076), RuleProtected},
		{"the platform's address", fromARS("168.63.129.16/32", 65515), RuleMartian},
		{"loopback", fromTunnel("127.1.0.0/16", 64513), RuleMartian},
		{"link-local", fromTunnel("169.254.0.0/16", 64513), RuleMartian},
		{"multicast", fromTunnel("239.0.0.0/8", 64513), RuleMartian},
		{"this network", fromTunnel("0.0.0.0/8", 64513), RuleMartian},
		{"IPv6 loopback", fromTunnel("::1/128", 64513), RuleMartian},
		{"IPv6 link-local", fromTunnel("fe80::/64", 64513), RuleMartian},
		{"our own site's tag", with(fromTunnel("172.16.0.0/16", 64513), func(r *Route) { r.Large = []LargeCommunity{ownTag} }), RuleOwnSite},
		{"our own VNet from a tunnel", fromTunnel("10.0.0.0/16", 64513), RuleOwnVNet},
		{"part of our own VNet from a tunnel", fromTunnel("10.0.200.0/24", 64513), RuleOwnVNet},
		{"a neighbor without a role", with(fromTunnel("172.16.0.0/16", 64513), func(r *Route) { r.From.Role = 0 }), RuleUnknownNeighbor},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := Import(hub(), tt.route)
			if v.Accept || v.Rule != tt.rule || v.Reason == "" {
				t.Errorf("got accept %t by %q (%s), want refused by %q", v.Accept, v.Rule, v.Reason, tt.rule)
			}
			if v.Alarm != (tt.rule == RuleASTrans) {
				t.Errorf("alarm is %t", v.Alarm)
			}
		})
	}
}

func TestImportTagsTheSite(t *testing.T) {
	foreign := LargeCommunity{Global: 65010, Local1: 1, Local2: 99}
	forged := LargeCommunity{Global: 64512, Local1: 7, Local2: 7}
	peerTag := siteTag(64513, SiteNumber("transit"))
	tests := []struct {
		name  string
		route Route
		want  []LargeCommunity
	}{
		{"own Route Server", fromARS("172.16.0.0/16", 65515, 12076), []LargeCommunity{siteTag(64512, SiteNumber("hub"))}},
		{"a default of the own Route Server", fromARS("0.0.0.0/0", 65515, 12076), []LargeCommunity{siteTag(64512, SiteNumber("hub"))}},
		{
			"own Route Server with what only we may say",
			with(fromARS("172.16.0.0/16", 65515), func(r *Route) { r.Large = []LargeCommunity{forged, foreign, peerTag} }),
			[]LargeCommunity{foreign, siteTag(64512, SiteNumber("hub"))},
		},
		{"tagged by the peer", with(fromTunnel("10.50.0.0/24", 64513), func(r *Route) { r.Large = []LargeCommunity{peerTag, forged, foreign} }), []LargeCommunity{peerTag, foreign}},
		{"untagged", fromTunnel("10.50.0.0/24", 64513), []LargeCommunity{siteTag(64512, SiteNumber("tr0"))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.route.Large)
			v := Import(hub(), tt.route)
			if !v.Accept {
				t.Fatalf("refused by %s: %s", v.Rule, v.Reason)
			}
			if diff := cmp.Diff(tt.want, v.Route.Large); diff != "" {
				t.Errorf("large communities (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tt.route.Large); diff != "" {
				t.Errorf("the received route was changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestSiteNumberIsFNV1a(t *testing.T) {
	// Vector of the FNV reference (draft-eastlake-fnv, appendix): FNV-1a 32 of "foobar".
	if got := SiteNumber("foobar"); got != 0xbf9cf968 {
		t.Errorf("got %#x", got)
	}
}

// exportCase is a route that Import accepted, and what Export says of it.
type exportCase struct {
	name  string
	route Route
	to    Target
	rule  string // "" means announced
}

func TestExportRefuses(t *testing.T) {
	local := func(p string) Route { return Route{Prefix: pfx(p), From: Source{Role: Local, ASN: 64512}} }
	tests := []exportCase{
		{"Route Server to Route Server", fromARS("172.16.0.0/16", 65515), toARS(), RuleRSToRS},
		{"tunnel to tunnel", fromTunnel("10.50.0.0/24", 64513), toTunnel(), RuleTunnelToTunnel},
		{"originated to another", local("0.0.0.0/0"), toARS(), RuleNotOriginatedTo},
		{"own VNet", fromTunnel("10.0.0.0/16", 64513), toARS(), RuleOwnVNet},
		{"part of own VNet", fromTunnel("10.0.7.0/24", 64513), toARS(), RuleOwnVNet},
		{"Route Server subnet", fromARS("10.0.1.0/27", 65515), toTunnel(), RuleProtected},
		{"overlay", fromTunnel("169.254.77.0/30", 64513), toARS(), RuleMartian},
		{"endpoint", fromTunnel("10.1.2.4/32", 64513), toARS(), RuleProtected},
		{"host route", fromTunnel("10.50.0.1/32", 64513), toARS(), RuleHostRoute},
		{"link route", fromARS("172.16.0.0/30", 65515), toTunnel(), RuleHostRoute},
		{"default", fromTunnel("0.0.0.0/0", 64513), toARS(), RuleDefaultDenied},
		{"half of a default", fromTunnel("128.0.0.0/1", 64513), toARS(), RuleDefaultDenied},
		{"default of the own site", fromARS("0.0.0.0/0", 65515, 12076), toTunnel(), RuleDefaultNotPassedOn},
		{"half a default of the own site", fromARS("0.0.0.0/1", 65515, 12076), toTunnel(), RuleDefaultNotPassedOn},
		{"IPv6 to a Route Server", fromTunnel("2001:db8::/32", 64513), toARS(), RuleIPv6RouteServer},
		{"IPv6 without a next hop", with(local("2001:db8::/32"), func(r *Route) { r.From = Source{Role: RouteServer, Neighbor: "hub-ars"} }), toTunnel(), RuleNoIPv6NextHop},
		{"a path with the far NVA's ASN", fromARS("172.16.0.0/16", 65515, 12076, 64513), toTunnel(), RulePeerASN},
		{"NO_ADVERTISE", with(fromARS("172.16.0.0/16", 65515), func(r *Route) { r.Communities = []uint32{65535<<16 | 65282} }), toTunnel(), RuleNoAdvertise},
		{"NO_EXPORT", with(fromTunnel("10.50.0.0/24", 64513), func(r *Route) { r.Communities = []uint32{65535<<16 | 65281} }), toARS(), RuleNoExport},
		{"a target without a role", fromARS("172.16.0.0/16", 65515), Target{Neighbor: "x"}, RuleUnknownNeighbor},
		{"a route without a role", with(fromARS("172.16.0.0/16", 65515), func(r *Route) { r.From.Role = 0 }), toTunnel(), RuleUnknownNeighbor},
		{
			"own site's tag on a tunnel's route",
			with(fromTunnel("10.50.0.0/24", 64513), func(r *Route) { r.Large = []LargeCommunity{siteTag(64512, SiteNumber("hub"))} }),
			toARS(), RuleOwnSite,
		},
		{"VNet and longer are for the tunnel", fromARS("10.0.0.0/16", 65515), toTunnel(), ""},
		{"a listed host route", fromARS("172.16.5.5/32", 65515), toTunnel(), ""},
		{"within a listed prefix", fromTunnel("172.17.0.4/30", 64513), toARS(), ""},
		{"originated into the tunnel", local("0.0.0.0/0"), toTunnel(), ""},
		{"originated to the Route Server", local("10.0.0.0/8"), toARS(), ""},
		{"a supernet of the VNet", fromTunnel("10.0.0.0/8", 64513), toARS(), ""},
		{"AVS", fromTunnel("10.50.0.0/24", 64513), toARS(), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.rule
			if want == "" {
				want = RuleAnnounced
			}
			v := Export(hub(), tt.route, tt.to)
			if v.Rule != want || v.Accept != (tt.rule == "") || v.Reason == "" {
				t.Errorf("got accept %t by %q (%s), want %q", v.Accept, v.Rule, v.Reason, want)
			}
		})
	}
}

func TestExportWaitsForTheVNet(t *testing.T) {
	env := hub()
	env.VNet, env.VNetKnown = nil, false
	r := fromTunnel("10.50.0.0/24", 64513)
	if v := Export(env, r, toARS()); v.Accept || v.Rule != RuleVNetUnknown {
		t.Errorf("got %+v", v)
	}
}

func TestExportCleans(t *testing.T) {
	dirty := func(r Route) Route {
		r.MED, r.HasMED = 5, true
		r.Communities = []uint32{65010<<16 | 1, 65517<<16 | 12001, 65515<<16 | 10000, 12076<<16 | 51004}
		r.Large = []LargeCommunity{{Global: 65010, Local1: 1, Local2: 2}, siteTag(64513, SiteNumber("transit")), {Global: 64512, Local1: 9, Local2: 9}}
		return r
	}
	kept := LargeCommunity{Global: 65010, Local1: 1, Local2: 2}
	tests := []struct {
		name  string
		route Route
		to    Target
		want  Route
	}{
		{
			"towards a Route Server", dirty(fromTunnel("10.50.0.0/24", 64513, 65515, 12076, 65010, 12076, 398656)), toARS(),
			Route{ASPath: []uint32{64513, 65010}, NextHop: toARS().NextHop, Communities: []uint32{65010<<16 | 1}, Large: []LargeCommunity{kept}},
		},
		{
			"into a tunnel", dirty(fromARS("172.16.0.0/16", 65515, 12076, 12076, 65010)), toTunnel(),
			Route{
				ASPath: []uint32{65010}, NextHop: toTunnel().NextHop, Communities: []uint32{65010<<16 | 1},
				Large: []LargeCommunity{kept, siteTag(64512, SiteNumber("hub"))},
			},
		},
		{
			"a default with NO_ADVERTISE", fromTunnel("0.0.0.0/0", 64513), with2(toARS(), func(t *Target) { t.DefaultRoute = DefaultNoAdvertise }),
			Route{ASPath: []uint32{64513}, NextHop: toARS().NextHop, Communities: []uint32{65535<<16 | 65282}},
		},
		{
			"a default that is announced", fromTunnel("0.0.0.0/0", 64513), with2(toARS(), func(t *Target) { t.DefaultRoute = DefaultAnnounce }),
			Route{ASPath: []uint32{64513}, NextHop: toARS().NextHop},
		},
		{
			"IPv6 into a tunnel", with(fromARS("2001:db8::/32", 65515), func(r *Route) {}), with2(toTunnel(), func(t *Target) { t.NextHop6 = netip.MustParseAddr("2001:db8:77::1") }),
			Route{NextHop: netip.MustParseAddr("2001:db8:77::1"), Large: []LargeCommunity{siteTag(64512, SiteNumber("hub"))}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Prefix, tt.want.From = tt.route.Prefix, tt.route.From
			v := Export(hub(), tt.route, tt.to)
			if !v.Accept {
				t.Fatalf("refused by %s: %s", v.Rule, v.Reason)
			}
			if diff := cmp.Diff(tt.want, v.Route, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("announced (-want +got):\n%s", diff)
			}
		})
	}
}

func with2(t Target, change func(*Target)) Target {
	change(&t)
	return t
}

func TestSelect(t *testing.T) {
	long := fromTunnel("10.50.0.0/24", 64513, 1, 2)
	short := with(fromTunnel("10.50.0.0/24", 64514), func(r *Route) { r.From.Neighbor = "tr1" })
	own := fromARS("10.50.0.0/24", 65515, 12076, 398656, 1, 2, 3)
	other := with(own, func(r *Route) { r.From.Peer = netip.MustParseAddr("10.0.1.5") })
	local := Route{Prefix: pfx("10.50.0.0/24"), From: Source{Role: Local}}
	incomplete := with(long, func(r *Route) { r.Origin = 2; r.From.Neighbor = "tr9" })
	tests := []struct {
		name   string
		routes []Route
		want   int
		why    string
	}{
		{"nothing", nil, -1, ""},
		{"one", []Route{long}, 0, "the only route"},
		{"the own site beats a shorter path of a tunnel", []Route{short, own}, 1, "our own site wins"},
		{"originated beats all", []Route{own, short, local}, 2, "originates"},
		{"the shorter path", []Route{long, short}, 1, "shorter AS path"},
		{"the lower ORIGIN", []Route{incomplete, long}, 1, "lower ORIGIN"},
		{"the first instance", []Route{other, own}, 1, "lower address"},
		{"Azure's ASNs do not count", []Route{with(short, func(r *Route) { r.ASPath = []uint32{64514, 9} }), with(long, func(r *Route) { r.ASPath = []uint32{64513, 65515, 12076, 398656} })}, 1, "shorter AS path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, why := Select(tt.routes)
			if got != tt.want || !strings.Contains(why, tt.why) {
				t.Errorf("got %d (%s), want %d (%s)", got, why, tt.want, tt.why)
			}
		})
	}
}

func TestIsVNet(t *testing.T) {
	tests := []struct {
		name  string
		route Route
		want  bool
	}{
		{"the VNet", fromARS("10.0.0.0/16", 65515), true},
		{"the largest VNet", fromARS("10.0.0.0/8", 65515), true},
		{"a default of a gateway", fromARS("0.0.0.0/0", 65515), false},
		{"through ExpressRoute", fromARS("172.16.0.0/16", 65515, 12076), false},
		{"from a tunnel", fromTunnel("10.1.0.0/16", 64513), false},
	}
	for _, tt := range tests {
		if got := IsVNet(tt.route); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

func TestDefaultRouteModesRoundTrip(t *testing.T) {
	for _, d := range []DefaultRoute{DefaultDeny, DefaultAnnounce, DefaultNoAdvertise} {
		got, err := ParseDefaultRoute(d.String())
		if err != nil || got != d {
			t.Errorf("%s: got %s, %v", d, got, err)
		}
	}
	if _, err := ParseDefaultRoute("sometimes"); err == nil {
		t.Error("no error for an unknown mode")
	}
}

// A node's place among those of its site.
func TestPrepend(t *testing.T) {
	alive := func(p uint8) Standing { return Standing{Priority: p, Alive: true, Seen: true} }
	dead := func(p uint8) Standing { return Standing{Priority: p, Seen: true} }
	unseen := Standing{}
	for _, c := range []struct {
		name     string
		priority uint8
		siblings []Standing
		draining bool
		want     int
	}{
		{"alone", 0, nil, false, 0},
		{"alone, standby", 2, nil, false, 2},
		{"alone, draining", 0, nil, true, 10},
		{"active", 0, []Standing{alive(1)}, false, 1},
		{"standby", 1, []Standing{alive(0)}, false, 2},
		{"active has died: shorter than what it left behind", 1, []Standing{dead(0)}, false, 0},
		{"standby has died: nobody cares", 0, []Standing{dead(1)}, false, 1},
		{"nobody seen yet", 1, []Standing{unseen}, false, 2},
		{"three equal", 0, []Standing{alive(0), alive(0)}, false, 2},
		{"one of three equal has died", 0, []Standing{alive(0), dead(0)}, false, 1},
		{"two of three equal have died", 0, []Standing{dead(0), dead(0)}, false, 0},
		{"second of three takes over", 1, []Standing{dead(0), alive(2)}, false, 1},
		{"third of three does not", 2, []Standing{dead(0), alive(1)}, false, 4},
		{"third of three takes over from the second", 2, []Standing{dead(0), dead(1)}, false, 0},
		{"draining", 0, []Standing{alive(1)}, true, 11},
	} {
		if got := Prepend(c.priority, c.siblings, c.draining); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
