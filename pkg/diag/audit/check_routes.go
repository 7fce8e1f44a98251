package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/transitd/transitd/pkg/azure"
)

// getLearned is how learned routes are had.
const getLearned = "az network routeserver peering list-learned-routes -g GROUP --routeserver ROUTE-SERVER -n PEERING"

// aggregate is how routes become fewer.
const aggregate = "transitctl bgp routes --announced   # then write supernets into policy.aggregates"

// knowLearned keeps of the learned routes what this node announced, and finds
// out about a load balancer in front of it.
func (a *auditor) knowLearned() {
	for _, l := range a.az.Learned {
		own := PeerRoutes{Source: l.Source}
		var others []netip.Addr
		for _, in := range l.Instances {
			mine := Instance{Name: in.Name}
			for _, r := range in.Routes {
				switch {
				case len(a.own) == 0 || !r.Peer.IsValid() || a.ours(r.Peer):
					mine.Routes = append(mine.Routes, r)
				case !slices.Contains(others, r.Peer):
					others = append(others, r.Peer)
				}
			}
			own.Instances = append(own.Instances, mine)
		}
		if own.count() == 0 && len(others) > 0 {
			a.note("%s: routes learned from %s, which is not this node (%s): left out", l.Source, joined(others), joined(a.own))
			continue
		}
		a.learned = append(a.learned, own)
	}
	a.self = slices.Clone(a.own)
	a.in.RouteServers = slices.Clone(a.in.RouteServers)
	for i := range a.in.RouteServers {
		s := &a.in.RouteServers[i]
		if a.in.Running && !s.NextHop.IsValid() {
			s.NextHop = a.balancer(*s)
		}
		if s.NextHop.IsValid() {
			a.self = append(a.self, s.NextHop)
		}
	}
}

// balancer is the one next hop that all learned routes of this node have, if it
// is not the node: the daemon does not tell whether route_servers[].next_hop is set.
func (a *auditor) balancer(s IntentRouteServer) (hop netip.Addr) {
	if len(a.own) == 0 {
		return netip.Addr{}
	}
	for _, l := range a.learnedOf(s) {
		for _, in := range l.Instances {
			for _, r := range in.Routes {
				if a.ours(r.NextHop) || hop.IsValid() && hop != r.NextHop {
					return netip.Addr{}
				}
				hop = r.NextHop
			}
		}
	}
	if hop.IsValid() {
		a.skip(fmt.Sprintf("whether %s is the load balancer in front of this node", hop), "all its routes have it as next hop, and the daemon does not tell", "transitctl audit -c FILE AZURE.json")
	}
	return hop
}

// learnedOf are the learned lists of one Route Server: those with its addresses
// in them. An empty list names nobody; it counts for the only Route Server there is.
func (a *auditor) learnedOf(s IntentRouteServer) (lists []PeerRoutes) {
	var empty []PeerRoutes
	for _, l := range a.learned {
		switch {
		case l.count() == 0:
			empty = append(empty, l)
		case len(a.in.RouteServers) == 1 || l.of(s):
			lists = append(lists, l)
		}
	}
	if len(lists) == 0 && len(a.in.RouteServers) == 1 {
		return empty
	}
	return lists
}

func (l PeerRoutes) count() (n int) {
	for _, in := range l.Instances {
		n += len(in.Routes)
	}
	return n
}

// of reports whether a list is a Route Server's.
func (l PeerRoutes) of(s IntentRouteServer) bool {
	return slices.ContainsFunc(l.Instances, func(in Instance) bool {
		return slices.ContainsFunc(in.Routes, func(r PeerRoute) bool { return slices.Contains(s.Addresses, r.Local) })
	})
}

// find returns the route of a prefix.
func (in Instance) find(p netip.Prefix) (PeerRoute, bool) {
	i := slices.IndexFunc(in.Routes, func(r PeerRoute) bool { return r.Prefix == p })
	if i < 0 {
		return PeerRoute{}, false
	}
	return in.Routes[i], true
}

// prefixes lists each prefix once, in order.
func (l PeerRoutes) prefixes() (out []netip.Prefix) {
	for _, in := range l.Instances {
		for _, r := range in.Routes {
			out = append(out, r.Prefix)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// learnedPrefixes are what a Route Server has of this node; given is false without a list.
func (a *auditor) learnedPrefixes(s IntentRouteServer) (set map[netip.Prefix]bool, given bool) {
	set = map[netip.Prefix]bool{}
	lists := a.learnedOf(s)
	for _, l := range lists {
		for _, p := range l.prefixes() {
			set[p] = true
		}
	}
	return set, len(lists) > 0
}

// checkLearned compares what the node announces with what the Route Servers learned of it.
func (a *auditor) checkLearned() {
	for _, s := range a.in.RouteServers {
		lists := a.learnedOf(s)
		if len(lists) == 0 {
			a.skip("whether the Route Server "+s.Name+" took what this node announces", "no learned routes of it were given", getLearned)
			continue
		}
		for _, l := range lists {
			if l.count() == 0 {
				a.nothingLearned(s, l)
				continue
			}
			a.checkInstances(InstancesDisagree, "learned from this node", s, l)
			a.checkOwn(s, l)
		}
		a.checkDropped(s)
	}
}

func (a *auditor) nothingLearned(s IntentRouteServer, l PeerRoutes) {
	if a.in.Running && len(s.Announced) == 0 {
		return // nothing was announced
	}
	a.find(NothingLearned, s.Name, "transitctl bgp summary   # are the sessions established? then: az network routeserver peering list -g GROUP --routeserver ROUTE-SERVER",
		"%s: no instance of the Route Server has learned a route of this node", l.Source)
}

// checkInstances compares the two instances.
func (a *auditor) checkInstances(id ID, what string, s IntentRouteServer, l PeerRoutes) {
	if len(l.Instances) < azure.RouteServerInstances {
		a.skip("whether the instances of "+s.Name+" agree", l.Source+" has one instance only", "the same command without --query")
		return
	}
	x, y := l.Instances[0], l.Instances[1]
	var onlyX, onlyY, differ []netip.Prefix
	for _, p := range l.prefixes() {
		rx, inX := x.find(p)
		ry, inY := y.find(p)
		switch {
		case !inY:
			onlyX = append(onlyX, p)
		case !inX:
			onlyY = append(onlyY, p)
		case rx.ASPath != ry.ASPath || id == InstancesDisagree && rx.NextHop != ry.NextHop:
			differ = append(differ, p)
		}
	}
	var parts []string
	for _, c := range []struct {
		prefixes []netip.Prefix
		text     string
	}{
		{onlyX, "only " + x.title() + " has "},
		{onlyY, "only " + y.title() + " has "},
		{differ, "AS path or next hop differ for "},
	} {
		if len(c.prefixes) > 0 {
			parts = append(parts, c.text+joined(c.prefixes))
		}
	}
	if len(parts) > 0 {
		a.findRoutes(id, s.Name, "transitctl bgp summary   # is one of the two sessions down? both have to be up, with the same number announced",
			slices.Concat(onlyX, onlyY, differ), "the instances of the Route Server disagree on routes %s: %s", what, strings.Join(parts, "; "))
	}
}

// title is an instance's name with its address.
func (in Instance) title() string {
	for _, r := range in.Routes {
		if r.Local.IsValid() {
			return fmt.Sprintf("%s (%s)", in.Name, r.Local)
		}
	}
	return in.Name
}

// checkOwn looks at AS number and next hop of what was learned.
func (a *auditor) checkOwn(s IntentRouteServer, l PeerRoutes) {
	var foreign []netip.Prefix
	var hops []netip.Addr
	other := uint32(0)
	for _, in := range l.Instances {
		for _, r := range in.Routes {
			if path := r.ASNs(); len(path) > 0 && path[0] != a.in.ASN {
				other = path[0]
			}
			if len(a.own) > 0 && r.NextHop.IsValid() && !a.ours(r.NextHop) && r.NextHop != s.NextHop && !slices.Contains(foreign, r.Prefix) {
				foreign = append(foreign, r.Prefix)
				if !slices.Contains(hops, r.NextHop) {
					hops = append(hops, r.NextHop)
				}
			}
		}
	}
	if other != 0 {
		a.find(ASNMismatch, s.Name, "transitctl status   # is the right configuration running? does another program speak BGP from this address?",
			"the Route Server learned routes from this node's address with AS %d in front, this node is AS %d", other, a.in.ASN)
	}
	if len(foreign) > 0 {
		a.findRoutes(NextHopForeign, s.Name, "transitctl bgp routes --announced "+s.Name, foreign,
			"%s learned from this node with the next hop %s, which is not its own: %s", routes(len(foreign)), joined(hops), joined(foreign))
	}
}

// checkDropped compares the announced with the learned, both ways.
func (a *auditor) checkDropped(s IntentRouteServer) {
	known, _ := a.learnedPrefixes(s)
	if len(known) == 0 {
		return // told as nothing-learned
	}
	announced := map[netip.Prefix]bool{}
	reasons := newGroups()
	for _, an := range s.Announced {
		announced[an.Prefix] = true
		if !known[an.Prefix] {
			reasons.add(a.whyDropped(s, an), an.Prefix)
		}
	}
	reasons.each(func(reason string, prefixes []netip.Prefix) {
		a.findRoutes(RouteDropped, s.Name, "transitctl explain "+prefixes[0].String(), prefixes,
			"%s announced and not learned by the Route Server: %s: %s", routes(len(prefixes)), joined(prefixes), reason)
	})
	if !a.in.Running {
		return // a configuration does not tell what comes from the other side
	}
	var stray []netip.Prefix
	for p := range known {
		if !announced[p] {
			stray = append(stray, p)
		}
	}
	slices.SortFunc(stray, netip.Prefix.Compare)
	if len(stray) > 0 {
		a.findRoutes(RouteUnexpected, s.Name, getLearned+"   # again; if it stays: transitctl bgp summary", stray,
			"%s learned from this node that it does not announce: %s", routes(len(stray)), joined(stray))
	}
}

// whyDropped is the likely reason why a Route Server has not got a route.
func (a *auditor) whyDropped(s IntentRouteServer, an Announcement) string {
	switch {
	case slices.Contains(an.ASPath, azure.ASNRouteServer):
		return "65515 is in the AS path, which the Route Server takes for a loop of its own"
	case s.Subnet.IsValid() && s.Subnet == an.Prefix:
		return "it is the RouteServerSubnet, which a Route Server ignores"
	case covered(an.Prefix, a.vnet()):
		return "it is equal to, or inside, the VNet's address space; a Route Server takes only supernets of it"
	case len(s.Announced) > s.MaxRoutes/2:
		return fmt.Sprintf("%d routes are announced and the limit is %d, old and new counted together: the session may just have been ended", len(s.Announced), s.MaxRoutes)
	case !an.Prefix.Addr().Is4():
		return "a Route Server takes no IPv6"
	default:
		return "it may have been announced a moment ago, or a route map of the Route Server removes it"
	}
}

// vnet is the address space of the node's VNet from wherever it is known.
func (a *auditor) vnet() []netip.Prefix {
	out := slices.Clone(a.in.VNet)
	for _, v := range a.az.VNets {
		if slices.ContainsFunc(a.own, func(x netip.Addr) bool { return covers(v.Prefixes, x) }) {
			out = append(out, v.Prefixes...)
		}
	}
	for _, t := range a.az.Effective {
		for _, r := range t.Routes {
			if r.Active && r.system() && kindOf(r.NextHopType) == hopVNet {
				out = append(out, r.Prefix)
			}
		}
	}
	return out
}

// checkAdvertised compares what the two instances tell the node.
func (a *auditor) checkAdvertised() {
	if len(a.az.Advertised) == 0 && len(a.in.RouteServers) > 0 {
		a.skip("whether both instances tell this node the same", "no advertised routes were given", "az network routeserver peering list-advertised-routes -g GROUP --routeserver ROUTE-SERVER -n PEERING")
	}
	for _, l := range a.az.Advertised {
		for _, s := range a.in.RouteServers {
			if len(a.in.RouteServers) == 1 || l.of(s) {
				a.checkInstances(AdvertisedDisagree, "advertised to this node", s, l)
			}
		}
	}
}

// checkLimits counts routes against the caps. A Route Server counts what it
// has and what comes together, so half of the limit is what can be used; a
// gateway's limit has the VNet's own prefixes in it.
func (a *auditor) checkLimits() {
	for _, s := range a.in.RouteServers {
		all := map[netip.Prefix]bool{}
		local := map[netip.Prefix]bool{}
		for _, an := range s.Announced {
			all[an.Prefix] = true
			local[an.Prefix] = an.Local
		}
		for _, l := range a.learnedOf(s) {
			for _, p := range l.prefixes() {
				all[p] = true
			}
		}
		switch n := len(all); {
		case s.MaxRoutes > 0 && n > s.MaxRoutes:
			a.find(RouteLimit, s.Name, aggregate, "%d routes of this node, and the Route Server takes %d", n, s.MaxRoutes)
		case s.MaxRoutes > 0 && n > s.MaxRoutes/2:
			a.find(RouteBudget, s.Name, aggregate, "%d routes of this node are more than half of the %d that the Route Server takes", n, s.MaxRoutes)
		}
		a.checkGateway(s, all, local)
	}
}

// checkGateway counts everything that the Route Server hands to the ExpressRoute gateway.
func (a *auditor) checkGateway(s IntentRouteServer, own, local map[netip.Prefix]bool) {
	if s.MaxGatewayRoutes == 0 {
		return
	}
	out := map[netip.Prefix]bool{}
	for p := range own {
		out[p] = !local[p]
	}
	for _, l := range a.az.Learned { // other peers of the same Route Server count too
		if len(a.in.RouteServers) == 1 || l.of(s) {
			for _, p := range l.prefixes() {
				if !local[p] {
					out[p] = true
				}
			}
		}
	}
	for _, p := range a.vnet() {
		out[p] = true
	}
	n := 0
	for _, counts := range out {
		if counts {
			n++
		}
	}
	const share = 80 // percent, as the daemon's own warning
	switch {
	case n > s.MaxGatewayRoutes:
		a.find(GatewayLimit, s.Name, aggregate, "%d prefixes go to the ExpressRoute gateway, those of the VNet among them, and it takes %d", n, s.MaxGatewayRoutes)
	case n*100 >= s.MaxGatewayRoutes*share:
		a.find(GatewayBudget, s.Name, aggregate, "%d prefixes go to the ExpressRoute gateway, those of the VNet among them, and it takes %d", n, s.MaxGatewayRoutes)
	}
}
