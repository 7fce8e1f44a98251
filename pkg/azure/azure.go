// Package azure holds facts about the Azure platform that transitd's rules
// need: which autonomous system numbers and addresses are taken, which UDP port
// the host keeps for itself, and the Route Server's limits.
//
// Everything here is a constant or a pure function, each with its source. The
// package opens nothing and starts nothing. What other clouds or the IANA
// registries reserve beyond what a Route Server refuses is not here.
package azure

import "net/netip"

// Autonomous system numbers of the platform.
const (
	// ASNRouteServer is every Route Server's and virtual network gateway's.
	ASNRouteServer = 65515
	// ASNExpressRoute is the Microsoft edge's (MSEE).
	ASNExpressRoute = 12076
	// ASNVMwareSolution is the dedicated edge's in front of Azure VMware Solution. It does not fit 16 bits.
	ASNVMwareSolution = 398656
	// ASTrans stands for an autonomous system number that does not fit 16 bits (RFC 6793, section 9).
	ASTrans = 23456
)

// Limits of a Route Server and of an ExpressRoute gateway, in routes.
const (
	// RouteServerRouteLimit is how many routes one peer may announce. It is compared with the
	// routes already announced plus those in the incoming update; above it the session is dropped.
	RouteServerRouteLimit = 4000
	// RouteServerPeerLimit is how many BGP peers one Route Server has at most.
	RouteServerPeerLimit = 8
	// GatewayRouteLimit is how many routes go from the gateway into one ExpressRoute connection,
	// the VNets' own address space included; above it the whole connection goes down.
	GatewayRouteLimit = 1000
	// RouteServerInstances is how many addresses one Route Server has.
	RouteServerInstances = 2
)

// ReservedUDPPort is dropped by the host, as source and as destination.
const ReservedUDPPort = 65330

// MaxMTU is the largest MTU of any Azure network card, in bytes (MANA).
const MaxMTU = 9000

// WireServer returns the address that answers DNS, DHCP and the health probes
// of load balancers in every VNet.
func WireServer() netip.Addr { return netip.AddrFrom4([4]byte{168, 63, 129, 16}) }

// InstanceMetadata returns the address of the instance metadata service in every VNet.
func InstanceMetadata() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 169, 254}) }

// ReservedAddress reports whether the platform uses an address in every VNet, and for what.
func ReservedAddress(a netip.Addr) (reason string, reserved bool) {
	switch a {
	case WireServer():
		return "Azure's DNS, DHCP and health probe address", true
	case InstanceMetadata():
		return "Azure's instance metadata service", true
	default:
		return "", false
	}
}

// ReservedAddresses lists the addresses that ReservedAddress knows.
func ReservedAddresses() []netip.Addr { return []netip.Addr{WireServer(), InstanceMetadata()} }
