package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/transitd/transitd/pkg/azure"
)

// validator checks what the keys mean together. It passes over zero values: the
// decoder has said already what is missing or wrong there.
type validator struct {
	*decoder
	cfg *Config
}

// validate runs every check.
func (v *validator) validate() {
	v.node()
	v.underlay()
	v.names()
	if len(v.cfg.Tunnels)+len(v.cfg.RouteServers) == 0 && !v.given("tunnels") && !v.given("route_servers") {
		v.errorf("", "give tunnels, route_servers or both", "the node has neither tunnels nor Route Servers")
	}
	v.routeServers()
	v.tunnels()
	v.overlays()
	v.originations()
	v.policy()
	v.routing()
	v.control()
	if o := v.cfg.Observe.Listen.AddrPort; o.IsValid() && o == v.cfg.HA.ProbeListen {
		v.errorf("observe.listen", "give each an address of its own", "%s is ha.probe_listen already", o)
	}
}

// given reports whether the file has a value at the path.
func (v *validator) given(path string) bool {
	_, ok := v.pos[path]
	return ok
}

// errorf notes a mistake at a path; one that is not in the file is shown at the nearest that is.
func (v *validator) errorf(path, hint, format string, args ...any) {
	v.fail(v.near(path), path, hint, format, args...)
}

// node checks who the node is.
func (v *validator) node() {
	n := v.cfg.Node
	v.word("node.name", n.Name)
	v.word("node.site", n.Site)
	if n.ASN != 0 {
		v.reservedASN("node.asn", n.ASN)
	}
	if _, reserved := azure.ReservedASN(n.ASN); !reserved && len(v.cfg.RouteServers) > 0 && !azure.FitsRouteServer(n.ASN) {
		v.errorf("node.asn", freeASNs, "%d does not fit the 16 bits that a Route Server takes", n.ASN)
	}
}

// freeASNs is the hint for a number that cannot be used.
const freeASNs = "64512 to 65514 are free for private use"

// reservedASN checks a number of an NVA's, our own or a peer's.
func (v *validator) reservedASN(path string, asn uint32) {
	if r, reserved := azure.ReservedASN(asn); reserved && (r.Always || len(v.cfg.RouteServers) > 0) {
		v.errorf(path, freeASNs, "%d cannot be used: %s", asn, r.Reason)
	}
}

// word checks a name that stands in logs, paths and commands.
func (v *validator) word(path, s string) {
	if s == "" {
		return
	}
	bad := strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
	if bad >= 0 || strings.Trim(s, ".-") == "" {
		v.errorf(path, "use letters, digits, dot, dash and underscore", "%q is not a valid name", s)
	}
}

// interfaceName checks a name as the kernel does (dev_valid_name), and that it is not taken by something else.
func (v *validator) interfaceName(path, s string) bool {
	switch {
	case s == "":
		return false
	case s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r\x00%"):
		v.errorf(path, "an interface name has no slash, colon, percent sign or space", "%q is not a valid interface name", s)
	case s == "lo":
		v.errorf(path, "", "lo is the loopback interface")
	case s == "all" || s == "default":
		v.errorf(path, "", "%s is what the kernel calls all interfaces in its settings", s)
	default:
		return true
	}
	return false
}

// underlay checks the network card's keys.
func (v *validator) underlay() {
	u := v.cfg.Underlay
	v.interfaceName("underlay.interface", u.Interface)
	if v.hostAddress("underlay.address", u.Address) && u.Address.Is6() && len(v.cfg.RouteServers) > 0 {
		v.errorf("underlay.address", "leave it out: the card's address of the right family is used", "%s is IPv6, but a Route Server has IPv4 only", u.Address)
	}
	if !v.hostAddress("underlay.gateway", u.Gateway) || !u.Address.IsValid() {
		return
	}
	switch {
	case u.Gateway == u.Address:
		v.errorf("underlay.gateway", "the gateway of an Azure subnet is its first address", "%s is underlay.address", u.Gateway)
	case u.Gateway.Is4() != u.Address.Is4():
		v.errorf("underlay.gateway", "give both of one family", "%s and underlay.address (%s) are not of one family", u.Gateway, u.Address)
	}
}

// hostAddress checks that an address can be a machine's on the underlay. An absent one is not ok, silently.
func (v *validator) hostAddress(path string, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	kind := ""
	switch {
	case a.IsUnspecified():
		kind = "the unspecified address"
	case a.IsMulticast():
		kind = "a multicast address"
	case a.IsLoopback():
		kind = "a loopback address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		kind = "the broadcast address"
	default:
		if reason, reserved := azure.ReservedAddress(a); reserved {
			kind = reason
		} else if a.IsLinkLocalUnicast() {
			kind = "link-local"
		}
	}
	if kind != "" {
		v.errorf(path, "", "%s cannot be used here: it is %s", a, kind)
	}
	return kind == ""
}

// names checks that neighbours have names of their own.
func (v *validator) names() {
	owner := map[string]string{}
	check := func(entry, name string) {
		if name == "" {
			return
		}
		if first, taken := owner[name]; taken {
			v.errorf(entry+".name", "tunnels and Route Servers share one set of names", "%q is the name of %s already", name, first)
			return
		}
		owner[name] = entry
	}
	for i, rs := range v.cfg.RouteServers {
		check(fmt.Sprintf("route_servers[%d]", i), rs.Name)
	}
	for i, t := range v.cfg.Tunnels {
		check(fmt.Sprintf("tunnels[%d]", i), t.Name)
	}
}

// holdTime checks a BGP hold time (RFC 4271, section 4.2).
func (v *validator) holdTime(path string, d Duration) {
	const least, most = 3 * time.Second, 65535 * time.Second
	switch t := d.Std(); {
	case t < least || t > most:
		v.errorf(path, "a BGP hold time is 3s to 65535s: without one, a dead peer would not be noticed", "%s is out of range", d)
	case t%time.Second != 0:
		v.errorf(path, "write "+t.Truncate(time.Second).String(), "%s is not a whole number of seconds", d)
	}
}
