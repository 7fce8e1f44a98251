package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

// Port is the TCP port of BGP (RFC 4271, section 8.2.1).
const Port = 179

const (
	// routeServerHold is what Azure's instances use themselves (azure.md 1.2);
	// a lower offer may or may not be honoured, so it is not made by default.
	routeServerHold = 180 * time.Second
	// tunnelHold is long enough for an NVA whose VM is frozen by a live
	// migration (seconds); fast failure is BFD's task.
	tunnelHold = 30 * time.Second
	// maxHold is what the field of the OPEN message holds (RFC 4271, section 4.2).
	maxHold = 65535 * time.Second
)

// Config is what a Speaker does. The zero value is refused: ASN and RouterID
// are needed. A Speaker keeps its own copy of nothing that is changed later:
// do not change a Config after handing it over.
type Config struct {
	ASN      uint32     // this node's
	RouterID netip.Addr // BGP identifier, IPv4
	Site     string     // name of the site that the node's own Route Servers belong to
	// Priority of this node among the NVAs of its site: 0, the best, to policy.MaxPriority.
	Priority uint8
	// LocalAddr is the NIC's address: the default for the sessions with Route
	// Servers, which accept no other (azure.md 1.1), and their next hop.
	LocalAddr netip.Addr
	// ListenPort is the TCP port to listen on and to connect to; 0 is Port.
	ListenPort uint16
	Neighbors  []Neighbor
	Originate  []Origination
	// VNet are prefixes of the node's VNet that are known beforehand. The rest
	// is learned from the Route Server.
	VNet []netip.Prefix
	// Protected is never believed and never announced, nor are parts of it:
	// tunnel endpoints, Route Server and gateway subnets, overlays.
	Protected []netip.Prefix
	// Supernets may stand for what is inside them towards a Route Server.
	Supernets []netip.Prefix
	// AllowHostRoutes lists where prefixes of /30 to /32 may be announced.
	AllowHostRoutes []netip.Prefix
}

// Neighbor is a Route Server with its two instances, or the NVA at the far end
// of a tunnel: of another site, or of our own (a sibling).
type Neighbor struct {
	Name  string       // of the route server or tunnel in the configuration
	Role  policy.Role  // RouteServer, Tunnel or Sibling
	Addrs []netip.Addr // one session each: two for a Route Server, one for a tunnel
	ASN   uint32
	// LocalAddr is our end of the sessions and the IPv4 next hop we announce.
	// Invalid: Config.LocalAddr.
	LocalAddr netip.Addr
	// LocalAddr6 is the IPv6 next hop we announce through a tunnel. Invalid: no IPv6 routes.
	LocalAddr6 netip.Addr
	// Interface binds the sessions to a device, so that a tunnel's session
	// runs inside it or not at all. Empty: not bound. A device that is made
	// anew is another one, even by the same name: leave the neighbor out with
	// one Apply before, and bring it back with another after.
	Interface    string
	DefaultRoute policy.DefaultRoute // for a Route Server
	// HoldTime is offered in the OPEN: whole seconds, at least 3. Zero: 180 s
	// for a Route Server, 30 s for a tunnel.
	HoldTime time.Duration
	// NextHop is announced to a Route Server in place of LocalAddr: an internal
	// load balancer's address, behind which the NVAs of a side are. Invalid: LocalAddr.
	NextHop netip.Addr
	// Cap is how many routes a Route Server takes; 0: 4,000.
	Cap int
	// GatewayCap is how many prefixes the VNet's ExpressRoute gateway takes, those
	// of the VNet included; 0: there is no gateway.
	GatewayCap int
	// Password is the key of TCP MD5 signatures (RFC 2385); empty: none.
	Password string
	// TTLSecurity accepts packets only from the other end of the link, by their
	// TTL of 255 (GTSM, RFC 5082); the peer has to send that.
	TTLSecurity bool
	// MaxPrefixes ends a session with a peer that tells more; 0: no limit.
	MaxPrefixes int
}

// Origination is a prefix that this node announces of itself.
type Origination = policy.Origination

// Changes says what Apply did.
type Changes struct {
	Added, Removed, Reset []string // names of neighbors; a reset one lost its sessions
	Announced, Withdrawn  int      // routes, summed over neighbors that were kept
}

// Empty reports whether nothing was done.
func (c Changes) Empty() bool {
	return len(c.Added)+len(c.Removed)+len(c.Reset)+c.Announced+c.Withdrawn == 0
}

// withDefaults returns the configuration with every default filled in and
// prefixes masked, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.ASN == 0 {
		bad("bgp: no AS number")
	}
	if !c.RouterID.Is4() || c.RouterID.IsUnspecified() {
		bad("bgp: router id %q is not an IPv4 address", c.RouterID)
	}
	if c.ListenPort == 0 {
		c.ListenPort = Port
	}
	c.Neighbors = slices.Clone(c.Neighbors)
	names, addrs := map[string]bool{}, map[netip.Addr]string{}
	for i := range c.Neighbors {
		n := &c.Neighbors[i]
		if err := n.fill(c); err != nil {
			errs = append(errs, err)
		}
		if names[n.Name] {
			bad("bgp: two neighbors are named %q", n.Name)
		}
		names[n.Name] = true
		for _, a := range n.Addrs {
			if other, taken := addrs[a]; taken {
				bad("bgp: address %s of neighbor %q is also one of %q", a, n.Name, other)
			}
			addrs[a] = n.Name
		}
	}
	c.Originate = slices.Clone(c.Originate)
	for i := range c.Originate {
		o := &c.Originate[i]
		o.Prefix = o.Prefix.Masked()
		for _, name := range o.To {
			if !names[name] {
				bad("bgp: %s is originated to %q, which is no neighbor", o.Prefix, name)
			}
		}
	}
	return c, errors.Join(errs...)
}

// fill checks a neighbor and sets its defaults.
func (n *Neighbor) fill(c Config) error {
	if n.Role != policy.RouteServer && n.Role != policy.Tunnel && n.Role != policy.Sibling {
		return fmt.Errorf("bgp: neighbor %q has role %s, not route-server, tunnel or sibling", n.Name, n.Role)
	}
	if !n.LocalAddr.IsValid() {
		n.LocalAddr = c.LocalAddr
	}
	if n.HoldTime == 0 {
		n.HoldTime = tunnelHold
		if n.Role == policy.RouteServer {
			n.HoldTime = routeServerHold
		}
	}
	if n.MaxPrefixes < 0 {
		return fmt.Errorf("bgp: neighbor %q: a limit of %d prefixes", n.Name, n.MaxPrefixes)
	}
	switch {
	case n.Name == "":
		return errors.New("bgp: a neighbor has no name")
	case len(n.Addrs) == 0:
		return fmt.Errorf("bgp: neighbor %q has no address", n.Name)
	case slices.ContainsFunc(n.Addrs, func(a netip.Addr) bool { return !a.Is4() }):
		return fmt.Errorf("bgp: neighbor %q: sessions run over IPv4, but its addresses are %v", n.Name, n.Addrs)
	case !n.LocalAddr.Is4():
		return fmt.Errorf("bgp: neighbor %q: our own address %q there is not an IPv4 address", n.Name, n.LocalAddr)
	case n.ASN == 0:
		return fmt.Errorf("bgp: neighbor %q has no AS number", n.Name)
	case (n.ASN == c.ASN) != (n.Role == policy.Sibling):
		return fmt.Errorf("bgp: neighbor %q has AS %d and we have %d: a sibling has our own, and nobody else has", n.Name, n.ASN, c.ASN)
	case n.NextHop.IsValid() && !n.NextHop.Is4():
		return fmt.Errorf("bgp: neighbor %q: next hop %s is not an IPv4 address", n.Name, n.NextHop)
	case n.HoldTime < 3*time.Second || n.HoldTime > maxHold || n.HoldTime%time.Second != 0:
		return fmt.Errorf("bgp: neighbor %q: hold time %s is not in whole seconds from 3s to %s", n.Name, n.HoldTime, maxHold)
	}
	return nil
}

// sameSessions reports whether a neighbor can be kept as it is on the wire.
// What only the policy reads (the default route mode) is no reason to reset.
func (n Neighbor) sameSessions(o Neighbor) bool {
	n.DefaultRoute, n.NextHop, n.Cap, n.GatewayCap = o.DefaultRoute, o.NextHop, o.Cap, o.GatewayCap
	return reflect.DeepEqual(n, o)
}

// sameSpeaker reports whether two configurations agree in what every session carries in its OPEN.
func (c Config) sameSpeaker(o Config) bool {
	return c.ASN == o.ASN && c.RouterID == o.RouterID && c.ListenPort == o.ListenPort
}

// target is the neighbor as the policy sees it.
func (n Neighbor) target() policy.Target {
	t := policy.Target{
		Neighbor: n.Name, Role: n.Role, ASN: n.ASN, DefaultRoute: n.DefaultRoute,
		NextHop: n.LocalAddr, NextHop6: n.LocalAddr6,
	}
	if n.NextHop.IsValid() {
		t.NextHop = n.NextHop
	}
	return t
}
