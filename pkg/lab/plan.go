package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/transitd/transitd/pkg/lab/fabric"
)

// Scenario names a topology.
type Scenario string

// The scenarios: the two figures of Microsoft's "Injecting default route to Azure VMware Solution".
const (
	AVSTransit   Scenario = "avs-transit"
	DefaultRoute Scenario = "default-route"
)

// Encapsulation is what the NVAs put around packets for each other.
type Encapsulation string

// The encapsulations of this version. With None the NVAs do not run transitd: they speak plain BGP to each other
// and forward by the guest's routing table, as one would try first. It loops.
const (
	None      Encapsulation = "none"
	VXLAN     Encapsulation = "vxlan"
	WireGuard Encapsulation = "wireguard"
	IPsec     Encapsulation = "ipsec"
)

// Edge is what runs on AVS' and the customer's routers.
type Edge string

// The edges. Embedded is the lab's own BGP speaker, so the lab needs no other daemon; it keeps the name of the
// command's contract although no GoBGP is inside: transitd is built on that, and one bug shall not hide on both ends.
const (
	Embedded Edge = "gobgp"
	BIRD     Edge = "bird"
	FRR      Edge = "frr"
)

// title is the name as people write it.
func (e Encapsulation) title() string {
	return map[Encapsulation]string{None: "no", VXLAN: "VXLAN", WireGuard: "WireGuard", IPsec: "IPsec"}[e]
}

// Options are what a person chooses.
type Options struct {
	Name          string        `json:"name"`
	Scenario      Scenario      `json:"scenario"`
	Encapsulation Encapsulation `json:"encapsulation"`
	Edge          Edge          `json:"edge"`
	// SDNDelay is the time from a Route Server's change to programmed NICs; Azure takes 24 to 39 s.
	SDNDelay time.Duration `json:"sdn_delay_ns"`
	// FilterDefault lets on-prem refuse a default route that comes from Azure.
	FilterDefault bool `json:"filter_default,omitempty"`
	// NVAs is how many there are on each side, 1 to 3; more than one need transitd and the avs-transit scenario.
	NVAs int `json:"nvas,omitempty"`
	// HA says which of several NVAs carries the traffic.
	HA HA `json:"ha,omitempty"`
	// Cap is how many routes a Route Server takes of an NVA, 0: 4,000.
	Cap int `json:"cap,omitempty"`
	// Burst is the pause between UPDATEs that ends a burst for the cap, 0: a second; negative: each UPDATE is one.
	Burst time.Duration `json:"burst_ns,omitempty"`
	// NVAConfig is text that is appended to every NVA's configuration.
	NVAConfig string `json:"nva_config,omitempty"`
	// Transitd is the path of the daemon's binary.
	Transitd string `json:"transitd"`
}

// HA says which of several NVAs of a side carries the traffic.
type HA string

// The values of HA.
const (
	ActiveStandby HA = "active-standby" // the first one, then the second …
	ECMP          HA = "ecmp"           // all, by flow
)

// maxNVAs on a side: a Route Server has eight peers, and a lab has two cores.
const maxNVAs = 3

// DefaultName and DefaultSDNDelay are what Options mean by zero.
const (
	DefaultName     = "transitlab"
	DefaultSDNDelay = 200 * time.Millisecond
)

// namePattern keeps namespace and device names short and unambiguous.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Check finds what cannot be built, and fills in the defaults.
func (o *Options) Check() error {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Scenario == "" {
		o.Scenario = AVSTransit
	}
	if o.Encapsulation == "" {
		o.Encapsulation = VXLAN
	}
	if o.Edge == "" {
		o.Edge = Embedded
	}
	if o.NVAs == 0 {
		o.NVAs = 1
	}
	if o.HA == "" {
		o.HA = ActiveStandby
	}
	if err := CheckName(o.Name); err != nil {
		return err
	}
	switch {
	case o.Scenario != AVSTransit && o.Scenario != DefaultRoute:
		return fmt.Errorf("scenario %q is unknown: avs-transit or default-route", o.Scenario)
	case !slices.Contains([]Encapsulation{None, VXLAN, WireGuard, IPsec}, o.Encapsulation):
		return fmt.Errorf("encapsulation %q is unknown: none, vxlan, wireguard or ipsec", o.Encapsulation)
	case !slices.Contains([]Edge{Embedded, BIRD, FRR}, o.Edge):
		return fmt.Errorf("edge %q is unknown: gobgp, bird or frr", o.Edge)
	case o.NVAs < 1 || o.NVAs > maxNVAs:
		return fmt.Errorf("%d NVAs a side: 1 to %d", o.NVAs, maxNVAs)
	case o.NVAs > 1 && (o.Scenario != AVSTransit || o.Encapsulation == None):
		return errors.New("several NVAs a side need --scenario avs-transit and an encapsulation: without one they loop, which the demo shows with one")
	case o.HA != ActiveStandby && o.HA != ECMP:
		return fmt.Errorf("ha %q is unknown: active-standby or ecmp", o.HA)
	case o.Cap != 0 && (o.Cap < 2 || o.Cap > 100000):
		return fmt.Errorf("cap %d is out of range (2 to 100000 routes; 0: 4000)", o.Cap)
	case o.SDNDelay < 0 || o.SDNDelay > 10*time.Minute:
		return fmt.Errorf("sdn delay %v is out of range (0 to 10m)", o.SDNDelay)
	}
	return nil
}

// CheckName refuses a lab name that could not be part of a namespace's name.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("lab name %q: a lower-case letter, then letters, digits and dashes, 32 at most", name)
	}
	return nil
}

// Role is what a node does.
type Role string

// The roles; most are also the KIND of the node's process.
const (
	RoleFabric      Role = "fabric"
	RoleHost        Role = "host"         // offers the services of package probe
	RoleRouteServer Role = "route-server" // one instance
	RoleMSEE        Role = "msee"         // Microsoft's ExpressRoute edge, with the VNet's gateway in one
	RoleEdge        Role = "edge"         // AVS' or the customer's router
	RoleNVA         Role = "nva"
)

// Node is one namespace and what runs in it.
type Node struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// ASN and RouterID are set where BGP is spoken.
	ASN      uint32     `json:"asn,omitempty"`
	RouterID netip.Addr `json:"router_id,omitzero"`
	// Service is the Route Server that an instance belongs to.
	Service string `json:"service,omitempty"`
	// Loopback addresses, with the prefix length that the kernel gets.
	Loopback []netip.Prefix `json:"loopback,omitempty"`
	// Announce are the prefixes that the node originates.
	Announce []netip.Prefix `json:"announce,omitempty"`
	Sessions []Session      `json:"sessions,omitempty"`
	// Statics are routes of the node's own; an invalid Via means that packets are refused there.
	Statics []Static `json:"statics,omitempty"`
	// Hosts: the node also offers the services of package probe.
	Services bool `json:"services,omitempty"`
}

// Session is one BGP session of a node, as the node sees it.
type Session struct {
	Peer  string     `json:"peer"`
	Role  Role       `json:"role"` // the peer's
	Local netip.Addr `json:"local"`
	Addr  netip.Addr `json:"addr"`
	ASN   uint32     `json:"asn"`
	// Passive: the peer connects.
	Passive bool `json:"passive,omitempty"`
	// Via is where packets for routes from this peer go; the fabric's gateway, or the peer.
	Via netip.Addr `json:"via,omitzero"`
	// HoldTime to be offered.
	HoldTime time.Duration `json:"hold_time_ns"`
}

// Static is a route that the lab gives a node's kernel.
type Static struct {
	Prefix netip.Prefix `json:"prefix"`
	Via    netip.Addr   `json:"via,omitzero"`
}

// Link is a wire between two nodes beside the fabric: an ExpressRoute circuit, or a LAN.
type Link struct {
	A, B End
	// Circuit: the addresses are for BGP only and never chosen as source for anything else.
	Circuit bool `json:"circuit,omitempty"`
}

// End of a link.
type End struct {
	Node    string       `json:"node"`
	Device  string       `json:"device"`
	Address netip.Prefix `json:"address"`
}

// Plan is a whole lab as data.
type Plan struct {
	Options Options       `json:"options"`
	Fabric  fabric.Config `json:"fabric"`
	// Nodes in the order in which they start.
	Nodes []Node `json:"nodes"`
	Links []Link `json:"links"`
	// AVS and OnPrem are the prefixes that have to meet.
	AVS    []netip.Prefix `json:"avs"`
	OnPrem []netip.Prefix `json:"onprem"`
}

// NewPlan makes the plan for options that Check accepted.
func NewPlan(o Options) (Plan, error) {
	if err := o.Check(); err != nil {
		return Plan{}, err
	}
	b := builder{Plan: Plan{Options: o, AVS: avsPrefixes(), OnPrem: onPremPrefixes()}}
	if o.Scenario == DefaultRoute {
		b.defaultRoute()
	} else {
		b.avsTransit()
	}
	return b.Plan, b.validate()
}

// Node finds a node by its name.
func (p Plan) Node(name string) (Node, bool) {
	i := slices.IndexFunc(p.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return p.Nodes[i], true
}

// names of all nodes that any scenario has: what "down" looks for, whatever state it finds.
func allNodes() []string {
	return []string{
		"avs", "avs-edge", "msee-avs", "transit-ars-0", "transit-ars-1", "transit-nva", "transit-nva-2", "transit-nva-3", "fabric",
		"hub-ars-0", "hub-ars-1", "hub-nva", "hub-nva-2", "hub-nva-3", "msee-onprem", "onprem", "spoke", "internet",
	}
}

// validate finds mistakes in a scenario: it is a check of this package, not of what a person wrote.
func (p Plan) validate() error {
	if err := p.Fabric.Validate(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, n := range p.Nodes {
		if seen[n.Name] || !slices.Contains(allNodes(), n.Name) {
			return fmt.Errorf("lab: node %q is there twice or unknown to down", n.Name)
		}
		seen[n.Name] = true
		for _, s := range n.Sessions {
			if err := p.validateSession(n, s); err != nil {
				return err
			}
		}
	}
	for _, nic := range p.Fabric.NICs {
		if !seen[nic.Name] {
			return fmt.Errorf("lab: NIC %q belongs to no node", nic.Name)
		}
	}
	for _, l := range p.Links {
		if !seen[l.A.Node] || !seen[l.B.Node] || l.A.Address.Masked() != l.B.Address.Masked() {
			return fmt.Errorf("lab: link %s–%s does not fit", l.A.Node, l.B.Node)
		}
	}
	return nil
}

// validateSession checks that both ends of a session agree.
func (p Plan) validateSession(n Node, s Session) error {
	peer, ok := p.Node(s.Peer)
	if !ok || peer.ASN != s.ASN {
		return fmt.Errorf("lab: %s expects AS %d of %q, which has %d", n.Name, s.ASN, s.Peer, peer.ASN)
	}
	ok = slices.ContainsFunc(peer.Sessions, func(o Session) bool {
		return o.Peer == n.Name && o.Addr == s.Local && o.Local == s.Addr && o.ASN == n.ASN && o.Passive != s.Passive
	})
	if !ok {
		return fmt.Errorf("lab: the session %s–%s is not the same from the other end", n.Name, s.Peer)
	}
	return nil
}
