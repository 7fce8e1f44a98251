// Package policy decides what a node believes of the routes it is told, and
// what it tells to whom. It is the only place where that is decided: the
// speaker (package bgp), "transitctl explain" and the dry run of a new
// configuration all call the functions here, so what is explained is what runs.
//
// Three steps, each a pure function:
//
//	Import(env, route)          one received route: believed or not, and tagged with its site
//	Select(candidates)          the one route of a prefix that is used
//	Export(env, route, target)  that route towards one neighbor: announced as what, or refused
//
// Import and Export answer with a Verdict: the rule that decided (a stable
// name, see the Rule constants), a sentence for a person, and the route as the
// rules changed it. Export is deny by default: a route goes out only if it
// reaches the end of every rule.
//
// # Sites
//
// Towards a Route Server the AS numbers of Azure are taken out of the AS path,
// because the far side would drop a path with its own. That also takes out the
// loop protection of BGP, so it is replaced: Import tags what the node's own
// Route Server says with the large community ASN:1:SITE (RFC 8092), SITE being
// the FNV-1a hash of the site's name. The tag travels through the tunnel; a
// route is never believed or announced where its tag says that it came from.
//
// # What is not here
//
// No sockets, no clock, no state: what depends on the other routes of the
// moment (the VNet's prefixes, as learned) is handed in with Env. Fit brings what
// Export allows towards a Route Server within its budget, Prepend finds a node's
// place among the NVAs of its site; when that is due, and how fast it is sent, is
// the speaker's business (package bgp).
package policy
