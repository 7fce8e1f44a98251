package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Role says what a neighbor is to this node.
type Role uint8

const (
	// RouteServer is the node's own Azure Route Server: its routes are the node's own site.
	RouteServer Role = iota + 1
	// Tunnel is another NVA, reached through a tunnel: its routes are a remote site's.
	Tunnel
	// Local is this node itself: a prefix that its configuration originates.
	Local
	// Sibling is another NVA of our own site, reached through a tunnel of its
	// own: what it tells is what it learned from remote sites.
	Sibling
)

// String is the role as the API and the command line show it.
func (r Role) String() string {
	switch r {
	case RouteServer:
		return "route-server"
	case Tunnel:
		return "tunnel"
	case Local:
		return "local"
	case Sibling:
		return "sibling"
	}
	return fmt.Sprintf("unknown(%d)", uint8(r))
}

// Source is where a route came from. The zero Peer stands for the node itself.
type Source struct {
	Neighbor string     // the neighbor's name in the configuration
	Role     Role       // what it is to us
	ASN      uint32     // its AS number
	Peer     netip.Addr // the one BGP session: an instance of a Route Server, or the far end of a tunnel
}

// LargeCommunity is an RFC 8092 community.
type LargeCommunity struct {
	Global, Local1, Local2 uint32
}

// String is the canonical form of RFC 8092, section 5.
func (c LargeCommunity) String() string {
	return fmt.Sprintf("%d:%d:%d", c.Global, c.Local1, c.Local2)
}

// Route is one path to one prefix. Its slices are shared between copies:
// nobody changes them in place.
type Route struct {
	Prefix      netip.Prefix
	ASPath      []uint32 // leftmost (nearest) first, every segment's ASNs in order
	ASSet       bool     // some segment of the path is not an AS_SEQUENCE
	Origin      uint8    // RFC 4271, section 5.1.1: 0 IGP, 1 EGP, 2 INCOMPLETE
	NextHop     netip.Addr
	MED         uint32 // only if HasMED
	HasMED      bool
	Communities []uint32
	Large       []LargeCommunity
	From        Source
}

// Equal reports whether both would be the same on the wire and came from the same place.
func (r Route) Equal(o Route) bool {
	return r.Prefix == o.Prefix && r.ASSet == o.ASSet && r.Origin == o.Origin && r.NextHop == o.NextHop &&
		r.MED == o.MED && r.HasMED == o.HasMED && r.From == o.From &&
		slices.Equal(r.ASPath, o.ASPath) && slices.Equal(r.Communities, o.Communities) && slices.Equal(r.Large, o.Large)
}

// PathString is the AS path as routers print it: "65515 12076 398656"; empty for an empty path.
func (r Route) PathString() string {
	var b strings.Builder
	for i, asn := range r.ASPath {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.FormatUint(uint64(asn), 10))
	}
	return b.String()
}

// DefaultRoute says whether a default route may be announced to a Route Server.
type DefaultRoute uint8

const (
	// DefaultDeny refuses it.
	DefaultDeny DefaultRoute = iota
	// DefaultAnnounce lets it through.
	DefaultAnnounce
	// DefaultNoAdvertise lets it through with NO_ADVERTISE: the Route Server
	// programs it into the NICs of its VNet but tells no gateway.
	DefaultNoAdvertise
)

// String is the mode as the configuration writes it.
func (d DefaultRoute) String() string {
	switch d {
	case DefaultDeny:
		return "deny"
	case DefaultAnnounce:
		return "announce"
	case DefaultNoAdvertise:
		return "no_advertise"
	}
	return fmt.Sprintf("unknown(%d)", uint8(d))
}

// ParseDefaultRoute reads what String writes.
func ParseDefaultRoute(s string) (DefaultRoute, error) {
	for _, d := range []DefaultRoute{DefaultDeny, DefaultAnnounce, DefaultNoAdvertise} {
		if s == d.String() {
			return d, nil
		}
	}
	return DefaultDeny, fmt.Errorf("policy: default route mode %q is none of deny, announce, no_advertise", s)
}

// Origination is a prefix that this node announces of itself, and to whom.
type Origination struct {
	Prefix netip.Prefix
	To     []string // names of neighbors
}

// Env is what the rules know besides the route. It is not changed by them.
type Env struct {
	// ASN is this node's.
	ASN uint32
	// Site is the name of the site whose routes the node's own Route Servers tell.
	Site string
	// VNet are the prefixes of the node's own VNet: configured, and learned from its Route Server.
	VNet []netip.Prefix
	// VNetKnown is false until VNet can be relied upon; nothing is announced to a Route Server before.
	VNetKnown bool
	// Protected are the prefixes that carry the node itself: Route Server and
	// gateway subnets, tunnel endpoints, overlays. Neither they nor parts of
	// them are believed or announced.
	Protected []netip.Prefix
	// AllowHostRoutes lists where /30 to /32 (IPv6: /126 to /128) may be announced.
	AllowHostRoutes []netip.Prefix
	// TunnelASNs are the ASNs of the NVAs at the far ends: their site tags are understood.
	TunnelASNs []uint32
	// Originate is what the node announces of itself.
	Originate []Origination
	// Priority of this node among the NVAs of its site, told to siblings.
	Priority uint8
	// Prepend is how often our own ASN is put in front of what is announced to
	// other sites and to Route Servers, see [Prepend].
	Prepend int
}

// Target is the neighbor that Export decides for. It has no session in it:
// both instances of a Route Server are one target, so both get the same set.
type Target struct {
	Neighbor     string
	Role         Role // RouteServer or Tunnel
	ASN          uint32
	DefaultRoute DefaultRoute // for a RouteServer
	NextHop      netip.Addr   // IPv4 next hop to announce: our address there
	NextHop6     netip.Addr   // IPv6 next hop; invalid: no IPv6 routes go there
}

// Verdict is what a rule decided of a route.
type Verdict struct {
	Accept bool
	Rule   string // which rule decided: one of the Rule constants
	Reason string // one sentence for a person
	Alarm  bool   // somebody has to look at this: it is not a route that is filtered in normal life
	Route  Route  // as the rules changed it; as it was, if it was refused
}

// Originated returns the routes that the node's own configuration makes.
func Originated(env *Env) []Route {
	routes := make([]Route, 0, len(env.Originate))
	for _, o := range env.Originate {
		routes = append(routes, Route{
			Prefix: o.Prefix.Masked(),
			Large:  []LargeCommunity{siteTag(env.ASN, SiteNumber(env.Site))},
			From:   Source{Role: Local, ASN: env.ASN},
		})
	}
	return routes
}
