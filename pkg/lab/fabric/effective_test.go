package fabric

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	prefix = netip.MustParsePrefix
	addr   = netip.MustParseAddr
)

// twoVNets is the lab's shape: hub and transit peered, a spoke that uses the hub's Route Server.
func twoVNets() Config {
	return Config{
		VNets: []VNet{
			{Name: "hub", Prefixes: []netip.Prefix{prefix("10.0.0.0/16")}, Peers: []string{"transit", "spoke"}, RouteServer: "hub-ars"},
			{Name: "transit", Prefixes: []netip.Prefix{prefix("10.1.0.0/16")}, Peers: []string{"hub"}, RouteServer: "transit-ars"},
			{Name: "spoke", Prefixes: []netip.Prefix{prefix("10.2.0.0/16")}, Peers: []string{"hub"}, RouteServer: "hub-ars"},
		},
		NICs: []NIC{
			{
				Name: "hub-nva", VNet: "hub", Address: addr("10.0.2.4"), Subnet: prefix("10.0.2.0/24"), Public: true,
				UDRs: []UDR{{Prefix: prefix("0.0.0.0/0"), Type: Internet}},
			},
			{Name: "er-hub", VNet: "hub", Address: addr("10.0.0.4"), Subnet: prefix("10.0.0.0/27")},
			{Name: "transit-nva", VNet: "transit", Address: addr("10.1.2.4"), Subnet: prefix("10.1.2.0/24")},
			{Name: "spoke", VNet: "spoke", Address: addr("10.2.0.4"), Subnet: prefix("10.2.0.0/24")},
			{Name: "internet", Address: addr("198.18.255.1"), Subnet: prefix("198.18.254.0/23")},
		},
	}
}

func learn(p, nextHop string, circuit bool, path ...uint32) BGPRoute {
	return BGPRoute{Prefix: prefix(p), NextHop: addr(nextHop), Circuit: circuit, ASPath: path}
}

func TestEffectiveSelection(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		nic     string
		change  func(*Config)
		learned []BGPRoute
		dst     string
		want    Route
	}{
		{
			name: "own VNet", nic: "hub-nva", dst: "10.0.9.9",
			want: Route{Prefix: prefix("10.0.0.0/16"), Source: SourceDefault, Type: VnetLocal},
		},
		{
			name: "peered VNet", nic: "hub-nva", dst: "10.1.2.4",
			want: Route{Prefix: prefix("10.1.0.0/16"), Source: SourceDefault, Type: VNetPeering},
		},
		{
			name: "peerings are not transitive", nic: "spoke", dst: "10.1.2.4",
			want: Route{Prefix: prefix("10.0.0.0/8"), Source: SourceDefault, Type: None},
		},
		{
			name: "unknown private range is dropped", nic: "transit-nva", dst: "192.168.7.7",
			want: Route{Prefix: prefix("192.168.0.0/16"), Source: SourceDefault, Type: None},
		},
		{
			name: "BGP beats the system's drop of a longer prefix", nic: "transit-nva", dst: "172.16.1.10",
			learned: []BGPRoute{learn("172.16.0.0/16", "10.1.2.4", false, 64513)},
			want:    Route{Prefix: prefix("172.16.0.0/16"), Source: SourceGateway, Type: Gateway, NextHops: []netip.Addr{addr("10.1.2.4")}},
		},
		{
			name: "BGP beats the system on equal length", nic: "transit-nva", dst: "172.17.0.1",
			learned: []BGPRoute{learn("172.16.0.0/12", "10.1.2.4", false, 64513)},
			want:    Route{Prefix: prefix("172.16.0.0/12"), Source: SourceGateway, Type: Gateway, NextHops: []netip.Addr{addr("10.1.2.4")}},
		},
		{
			name: "user-defined beats BGP on equal length", nic: "hub-nva", dst: "198.18.255.1",
			learned: []BGPRoute{learn("0.0.0.0/0", "10.0.2.4", false, 64512)},
			want:    Route{Prefix: prefix("0.0.0.0/0"), Source: SourceUser, Type: Internet},
		},
		{
			name: "the longest prefix beats user-defined", nic: "hub-nva", dst: "203.0.113.9",
			learned: []BGPRoute{learn("203.0.113.0/24", "10.0.0.4", true, 12076)},
			want:    Route{Prefix: prefix("203.0.113.0/24"), Source: SourceGateway, Type: Gateway, NextHops: []netip.Addr{addr("10.0.0.4")}},
		},
		{
			name: "the VNet beats more specific BGP", nic: "hub-nva", dst: "10.0.2.4",
			learned: []BGPRoute{learn("10.0.2.0/24", "10.0.0.4", true, 12076)},
			want:    Route{Prefix: prefix("10.0.0.0/16"), Source: SourceDefault, Type: VnetLocal},
		},
		{
			name: "a peering beats more specific BGP", nic: "hub-nva", dst: "10.1.2.4",
			learned: []BGPRoute{learn("10.1.2.4/32", "10.0.0.4", true, 12076)},
			want:    Route{Prefix: prefix("10.1.0.0/16"), Source: SourceDefault, Type: VNetPeering},
		},
		{
			name: "a peering beats equal BGP", nic: "hub-nva", dst: "10.1.2.4",
			learned: []BGPRoute{learn("10.1.0.0/16", "10.0.0.4", true, 12076)},
			want:    Route{Prefix: prefix("10.1.0.0/16"), Source: SourceDefault, Type: VNetPeering},
		},
		{
			name: "user-defined beats a peering on equal length", nic: "hub-nva", dst: "10.1.2.4",
			change: func(c *Config) {
				c.NICs[0].UDRs = append(c.NICs[0].UDRs, UDR{Prefix: prefix("10.1.0.0/16"), Type: Appliance, NextHop: addr("10.0.0.4")})
			},
			want: Route{Prefix: prefix("10.1.0.0/16"), Source: SourceUser, Type: Appliance, NextHops: []netip.Addr{addr("10.0.0.4")}},
		},
		{
			name: "the NVA's own announcement is on its own NIC", nic: "transit-nva", dst: "198.18.255.1",
			learned: []BGPRoute{learn("0.0.0.0/0", "10.1.2.4", false, 64513)},
			want:    Route{Prefix: prefix("0.0.0.0/0"), Source: SourceGateway, Type: Gateway, NextHops: []netip.Addr{addr("10.1.2.4")}},
		},
		{
			name: "ExpressRoute beats an NVA with a shorter path", nic: "hub-nva", dst: "172.16.1.10",
			learned: []BGPRoute{learn("172.16.0.0/16", "10.0.2.4", false, 64512), learn("172.16.0.0/16", "10.0.0.4", true, 12076, 65010)},
			want:    Route{Prefix: prefix("172.16.0.0/16"), Source: SourceGateway, Type: Gateway, NextHops: []netip.Addr{addr("10.0.0.4")}},
		},
		{
			name: "the shorter AS path wins", nic: "spoke", dst: "10.50.1.10",
			learned: []BGPRoute{learn("10.50.0.0/16", "10.0.2.5", false, 64512, 64512), learn("10.50.0.0/16", "10.0.2.4", false, 64512)},
			want:    Route{Prefix: prefix("10.50.0.0/16"), Source: SourceGateway, Type: Gateway, NextHops: []netip.Addr{addr("10.0.2.4")}},
		},
		{
			name: "equal AS path length is shared, and two instances saying the same are one", nic: "spoke", dst: "10.50.1.10",
			learned: []BGPRoute{
				learn("10.50.0.0/16", "10.0.2.5", false, 64514), learn("10.50.0.0/16", "10.0.2.4", false, 64512),
				learn("10.50.0.0/16", "10.0.2.4", false, 64512),
			},
			want: Route{Prefix: prefix("10.50.0.0/16"), Source: SourceGateway, Type: Gateway, NextHops: []netip.Addr{addr("10.0.2.4"), addr("10.0.2.5")}},
		},
		{
			name: "the internet answers a public NIC only", nic: "internet", dst: "10.0.2.4",
			want: Route{Prefix: prefix("10.0.2.4/32"), Source: SourceDefault, Type: Internet, NextHops: []netip.Addr{addr("10.0.2.4")}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := twoVNets()
			if tt.change != nil {
				tt.change(&c)
			}
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			nic, _ := c.NIC(tt.nic)
			got, ok := Lookup(Effective(c, nic, tt.learned), addr(tt.dst))
			tt.want.Active = true
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" || !ok {
				t.Errorf("route to %s (-want +got):\n%s", tt.dst, diff)
			}
		})
	}
}

func TestInternetKnowsNobodyElse(t *testing.T) {
	t.Parallel()
	c := twoVNets()
	nic, _ := c.NIC("internet")
	if r, ok := Lookup(Effective(c, nic, []BGPRoute{learn("10.1.2.0/24", "10.0.2.4", false, 64512)}), addr("10.1.2.4")); ok {
		t.Errorf("the internet has a route to a private NIC: %+v", r)
	}
}

func TestLosersAreListedWithAReason(t *testing.T) {
	t.Parallel()
	c := twoVNets()
	nic, _ := c.NIC("hub-nva")
	reasons := map[string]string{}
	for _, r := range Effective(c, nic, []BGPRoute{learn("0.0.0.0/0", "10.0.2.4", false, 64512), learn("10.0.2.0/24", "10.0.2.4", false, 64512)}) {
		if !r.Active {
			reasons[r.Prefix.String()+" "+string(r.Source)] = r.Reason
		}
	}
	want := map[string]string{
		"0.0.0.0/0 VirtualNetworkGateway":   "same prefix from source User",
		"0.0.0.0/0 Default":                 "same prefix from source User",
		"10.0.2.0/24 VirtualNetworkGateway": "inside 10.0.0.0/16 (VnetLocal), which wins over BGP",
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("inactive routes (-want +got):\n%s", diff)
	}
}

func TestProgram(t *testing.T) {
	t.Parallel()
	c := twoVNets()
	learned := []BGPRoute{
		learn("172.16.0.0/16", "10.0.0.4", true, 12076, 65010),
		learn("10.50.0.0/16", "10.0.2.4", false, 64512),
		learn("10.60.0.0/16", "10.0.2.99", false, 64512), // a next hop that nobody has
	}
	tests := []struct {
		name, nic, dst string
		want           []Hop
	}{
		{"host of the VNet", "hub-nva", "10.0.0.4", []Hop{{Device: "er-hub"}}},
		{"host of a peered VNet", "hub-nva", "10.1.2.4", []Hop{{Device: "transit-nva"}}},
		{"nobody in the VNet", "hub-nva", "10.0.77.77", []Hop{{Device: Void}}},
		{"circuit", "spoke", "172.16.1.10", []Hop{{Device: "er-hub", Via: addr("10.0.0.4")}}},
		{"own announcement comes back", "hub-nva", "10.50.1.10", []Hop{{Device: "hub-nva", Via: addr("10.0.2.4")}}},
		{"next hop that is not there", "spoke", "10.60.0.1", []Hop{{Device: Void}}},
		{"internet from a public NIC", "hub-nva", "198.18.255.1", []Hop{{Device: "internet", Via: addr("198.18.255.1")}}},
		{"internet from a private NIC", "spoke", "198.18.255.1", []Hop{{Device: Void}}},
		{"answer of the internet", "internet", "10.0.2.4", []Hop{{Device: "hub-nva"}}},
		{"internet to anybody else", "internet", "10.2.0.4", []Hop{{Device: Void}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			nic, _ := c.NIC(tt.nic)
			table := Program(c, nic, Effective(c, nic, learned))
			var best KernelRoute
			for _, k := range table {
				if k.Prefix.Contains(addr(tt.dst)) && k.Prefix.Bits() >= best.Prefix.Bits() {
					best = k
				}
			}
			if diff := cmp.Diff(tt.want, best.Hops, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("hops to %s (-want +got):\n%s", tt.dst, diff)
			}
		})
	}
}

func TestUserRouteTakesHostsOutOfTheVNet(t *testing.T) {
	t.Parallel()
	c := twoVNets()
	c.NICs[3].UDRs = []UDR{{Prefix: prefix("10.0.0.0/27"), Type: Appliance, NextHop: addr("10.0.2.4")}}
	table := Program(c, c.NICs[3], Effective(c, c.NICs[3], nil))
	for _, k := range table {
		if k.Prefix == prefix("10.0.0.4/32") {
			t.Errorf("a host route %v stands beside the longer user-defined route", k)
		}
	}
}

func TestDiffRoutesGivesWant(t *testing.T) {
	t.Parallel()
	a := KernelRoute{Prefix: prefix("10.0.0.0/8"), Hops: []Hop{{Device: "a"}}}
	b := KernelRoute{Prefix: prefix("10.0.0.0/8"), Hops: []Hop{{Device: "b"}}}
	c := KernelRoute{Prefix: prefix("10.1.0.0/16"), Hops: []Hop{{Device: "a"}}}
	tests := []struct {
		name       string
		have, want []KernelRoute
		remove     []netip.Prefix
		put        []KernelRoute
	}{
		{"nothing", nil, nil, nil, nil},
		{"same", []KernelRoute{a, c}, []KernelRoute{a, c}, nil, nil},
		{"new", nil, []KernelRoute{a}, nil, []KernelRoute{a}},
		{"gone", []KernelRoute{a}, nil, []netip.Prefix{a.Prefix}, nil},
		{"moved", []KernelRoute{a, c}, []KernelRoute{b, c}, nil, []KernelRoute{b}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			remove, put := diffRoutes(tt.have, tt.want)
			opt := cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
			if diff := cmp.Diff(tt.remove, remove, opt); diff != "" {
				t.Errorf("remove (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.put, put, opt); diff != "" {
				t.Errorf("put (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(*Config)
	}{
		{"long name", func(c *Config) { c.NICs[0].Name = "sixteen-bytes-on" }},
		{"outside its subnet", func(c *Config) { c.NICs[0].Address = addr("10.0.3.4") }},
		{"subnet outside the VNet", func(c *Config) { c.NICs[0].Subnet, c.NICs[0].Address = prefix("10.9.2.0/24"), addr("10.9.2.4") }},
		{"Azure's own address", func(c *Config) { c.NICs[0].Address = addr("10.0.2.3") }},
		{"address twice", func(c *Config) {
			c.NICs[1] = c.NICs[0]
			c.NICs[1].Name = "other"
		}},
		{"one-sided peering", func(c *Config) { c.VNets[1].Peers = nil }},
		{"overlapping peers", func(c *Config) { c.VNets[1].Prefixes = append(c.VNets[1].Prefixes, prefix("10.0.128.0/17")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := twoVNets()
			tt.spoil(&c)
			if err := c.Validate(); err == nil {
				t.Error("accepted")
			}
		})
	}
}
