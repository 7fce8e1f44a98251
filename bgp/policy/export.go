package policy

import (
	"fmt"
	"slices"
)

// Rules by which Export decides, besides those that it shares with Import.
const (
	RuleAnnounced          = "announced"
	RuleTunnelToTunnel     = "tunnel-to-tunnel"
	RuleRSToRS             = "route-server-to-route-server"
	RuleNotOriginatedTo    = "not-originated-to"
	RuleDefaultDenied      = "default-route-denied"
	RuleDefaultNotPassedOn = "default-not-passed-on"
	RuleHostRoute          = "host-route"
	RuleNoAdvertise        = "no-advertise"
	RuleNoExport           = "no-export"
	RuleVNetUnknown        = "vnet-unknown"
	RulePeerASN            = "peer-asn-in-path"
	RuleNoIPv6NextHop      = "no-ipv6-next-hop"
	RuleNotForSibling      = "not-for-sibling"
	RuleFromSibling        = "from-sibling"
)

// Export decides whether the selected route of a prefix is announced to a
// neighbor, and as what. The AS path of the answer is without our own ASN: the
// speaker prepends it when it sends.
//
// A route goes from a site to other sites only: what a Route Server told goes
// into tunnels, what came out of a tunnel goes to Route Servers.
func Export(env *Env, r Route, to Target) Verdict {
	rules := exportRules(to.Role)
	if len(rules) == 0 {
		return refuse(r, RuleUnknownNeighbor, fmt.Sprintf("%s is neither a Route Server nor a tunnel of this node", to.Neighbor))
	}
	for _, rule := range rules {
		if v := rule(env, r, to); v.Rule != "" {
			v.Route = r
			return v
		}
	}
	switch to.Role {
	case RouteServer:
		return announceRouteServer(env, r, to)
	case Sibling:
		return announceSibling(env, r, to)
	case Tunnel, Local:
	}
	return announceTunnel(env, r, to)
}

type exportRule = func(*Env, Route, Target) Verdict

// exportRules are the rules towards a role, in the order in which they decide.
func exportRules(role Role) []exportRule {
	switch role {
	case RouteServer:
		return []exportRule{
			exportDirection, exportOriginated, exportOwnSite, exportWellKnown, exportForbidden,
			exportVNet, exportHostRoute, exportDefaultRouteServer, exportFamily,
		}
	case Tunnel:
		return []exportRule{
			exportDirection, exportOriginated, exportWellKnown, exportForbidden,
			exportHostRoute, exportDefaultTunnel, exportFamily, exportPeerASN,
		}
	case Sibling:
		return []exportRule{exportDirection, exportWellKnown, exportForbidden, exportFamily}
	case Local: // nobody is told there
	}
	return nil
}

// exportDirection is split horizon between the two sides of the node.
func exportDirection(_ *Env, r Route, to Target) Verdict {
	switch {
	case to.Role == Sibling && r.From.Role != Tunnel:
		return refuse(r, RuleNotForSibling, fmt.Sprintf("%s, an NVA of our own site, is told only what came through our tunnels: the rest it knows itself", to.Neighbor))
	case r.From.Role == Sibling:
		return refuse(r, RuleFromSibling, fmt.Sprintf("%s, an NVA of our own site, told the route and announces it itself", r.From.Neighbor))
	case r.From.Role == RouteServer && to.Role == RouteServer:
		return refuse(r, RuleRSToRS, fmt.Sprintf("what one Route Server (%s) told is never told to a Route Server", r.From.Neighbor))
	case r.From.Role == Tunnel && to.Role == Tunnel:
		return refuse(r, RuleTunnelToTunnel, fmt.Sprintf("what came through tunnel %s is never told through a tunnel: this node is no transit between remote sites", r.From.Neighbor))
	case r.From.Role != RouteServer && r.From.Role != Tunnel && r.From.Role != Local:
		return refuse(r, RuleUnknownNeighbor, "the route came from no neighbor of this node")
	}
	return Verdict{}
}

func exportOriginated(env *Env, r Route, to Target) Verdict {
	if r.From.Role != Local {
		return Verdict{}
	}
	for _, o := range env.Originate {
		if o.Prefix.Masked() == r.Prefix && slices.Contains(o.To, to.Neighbor) {
			return Verdict{}
		}
	}
	return refuse(r, RuleNotOriginatedTo, fmt.Sprintf("this node originates %s, but not to %s", r.Prefix, to.Neighbor))
}

// exportOwnSite is the rule that replaces the loop protection which the
// removal of Azure's ASNs took away.
func exportOwnSite(env *Env, r Route, to Target) Verdict {
	if r.From.Role != Local && env.hasSite(r.Large, SiteNumber(env.Site)) {
		return refuse(r, RuleOwnSite, fmt.Sprintf("the route came from site %s, to which %s belongs", env.Site, to.Neighbor))
	}
	return Verdict{}
}

// exportWellKnown honours RFC 1997: all our neighbors are in other ASes, so
// NO_EXPORT and NO_ADVERTISE stop a route here alike.
func exportWellKnown(_ *Env, r Route, _ Target) Verdict {
	for _, c := range r.Communities {
		switch c {
		case communityNoAdvertise:
			return refuse(r, RuleNoAdvertise, fmt.Sprintf("%s marked the route NO_ADVERTISE", r.From.Neighbor))
		case communityNoExport, communityNoExportSubconfed:
			return refuse(r, RuleNoExport, fmt.Sprintf("%s marked the route NO_EXPORT", r.From.Neighbor))
		}
	}
	return Verdict{}
}

func exportForbidden(env *Env, r Route, _ Target) Verdict {
	if v := checkMartian(env, r); v.Rule != "" {
		return v
	}
	return checkProtected(env, r)
}

// exportVNet keeps the Route Server's own VNet from it: it ignores equal and
// longer prefixes, and its table would show them as ours.
func exportVNet(env *Env, r Route, to Target) Verdict {
	if !env.VNetKnown {
		return refuse(r, RuleVNetUnknown, fmt.Sprintf("%s has not told its VNet's prefixes yet, which must not be announced to it", to.Neighbor))
	}
	if q, ok := within(r.Prefix, env.VNet); ok {
		return refuse(r, RuleOwnVNet, fmt.Sprintf("%s is part of %s, the Route Server's own VNet", r.Prefix, q))
	}
	return Verdict{}
}

func exportHostRoute(env *Env, r Route, _ Target) Verdict {
	if !isHostRoute(r.Prefix) {
		return Verdict{}
	}
	if _, ok := within(r.Prefix, env.AllowHostRoutes); ok {
		return Verdict{}
	}
	return refuse(r, RuleHostRoute, fmt.Sprintf("%s is a host or link route and not listed in policy.allow_host_routes", r.Prefix))
}

func exportDefaultRouteServer(_ *Env, r Route, to Target) Verdict {
	if IsDefault(r.Prefix) && to.DefaultRoute == DefaultDeny {
		return refuse(r, RuleDefaultDenied, fmt.Sprintf("%s is a default route and default_route of %s is deny", r.Prefix, to.Neighbor))
	}
	return Verdict{}
}

// exportDefaultTunnel: a default is a decision of an operator, not something
// that a site happens to have. It goes into a tunnel only by origination.
func exportDefaultTunnel(_ *Env, r Route, to Target) Verdict {
	if IsDefault(r.Prefix) && r.From.Role != Local {
		return refuse(r, RuleDefaultNotPassedOn, fmt.Sprintf("%s is a default route of our own site; %s gets one only if this node originates it", r.Prefix, to.Neighbor))
	}
	return Verdict{}
}

func exportFamily(_ *Env, r Route, to Target) Verdict {
	switch {
	case r.Prefix.Addr().Is4():
		return Verdict{}
	case to.Role == RouteServer:
		return refuse(r, RuleIPv6RouteServer, "a Route Server takes no IPv6 routes")
	case !to.NextHop6.IsValid():
		return refuse(r, RuleNoIPv6NextHop, fmt.Sprintf("tunnel %s has no IPv6 address of ours that could be the next hop", to.Neighbor))
	}
	return Verdict{}
}

// exportPeerASN: the peer would drop a path with its own ASN (RFC 4271,
// section 9.1.2), so it is not sent, and said so.
func exportPeerASN(_ *Env, r Route, to Target) Verdict {
	if slices.Contains(cleanPath(r.ASPath), to.ASN) {
		return refuse(r, RulePeerASN, fmt.Sprintf("AS path %s has %s's own AS %d: it would drop the route as a loop", r.PathString(), to.Neighbor, to.ASN))
	}
	return Verdict{}
}

func announceRouteServer(env *Env, r Route, to Target) Verdict {
	r.ASPath = env.prepended(cleanPath(r.ASPath, to.ASN))
	r.Communities = withoutAzure(r.Communities)
	r.Large = env.withoutOurs(r.Large)
	r.NextHop, r.MED, r.HasMED = to.NextHop, 0, false
	reason := "announced to " + to.Neighbor + env.prependNote()
	if IsDefault(r.Prefix) && to.DefaultRoute == DefaultNoAdvertise {
		r.Communities = append(slices.Clip(r.Communities), communityNoAdvertise)
		reason += " with NO_ADVERTISE: for the VNet's NICs only, not for its gateways"
	}
	return Verdict{Accept: true, Rule: RuleAnnounced, Reason: reason, Route: r}
}

// announceTunnel keeps our own tag, so that the far side knows the site, and
// takes Azure's ASNs out here too: the far NVA may be a third party's.
func announceTunnel(env *Env, r Route, to Target) Verdict {
	own := siteTag(env.ASN, SiteNumber(env.Site))
	r.ASPath = env.prepended(cleanPath(r.ASPath))
	r.Communities = withoutAzure(r.Communities)
	r.Large = append(slices.Clip(env.withoutOurs(r.Large)), own)
	r.NextHop, r.MED, r.HasMED = to.NextHop, 0, false
	if r.Prefix.Addr().Is6() {
		r.NextHop = to.NextHop6
	}
	return Verdict{Accept: true, Rule: RuleAnnounced, Reason: "announced through tunnel " + to.Neighbor + env.prependNote(), Route: r}
}

// announceSibling keeps the tags, which a sibling reads as we do, and adds our priority.
func announceSibling(env *Env, r Route, to Target) Verdict {
	notOurs := slices.DeleteFunc(slices.Clone(r.Large), func(c LargeCommunity) bool {
		return c.Global == env.ASN && c.Local1 == functionPriority
	})
	r.Large = append(notOurs, priorityTag(env.ASN, env.Priority))
	r.NextHop, r.MED, r.HasMED = to.NextHop, 0, false
	if r.Prefix.Addr().Is6() {
		r.NextHop = to.NextHop6
	}
	return Verdict{Accept: true, Rule: RuleAnnounced, Reason: "announced to " + to.Neighbor + ", an NVA of our own site", Route: r}
}

// prependNote explains what prepended did.
func (env *Env) prependNote() string {
	if env.Prepend == 0 {
		return ""
	}
	return fmt.Sprintf(", with our own AS %d times more in its path: this node's priority among the NVAs of its site, or a drain", env.Prepend)
}

// prepended puts our own ASN in front, beside the once that the speaker does.
func (env *Env) prepended(path []uint32) []uint32 {
	if env.Prepend == 0 {
		return path
	}
	return append(slices.Repeat([]uint32{env.ASN}, env.Prepend), path...)
}
