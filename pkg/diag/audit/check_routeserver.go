package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// checkRouteServers looks at the Route Servers and their peerings with the node.
func (a *auditor) checkRouteServers() {
	if len(a.in.RouteServers) == 0 {
		return
	}
	a.checkBGPPeerings()
	if len(a.az.RouteServers) == 0 {
		a.skip("the Route Server's addresses, AS number and branch-to-branch flag", "no Route Server was given", "az network routeserver show -g GROUP -n ROUTE-SERVER")
		return
	}
	matched := make([]bool, len(a.az.RouteServers))
	var alone []IntentRouteServer
	for _, s := range a.in.RouteServers {
		found := false
		for i, r := range a.az.RouteServers {
			if overlap(r.Addresses, s.Addresses) {
				matched[i], found = true, true
				a.checkRouteServer(s, r)
			}
		}
		if !found {
			alone = append(alone, s)
		}
	}
	for i, r := range a.az.RouteServers {
		switch {
		case matched[i] || len(r.Addresses) == 0:
		case len(alone) == 1 && len(a.az.RouteServers) == 1:
			a.checkRouteServer(alone[0], r)
		default:
			a.note("%s: the Route Server %s (%s) is none of this node's: left out", r.Source, r.ID.name(), joined(r.Addresses))
		}
	}
	if len(alone) > 0 && len(a.az.RouteServers) > 1 {
		for _, s := range alone {
			a.skip("the Route Server "+s.Name, "none of those given has one of its addresses "+joined(s.Addresses), "az network routeserver show -g GROUP -n "+s.Name)
		}
	}
}

// checkRouteServer compares one with what the node has of it.
func (a *auditor) checkRouteServer(s IntentRouteServer, r RouteServer) {
	for _, x := range s.Addresses {
		if len(r.Addresses) > 0 && !slices.Contains(r.Addresses, x) {
			a.find(RouteServerAddresses, s.Name, "transitd check -c FILE   # after writing addresses: ["+joined(r.Addresses)+"] into route_servers",
				"the node's session goes to %s, but the Route Server %s has %s", x, r.ID.name(), joined(r.Addresses))
		}
	}
	if r.ASN != nil && *r.ASN != int64(s.ASN) {
		a.find(RouteServerASN, s.Name, fmt.Sprintf("transitd check -c FILE   # after writing asn: %d into route_servers", *r.ASN),
			"the node expects AS %d, the Route Server %s has AS %d", s.ASN, r.ID.name(), *r.ASN)
	}
	if off(r.BranchToBranch) {
		a.find(BranchToBranchOff, s.Name, "az network routeserver update "+target(r.ID, "ROUTE-SERVER")+" --allow-b2b-traffic true",
			"allowBranchToBranchTraffic of the Route Server %s is off", r.ID.name())
	}
	for field, v := range map[string][2]string{"provisioningState": {r.Provisioning, "Succeeded"}, "routingState": {r.State, "Provisioned"}} {
		if v[0] != "" && !strings.EqualFold(v[0], v[1]) {
			a.find(RouteServerState, s.Name, "az network routeserver show "+target(r.ID, "ROUTE-SERVER")+"   # wait, then ask support",
				"%s of the Route Server %s is %s, not %s", field, r.ID.name(), v[0], v[1])
		}
	}
}

// checkBGPPeerings looks for the node in what Route Servers were told about their peers.
func (a *auditor) checkBGPPeerings() {
	if len(a.az.BGPPeerings) == 0 {
		a.skip("the Route Server's peerings: address and AS number of this node", "none were given", "az network routeserver peering list -g GROUP --routeserver ROUTE-SERVER")
		return
	}
	if len(a.own) == 0 {
		return // told already
	}
	found := false
	for _, p := range a.az.BGPPeerings {
		if !a.ours(p.Address) {
			continue
		}
		found = true
		if p.ASN != nil && *p.ASN != int64(a.in.ASN) {
			a.find(ASNMismatch, or(p.ID.name(), "peering"), a.recreate(p.ID),
				"the Route Server's peering %s says AS %d, this node is AS %d", p.ID.name(), *p.ASN, a.in.ASN)
		}
		if p.Provisioning != "" && !strings.EqualFold(p.Provisioning, "Succeeded") {
			a.find(RouteServerState, or(p.ID.name(), "peering"), "az network routeserver peering show -g GROUP --routeserver ROUTE-SERVER -n "+or(p.ID.name(), "PEERING"),
				"provisioningState of the Route Server's peering %s is %s, not Succeeded", p.ID.name(), p.Provisioning)
		}
	}
	if !found {
		p := a.az.BGPPeerings[0]
		a.find(BGPPeeringMissing, a.in.RouteServers[0].Name, fmt.Sprintf("az network routeserver peering create -g %s --routeserver %s -n %s --peer-asn %d --peer-ip %s",
			or(p.ID.part("resourceGroups"), "GROUP"), or(p.ID.part("virtualHubs"), "ROUTE-SERVER"), or(a.in.Node, "NODE"), a.in.ASN, a.own[0]),
			"no peering of the Route Server has this node's address %s; there are %s", joined(a.own), peers(a.az.BGPPeerings))
	}
}

// peers names the peers of a Route Server.
func peers(list []BGPPeering) string {
	var addresses []netip.Addr
	for _, p := range list {
		addresses = append(addresses, p.Address)
	}
	return joined(addresses)
}

// recreate makes a Route Server's peering anew: an AS number cannot be changed.
func (a *auditor) recreate(id resourceID) string {
	where := fmt.Sprintf("-g %s --routeserver %s -n %s", or(id.part("resourceGroups"), "GROUP"), or(id.part("virtualHubs"), "ROUTE-SERVER"), or(id.name(), "PEERING"))
	address := "ADDRESS"
	if len(a.own) > 0 {
		address = a.own[0].String()
	}
	return fmt.Sprintf("az network routeserver peering delete %s --yes && az network routeserver peering create %s --peer-asn %d --peer-ip %s", where, where, a.in.ASN, address)
}
