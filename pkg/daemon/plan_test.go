package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/stamp"
	"github.com/transitd/transitd/tunnel/pmtud"
	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/vxlan"
)

// TestNewPlanFull has every part of a node in it: both families on the card, a
// Route Server, a VXLAN and a VXLAN-GPE tunnel, an origination.
func TestNewPlanFull(t *testing.T) {
	t.Parallel()
	rs, tr0, tr1 := fullNeighbors()
	want := &Plan{
		Node:   Identity{Name: "hub-nva", ASN: 64512, Site: "hub"},
		Socket: "/run/transitd/hub-nva.sock", Observe: addrPort("127.0.0.1:9477"),
		Log: config.Log{Level: "info", Format: "auto"},
		Underlay: Underlay{
			Interface: "eth0", MTU: 1500,
			Address: addr("192.0.2.4"), Gateway: addr("192.0.2.1"), Subnet: prefix("192.0.2.0/26"),
			Address6: addr("2001:db8::4"), Gateway6: addr("fe80::1"), Subnet6: prefix("2001:db8::/64"),
		},
		Tunnels: fullTunnels(),
		BGP: bgp.Config{
			ASN: 64512, RouterID: addr("192.0.2.4"), Site: "hub", LocalAddr: addr("192.0.2.4"),
			Neighbors: []bgp.Neighbor{rs, tr0, tr1},
			Originate: []bgp.Origination{{Prefix: prefix("0.0.0.0/0"), To: []string{"tr0"}}},
			VNet:      prefixes("192.0.2.0/24"),
			// Without the endpoints in here a neighbour could lead the outer packets into the tunnel.
			Protected: prefixes("192.0.2.4/32", "2001:db8::4/128", "168.63.129.16/32", "169.254.169.254/32", "192.0.2.64/27",
				"198.51.100.4/32", "2001:db8:1::4/128", "169.254.77.0/30", "169.254.78.0/30", "2001:db8:78::/64"),
		},
		FIB: fib.Node{
			Interface: "eth0", Address: addr("192.0.2.4"), Gateway: addr("192.0.2.1"), Subnet: prefix("192.0.2.0/26"),
			Address6: addr("2001:db8::4"), Gateway6: addr("fe80::1"), Subnet6: prefix("2001:db8::/64"),
			Pins:     prefixes("168.63.129.16/32", "169.254.169.254/32", "192.0.2.64/27", "198.51.100.4/32", "2001:db8:1::4/128"),
			Tunnels:  []string{"tr0", "tr1"},
			Overlays: prefixes("169.254.77.0/30", "169.254.78.0/30", "2001:db8:78::/64"),
			Tables:   fib.Tables{Underlay: 7001, Site: 7002, Remote: 7003, Relay: 7004},
			Mark:     0x7464, Protocol: 210, RulePriority: 7000,
		},
		Sysctls: []Sysctl{
			{"net/ipv4/ip_forward", "1"},
			{"net/ipv4/conf/eth0/rp_filter", "2"},
			{"net/ipv4/conf/eth0/send_redirects", "0"},
			{"net/ipv4/conf/all/send_redirects", "0"},
			{"net/ipv4/fib_multipath_hash_policy", "1"},
			{"net/ipv6/conf/eth0/accept_ra", "2"},
			{"net/ipv6/conf/all/forwarding", "1"},
			{"net/ipv4/conf/tr0/rp_filter", "2"},
			{"net/ipv4/conf/tr0/send_redirects", "0"},
			{"net/ipv4/conf/tr1/rp_filter", "2"},
			{"net/ipv4/conf/tr1/send_redirects", "0"},
		},
	}
	if d := diff(want, mustPlan(t, withTR1(t))); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
}

func fullNeighbors() (rs, tr0, tr1 bgp.Neighbor) {
	rs = bgp.Neighbor{
		Name: "ars", Role: policy.RouteServer, Addrs: []netip.Addr{addr("192.0.2.68"), addr("192.0.2.69")}, ASN: 65515,
		LocalAddr: addr("192.0.2.4"), DefaultRoute: policy.DefaultDeny, HoldTime: 180 * time.Second, Cap: 4000, GatewayCap: 1000,
	}
	tr0 = bgp.Neighbor{
		Name: "tr0", Role: policy.Tunnel, Addrs: []netip.Addr{addr("169.254.77.2")}, ASN: 64513,
		LocalAddr: addr("169.254.77.1"), Interface: "tr0", HoldTime: 9 * time.Second, MaxPrefixes: 20000,
	}
	tr1 = bgp.Neighbor{
		Name: "tr1", Role: policy.Tunnel, Addrs: []netip.Addr{addr("169.254.78.2")}, ASN: 64514,
		LocalAddr: addr("169.254.78.1"), LocalAddr6: addr("2001:db8:78::1"), Interface: "tr1", HoldTime: 30 * time.Second, MaxPrefixes: 20000,
	}
	return rs, tr0, tr1
}

func fullTunnels() []TunnelPlan {
	return []TunnelPlan{{
		Name: "tr0", Encapsulation: "vxlan", BFD: &BFDTimers{Interval: 300 * time.Millisecond, Multiplier: 3},
		Endpoint: pump.EndpointConfig{Local: addrPort("192.0.2.4:4789"), Interface: "eth0", Mark: 0x7464},
		Pump: pump.TunnelConfig{
			Name: "tr0", Remote: addrPort("198.51.100.4:4789"), MTU: 1400, DSCP: pump.CopyDSCP,
			Addrs: prefixes("169.254.77.1/30"), PeerAddrs: []netip.Addr{addr("169.254.77.2")},
		},
		VXLAN: &vxlan.Config{
			VNI: 7700, Local: addr("192.0.2.4"), Peer: addr("198.51.100.4"),
			Addrs: []netip.Addr{addr("169.254.77.1")}, PeerAddrs: []netip.Addr{addr("169.254.77.2")},
		},
		Path: pmtud.Config{
			Device: "tr0", Local: addr("169.254.77.1"), Peer: addr("169.254.77.2"), From: addr("192.0.2.4"), To: addr("198.51.100.4"),
			Card: "eth0", CardMTU: 1500, Overhead: 50, MTU: 1400,
		},
		Quality: stamp.Path{Device: "tr0", Local: addr("169.254.77.1"), Peer: addr("169.254.77.2")}, ProbeInterval: time.Second,
	}, {
		Name: "tr1", Encapsulation: "vxlan", BFD: &BFDTimers{Interval: 300 * time.Millisecond, Multiplier: 3},
		Endpoint: pump.EndpointConfig{Local: addrPort("[2001:db8::4]:4790"), Interface: "eth0", Mark: 0x7464},
		Pump: pump.TunnelConfig{
			Name: "tr1", Remote: addrPort("[2001:db8:1::4]:4790"), MTU: 1300, DSCP: 46,
			Addrs:     prefixes("169.254.78.1/30", "2001:db8:78::1/64"),
			PeerAddrs: []netip.Addr{addr("169.254.78.2"), addr("2001:db8:78::2")},
		},
		VXLAN: &vxlan.Config{
			VNI: 7701, GPE: true, Local: addr("2001:db8::4"), Peer: addr("2001:db8:1::4"),
			Addrs:     []netip.Addr{addr("169.254.78.1"), addr("2001:db8:78::1")},
			PeerAddrs: []netip.Addr{addr("169.254.78.2"), addr("2001:db8:78::2")},
		},
		Path: pmtud.Config{
			Device: "tr1", Local: addr("169.254.78.1"), Peer: addr("169.254.78.2"), From: addr("2001:db8::4"), To: addr("2001:db8:1::4"),
			Card: "eth0", CardMTU: 1500, Overhead: 56, MTU: 1300,
		},
		Quality: stamp.Path{Device: "tr1", Local: addr("169.254.78.1"), Peer: addr("169.254.78.2")}, ProbeInterval: time.Second,
	}}
}

// TestNewPlanUnderlay checks who wins where the file and the card both say something.
func TestNewPlanUnderlay(t *testing.T) {
	t.Parallel()
	const card = "  interface: eth0\n"
	full := Underlay{
		Interface: "eth0", MTU: 1500, Address: addr("192.0.2.4"), Gateway: addr("192.0.2.1"), Subnet: prefix("192.0.2.0/26"),
		Address6: addr("2001:db8::4"), Gateway6: addr("fe80::1"), Subnet6: prefix("2001:db8::/64"),
	}
	two := []netip.Prefix{prefix("192.0.2.4/26"), prefix("192.0.2.9/26"), prefix("2001:db8::4/64"), prefix("2001:db8::9/64")}
	for _, c := range []struct {
		name, yaml string
		addrs      []netip.Prefix
		want       func(*Underlay)
	}{
		{"all from the card, the first of each family", card, two, func(*Underlay) {}},
		{"address given", card + "  address: 192.0.2.9\n", two, func(u *Underlay) { u.Address = addr("192.0.2.9") }},
		{"gateway given", card + "  gateway: 192.0.2.2\n", two, func(u *Underlay) { u.Gateway = addr("192.0.2.2") }},
		{"IPv6 gateway given", card + "  gateway: 2001:db8::1\n", two, func(u *Underlay) { u.Gateway6 = addr("2001:db8::1") }},
		{"MTU given", card + "  mtu: 3900\n", two, func(u *Underlay) { u.MTU = 3900 }},
		{"IPv4 only", card, two[:2], func(u *Underlay) { u.Address6, u.Subnet6 = netip.Addr{}, netip.Prefix{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := cardFacts()
			f.Addrs = c.addrs
			p, err := NewPlan(fileName, mustParse(t, edit(t, nodeYAML, card, c.yaml)), f)
			if err != nil {
				t.Fatal(err)
			}
			want := full
			c.want(&want)
			if d := diff(want, p.Underlay); d != "" {
				t.Errorf("underlay (-want +got):\n%s", d)
			}
			// What stands on the card has the same address.
			if p.BGP.RouterID != want.Address || p.FIB.Address != want.Address || p.Tunnels[0].Endpoint.Local.Addr() != want.Address {
				t.Errorf("router id %s, FIB %s, endpoint %s: want %s everywhere", p.BGP.RouterID, p.FIB.Address, p.Tunnels[0].Endpoint.Local, want.Address)
			}
		})
	}
}

// TestNewPlanGivenIPv6 checks that an IPv6 underlay.address chooses among the IPv6 addresses only.
func TestNewPlanGivenIPv6(t *testing.T) {
	t.Parallel()
	yaml := `node: {name: n, asn: 64512, site: s}
underlay: {interface: eth0, address: "2001:db8::9"}
tunnels:
  - {name: tr0, remote: "2001:db8:1::4", address: 169.254.77.0/31, peer_address: 169.254.77.1, vxlan: {vni: 1}, bgp: {asn: 64513}}
`
	f := cardFacts()
	f.Addrs = append(f.Addrs, prefix("2001:db8::9/64"))
	p, err := NewPlan(fileName, mustParse(t, yaml), f)
	if err != nil {
		t.Fatal(err)
	}
	if p.Underlay.Address != addr("192.0.2.4") || p.Underlay.Address6 != addr("2001:db8::9") || p.Tunnels[0].VXLAN.Local != addr("2001:db8::9") {
		t.Errorf("underlay %+v, tunnel from %s", p.Underlay, p.Tunnels[0].VXLAN.Local)
	}
}

// TestNewPlanMistakes checks what only the machine can say is wrong with a file that is valid by itself.
func TestNewPlanMistakes(t *testing.T) {
	t.Parallel()
	card := func(change func(*Facts)) func(*Facts, *config.Config) {
		return func(f *Facts, _ *config.Config) { change(f) }
	}
	for _, c := range []struct {
		name   string
		edits  []string
		change func(*Facts, *config.Config)
		want   []string // "path: part of the message"
	}{
		{"address of another machine", []string{"eth0\n", "eth0\n  address: 192.0.2.9\n"}, nil, []string{"underlay.address: 192.0.2.9 is no address of eth0"}},
		{"no IPv4 address", nil, card(func(f *Facts) { f.Addrs = f.Addrs[1:] }), []string{"underlay.interface: eth0 has no IPv4 address"}},
		{"no address", nil, card(func(f *Facts) { f.Addrs = nil }), []string{"underlay.interface: eth0 has no IPv4 address"}},
		{"no gateway", nil, card(func(f *Facts) { f.Gateway = netip.Addr{} }), []string{"underlay.interface: no default route leads through eth0"}},
		{"gateway outside", []string{"eth0\n", "eth0\n  gateway: 192.0.2.129\n"}, nil, []string{"underlay.gateway: 192.0.2.129 is no other machine of the subnet 192.0.2.0/26"}},
		{"gateway is the node", nil, card(func(f *Facts) { f.Gateway = addr("192.0.2.4") }), []string{"underlay.gateway: 192.0.2.4 is no other machine"}},
		{"IPv6 peer without IPv6", []string{"198.51.100.4", "2001:db8:1::4"}, card(func(f *Facts) { f.Addrs = f.Addrs[:1] }), []string{"tunnels[0].remote: 2001:db8:1::4 is an IPv6 address, but eth0 has none"}},
		{"MTU", []string{"{vni: 7700}", "{vni: 7700}\n    mtu: 1451"}, nil, []string{"tunnels[0].mtu: 1451 and 50 bytes of outer headers do not fit the underlay's MTU of 1500"}},
		{"MTU over IPv6", []string{"198.51.100.4", "2001:db8:1::4", "{vni: 7700}", "{vni: 7700}\n    mtu: 1431"}, nil, []string{"tunnels[0].mtu: 1431 and 70 bytes"}},
		{"MTU of the card", nil, card(func(f *Facts) { f.MTU = 1400 }), []string{"tunnels[0].mtu: 1400 and 50 bytes"}},
		{"overlay in the card's subnet", nil, card(func(f *Facts) { f.Addrs = append(f.Addrs, prefix("169.254.77.200/24")) }), []string{"tunnels[0].address: 169.254.77.0/30 overlaps the subnet of eth0"}},
		{"tunnel to itself", []string{"198.51.100.4", "192.0.2.4"}, nil, []string{"tunnels[0].remote: 192.0.2.4 is this node's own address"}},
		{"Route Server beside the node", nil, card(func(f *Facts) { f.Addrs[0] = prefix("192.0.2.4/24") }), []string{"route_servers[0].subnet: 192.0.2.64/27 overlaps the subnet of eth0"}},
		{"two at once", []string{"7700", "7700, gpe: true"}, card(func(f *Facts) { f.MTU = 1000; f.Addrs = append(f.Addrs, prefix("169.254.77.200/24")) }), []string{"tunnels[0].address: 169.254.77.0/30 overlaps", "tunnels[0].mtu: 1400 and"}},
		// A component's refusal is an error of the plan, even if the file's own rules had a hole.
		{"VXLAN refuses", nil, func(_ *Facts, c *config.Config) { c.Tunnels[0].VXLAN.VNI = 0 }, []string{"tunnels[0]: "}},
		{"remote is the card's gateway", nil, func(_ *Facts, c *config.Config) { c.Tunnels[0].Remote = addr("192.0.2.1") }, []string{`tunnels[0].remote: 192.0.2.1 is the gateway of eth0`}},
		{"BGP refuses", nil, func(_ *Facts, c *config.Config) { c.RouteServers[0].ASN = c.Node.ASN }, []string{`: bgp: neighbor "ars" has AS 64512 and we have 64512`}},
		{"mode refused", nil, func(_ *Facts, c *config.Config) { c.RouteServers[0].DefaultRoute = "often" }, []string{"route_servers[0].default_route: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, cfg := cardFacts(), mustParse(t, edit(t, nodeYAML, c.edits...))
			if c.change != nil {
				c.change(&f, cfg)
			}
			p, err := NewPlan(fileName, cfg, f)
			list := config.AsErrors(err)
			if p != nil || len(list) != len(c.want) {
				t.Fatalf("plan %v, errors:\n%v\nwant %q", p, err, c.want)
			}
			for i, e := range list {
				if got := e.Path + ": " + e.Msg; !strings.HasPrefix(got, c.want[i]) || e.File != fileName {
					t.Errorf("%s: %q, want %s: %q", e.File, got, fileName, c.want[i])
				}
			}
		})
	}
}

// TestNewPlanMTUFits is the other side of the refusals above: the largest MTU that fits is taken.
func TestNewPlanMTUFits(t *testing.T) {
	t.Parallel()
	for _, edits := range [][]string{
		{"{vni: 7700}", "{vni: 7700}\n    mtu: 1450"},
		{"{vni: 7700}", "{vni: 7700, gpe: true}\n    mtu: 1464"},
		{"198.51.100.4", "2001:db8:1::4", "{vni: 7700}", "{vni: 7700}\n    mtu: 1430"},
		{"198.51.100.4", "2001:db8:1::4", "{vni: 7700}", "{vni: 7700, gpe: true}\n    mtu: 1444"},
	} {
		mustPlan(t, edit(t, nodeYAML, edits...))
	}
}

// TestNewPlanPinsOnce checks that two tunnels to one NVA are pinned once: the kernel has one route for a prefix.
func TestNewPlanPinsOnce(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, edit(t, withTR1(t), "2001:db8:1::4", "198.51.100.4"))
	want := prefixes("168.63.129.16/32", "169.254.169.254/32", "192.0.2.64/27", "198.51.100.4/32")
	if d := diff(want, p.FIB.Pins); d != "" {
		t.Errorf("pins (-want +got):\n%s", d)
	}
}

// TestNewPlanExamples plans the two NVAs of the documentation and checks that they fit each other.
func TestNewPlanExamples(t *testing.T) {
	t.Parallel()
	load := func(name, card, gateway string) *Plan {
		file := filepath.Join("..", "..", "docs", "examples", name)
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(file, c, Facts{Interface: "eth0", MTU: 1500, Addrs: prefixes(card), Gateway: addr(gateway)})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	hub, transit := load("hub-nva.yaml", "10.0.2.4/24", "10.0.2.1"), load("transit-nva.yaml", "10.1.2.4/24", "10.1.2.1")
	for _, pair := range [][2]*Plan{{hub, transit}, {transit, hub}} {
		a, b := pair[0].Tunnels[0], pair[1].Tunnels[0]
		if a.Endpoint.Local != b.Pump.Remote || a.VXLAN.VNI != b.VXLAN.VNI || a.Pump.PeerAddrs[0] != b.Pump.Addrs[0].Addr() {
			t.Errorf("%s and %s do not fit:\n%+v\n%+v", pair[0].Node.Name, pair[1].Node.Name, a, b)
		}
		if x, y := pair[0].BGP.Neighbors[1], pair[1].BGP; x.ASN != y.ASN || x.Addrs[0] != y.Neighbors[1].LocalAddr {
			t.Errorf("%s expects AS%d at %v, not AS%d at %s", pair[0].Node.Name, x.ASN, x.Addrs, y.ASN, y.Neighbors[1].LocalAddr)
		}
	}
	if got := [2]policy.DefaultRoute{hub.BGP.Neighbors[0].DefaultRoute, transit.BGP.Neighbors[0].DefaultRoute}; got != [2]policy.DefaultRoute{policy.DefaultDeny, policy.DefaultAnnounce} {
		t.Errorf("default routes: %v", got)
	}
	names, err := os.ReadDir(filepath.Join("..", "..", "docs", "examples"))
	if err != nil || len(names) != 2 {
		t.Errorf("docs/examples has %v (%v): plan the new ones here too", names, err)
	}
}

// TestNewPlanRepeatable is what a reload stands on: the plan of the same input is deeply equal, so nothing changes.
func TestNewPlanRepeatable(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{
		nodeYAML, withTR1(t),
		edit(t, nodeYAML, "vnet:", "allow_host_routes: [203.0.113.0/24]\n  vnet:"),
		edit(t, nodeYAML, "policy:\n  vnet: [192.0.2.0/24]\n", ""),
	} {
		a, b := mustPlan(t, yaml), mustPlan(t, yaml)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("two plans of one file differ:\n%s", diff(a, b))
		}
		if d := compare(fileName, a, b); !d.Empty() || d.BGP || d.FIB || d.LogLevel || d.Remove != nil || d.Add != nil {
			t.Errorf("reload of the same file is not empty: %+v", d)
		}
	}
}
