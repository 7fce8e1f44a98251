package lab

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/transitd/transitd/pkg/lab/fabric"
)

// AS numbers of the lab. 65515, 12076 and 398656 are Azure's own.
const (
	asnRouteServer = 65515
	asnMSEE        = 12076
	asnAVS         = 398656
	asnOnPrem      = 65010
	asnHubNVA      = 64512
	asnTransitNVA  = 64513
)

// holdTime is that of Route Servers and ExpressRoute (facts: keepalive 60 s, hold 180 s).
const holdTime = 180 * time.Second

// Addresses that people and tests use.
const (
	AVSHost      = "10.50.1.10"
	OnPremHost   = "172.16.1.10"
	InternetHost = "198.18.255.1"
	SpokeHost    = "10.2.0.4"
	HubNVA       = "10.0.2.4"
	TransitNVA   = "10.1.2.4"
)

// avsPrefixes: AVS announces its /22 in pieces, one for each segment.
func avsPrefixes() []netip.Prefix {
	return prefixes("10.50.0.0/24", "10.50.1.0/24", "10.50.2.0/25", "10.50.2.128/25", "10.50.3.0/24")
}

func onPremPrefixes() []netip.Prefix { return prefixes("172.16.0.0/16", "172.20.0.0/16") }

// builder collects a plan.
type builder struct{ Plan }

// avsTransit is the second figure: two VNets, each with a Route Server and an NVA.
func (b *builder) avsTransit() {
	b.Fabric.VNets = []fabric.VNet{
		{Name: "hub", Prefixes: prefixes("10.0.0.0/16"), Peers: []string{"transit", "spoke"}, RouteServer: "hub-ars"},
		{Name: "transit", Prefixes: prefixes("10.1.0.0/16"), Peers: []string{"hub"}, RouteServer: "transit-ars"},
		{Name: "spoke", Prefixes: prefixes("10.2.0.0/16"), Peers: []string{"hub"}, RouteServer: "hub-ars"},
	}
	b.Nodes = append(b.Nodes, Node{Name: "fabric", Role: RoleFabric})
	b.routeServer("transit", "10.1.1.0/27")
	b.routeServer("hub", "10.0.1.0/27")
	b.circuit("msee-avs", "transit", "10.1.0.0/27", netip.MustParsePrefix("198.19.50.1/30"))
	b.circuit("msee-onprem", "hub", "10.0.0.0/27", netip.MustParsePrefix("198.19.10.1/30"))
	b.avs()
	b.onPrem()
	b.spoke()
	for i := range b.Options.NVAs {
		b.nva("hub", i, asnHubNVA, true)
		b.nva("transit", i, asnTransitNVA, false)
	}
	if b.Options.Encapsulation == None {
		b.session("hub-nva", HubNVA, "transit-nva", TransitNVA)
		b.find("hub-nva").Announce = prefixes("0.0.0.0/0")
	}
	b.internet()
}

// defaultRoute is the first figure: one hub VNet with both circuits; the NVA announces a default.
func (b *builder) defaultRoute() {
	b.Fabric.VNets = []fabric.VNet{
		{Name: "hub", Prefixes: prefixes("10.0.0.0/16"), Peers: []string{"spoke"}, RouteServer: "hub-ars"},
		{Name: "spoke", Prefixes: prefixes("10.2.0.0/16"), Peers: []string{"hub"}, RouteServer: "hub-ars"},
	}
	b.Nodes = append(b.Nodes, Node{Name: "fabric", Role: RoleFabric})
	b.routeServer("hub", "10.0.1.0/27")
	b.circuitAt("msee-avs", "hub", "10.0.0.0/27", "10.0.0.5", netip.MustParsePrefix("198.19.50.1/30"))
	b.circuitAt("msee-onprem", "hub", "10.0.0.0/27", "10.0.0.4", netip.MustParsePrefix("198.19.10.1/30"))
	b.avs()
	b.onPrem()
	b.spoke()
	b.nva("hub", 0, asnHubNVA, true)
	b.find("hub-nva").Announce = prefixes("0.0.0.0/0")
	b.internet()
}

// nvaName is the name of an NVA; the first has no number, as in a lab with one.
func nvaName(vnet string, i int) string {
	if i == 0 {
		return vnet + "-nva"
	}
	return fmt.Sprintf("%s-nva-%d", vnet, i+1)
}

// nvaAddress is the address of an NVA's NIC: .4 and those after it.
func nvaAddress(vnet string, i int) netip.Addr {
	first := HubNVA
	if vnet == "transit" {
		first = TransitNVA
	}
	a := netip.MustParseAddr(first)
	for range i {
		a = a.Next()
	}
	return a
}

// routeServer adds both instances, the .4 and .5 of the subnet.
func (b *builder) routeServer(vnet, subnet string) {
	s := netip.MustParsePrefix(subnet)
	a := s.Addr().Next().Next().Next().Next()
	for _, suffix := range []string{"-0", "-1"} {
		name := vnet + "-ars" + suffix
		b.nic(name, vnet, a, s)
		b.Nodes = append(b.Nodes, Node{
			Name: name, Role: RoleRouteServer, ASN: asnRouteServer, RouterID: a,
			Service: vnet + "-ars", Announce: b.served(vnet + "-ars"),
		})
		a = a.Next()
	}
}

// served are the address spaces that a Route Server announces: of its own VNet and of those that use it.
func (b *builder) served(routeServer string) []netip.Prefix {
	var list []netip.Prefix
	for _, v := range b.Fabric.VNets {
		if v.RouteServer == routeServer {
			list = append(list, v.Prefixes...)
		}
	}
	return list
}

func (b *builder) vnetPrefixes(vnet string) []netip.Prefix {
	for _, v := range b.Fabric.VNets {
		if v.Name == vnet {
			return v.Prefixes
		}
	}
	return nil
}

// circuit adds Microsoft's end of an ExpressRoute circuit with the gateway's address in the VNet.
func (b *builder) circuit(name, vnet, subnet string, wire netip.Prefix) {
	s := netip.MustParsePrefix(subnet)
	b.circuitAt(name, vnet, subnet, s.Addr().Next().Next().Next().Next().String(), wire)
}

func (b *builder) circuitAt(name, vnet, subnet, address string, wire netip.Prefix) {
	a, s := netip.MustParseAddr(address), netip.MustParsePrefix(subnet)
	b.nic(name, vnet, a, s)
	n := Node{Name: name, Role: RoleMSEE, ASN: asnMSEE, RouterID: a}
	for _, p := range b.vnetPrefixes(vnet) {
		n.Statics = append(n.Statics, Static{Prefix: p, Via: s.Addr().Next()})
	}
	b.Nodes = append(b.Nodes, n)
	for _, suffix := range []string{"-0", "-1"} {
		ars := vnet + "-ars" + suffix
		b.session(name, address, ars, b.address(ars).String())
	}
	customer := map[string]string{"msee-avs": "avs-edge", "msee-onprem": "onprem"}[name]
	b.Links = append(b.Links, Link{
		Circuit: true,
		A:       End{Node: name, Device: "eth1", Address: wire},
		B:       End{Node: customer, Device: "wan0", Address: netip.PrefixFrom(wire.Addr().Next(), wire.Bits())},
	})
}

// avs adds AVS' router and a virtual machine; the management segment is an address of that machine too.
func (b *builder) avs() {
	gateway := netip.MustParseAddr("10.50.1.1")
	b.Nodes = append(b.Nodes, Node{
		Name: "avs-edge", Role: RoleEdge, ASN: asnAVS, RouterID: gateway, Announce: b.AVS,
		Statics: []Static{
			{Prefix: netip.MustParsePrefix("10.50.0.0/22")},
			{Prefix: netip.MustParsePrefix("10.50.0.0/24"), Via: netip.MustParseAddr(AVSHost)},
		},
	})
	b.session("avs-edge", "198.19.50.2", "msee-avs", "198.19.50.1")
	b.Nodes = append(b.Nodes, Node{
		Name: "avs", Role: RoleHost, Services: true, Loopback: prefixes("10.50.0.10/32"),
		Statics: []Static{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: gateway}},
	})
	b.Links = append(b.Links, Link{
		A: End{Node: "avs-edge", Device: "lan0", Address: netip.PrefixFrom(gateway, 24)},
		B: End{Node: "avs", Device: "eth0", Address: netip.MustParsePrefix(AVSHost + "/24")},
	})
}

// onPrem adds the customer's router, whose loopback stands in for the hosts behind it.
func (b *builder) onPrem() {
	n := Node{
		Name: "onprem", Role: RoleEdge, ASN: asnOnPrem, RouterID: netip.MustParseAddr(OnPremHost), Announce: b.OnPrem,
		Services: true, Loopback: prefixes(OnPremHost+"/32", "172.20.1.10/32"),
	}
	for _, p := range b.OnPrem {
		n.Statics = append(n.Statics, Static{Prefix: p})
	}
	b.Nodes = append(b.Nodes, n)
	b.session("onprem", "198.19.10.2", "msee-onprem", "198.19.10.1")
}

func (b *builder) spoke() {
	b.nic("spoke", "spoke", netip.MustParseAddr(SpokeHost), netip.MustParsePrefix("10.2.0.0/24"))
	b.Nodes = append(b.Nodes, Node{Name: "spoke", Role: RoleHost, Services: true})
}

// nva adds a network virtual appliance. A public one has the user-defined route 0.0.0.0/0 → Internet on its subnet
// that Azure asks for when an NVA announces a default.
func (b *builder) nva(vnet string, i int, asn uint32, public bool) {
	name, a := nvaName(vnet, i), nvaAddress(vnet, i)
	b.nic(name, vnet, a, netip.PrefixFrom(a, 24).Masked())
	if public {
		nic := &b.Fabric.NICs[len(b.Fabric.NICs)-1]
		nic.Public = true
		nic.UDRs = []fabric.UDR{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Type: fabric.Internet}}
	}
	b.Nodes = append(b.Nodes, Node{Name: name, Role: RoleNVA, ASN: asn, RouterID: a})
	for _, suffix := range []string{"-0", "-1"} {
		ars := vnet + "-ars" + suffix
		b.session(name, a.String(), ars, b.address(ars).String())
	}
}

func (b *builder) internet() {
	b.nic("internet", "", netip.MustParseAddr(InternetHost), netip.MustParsePrefix("198.18.254.0/23"))
	b.Nodes = append(b.Nodes, Node{Name: "internet", Role: RoleHost, Services: true})
}

func (b *builder) nic(name, vnet string, a netip.Addr, subnet netip.Prefix) {
	b.Fabric.NICs = append(b.Fabric.NICs, fabric.NIC{Name: name, VNet: vnet, Address: a, Subnet: subnet})
}

func (b *builder) address(nic string) netip.Addr {
	n, _ := b.Fabric.NIC(nic)
	return n.Address
}

// session joins two nodes; the first one connects, so Route Servers and MSEEs stand second.
func (b *builder) session(from, fromAddr, to, toAddr string) {
	fa, ta := netip.MustParseAddr(fromAddr), netip.MustParseAddr(toAddr)
	f, t := b.find(from), b.find(to)
	f.Sessions = append(f.Sessions, Session{
		Peer: to, Role: t.Role, Local: fa, Addr: ta, ASN: t.ASN,
		Via: b.via(from, ta), HoldTime: holdTime,
	})
	t.Sessions = append(t.Sessions, Session{
		Peer: from, Role: f.Role, Local: ta, Addr: fa, ASN: f.ASN, Passive: true,
		Via: b.via(to, fa), HoldTime: holdTime,
	})
}

// via is where a node sends packets for routes of a peer. In a VNet that is always the subnet's gateway: the Route
// Server is not a forwarder, and a next hop elsewhere in the VNet means nothing to the fabric.
func (b *builder) via(node string, peer netip.Addr) netip.Addr {
	nic, ok := b.Fabric.NIC(node)
	if ok && netip.MustParsePrefix("10.0.0.0/8").Contains(peer) {
		return nic.Gateway()
	}
	return peer
}

func (b *builder) find(name string) *Node {
	for i := range b.Nodes {
		if b.Nodes[i].Name == name {
			return &b.Nodes[i]
		}
	}
	return &Node{} // validate reports the session that does not fit
}

func prefixes(list ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(list))
	for i, s := range list {
		ps[i] = netip.MustParsePrefix(s)
	}
	return ps
}
