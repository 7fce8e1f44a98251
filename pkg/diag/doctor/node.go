package doctor

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
)

// defaultProtocol is the default of routing.protocol: by it leftovers are known where there is no configuration.
const defaultProtocol = 210

// Basis says what the machine was compared with.
type Basis string

// The values of Basis.
const (
	BasisHost          Basis = "host"          // nothing: only what holds for every node
	BasisConfiguration Basis = "configuration" // a configuration file
	BasisRunning       Basis = "running"       // what a daemon answers, without its configuration
)

// Node is what the node is to be. The zero value is a node of which nothing is known.
type Node struct {
	Name      string
	Basis     Basis
	Interface string     // the underlay's card; empty if not known
	Address   netip.Addr // the card's, if it is configured
	MTU       int        // of the underlay, if it is configured
	Tunnels   []Tunnel
	// RouteServers are the addresses of their instances.
	RouteServers []netip.Addr
	Tables       []uint32
	Mark         uint32
	Protocol     int
	// Status is the running daemon's answer, Before what it said a moment earlier; nil if none runs.
	Status, Before *control.Status
}

// Tunnel is one tunnel.
type Tunnel struct {
	Name          string
	Encapsulation string
	Remote        netip.Addr
	Port          uint16 // UDP, ours
	PeerPort      uint16
	Raw           bool // packets are ESP without UDP; the ports are IKE's
	Overhead      int  // of the outer packet, in bytes; 0 if not known
	MTU           int
	Address, Peer netip.Addr // inside the tunnel
	IPv6, BFD     bool
	Certificates  bool // by which an IPsec tunnel's ends know each other
}

// FromConfig takes a node from its configuration.
func FromConfig(c *config.Config) Node {
	n := Node{
		Name: c.Node.Name, Basis: BasisConfiguration, Interface: c.Underlay.Interface, Address: c.Underlay.Address, MTU: c.Underlay.MTU,
		Tables: []uint32{c.Routing.TableUnderlay, c.Routing.TableSite, c.Routing.TableRemote, c.Routing.TableRelay},
		Mark:   c.Routing.Mark, Protocol: int(c.Routing.Protocol),
	}
	for _, s := range c.RouteServers {
		n.RouteServers = append(n.RouteServers, s.Addresses...)
	}
	for _, t := range c.Tunnels {
		x := Tunnel{
			Name: t.Name, Encapsulation: string(t.Encapsulation), Remote: t.Remote, Overhead: t.Overhead(), MTU: t.MTU,
			Address: t.Address.Addr(), Peer: t.PeerAddress, IPv6: t.Address6.IsValid(), BFD: t.BFD.Enabled,
			Port: t.VXLAN.Port, PeerPort: t.VXLAN.Port,
		}
		if t.Encapsulation == config.EncapsulationIPsec {
			x.Port, x.PeerPort = t.IPsec.Port, t.IPsec.PeerPort
			if x.Raw = !t.IPsec.UDPEncapsulation; x.Raw {
				x.Port, x.PeerPort = config.IKEPort, config.IKEPort
			}
			x.Certificates = t.IPsec.CertFile != ""
		}
		if t.Encapsulation == config.EncapsulationWireGuard {
			x.Port, x.PeerPort = t.WireGuard.ListenPort, t.WireGuard.PeerPort
		}
		n.Tunnels = append(n.Tunnels, x)
	}
	return n
}

// FromStatus takes from a daemon's answers what they tell: neither our ports nor
// the numbers in the kernel but those of the tables.
func FromStatus(s control.Status, r control.Routes) Node {
	n := Node{Name: s.Node.Name, Basis: BasisRunning}
	for _, t := range s.Tunnels {
		x := Tunnel{Name: t.Name, Encapsulation: t.Encapsulation, MTU: t.MTU, BFD: t.BFD != nil}
		if ap, err := netip.ParseAddrPort(t.Remote); err == nil {
			x.Remote, x.PeerPort = ap.Addr().Unmap(), ap.Port()
		} else if a, err := netip.ParseAddr(t.Remote); err == nil {
			x.Remote = a.Unmap()
		}
		n.Tunnels = append(n.Tunnels, x)
	}
	for _, b := range s.BGP {
		if a, err := netip.ParseAddr(b.Peer); err == nil && b.Role == "route-server" {
			n.RouteServers = append(n.RouteServers, a)
		}
	}
	for _, k := range r.Routes {
		if !slices.Contains(n.Tables, k.TableID) {
			n.Tables = append(n.Tables, k.TableID)
		}
		if k.Table == "underlay" && k.Gateway != "" {
			n.Interface = cmp.Or(n.Interface, k.Device)
		}
	}
	return n
}

// running reports whether a daemon answers.
func (n *Node) running() bool { return n.Status != nil }

// ipv6 reports whether a tunnel carries IPv6.
func (n *Node) ipv6() bool {
	return slices.ContainsFunc(n.Tunnels, func(t Tunnel) bool { return t.IPv6 || t.Remote.Is6() })
}

// tunnel reports whether a device is one of the tunnels.
func (n *Node) tunnel(name string) bool {
	return slices.ContainsFunc(n.Tunnels, func(t Tunnel) bool { return t.Name == name })
}

// raw is the first tunnel whose ESP is in no UDP; empty if there is none.
func (n *Node) raw() string {
	for _, t := range n.Tunnels {
		if t.Raw {
			return t.Name
		}
	}
	return ""
}

// Peers are the tunnels' peers, each once.
func (n *Node) Peers() (list []netip.Addr) {
	for _, t := range n.Tunnels {
		if t.Remote.IsValid() && !slices.Contains(list, t.Remote) {
			list = append(list, t.Remote)
		}
	}
	return list
}

// UDPPorts are the ports that the tunnels listen on, each once.
func (n *Node) UDPPorts() (list []uint16) {
	for _, t := range n.Tunnels {
		if t.Port != 0 && !slices.Contains(list, t.Port) {
			list = append(list, t.Port)
		}
	}
	return list
}

// ListenPorts are the UDP ports on which another program would be in the way.
func (n *Node) ListenPorts() []uint16 {
	list := n.UDPPorts()
	if slices.ContainsFunc(n.Tunnels, func(t Tunnel) bool { return t.Encapsulation == string(config.EncapsulationIPsec) && t.Port == 4500 }) {
		list = append(list, config.IKEPort)
	}
	return list
}
