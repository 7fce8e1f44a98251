package audit

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// effective reads `az network nic show-effective-route-table`.
func (r reader) effective(list []object) {
	t := EffectiveTable{Source: r.where}
	for i, o := range list {
		prefixes := o.prefixes("addressPrefix")
		hop, origin, state := o.text("nextHopType"), o.text("source"), o.text("state")
		if hop == "" || origin == "" || state == "" {
			r.note("%s: route %d lacks nextHopType, source or state: left out", r.where, i+1)
			continue
		}
		e := EffectiveRoute{
			NextHopType: hop, Origin: origin, Name: o.text("name"), NextHops: o.addresses("nextHopIpAddress"),
			Active: strings.EqualFold(state, "Active"),
		}
		if off := o.flag("disableBgpRoutePropagation"); off != nil {
			e.PropagationOff = *off
		}
		if kindOf(hop) == hopUnknown {
			r.note("%s: next hop type %.40q is unknown; its routes are taken for none of ours", r.where, hop)
		}
		for _, p := range prefixes {
			e.Prefix = p
			t.Routes = append(t.Routes, e)
		}
	}
	r.took(KindEffective, len(t.Routes))
	r.azure.Effective = append(r.azure.Effective, t)
}

// peerRoutes reads list-learned-routes and list-advertised-routes. They differ
// in who stands in the next hop: the peer in what was learned, the instance
// itself in what is advertised.
func (r reader) peerRoutes(roles map[string][]object) {
	if roles == nil {
		return
	}
	p, n, own, foreign := PeerRoutes{Source: r.where}, 0, 0, 0
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		in := Instance{Name: name}
		for _, o := range roles[name] {
			prefixes := o.prefixes("network")
			if len(prefixes) != 1 {
				continue // noted
			}
			route := PeerRoute{
				Prefix: prefixes[0], NextHop: o.address("nextHop"), Local: o.address("localAddress"),
				Peer: o.address("sourcePeer"), ASPath: o.text("asPath"),
			}
			switch {
			case route.Peer.IsValid() && route.Peer != route.Local:
				foreign++
			case route.NextHop == route.Local:
				own++
				route.Peer = netip.Addr{}
			}
			in.Routes = append(in.Routes, route)
		}
		n += len(in.Routes)
		p.Instances = append(p.Instances, in)
	}
	advertised := own > foreign
	if n == 0 {
		advertised = strings.Contains(strings.ToLower(r.where), "advertised")
	}
	if advertised {
		r.took(KindAdvertised, n)
		r.azure.Advertised = append(r.azure.Advertised, p)
		return
	}
	r.took(KindLearned, n)
	r.azure.Learned = append(r.azure.Learned, p)
}

// card reads `az network nic show`.
func (r reader) card(o object) {
	c := Card{
		Source: r.where, ID: resourceID(o.text("id")), Forwarding: o.flag("enableIPForwarding"),
		Group: o.reference("networkSecurityGroup"),
	}
	for _, ip := range o.objects("ipConfigurations") {
		// A block of addresses is written with its prefix length.
		address, _, _ := strings.Cut(ip.text("privateIPAddress"), "/")
		if a, ok := ip.parseAddress("privateIPAddress", address); ok {
			c.Addresses = append(c.Addresses, a)
		}
		if c.Subnet == "" {
			c.Subnet = ip.reference("subnet")
		}
	}
	if c.Forwarding == nil {
		r.note("%s: the network card has no enableIPForwarding", r.where)
	}
	r.took(KindCard, 1)
	r.azure.Cards = append(r.azure.Cards, c)
}

// vnet reads `az network vnet show`, with the peerings in it.
func (r reader) vnet(o object) {
	v := VNet{Source: r.where, ID: resourceID(o.text("id")), Prefixes: o.child("addressSpace").prefixes("addressPrefixes")}
	r.took(KindVNet, 1)
	r.azure.VNets = append(r.azure.VNets, v)
	for _, p := range o.objects("virtualNetworkPeerings") {
		r.peering(p)
	}
}

// peering reads `az network vnet peering show`.
func (r reader) peering(o object) {
	p := Peering{
		Source: r.where, ID: resourceID(o.text("id")), State: o.text("peeringState"), SyncLevel: o.text("peeringSyncLevel"),
		RemoteVNet: o.reference("remoteVirtualNetwork"),
		Access:     o.flag("allowVirtualNetworkAccess"), Forwarded: o.flag("allowForwardedTraffic"),
		OffersGateway: o.flag("allowGatewayTransit"), UsesGateway: o.flag("useRemoteGateways"),
	}
	// remoteAddressSpace is what routes were made of; the other one is what the remote VNet has now.
	p.Remote = o.child("remoteAddressSpace").prefixes("addressPrefixes")
	if len(p.Remote) == 0 {
		p.Remote = o.child("remoteVirtualNetworkAddressSpace").prefixes("addressPrefixes")
	}
	for name, v := range map[string]bool{
		"peeringState": p.State != "", "remoteAddressSpace": len(p.Remote) > 0, "allowVirtualNetworkAccess": p.Access != nil,
		"allowForwardedTraffic": p.Forwarded != nil, "useRemoteGateways": p.UsesGateway != nil,
	} {
		if !v {
			r.note("%s: peering %s has no %s", r.where, p.ID.name(), name)
		}
	}
	r.took(KindPeering, 1)
	r.azure.Peerings = append(r.azure.Peerings, p)
}

// routeServer reads `az network routeserver show`.
func (r reader) routeServer(o object) {
	s := RouteServer{
		Source: r.where, ID: resourceID(o.text("id")), ASN: o.number("virtualRouterAsn"), Addresses: o.addresses("virtualRouterIps"),
		BranchToBranch: o.flag("allowBranchToBranchTraffic"), Provisioning: o.text("provisioningState"), State: o.text("routingState"),
	}
	for name, v := range map[string]bool{
		"virtualRouterAsn": s.ASN != nil, "virtualRouterIps": len(s.Addresses) > 0, "allowBranchToBranchTraffic": s.BranchToBranch != nil,
	} {
		if !v {
			r.note("%s: Route Server %s has no %s", r.where, s.ID.name(), name)
		}
	}
	r.took(KindRouteServer, 1)
	r.azure.RouteServers = append(r.azure.RouteServers, s)
}

// bgpPeering reads `az network routeserver peering show`.
func (r reader) bgpPeering(o object) {
	r.took(KindBGPPeering, 1)
	r.azure.BGPPeerings = append(r.azure.BGPPeerings, BGPPeering{
		Source: r.where, ID: resourceID(o.text("id")), ASN: o.number("peerAsn"), Address: o.address("peerIp"), Provisioning: o.text("provisioningState"),
	})
}
