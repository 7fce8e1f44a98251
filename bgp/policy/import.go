package policy

import (
	"fmt"
	"slices"
)

// Rules by which Import decides. The names are stable: the API, the metrics
// and the documentation use them.
const (
	RuleAccepted        = "accepted"
	RuleMartian         = "martian"
	RuleProtected       = "protected-prefix"
	RuleFirstAS         = "first-as-not-neighbor"
	RuleOwnASN          = "own-asn-in-path"
	RuleASSet           = "as-set"
	RuleASTrans         = "as-trans"
	RuleIPv6RouteServer = "ipv6-route-server"
	RuleOwnSite         = "own-site"
	RuleOwnVNet         = "own-vnet"
	RuleThroughTunnel   = "through-tunnel"
	RuleUnknownNeighbor = "unknown-neighbor"
	RuleNoRoute         = "no-route" // no neighbor told a route that could be used
)

// Import decides whether a received route is believed. An accepted route comes
// back with its tag: the site that it came from.
//
// What is compared with the routes of other neighbors (our own site's routes
// beat the same from a tunnel) is Select's, not Import's.
func Import(env *Env, r Route) Verdict {
	for _, rule := range importRules() {
		if v := rule(env, r); v.Rule != "" {
			v.Route = r
			return v
		}
	}
	switch r.From.Role {
	case RouteServer:
		return importRouteServer(env, r)
	case Tunnel:
		return importTunnel(env, r)
	case Sibling:
		return importSibling(env, r)
	case Local: // no neighbour
	}
	return refuse(r, RuleUnknownNeighbor, fmt.Sprintf("%s is neither a Route Server nor a tunnel of this node", r.From.Neighbor))
}

// importRules are those for every neighbor, in the order in which they decide.
func importRules() [4]func(*Env, Route) Verdict {
	return [...]func(*Env, Route) Verdict{checkPath, checkMartian, checkProtected, checkNeighborAS}
}

func refuse(r Route, rule, reason string) Verdict {
	return Verdict{Rule: rule, Reason: reason, Route: r}
}

func alarm(r Route, rule, reason string) Verdict {
	return Verdict{Rule: rule, Reason: reason, Alarm: true, Route: r}
}

// checkPath refuses AS paths that say a loop, or that cannot be read reliably.
func checkPath(env *Env, r Route) Verdict {
	switch {
	case slices.Contains(r.ASPath, env.ASN):
		return refuse(r, RuleOwnASN, fmt.Sprintf("AS path %s has our own AS %d: the route left this node already", r.PathString(), env.ASN))
	case r.ASSet:
		return refuse(r, RuleASSet, fmt.Sprintf("AS path %s has an AS_SET, which hides where the route has been (RFC 9774)", r.PathString()))
	case slices.Contains(r.ASPath, asTrans):
		return alarm(r, RuleASTrans, fmt.Sprintf("AS path %s has AS 23456: a router on the way does not know 4-octet AS numbers and hid one (RFC 6793)", r.PathString()))
	}
	return Verdict{}
}

func checkMartian(_ *Env, r Route) Verdict {
	if kind := martian(r.Prefix); kind != "" {
		return refuse(r, RuleMartian, fmt.Sprintf("%s is %s, no network to route to", r.Prefix, kind))
	}
	return Verdict{}
}

// checkProtected keeps what the node stands on out of its tables: a learned
// route for a tunnel's endpoint or a Route Server would send the tunnel into
// itself.
func checkProtected(env *Env, r Route) Verdict {
	if q, ok := within(r.Prefix, env.Protected); ok {
		return refuse(r, RuleProtected, fmt.Sprintf("%s is part of %s, which carries this node's own sessions and tunnels", r.Prefix, q))
	}
	return Verdict{}
}

// checkNeighborAS is RFC 4271, section 6.3: the leftmost AS is the speaker's
// own. Internal BGP adds none.
func checkNeighborAS(_ *Env, r Route) Verdict {
	if r.From.Role == Sibling {
		return Verdict{}
	}
	if len(r.ASPath) == 0 || r.ASPath[0] != r.From.ASN {
		return refuse(r, RuleFirstAS, fmt.Sprintf("AS path %q does not begin with the neighbor's AS %d", r.PathString(), r.From.ASN))
	}
	return Verdict{}
}

func importRouteServer(env *Env, r Route) Verdict {
	if r.Prefix.Addr().Is6() {
		return refuse(r, RuleIPv6RouteServer, "a Route Server knows no IPv6 routes, whatever it offers")
	}
	for _, asn := range env.TunnelASNs {
		if slices.Contains(r.ASPath, asn) {
			return refuse(r, RuleThroughTunnel, fmt.Sprintf("AS path %s has AS %d, to which this node has a tunnel: another NVA of this side announced it to the Route Server", r.PathString(), asn))
		}
	}
	r.Large = append(slices.Clip(env.withoutOurs(r.Large)), siteTag(env.ASN, SiteNumber(env.Site)))
	return Verdict{Accept: true, Rule: RuleAccepted, Reason: "learned from our own Route Server: a route of site " + env.Site, Route: r}
}

func importTunnel(env *Env, r Route) Verdict {
	if env.hasSite(r.Large, SiteNumber(env.Site)) {
		return refuse(r, RuleOwnSite, fmt.Sprintf("tagged as a route of our own site %s: it came from here", env.Site))
	}
	if q, ok := within(r.Prefix, env.VNet); ok {
		return refuse(r, RuleOwnVNet, fmt.Sprintf("%s is part of our own VNet %s, which is not behind a tunnel", r.Prefix, q))
	}
	peerTag := func(c LargeCommunity) bool { return c.Global == r.From.ASN && c.Local1 == functionSite }
	tagged := slices.ContainsFunc(r.Large, peerTag)
	foreign := func(c LargeCommunity) bool { return env.ours(c) && !peerTag(c) }
	if slices.ContainsFunc(r.Large, foreign) {
		r.Large = slices.DeleteFunc(slices.Clone(r.Large), foreign)
	}
	if tagged {
		return Verdict{Accept: true, Rule: RuleAccepted, Reason: "learned through tunnel " + r.From.Neighbor + ", tagged with its site", Route: r}
	}
	r.Large = append(slices.Clip(r.Large), siteTag(env.ASN, SiteNumber(r.From.Neighbor)))
	return Verdict{Accept: true, Rule: RuleAccepted, Reason: "learned through tunnel " + r.From.Neighbor + " without a tag: taken as a site of that name", Route: r}
}

// importSibling takes what another NVA of our site learned from remote sites:
// the way out of the moment in which our own tunnels are down and the Route
// Server's routes still lead here. Tags stay as the sibling knows them.
func importSibling(env *Env, r Route) Verdict {
	if env.hasSite(r.Large, SiteNumber(env.Site)) {
		return refuse(r, RuleOwnSite, fmt.Sprintf("tagged as a route of our own site %s, which no sibling leads to", env.Site))
	}
	if q, ok := within(r.Prefix, env.VNet); ok {
		return refuse(r, RuleOwnVNet, fmt.Sprintf("%s is part of our own VNet %s, which is not behind a tunnel", r.Prefix, q))
	}
	return Verdict{Accept: true, Rule: RuleAccepted, Reason: "learned from sibling " + r.From.Neighbor + ": used while no tunnel of our own leads there", Route: r}
}
