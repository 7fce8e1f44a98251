package policy

import "net/netip"

// within reports whether p is equal to one of the prefixes or a part of it.
func within(p netip.Prefix, list []netip.Prefix) (netip.Prefix, bool) {
	for _, q := range list {
		if p.Bits() >= q.Bits() && q.Contains(p.Addr()) {
			return q, true
		}
	}
	return netip.Prefix{}, false
}

// IsDefault reports whether p is a default route or one of the two halves that
// stand for one (0.0.0.0/1 and 128.0.0.0/1): a half beats a default, so it
// needs the same permission.
func IsDefault(p netip.Prefix) bool { return p.Bits() <= 1 }

// martian names the kind of address space that no route may be for, or "".
// Prefixes that cover such space (a default covers all of it) are no martians.
func martian(p netip.Prefix) string {
	if p.Addr().Is4() {
		return martian4(p.Addr().As4(), p.Bits())
	}
	return martian6(p.Addr().As16(), p.Bits())
}

// martian4 follows the IANA registry of special-purpose IPv4 addresses and
// the platform's own virtual addresses. Documentation and private space is
// routable inside an organisation, so it is not here.
func martian4(a [4]byte, bits int) string {
	switch {
	case bits >= 8 && a[0] == 0:
		return "this-network space"
	case bits >= 8 && a[0] == 127:
		return "loopback space"
	case bits >= 16 && a[0] == 169 && a[1] == 254:
		return "link-local space"
	case bits >= 3 && a[0] >= 224:
		return "multicast or reserved space"
	case bits == 32 && a == [4]byte{168, 63, 129, 16}:
		return "the platform's own address (DNS, DHCP and health probes)"
	}
	return ""
}

// martian6 does the same for IPv6.
func martian6(a [16]byte, bits int) string {
	switch {
	case bits >= 8 && a[0] == 0:
		return "loopback or IPv4-mapped space"
	case bits >= 10 && a[0] == 0xfe && a[1] >= 0x80:
		return "link-local or site-local space"
	case bits >= 8 && a[0] == 0xff:
		return "multicast space"
	}
	return ""
}

// isHostRoute reports whether p is so long that it is a host or a link, not a network.
func isHostRoute(p netip.Prefix) bool { return p.Addr().BitLen()-p.Bits() <= 2 }

// IsVNet reports whether a route that a Route Server sent is one of its own
// VNet's prefixes: those and only those have the Route Server alone in their
// AS path. A default with that path is a gateway's, not a VNet.
func IsVNet(r Route) bool {
	return r.From.Role == RouteServer && len(r.ASPath) == 1 && !r.ASSet &&
		r.ASPath[0] == r.From.ASN && r.Prefix.Addr().Is4() &&
		r.Prefix.Bits() >= minVNetBits
}

// minVNetBits is the shortest prefix that Azure lets a VNet have (10.0.0.0/8).
const minVNetBits = 8
