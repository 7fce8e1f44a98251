package config

import (
	"fmt"
	"net/netip"

	"github.com/transitd/transitd/pkg/azure"
)

// overlay is the subnet inside one tunnel, of one family.
type overlay struct {
	path   string // of our address
	prefix netip.Prefix
}

// Overlays lists the subnets inside the tunnels, without host bits.
func (c *Config) Overlays() []netip.Prefix {
	var out []netip.Prefix
	for _, o := range c.overlayList() {
		out = append(out, o.prefix)
	}
	return out
}

// overlayList lists the overlays with their places.
func (c *Config) overlayList() []overlay {
	var out []overlay
	for i, t := range c.Tunnels {
		if t.Address.IsValid() {
			out = append(out, overlay{fmt.Sprintf("tunnels[%d].address", i), t.Address.Masked()})
		}
		if t.Address6.IsValid() {
			out = append(out, overlay{fmt.Sprintf("tunnels[%d].address6", i), t.Address6.Masked()})
		}
	}
	return out
}

// overlays checks the addresses inside the tunnels.
func (v *validator) overlays() {
	for i, t := range v.cfg.Tunnels {
		path := fmt.Sprintf("tunnels[%d]", i)
		v.overlayPair(path+".address", t.Address, path+".peer_address", t.PeerAddress, true)
		if t.Address6.IsValid() || t.PeerAddress6.IsValid() {
			v.overlayPair(path+".address6", t.Address6, path+".peer_address6", t.PeerAddress6, false)
			v.bothOrNeither(path, t)
		}
	}
	list := v.cfg.overlayList()
	for i, o := range list {
		v.overlayPlace(o)
		for _, other := range list[:i] {
			if o.prefix.Overlaps(other.prefix) {
				v.errorf(o.path, "give each tunnel a subnet of its own", "%s overlaps %s (%s)", o.prefix, other.path, other.prefix)
			}
		}
	}
}

// bothOrNeither checks that the two IPv6 addresses come together.
func (v *validator) bothOrNeither(path string, t Tunnel) {
	switch {
	case !t.PeerAddress6.IsValid() && !v.given(path+".peer_address6"):
		v.errorf(path+".peer_address6", "address6 is given, so the other NVA's address is needed too", "missing")
	case !t.Address6.IsValid() && !v.given(path+".address6"):
		v.errorf(path+".address6", "peer_address6 is given, so our own address is needed too", "missing")
	}
}

// overlayPair checks our and the peer's address of one family.
func (v *validator) overlayPair(path string, own netip.Prefix, peerPath string, peer netip.Addr, v4 bool) {
	family, other := "IPv4", "address6 and peer_address6 are for IPv6"
	if !v4 {
		family, other = "IPv6", "address and peer_address are for IPv4"
	}
	ok := true
	if own.IsValid() && own.Addr().Is4() != v4 {
		v.errorf(path, other, "%s is not %s", own, family)
		ok = false
	}
	if peer.IsValid() && peer.Is4() != v4 {
		v.errorf(peerPath, other, "%s is not %s", peer, family)
		ok = false
	}
	if !ok || !own.IsValid() {
		return
	}
	if what := notHost(own.Addr(), own); what != "" {
		v.errorf(path, "", "%s is the %s of %s", own.Addr(), what, own.Masked())
	}
	switch {
	case !peer.IsValid():
	case peer == own.Addr():
		v.errorf(peerPath, "give the other NVA's address inside the tunnel", "%s is our own address", peer)
	case !own.Contains(peer):
		v.errorf(peerPath, "both addresses have to be of one subnet", "%s is not inside %s", peer, own.Masked())
	default:
		if what := notHost(peer, own); what != "" {
			v.errorf(peerPath, "", "%s is the %s of %s", peer, what, own.Masked())
		}
	}
}

// overlayPlace checks that an overlay covers nothing of the underlay, and is no address block with a meaning of its own.
func (v *validator) overlayPlace(o overlay) {
	const hint = "use link-local (169.254.77.0/30, say) or a private range that nothing else has"
	if what := special(o.prefix); what != "" {
		v.errorf(o.path, hint, "%s cannot be an overlay: it is %s", o.prefix, what)
		return
	}
	told := map[netip.Addr]bool{}
	covers := func(a netip.Addr, what string) {
		if a.IsValid() && o.prefix.Contains(a) && !told[a] {
			told[a] = true
			v.errorf(o.path, hint, "%s covers %s (%s)", o.prefix, what, a)
		}
	}
	for _, a := range azure.ReservedAddresses() {
		reason, _ := azure.ReservedAddress(a)
		covers(a, reason)
	}
	covers(v.cfg.Underlay.Address, "underlay.address")
	covers(v.cfg.Underlay.Gateway, "underlay.gateway")
	for i, t := range v.cfg.Tunnels {
		covers(t.Remote, fmt.Sprintf("tunnels[%d].remote", i))
	}
	overlaps := func(p netip.Prefix, what string) {
		if p.IsValid() && o.prefix.Overlaps(p) {
			v.errorf(o.path, hint, "%s overlaps %s (%s)", o.prefix, what, p)
		}
	}
	for i, rs := range v.cfg.RouteServers {
		overlaps(rs.Subnet, fmt.Sprintf("route_servers[%d].subnet", i))
	}
	for i, p := range v.cfg.Policy.VNet {
		if !isDefault(p) { // refused as a VNet's already
			overlaps(p, fmt.Sprintf("policy.vnet[%d]", i))
		}
	}
}

// special says what an address block is that can be neither an overlay nor announced.
func special(p netip.Prefix) string {
	blocks := []struct {
		prefix netip.Prefix
		what   string
	}{
		{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)"},
		{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
		{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},
		{netip.MustParsePrefix("::/127"), "unspecified or loopback"},
		{netip.MustParsePrefix("::ffff:0.0.0.0/96"), "IPv4-mapped"},
		{netip.MustParsePrefix("ff00::/8"), "multicast"},
	}
	for _, b := range blocks {
		if within(p, b.prefix) {
			return b.what
		}
	}
	return ""
}

// within reports whether p is q or a part of it.
func within(p, q netip.Prefix) bool {
	return p.IsValid() && q.IsValid() && q.Bits() <= p.Bits() && q.Contains(p.Addr())
}

// CheckUnderlay checks the configuration against the network card's addresses,
// which the file does not have: each is an address with its prefix length. The
// error is of type Errors, without positions.
func (c *Config) CheckUnderlay(addrs ...netip.Prefix) error {
	var errs Errors
	fail := func(path, hint, format string, args ...any) {
		errs = append(errs, &Error{Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint})
	}
	for _, a := range addrs {
		for _, o := range c.overlayList() {
			if o.prefix.Overlaps(a.Masked()) {
				fail(o.path, "give the tunnel a subnet of its own", "%s overlaps the subnet of %s (%s)", o.prefix, c.Underlay.Interface, a.Masked())
			}
		}
		for i, t := range c.Tunnels {
			if t.Remote == a.Addr() {
				fail(fmt.Sprintf("tunnels[%d].remote", i), "give the other NVA's address", "%s is this node's own address", t.Remote)
			}
		}
		for i, rs := range c.RouteServers {
			if rs.Subnet.Overlaps(a.Masked()) {
				fail(fmt.Sprintf("route_servers[%d].subnet", i), "an NVA has a subnet of its own", "%s overlaps the subnet of %s (%s)", rs.Subnet, c.Underlay.Interface, a.Masked())
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs.sorted()
}
