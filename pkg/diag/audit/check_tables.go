package audit

import (
	"fmt"
	"net/netip"
	"slices"
)

// getEffective is how effective routes are had.
func (a *auditor) getEffective() string {
	var id resourceID
	if a.card != nil {
		id = a.card.ID
	}
	return "az network nic show-effective-route-table " + target(id, "NIC")
}

// checkPeers looks where the card sends the tunnels' outer packets: VNet
// peering, or the VNet itself for a sibling; anything else loops or loses them.
func (a *auditor) checkPeers() {
	if len(a.az.Effective) == 0 {
		a.skip("where the fabric sends the tunnels' packets, and whether announced routes are programmed", "no effective routes were given", a.getEffective())
		return
	}
	for _, t := range a.az.Effective {
		for _, p := range a.in.Tunnels {
			a.checkPeer(t, p)
		}
	}
}

func (a *auditor) checkPeer(table EffectiveTable, p IntentTunnel) {
	r, shadowed, found := table.lookup(p.Remote)
	if !found {
		a.find(PeerUnreachable, p.Name, a.peeringCommand(), "the card has no route to the tunnel's peer %s", p.Remote)
		return
	}
	switch kindOf(r.NextHopType) {
	case hopVNet, hopPeering:
		if shadowed != nil {
			a.find(PeerShadowed, p.Name, "transitctl bgp routes --announced   # and stop announcing "+shadowed.Prefix.String(),
				"the tunnel's peer %s is reached by the peering (%s), but %s was learned by BGP and covers it more closely", p.Remote, r.Prefix, describe(*shadowed))
		}
	case hopGateway:
		a.find(PeerViaGateway, p.Name, a.peeringCommand(), "the tunnel's peer %s is reached by %s, not by VNet peering", p.Remote, describe(r))
	case hopAppliance:
		whose := ""
		if overlap(r.NextHops, a.self) {
			whose = ", which is this NVA itself"
		}
		a.find(PeerViaAppliance, p.Name, deleteRoute(r), "the tunnel's peer %s is reached by %s%s", p.Remote, describe(r), whose)
	case hopInternet:
		a.find(PeerViaInternet, p.Name, a.peeringCommand(), "the tunnel's peer %s is reached by %s", p.Remote, describe(r))
	case hopNone:
		mend := a.peeringCommand()
		if r.user() {
			mend = deleteRoute(r)
		}
		a.find(PeerUnreachable, p.Name, mend, "the card drops packets to the tunnel's peer %s: %s", p.Remote, describe(r))
	case hopUnknown, hopEndpoint:
		a.skip("where the fabric sends the packets of the tunnel "+p.Name, fmt.Sprintf("next hop type %q of %s is none that is known here", r.NextHopType, r.Prefix), "")
	}
}

// describe is a route in a sentence.
func describe(r EffectiveRoute) string {
	by := map[bool]string{true: "the user-defined route", false: "the route"}[r.user()]
	if r.Name != "" {
		by += " " + r.Name
	}
	s := fmt.Sprintf("%s %s (%s", by, r.Prefix, r.NextHopType)
	if len(r.NextHops) > 0 {
		s += " " + joined(r.NextHops)
	}
	return s + ")"
}

// deleteRoute is the command that removes a user-defined route. Effective routes do not name their table; the subnet does.
func deleteRoute(r EffectiveRoute) string {
	return "az network route-table route delete -g GROUP --route-table-name TABLE -n " + or(r.Name, "ROUTE")
}

// peeringCommand makes the peering that a tunnel needs.
func (a *auditor) peeringCommand() string {
	group, vnet := "GROUP", "VNET"
	if a.card != nil {
		group, vnet = or(a.card.Subnet.part("resourceGroups"), group), or(a.card.Subnet.part("virtualNetworks"), vnet)
	}
	return fmt.Sprintf("az network vnet peering create -g %s --vnet-name %s -n to-OTHER --remote-vnet OTHER-VNET-ID --allow-vnet-access true --allow-forwarded-traffic true   # and the same from the other side", group, vnet)
}

// checkRouteTables looks for routes that lead back to the node or hide the Route Server.
func (a *auditor) checkRouteTables() {
	for _, t := range a.az.Effective {
		a.checkUserRoutes(t)
		a.checkDefault(t)
		a.checkPropagation(t)
		for _, s := range a.in.RouteServers {
			a.checkHidden(t, s)
			a.checkSite(t, s)
		}
	}
}

// checkUserRoutes: on the NVA's own card a route table that names the NVA is a loop.
func (a *auditor) checkUserRoutes(t EffectiveTable) {
	for _, r := range t.Routes {
		if !r.Active || !r.user() || !overlap(r.NextHops, a.self) {
			continue
		}
		what := ""
		for _, p := range a.in.Tunnels {
			if used, _, found := t.lookup(p.Remote); found && used.user() && used.Prefix == r.Prefix {
				what = fmt.Sprintf("; the peer %s of the tunnel %s is reached by it", p.Remote, p.Name)
			}
		}
		mend := deleteRoute(r)
		if r.Prefix.Bits() == 0 {
			mend = fmt.Sprintf("az network route-table route update -g GROUP --route-table-name TABLE -n %s --next-hop-type Internet   # or give the NVA's subnet a table of its own", or(r.Name, "ROUTE"))
		}
		a.find(UDRLoop, r.Prefix.String(), mend, "%s on the NVA's own subnet leads to this NVA itself%s", describe(r), what)
	}
}

// checkDefault: a default that the node announces is programmed into its own card, too.
func (a *auditor) checkDefault(t EffectiveTable) {
	for _, r := range t.Routes {
		if r.Active && r.bgp() && r.Prefix.Bits() <= 1 && overlap(r.NextHops, a.self) {
			a.find(DefaultToSelf, r.Prefix.String(),
				"az network route-table route create -g GROUP --route-table-name TABLE -n internet --address-prefix "+r.Prefix.String()+" --next-hop-type Internet   # in a table of the NVA's subnet alone",
				"the Route Server programmed %s into the NVA's own card, with the NVA as next hop", r.Prefix)
		}
	}
}

// checkPropagation: without BGP routes the card knows nothing of ExpressRoute.
func (a *auditor) checkPropagation(t EffectiveTable) {
	if slices.ContainsFunc(t.Routes, func(r EffectiveRoute) bool { return r.PropagationOff }) && !t.hasBGP() {
		a.find(PropagationOff, t.Source, "az network route-table update -g GROUP -n TABLE --disable-bgp-route-propagation false",
			"the route table of the card's subnet takes no BGP routes (disableBgpRoutePropagation)")
	}
}

func (t EffectiveTable) hasBGP() bool {
	return slices.ContainsFunc(t.Routes, func(r EffectiveRoute) bool { return r.Active && r.bgp() })
}

// checkHidden: the instances have to be reached directly. A user-defined route
// to an instance with that instance as next hop is a known way around a route table's default.
func (a *auditor) checkHidden(t EffectiveTable, s IntentRouteServer) {
	for i, x := range s.Addresses {
		r, _, found := t.lookup(x)
		if found && (kindOf(r.NextHopType) == hopVNet || kindOf(r.NextHopType) == hopPeering || slices.Contains(r.NextHops, x)) {
			continue
		}
		by := "no route"
		if found {
			by = describe(r)
		}
		a.find(RouteServerHidden, s.Name,
			fmt.Sprintf("az network route-table route create -g GROUP --route-table-name TABLE -n %s-%d --address-prefix %s --next-hop-type VnetLocal", s.Name, i, netip.PrefixFrom(x, x.BitLen())),
			"the instance %s of the Route Server is reached by %s, not within the VNet", x, by)
	}
}

// checkSite: what the own Route Server told has to leave this card for the own site.
func (a *auditor) checkSite(t EffectiveTable, s IntentRouteServer) {
	var loops, missing []netip.Prefix
	for _, p := range s.Received {
		r, _, found := t.lookup(p.Addr())
		switch {
		case found && overlap(r.NextHops, a.self):
			loops = append(loops, p)
		case !found || kindOf(r.NextHopType) == hopNone || kindOf(r.NextHopType) == hopInternet && p.Bits() > 1:
			missing = append(missing, p)
		}
	}
	if len(loops) > 0 {
		a.findRoutes(SiteRouteLoop, s.Name, "transitctl bgp routes --announced "+s.Name+"   # find what covers it, and stop announcing it", loops,
			"%s of the own Route Server that the card sends back to this NVA: %s", routes(len(loops)), joined(loops))
	}
	if len(missing) > 0 && !t.blind() {
		a.findRoutes(SiteRouteMissing, s.Name, a.getEffective()+"   # again: Azure takes up to a minute", missing,
			"%s of the own Route Server that the card does not know: %s", routes(len(missing)), joined(missing))
	}
}

// blind is a card without BGP routes because its subnet takes none; that is told once.
func (t EffectiveTable) blind() bool {
	return !t.hasBGP() && slices.ContainsFunc(t.Routes, func(r EffectiveRoute) bool { return r.PropagationOff })
}

// checkProgrammed looks for announced routes in the card's own table: they are
// programmed everywhere in the VNet, this card included.
func (a *auditor) checkProgrammed() {
	for _, t := range a.az.Effective {
		if t.blind() {
			continue
		}
		for _, s := range a.in.RouteServers {
			a.checkAnnounced(t, s)
		}
	}
}

func (a *auditor) checkAnnounced(t EffectiveTable, s IntentRouteServer) {
	reasons := newGroups()
	learned, given := a.learnedPrefixes(s)
	for _, an := range s.Announced {
		if given && !learned[an.Prefix] {
			continue // told as route-dropped
		}
		if reason := a.whyNotProgrammed(t, an.Prefix); reason != "" {
			reasons.add(reason, an.Prefix)
		}
	}
	reasons.each(func(reason string, prefixes []netip.Prefix) {
		a.findRoutes(NotProgrammed, s.Name, a.getEffective()+"   # on a card of the VNet, to see what it uses instead", prefixes,
			"%s announced and not in the card's routes by way of this node: %s: %s", routes(len(prefixes)), joined(prefixes), reason)
	})
}

// whyNotProgrammed is empty for a route that is in the table by way of this node.
func (a *auditor) whyNotProgrammed(t EffectiveTable, p netip.Prefix) string {
	exact := t.exact(p)
	var others []netip.Addr
	invalid := false
	for _, r := range exact {
		switch {
		case r.bgp() && r.Active && (len(a.own) == 0 || overlap(r.NextHops, a.self)):
			return ""
		case r.bgp() && r.Active:
			others = append(others, r.NextHops...)
		case r.bgp():
			invalid = true
		}
	}
	if i := slices.IndexFunc(exact, func(r EffectiveRoute) bool { return r.Active && r.user() }); i >= 0 {
		return "a user-defined route has the same prefix and wins"
	}
	switch {
	case len(others) > 0:
		return "another announcer is preferred, next hop " + joined(others) + " (ExpressRoute wins over an NVA by default; a sibling NVA with a shorter path, too)"
	case invalid:
		return "Azure shows it as Invalid: another route took its place"
	case covered(p, t.fabric()):
		return "it is equal to, or inside, a prefix of the VNet or of a peered one, which always wins"
	}
	return "Azure takes up to a minute to program a route; if it stays so, a route map or the limit of routes may be the cause"
}

// groups collects prefixes by a reason, in the order in which reasons came.
type groups struct {
	order  []string
	byText map[string][]netip.Prefix
}

func newGroups() *groups { return &groups{byText: map[string][]netip.Prefix{}} }

func (g *groups) add(reason string, p netip.Prefix) {
	if _, known := g.byText[reason]; !known {
		g.order = append(g.order, reason)
	}
	g.byText[reason] = append(g.byText[reason], p)
}

func (g *groups) each(f func(reason string, prefixes []netip.Prefix)) {
	for _, r := range g.order {
		f(r, slices.CompactFunc(g.byText[r], func(x, y netip.Prefix) bool { return x == y }))
	}
}
