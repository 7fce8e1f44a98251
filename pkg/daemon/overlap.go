package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/policy"
)

// overlap is a route of one side that takes traffic from a shorter one of another
// side. That may be meant, and it is what a leak looks like.
type overlap struct{ Inner, Outer bgp.Best }

// overlaps finds them. Shorter routes that are only a default for something, the
// private supernets among them, are not counted: what lies in them is meant.
func overlaps(bests []bgp.Best) (list []overlap) {
	sorted := slices.Clone(bests)
	slices.SortFunc(sorted, func(a, b bgp.Best) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), a.Prefix.Bits()-b.Prefix.Bits())
	})
	var around []bgp.Best // what covers the current one, shortest first
	for _, b := range sorted {
		for len(around) > 0 && !around[len(around)-1].Prefix.Contains(b.Prefix.Addr()) {
			around = around[:len(around)-1]
		}
		if n := len(around); n > 0 && learnedFrom(b) != "" && learnedFrom(around[n-1]) != "" && exit(b) != exit(around[n-1]) && !coarse(around[n-1].Prefix) {
			list = append(list, overlap{b, around[n-1]})
		}
		around = append(around, b)
	}
	return list
}

// learnedFrom is the neighbour that a route came from, empty for our own.
func learnedFrom(b bgp.Best) string {
	if b.Role == 0 || b.Role == policy.Local {
		return ""
	}
	return b.Neighbor
}

// exit is where packets for a route leave the node: a tunnel, or the card (empty).
func exit(b bgp.Best) string {
	if b.Role == policy.Tunnel || b.Role == policy.Sibling {
		return b.Neighbor
	}
	return ""
}

// coarse reports whether a prefix is a default, one of the private supernets, or shorter.
func coarse(p netip.Prefix) bool {
	return p.Bits() <= 8 || p == netip.MustParsePrefix("172.16.0.0/12") || p == netip.MustParsePrefix("192.168.0.0/16") || p.Addr().Is6() && p.Bits() <= 32
}

// overlapNotes says what could be leaks.
func overlapNotes(list []overlap) (notes []string) {
	for i, o := range list {
		if i == maxNamed {
			notes = append(notes, fmt.Sprintf("and %d more routes of one side lie inside routes of another: transitctl routes", len(list)-maxNamed))
			break
		}
		notes = append(notes, fmt.Sprintf("route %s of %s takes packets from %s of %s, in which it lies: is it leaked?", o.Inner.Prefix, o.Inner.Neighbor, o.Outer.Prefix, o.Outer.Neighbor))
	}
	return notes
}
