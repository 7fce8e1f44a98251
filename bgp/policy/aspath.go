package policy

import "slices"

// ASNs of Azure that stand in the paths a Route Server tells. They are taken
// out of every path that is announced again: the Route Server of the far side
// drops a path with 65515, its gateways' routers one with 12076.
const (
	asnRouteServer   = 65515  // every Route Server and gateway
	asnMSEE          = 12076  // Microsoft's ExpressRoute edge
	asnDedicatedEdge = 398656 // the edge of AVS and other dedicated hardware
)

// asTrans stands for an ASN that did not fit into two octets (RFC 6793,
// section 2). With 4-octet ASNs on both sides it never appears, so where it
// does a speaker on the way does not know them, and 398656 hides behind it.
const asTrans = 23456

// cleanPath takes Azure's ASNs out, wherever they stand and however often,
// and those of extra. It returns path itself if there is nothing to take out.
func cleanPath(path []uint32, extra ...uint32) []uint32 {
	drop := func(asn uint32) bool {
		return asn == asnRouteServer || asn == asnMSEE || asn == asnDedicatedEdge || slices.Contains(extra, asn)
	}
	if !slices.ContainsFunc(path, drop) {
		return path
	}
	return slices.DeleteFunc(slices.Clone(path), drop)
}
