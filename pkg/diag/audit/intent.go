package audit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/transitd/transitd/pkg/azure"
	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
)

// noAdvertise is the community that keeps a route from the gateways (RFC 1997), as the API writes it.
const noAdvertise = "65535:65282"

// Intent is what the node is and does, or is to do.
type Intent struct {
	Node string
	ASN  uint32
	// Addresses are the node's own on the underlay; none if they are not known.
	Addresses    []netip.Addr
	Tunnels      []IntentTunnel
	RouteServers []IntentRouteServer
	// VNet is the address space of the node's VNet, as far as it is known.
	VNet []netip.Prefix
	// Running says that the daemon was asked: everything that is announced is known, not only what the configuration originates.
	Running bool
}

// IntentTunnel leads to one other NVA.
type IntentTunnel struct {
	Name   string
	Remote netip.Addr
	// Port and PeerPort are the UDP ports that this node and the other NVA listen on; 0 if not known.
	Port, PeerPort uint16
	// Spread says that packets leave from many source ports, not from the one that is listened on.
	Spread bool
	// Raw says that packets are ESP without UDP; the ports are IKE's.
	Raw bool
}

// IntentRouteServer is one Route Server.
type IntentRouteServer struct {
	Name      string
	ASN       uint32
	Addresses []netip.Addr
	Subnet    netip.Prefix // invalid if not known
	NextHop   netip.Addr   // announced in place of the own address; invalid if none or not known
	MaxRoutes int
	// MaxGatewayRoutes is the ExpressRoute gateway's cap; 0 if there is no gateway.
	MaxGatewayRoutes int
	Announced        []Announcement
	// Received are the prefixes that the node uses from it.
	Received []netip.Prefix
}

// Announcement is one route that the node announces to a Route Server.
type Announcement struct {
	Prefix netip.Prefix
	ASPath []uint32
	// Local says that it carries NO_ADVERTISE: it stays in the network cards and never reaches a gateway.
	Local bool
}

// FromConfig takes the intent from a configuration. What is announced is only
// known as far as the node originates it without a probe.
func FromConfig(c *config.Config) Intent {
	in := Intent{Node: c.Node.Name, ASN: c.Node.ASN, VNet: c.Policy.VNet}
	if c.Underlay.Address.IsValid() {
		in.Addresses = []netip.Addr{c.Underlay.Address}
	}
	for _, t := range c.Tunnels {
		x := IntentTunnel{Name: t.Name, Remote: t.Remote, Port: t.VXLAN.Port, PeerPort: t.VXLAN.Port, Spread: true}
		if t.Encapsulation == config.EncapsulationWireGuard {
			x.Port, x.PeerPort, x.Spread = t.WireGuard.ListenPort, t.WireGuard.PeerPort, t.WireGuard.Paths > 1
		}
		if t.Encapsulation == config.EncapsulationIPsec {
			x.Port, x.PeerPort, x.Spread, x.Raw = t.IPsec.Port, t.IPsec.PeerPort, t.IPsec.Paths > 1, !t.IPsec.UDPEncapsulation
			if x.Raw {
				x.Port, x.PeerPort = config.IKEPort, config.IKEPort
			}
		}
		in.Tunnels = append(in.Tunnels, x)
	}
	for _, s := range c.RouteServers {
		r := IntentRouteServer{
			Name: s.Name, ASN: s.ASN, Addresses: s.Addresses, Subnet: s.Subnet, NextHop: s.NextHop,
			MaxRoutes: s.MaxRoutes, MaxGatewayRoutes: s.MaxGatewayRoutes,
		}
		for _, o := range c.Originate {
			if slices.Contains(o.To, s.Name) && !o.Probe.Given() {
				r.Announced = append(r.Announced, originated(o, s.DefaultRoute == config.DefaultRouteNoAdvertise)...)
			}
		}
		in.RouteServers = append(in.RouteServers, r)
	}
	return in
}

// originated are the announcements of one origination.
func originated(o config.Origination, local bool) []Announcement {
	if o.Prefix.Bits() != 0 {
		return []Announcement{{Prefix: o.Prefix}}
	}
	out := []Announcement{{Prefix: o.Prefix, Local: local}}
	if o.Split {
		out = []Announcement{{Prefix: netip.MustParsePrefix("0.0.0.0/1"), Local: local}, {Prefix: netip.MustParsePrefix("128.0.0.0/1"), Local: local}}
	}
	if o.RFC1918 {
		for _, p := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} {
			out = append(out, Announcement{Prefix: netip.MustParsePrefix(p)})
		}
	}
	return out
}

// Daemon is what FromDaemon asks; *control.Client has it.
type Daemon interface {
	Status(context.Context) (control.Status, error)
	BGPRoutes(context.Context, control.BGPRoutesQuery) (control.BGPRoutes, error)
	Routes(context.Context) (control.Routes, error)
}

// FromDaemon asks a running node. The caps are Azure's own, and what the API
// does not tell (UDP ports, the RouteServerSubnet) stays unknown.
func FromDaemon(ctx context.Context, d Daemon) (Intent, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return Intent{}, err
	}
	in := Intent{Node: s.Node.Name, ASN: s.Node.ASN, Running: true}
	p := &parser{}
	for _, t := range s.Tunnels {
		in.Tunnels = append(in.Tunnels, IntentTunnel{Name: t.Name, Remote: p.addr(t.Remote)})
	}
	for _, b := range s.BGP {
		if b.Role != "route-server" {
			continue
		}
		i := slices.IndexFunc(in.RouteServers, func(r IntentRouteServer) bool { return r.Name == b.Name })
		if i < 0 {
			i = len(in.RouteServers)
			in.RouteServers = append(in.RouteServers, IntentRouteServer{
				Name: b.Name, ASN: b.ASN, MaxRoutes: azure.RouteServerRouteLimit, MaxGatewayRoutes: azure.GatewayRouteLimit,
			})
		}
		in.RouteServers[i].Addresses = append(in.RouteServers[i].Addresses, p.addr(b.Peer))
	}
	for i := range in.RouteServers {
		if err := p.routes(ctx, d, &in.RouteServers[i]); err != nil {
			return Intent{}, err
		}
	}
	kernel, err := d.Routes(ctx)
	if err != nil {
		return Intent{}, err
	}
	for _, r := range kernel.Routes {
		if r.Table != "underlay" || r.Source == "" {
			continue
		}
		if a := p.addr(r.Source); !slices.Contains(in.Addresses, a) {
			in.Addresses = append(in.Addresses, a)
		}
	}
	return in, p.err
}

// routes asks what a Route Server is told and what it told.
func (p *parser) routes(ctx context.Context, d Daemon, r *IntentRouteServer) error {
	announced, err := d.BGPRoutes(ctx, control.BGPRoutesQuery{Direction: control.DirectionAnnounced, Peer: r.Name})
	if err != nil {
		return err
	}
	for _, b := range announced.Routes {
		if b.Accepted {
			r.Announced = append(r.Announced, Announcement{
				Prefix: p.prefix(b.Prefix), ASPath: b.ASPath, Local: slices.Contains(b.Communities, noAdvertise),
			})
		}
	}
	received, err := d.BGPRoutes(ctx, control.BGPRoutesQuery{Direction: control.DirectionReceived, Peer: r.Name})
	if err != nil {
		return err
	}
	for _, b := range received.Routes {
		if b.Accepted && b.Best {
			r.Received = append(r.Received, p.prefix(b.Prefix))
		}
	}
	return nil
}

// parser reads the API's texts and keeps the first error.
type parser struct{ err error }

func (p *parser) addr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if ap, perr := netip.ParseAddrPort(s); err != nil && perr == nil {
		a, err = ap.Addr(), nil // "10.1.2.4:4789"
	}
	p.keep(err)
	return a.Unmap()
}

func (p *parser) prefix(s string) netip.Prefix {
	v, err := netip.ParsePrefix(s)
	p.keep(err)
	return v
}

func (p *parser) keep(err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("audit: read the daemon's answer: %w", err)
	}
}
