package policy

import (
	"hash/fnv"
	"slices"
)

// Communities with a meaning of their own (RFC 1997, and its IANA registry).
const (
	communityNoExport          = 65535<<16 | 65281
	communityNoAdvertise       = 65535<<16 | 65282
	communityNoExportSubconfed = 65535<<16 | 65283
)

// functionSite is the function field (RFC 8195, section 2.2) of a large
// community that names the site a route came from.
const functionSite = 1

// functionPriority is the function field of the large community by which a node
// tells its siblings its priority.
const functionPriority = 2

func priorityTag(asn uint32, priority uint8) LargeCommunity {
	return LargeCommunity{Global: asn, Local1: functionPriority, Local2: uint32(priority)}
}

// PriorityOf reads the priority that a sibling put on a route.
func PriorityOf(r Route, asn uint32) (priority uint8, ok bool) {
	for _, c := range r.Large {
		if c.Global == asn && c.Local1 == functionPriority {
			return uint8(min(c.Local2, MaxPriority)), true
		}
	}
	return 0, false
}

// SiteNumber is the number that stands for a site's name in its tag: the
// 32-bit FNV-1a hash of the name, so that nodes agree without configuration.
func SiteNumber(site string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(site)) // a hash.Hash never returns an error
	return h.Sum32()
}

func siteTag(asn, site uint32) LargeCommunity {
	return LargeCommunity{Global: asn, Local1: functionSite, Local2: site}
}

// Tagged reports whether anybody's tag on a route names the site.
func Tagged(r Route, site uint32) bool {
	return slices.ContainsFunc(r.Large, func(c LargeCommunity) bool { return c.Local1 == functionSite && c.Local2 == site })
}

// ours reports whether only transitd nodes of this network give c a meaning.
func (env *Env) ours(c LargeCommunity) bool {
	return c.Global == env.ASN || c.Local1 == functionSite && slices.Contains(env.TunnelASNs, c.Global)
}

// withoutOurs removes what only we may say; it returns list itself if nothing is there.
func (env *Env) withoutOurs(list []LargeCommunity) []LargeCommunity {
	if !slices.ContainsFunc(list, env.ours) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), env.ours)
}

// hasSite reports whether a tag of a node that we know names the site.
func (env *Env) hasSite(list []LargeCommunity, site uint32) bool {
	for _, c := range list {
		if c.Local1 == functionSite && c.Local2 == site && env.ours(c) {
			return true
		}
	}
	return false
}

// azureOwned reports whether Azure itself gives a community its meaning
// (azure.md 1.5): its internal ones must not be forged on another Route
// Server, and its region tags would be wrong there.
func azureOwned(c uint32) bool {
	switch c >> 16 {
	case asnMSEE, asnRouteServer, 65517, 65518:
		return true
	}
	return false
}

// withoutAzure removes what only Azure may say; it returns list itself if nothing is there.
func withoutAzure(list []uint32) []uint32 {
	if !slices.ContainsFunc(list, azureOwned) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), azureOwned)
}
