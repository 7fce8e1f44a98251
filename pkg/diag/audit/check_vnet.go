package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// checkPeerings looks at the VNet peerings that a tunnel needs: those that lead
// to the other NVA, and the halves that lead back here. Peerings with spokes
// may have any flags.
func (a *auditor) checkPeerings() {
	if len(a.az.Peerings) == 0 {
		a.skip("the VNet peerings", "none were given", "az network vnet peering list -g GROUP --vnet-name VNET")
		return
	}
	for _, t := range a.in.Tunnels {
		if a.sameVNet(t.Remote) {
			continue
		}
		leads := func(p Peering) bool { return covers(p.Remote, t.Remote) }
		if !slices.ContainsFunc(a.az.Peerings, leads) {
			a.find(PeeringMissing, t.Name, a.peeringCommand(), "no VNet peering leads to the tunnel's peer %s", t.Remote)
			continue
		}
		for _, p := range a.az.Peerings {
			if leads(p) || slices.ContainsFunc(a.own, func(x netip.Addr) bool { return covers(p.Remote, x) }) {
				a.checkPeering(p)
			}
		}
	}
}

func covers(prefixes []netip.Prefix, x netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(x) })
}

// sameVNet reports whether an address is of the node's own VNet: a sibling's.
func (a *auditor) sameVNet(x netip.Addr) bool {
	if covers(a.in.VNet, x) {
		return true
	}
	for _, t := range a.az.Effective {
		if r, _, found := t.lookup(x); found && kindOf(r.NextHopType) == hopVNet {
			return true
		}
	}
	return false
}

func (a *auditor) checkPeering(p Peering) {
	name := or(p.ID.name(), "peering")
	update := fmt.Sprintf("az network vnet peering update -g %s --vnet-name %s -n %s --set ", or(p.ID.part("resourceGroups"), "GROUP"), or(p.ID.part("virtualNetworks"), "VNET"), name)
	if p.State != "" && !strings.EqualFold(p.State, "Connected") {
		const create = "az network vnet peering create -g %s --vnet-name %s -n %s --remote-vnet %s --allow-vnet-access true --allow-forwarded-traffic true"
		vnet, _, _ := strings.Cut(string(p.ID), "/virtualNetworkPeerings/")
		here := []any{or(p.ID.part("resourceGroups"), "GROUP"), or(p.ID.part("virtualNetworks"), "VNET"), name}
		back := fmt.Sprintf(create, or(p.RemoteVNet.part("resourceGroups"), "OTHER-GROUP"), or(p.RemoteVNet.name(), "OTHER-VNET"), "back", or(vnet, "VNET-ID"))
		how := "the other VNet has no peering back"
		if strings.EqualFold(p.State, "Disconnected") {
			how = "the other half was deleted, and both have to be made anew"
			back = fmt.Sprintf("az network vnet peering delete -g %s --vnet-name %s -n %s && ", here...) +
				fmt.Sprintf(create, append(here, or(string(p.RemoteVNet), "OTHER-VNET-ID"))...) + " && " + back
		}
		a.find(PeeringDown, name, back, "the peering %s is %s, not Connected: %s", name, p.State, how)
	}
	if p.SyncLevel != "" && !strings.EqualFold(p.SyncLevel, "FullyInSync") {
		a.find(PeeringNotSynced, name, fmt.Sprintf("az network vnet peering sync -g %s --vnet-name %s -n %s", or(p.ID.part("resourceGroups"), "GROUP"), or(p.ID.part("virtualNetworks"), "VNET"), name),
			"the peering %s is %s: a VNet's address space changed and the peering was not told", name, p.SyncLevel)
	}
	if off(p.Access) {
		a.find(PeeringNoAccess, name, update+"allowVirtualNetworkAccess=true", "the peering %s has allowVirtualNetworkAccess off", name)
	}
	if off(p.Forwarded) {
		a.find(PeeringNoForward, name, update+"allowForwardedTraffic=true", "the peering %s has allowForwardedTraffic off", name)
	}
	if on(p.UsesGateway) {
		a.find(PeeringGateway, name, update+"useRemoteGateways=false", "the peering %s has useRemoteGateways on", name)
	}
	if on(p.OffersGateway) {
		a.find(PeeringOffers, name, update+"allowGatewayTransit=false", "the peering %s has allowGatewayTransit on", name)
	}
}
