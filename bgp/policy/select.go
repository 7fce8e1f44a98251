package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// Select picks the route of a prefix that is used, of the accepted ones of all
// neighbors. It returns its index and why it won; -1 if there is none. The
// order of the candidates does not matter.
//
// Our own site wins: what the node originates beats what a Route Server says,
// and both beat a tunnel, whatever the AS paths are; a sibling comes last. A prefix is therefore
// either of the own site or remote, never both, so a packet for the own site
// is never sent into a tunnel. Within a role: the shorter AS path without
// Azure's ASNs, the lower ORIGIN, then the neighbor's name and address, which
// only make the answer the same every time.
func Select(routes []Route) (best int, why string) {
	best = -1
	for i := range routes {
		if best < 0 || compare(routes[i], routes[best]) < 0 {
			best = i
		}
	}
	if best < 0 {
		return best, ""
	}
	second := -1
	for i := range routes {
		if i != best && (second < 0 || compare(routes[i], routes[second]) < 0) {
			second = i
		}
	}
	if second < 0 {
		return best, "the only route"
	}
	return best, reason(routes[best], routes[second])
}

// preference orders the roles: lower wins.
func preference(r Role) int {
	switch r {
	case Local:
		return 0
	case RouteServer:
		return 1
	case Tunnel:
		return 2
	case Sibling:
	}
	return 3
}

// compareCost compares what makes one route better than another; routes of
// equal cost may share the traffic.
func compareCost(a, b Route) int {
	return cmp.Or(
		cmp.Compare(preference(a.From.Role), preference(b.From.Role)),
		cmp.Compare(len(cleanPath(a.ASPath)), len(cleanPath(b.ASPath))),
		cmp.Compare(a.Origin, b.Origin),
	)
}

// Sharing names the neighbors besides that of routes[best] whose routes are as
// good, sorted: several tunnels to NVAs of one site share the traffic by flow.
// Routes of a Route Server all lead out of the same card, so there it is nobody.
func Sharing(routes []Route, best int) []string {
	won := routes[best]
	if won.From.Role != Tunnel && won.From.Role != Sibling {
		return nil
	}
	var names []string
	for _, r := range routes {
		if r.From.Neighbor != won.From.Neighbor && compareCost(r, won) == 0 && !slices.Contains(names, r.From.Neighbor) {
			names = append(names, r.From.Neighbor)
		}
	}
	slices.Sort(names)
	return names
}

func compare(a, b Route) int {
	return cmp.Or(
		compareCost(a, b),
		cmp.Compare(a.From.Neighbor, b.From.Neighbor),
		a.From.Peer.Compare(b.From.Peer),
		slices.Compare(a.ASPath, b.ASPath),
	)
}

func reason(won, lost Route) string {
	switch a, b := won.From, lost.From; {
	case a.Role == Local:
		return "this node originates the prefix itself"
	case a.Role == Tunnel && b.Role == Sibling:
		return fmt.Sprintf("our own tunnel %s; sibling %s is for when it is down", a.Neighbor, b.Neighbor)
	case a.Role != b.Role:
		return fmt.Sprintf("our own site wins: %s tells it, tunnel %s is not asked", a.Neighbor, b.Neighbor)
	case len(cleanPath(won.ASPath)) != len(cleanPath(lost.ASPath)):
		return fmt.Sprintf("shorter AS path than from %s (%s)", b.Neighbor, b.Peer)
	case won.Origin != lost.Origin:
		return fmt.Sprintf("lower ORIGIN than from %s (%s)", b.Neighbor, b.Peer)
	case a.Neighbor != b.Neighbor:
		return fmt.Sprintf("equal to that from %s; the first name wins", b.Neighbor)
	}
	return fmt.Sprintf("equal to that from %s; the lower address wins", lost.From.Peer)
}
