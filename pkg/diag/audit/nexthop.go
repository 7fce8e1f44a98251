package audit

import (
	"net/netip"
	"slices"
	"strings"
)

// hop is what a next hop type means to us.
type hop int

const (
	hopUnknown   hop = iota
	hopVNet          // the VNet itself
	hopPeering       // a peered VNet, in the region or elsewhere
	hopGateway       // ExpressRoute, VPN and everything that a Route Server learned
	hopAppliance     // an address that a route table names
	hopInternet
	hopNone // dropped
	hopEndpoint
)

// kindOf understands the names of the API, of the CLI's output and of the
// portal: case, spaces and dashes do not count.
func kindOf(nextHopType string) hop {
	switch strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(nextHopType)) {
	case "vnetlocal", "virtualnetwork":
		return hopVNet
	case "vnetpeering", "virtualnetworkpeering", "vnetglobalpeering", "virtualnetworkglobalpeering", "globalvnetpeering":
		return hopPeering
	case "virtualnetworkgateway", "expressroutegateway", "vpngateway":
		return hopGateway
	case "virtualappliance", "virtualapplianceecmp":
		return hopAppliance
	case "internet":
		return hopInternet
	case "none":
		return hopNone
	case "virtualnetworkserviceendpoint", "interfaceendpoint", "privateendpoint":
		return hopEndpoint
	default:
		return hopUnknown
	}
}

// Kinds of Origin.
const (
	originUser    = "User"
	originGateway = "VirtualNetworkGateway"
)

func (r EffectiveRoute) user() bool { return strings.EqualFold(r.Origin, originUser) }
func (r EffectiveRoute) bgp() bool  { return strings.EqualFold(r.Origin, originGateway) }

// system is a route that Azure makes of the VNet, its peerings and its service endpoints.
func (r EffectiveRoute) system() bool {
	k := kindOf(r.NextHopType)
	return !r.user() && !r.bgp() && (k == hopVNet || k == hopPeering || k == hopEndpoint)
}

// rank orders routes of one length: user-defined, then BGP, then system.
func (r EffectiveRoute) rank() int {
	switch {
	case r.user():
		return 0
	case r.bgp():
		return 1
	default:
		return 2
	}
}

// lookup finds the route of a packet as a network card does: the longest
// prefix, on equal length user-defined before BGP before system; but the system
// routes of the VNet, its peerings and service endpoints win over BGP even if
// that is more specific. shadowed is the BGP route that lost in this way.
// (Microsoft, "Virtual network traffic routing", how Azure selects a route.)
func (t EffectiveTable) lookup(a netip.Addr) (best EffectiveRoute, shadowed *EffectiveRoute, found bool) {
	var fits []EffectiveRoute
	for _, r := range t.Routes {
		if r.Active && r.Prefix.Contains(a) {
			fits = append(fits, r)
		}
	}
	slices.SortStableFunc(fits, func(x, y EffectiveRoute) int {
		if d := y.Prefix.Bits() - x.Prefix.Bits(); d != 0 {
			return d
		}
		return x.rank() - y.rank()
	})
	if len(fits) == 0 {
		return EffectiveRoute{}, nil, false
	}
	if fits[0].bgp() {
		// A user-defined route below would have to beat the system route first, by length or by rank.
		if i := slices.IndexFunc(fits, func(r EffectiveRoute) bool { return !r.bgp() }); i >= 0 && fits[i].system() {
			return fits[i], &fits[0], true
		}
	}
	return fits[0], nil, true
}

// exact are the routes of exactly a prefix, active or not.
func (t EffectiveTable) exact(p netip.Prefix) (out []EffectiveRoute) {
	for _, r := range t.Routes {
		if r.Prefix == p {
			out = append(out, r)
		}
	}
	return out
}

// fabric are the prefixes of the VNet and its peerings.
func (t EffectiveTable) fabric() (out []netip.Prefix) {
	for _, r := range t.Routes {
		if k := kindOf(r.NextHopType); r.Active && r.system() && (k == hopVNet || k == hopPeering) {
			out = append(out, r.Prefix)
		}
	}
	return out
}
