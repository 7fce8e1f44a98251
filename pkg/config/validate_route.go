package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"time"
)

// originations checks what this node announces on its own account.
func (v *validator) originations() {
	seen := map[netip.Prefix]int{}
	for i, o := range v.cfg.Originate {
		at := fmt.Sprintf("originate[%d]", i)
		if o.Prefix.IsValid() {
			if first, twice := seen[o.Prefix]; twice {
				v.errorf(at+".prefix", fmt.Sprintf("list all receivers in originate[%d].to", first), "%s is originate[%d] already", o.Prefix, first)
			} else {
				seen[o.Prefix] = i
			}
			v.announceable(at+".prefix", o.Prefix)
		}
		v.companions(at, o)
		v.probe(at+".probe", o.Probe)
		for j, to := range o.To {
			v.receiver(fmt.Sprintf("%s.to[%d]", at, j), to, o, slices.Index(o.To[:j], to) >= 0)
		}
	}
}

// announceable checks a prefix against what is never announced.
func (v *validator) announceable(at string, p netip.Prefix) {
	if isDefault(p) {
		return
	}
	switch what := special(p); {
	case what != "":
		v.errorf(at, "", "%s is never announced: it is %s", p, what)
		return
	case p.Addr().IsLinkLocalUnicast():
		v.errorf(at, "", "%s is never announced: it is link-local", p)
		return
	}
	if what := v.protected(p); what != "" {
		v.errorf(at, "", "%s is never announced: it is %s", p, what)
		return
	}
	if hostRoute(p) && !slices.ContainsFunc(v.cfg.Policy.AllowHostRoutes, func(q netip.Prefix) bool { return within(p, q) }) {
		v.errorf(at, fmt.Sprintf("list %s in policy.allow_host_routes, or announce a shorter prefix", p), "%s is a host route, which is not announced unless it is listed", p)
	}
}

// protected says why a prefix belongs to the node's own plumbing.
func (v *validator) protected(p netip.Prefix) string {
	for _, o := range v.cfg.overlayList() {
		if within(p, o.prefix) {
			return "inside the overlay of " + o.path
		}
	}
	for i, rs := range v.cfg.RouteServers {
		if within(p, rs.Subnet) {
			return fmt.Sprintf("inside route_servers[%d].subnet", i)
		}
	}
	for i, q := range v.cfg.Policy.VNet {
		if within(p, q) {
			return fmt.Sprintf("inside policy.vnet[%d] (%s), and a Route Server takes only shorter prefixes", i, q)
		}
	}
	if p.IsSingleIP() {
		for i, t := range v.cfg.Tunnels {
			if t.Remote == p.Addr() {
				return fmt.Sprintf("the endpoint of tunnels[%d]", i)
			}
		}
		if p.Addr() == v.cfg.Underlay.Address {
			return "underlay.address, this node's own endpoint"
		}
	}
	return ""
}

// receiver checks one neighbour that is to be told a prefix.
func (v *validator) receiver(at, name string, o Origination, twice bool) {
	if name == "" {
		return
	}
	if twice {
		v.errorf(at, "", "%q is listed twice", name)
		return
	}
	var names []string
	for i, t := range v.cfg.Tunnels {
		if t.Name == name {
			if o.Prefix.IsValid() && o.Prefix.Addr().Is6() && !v.given(fmt.Sprintf("tunnels[%d].address6", i)) {
				v.errorf(at, fmt.Sprintf("give tunnels[%d] address6 and peer_address6", i), "%s is IPv6, but tunnel %q carries IPv4 only", o.Prefix, name)
			}
			return
		}
		names = append(names, t.Name)
	}
	for i, rs := range v.cfg.RouteServers {
		if rs.Name == name {
			v.toRouteServer(at, o.Prefix, i)
			return
		}
		names = append(names, rs.Name)
	}
	if slices.Contains(names, "") || v.unread("tunnels", len(v.cfg.Tunnels)) || v.unread("route_servers", len(v.cfg.RouteServers)) {
		return // a neighbour's name could not be read, it may be this one
	}
	v.errorf(at, didYouMean(name, names), "%q is neither a tunnel nor a Route Server", name)
}

// unread reports whether a list is in the file but could not be decoded.
func (v *validator) unread(path string, count int) bool { return v.given(path) && count == 0 }

// toRouteServer checks what a Route Server may be told.
func (v *validator) toRouteServer(at string, p netip.Prefix, i int) {
	rs := v.cfg.RouteServers[i]
	switch {
	case !p.IsValid():
	case p.Addr().Is6():
		v.errorf(at, "", "%s is IPv6, but a Route Server has IPv4 only", p)
	case isDefault(p) && rs.DefaultRoute == DefaultRouteDeny:
		v.errorf(at, fmt.Sprintf("set route_servers[%d].default_route to announce or no_advertise, or remove %s here", i, rs.Name),
			"%s is a default route, which %q must not be told (default_route: deny)", p, rs.Name)
	}
}

// isDefault reports whether a prefix is a default route or half of one.
func isDefault(p netip.Prefix) bool {
	return p.Bits() == 0 || p.Bits() == 1
}

// hostRoute reports whether a prefix is as long as those that are announced only if listed.
func hostRoute(p netip.Prefix) bool { return p.Addr().BitLen()-p.Bits() <= 2 }

// policy checks the facts given to the route policy.
func (v *validator) policy() {
	for i, p := range v.cfg.Policy.VNet {
		if p.IsValid() && isDefault(p) {
			v.errorf(fmt.Sprintf("policy.vnet[%d]", i), "list the VNet's address space as the portal shows it", "%s is not a VNet's address space", p)
		}
	}
	for i, p := range v.cfg.Policy.Aggregates {
		at := fmt.Sprintf("policy.aggregates[%d]", i)
		switch {
		case !p.IsValid():
		case !p.Addr().Is4() || isDefault(p):
			v.errorf(at, "give a supernet such as 10.50.0.0/16", "%s cannot stand for other routes at a Route Server", p)
		default:
			if what := v.protected(p); what != "" {
				v.errorf(at, "", "%s is never announced: it is %s", p, what)
			}
		}
	}
}

// companions checks what goes with a default route only.
func (v *validator) companions(at string, o Origination) {
	whole := o.Prefix.IsValid() && o.Prefix.Bits() == 0 && o.Prefix.Addr().Is4()
	for _, k := range []struct {
		key string
		set bool
	}{{"split", o.Split}, {"rfc1918", o.RFC1918}} {
		if k.set && o.Prefix.IsValid() && !whole {
			v.errorf(at+"."+k.key, "remove it", "goes with 0.0.0.0/0 only, not with %s", o.Prefix)
		}
	}
}

// probe checks what an announcement depends on.
func (v *validator) probe(at string, p Probe) {
	if !v.given(at) {
		return
	}
	kinds := 0
	for _, key := range []string{"http", "tcp", "icmp"} {
		if v.given(at + "." + key) {
			kinds++
		}
	}
	if kinds != 1 {
		v.errorf(at, "such as {http: \"http://198.18.255.1/\"}", "want exactly one of http, tcp and icmp")
	}
	if p.HTTP != "" {
		if u, err := url.Parse(p.HTTP); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			v.errorf(at+".http", "such as http://198.18.255.1/health, without user and password", "%q is not an HTTP URL that can be asked", p.HTTP)
		}
	}
	v.span(at+".interval", p.Interval, 100*time.Millisecond, time.Hour)
	if p.Timeout > p.Interval || p.Timeout <= 0 {
		v.errorf(at+".timeout", "a check has to end before the next one begins", "%s is not between 0 and the interval of %s", p.Timeout, p.Interval)
	}
}

// span checks a time span's range.
func (v *validator) span(at string, d Duration, least, most time.Duration) {
	if t := d.Std(); t != 0 && (t < least || t > most) || t == 0 && v.given(at) {
		v.errorf(at, "", "%s is out of range (%s to %s)", d, least, most)
	}
}

// routing checks the numbers used in the kernel.
func (v *validator) routing() {
	r := v.cfg.Routing
	owner := map[uint32]string{}
	for _, t := range []struct {
		key    string
		number uint32
	}{{"table_underlay", r.TableUnderlay}, {"table_site", r.TableSite}, {"table_remote", r.TableRemote}, {"table_relay", r.TableRelay}} {
		at := "routing." + t.key
		switch first, taken := owner[t.number]; {
		case t.number == 0:
			continue
		case t.number >= 253 && t.number <= 255:
			v.errorf(at, "7001 to 7004 are the defaults", "%d is the kernel's own table (253 default, 254 main, 255 local)", t.number)
		case taken:
			v.errorf(at, "the four tables have numbers of their own", "%d is %s already", t.number, first)
		}
		owner[t.number] = at
	}
	if name := protocolOwner(r.Protocol); name != "" {
		v.errorf("routing.protocol", "210 is the default", "%d belongs to %s, whose routes would be removed with ours", r.Protocol, name)
	}
}

// protocolOwner names the program that a route protocol number belongs to
// (linux/rtnetlink.h, RTPROT_*).
func protocolOwner(n uint8) string {
	names := map[uint8]string{
		8: "gated", 9: "router advertisements", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp",
		17: "mrouted", 18: "keepalived", 42: "babel", 84: "ovn", 99: "openr", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
	}
	return names[n]
}

// control checks the socket's path.
func (v *validator) control() {
	s := v.cfg.Control.Socket
	if s != "" && (!path.IsAbs(s) || path.Clean(s) != s || s == "/") {
		v.errorf("control.socket", "write it as /run/transitd/NODE.sock", "%q is not a clean absolute path", s)
	}
}
