package audit

import (
	"net/netip"
	"slices"
	"strings"
)

// Azure is what Azure said, from however many documents. A nil pointer to a
// bool is a field that was not there.
type Azure struct {
	Inputs       []Input
	Effective    []EffectiveTable
	Learned      []PeerRoutes // what Route Servers learned from a peer
	Advertised   []PeerRoutes // what Route Servers tell a peer
	Cards        []Card
	Peerings     []Peering
	VNets        []VNet
	RouteServers []RouteServer
	BGPPeerings  []BGPPeering
	Groups       []SecurityGroup
	// Notes are the places that could not be understood, for a person.
	Notes []string
}

// Input says what a document was taken for.
type Input struct {
	Source string `json:"source"`
	Kind   string `json:"kind"`
	Items  int    `json:"items"`
}

// EffectiveTable is a network card's effective routes.
type EffectiveTable struct {
	Source string
	Routes []EffectiveRoute
}

// EffectiveRoute is one prefix of an effective route; Azure's have several.
type EffectiveRoute struct {
	Prefix         netip.Prefix
	NextHopType    string // as Azure wrote it
	NextHops       []netip.Addr
	Origin         string // "Default", "User" or "VirtualNetworkGateway" (ExpressRoute, VPN and Route Server alike)
	Name           string // of a user-defined route
	Active         bool
	PropagationOff bool // the subnet's route table takes no BGP routes
}

// PeerRoutes are one document of list-learned-routes or list-advertised-routes.
type PeerRoutes struct {
	Source    string
	Instances []Instance // in the order of their names
}

// Instance is one of a Route Server's two, as far as one peer is concerned.
type Instance struct {
	Name   string // RouteServiceRole_IN_0
	Routes []PeerRoute
}

// PeerRoute is one route between a Route Server and a peer.
type PeerRoute struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	Local   netip.Addr // the instance's address
	Peer    netip.Addr // who announced it; invalid in advertised routes
	ASPath  string     // as Azure wrote it, "65515-12076-65010"
}

// ASNs is the AS path in numbers; what is no number (an AS_SET's braces) is left out.
func (r PeerRoute) ASNs() []uint32 { return asns(r.ASPath) }

// Card is a network card.
type Card struct {
	Source     string
	ID         resourceID
	Forwarding *bool
	Addresses  []netip.Addr
	Subnet     resourceID
	Group      resourceID // the network security group; empty if none on the card
}

// VNet is a virtual network.
type VNet struct {
	Source   string
	ID       resourceID
	Prefixes []netip.Prefix
}

// Peering is one half of a peering of two VNets.
type Peering struct {
	Source           string
	ID               resourceID
	State, SyncLevel string
	Remote           []netip.Prefix
	RemoteVNet       resourceID
	Access           *bool // allowVirtualNetworkAccess
	Forwarded        *bool // allowForwardedTraffic
	OffersGateway    *bool // allowGatewayTransit
	UsesGateway      *bool // useRemoteGateways
}

// RouteServer is a Route Server; in the API it is a virtual hub.
type RouteServer struct {
	Source              string
	ID                  resourceID
	ASN                 *int64
	Addresses           []netip.Addr
	BranchToBranch      *bool
	Provisioning, State string
}

// BGPPeering is a peer that a Route Server was told about.
type BGPPeering struct {
	Source       string
	ID           resourceID
	ASN          *int64
	Address      netip.Addr
	Provisioning string
}

// resourceID is the path of a resource, "/subscriptions/S/resourceGroups/G/providers/NS/type/name/…".
// Its parts are compared without regard to case, as Azure does.
type resourceID string

// part returns what follows a segment, such as the name after "resourceGroups"; empty if it is not there.
func (id resourceID) part(segment string) string {
	parts := strings.Split(string(id), "/")
	i := slices.IndexFunc(parts, func(p string) bool { return strings.EqualFold(p, segment) })
	if i < 0 || i+1 >= len(parts) {
		return ""
	}
	return parts[i+1]
}

// name is the last segment.
func (id resourceID) name() string { return string(id[strings.LastIndexByte(string(id), '/')+1:]) }
