package lab

import (
	"net/netip"

	"github.com/transitd/transitd/pkg/lab/speaker"
)

// speakerConfig turns a node of the plan into the role that its kind of process plays.
func speakerConfig(c nodeConfig, kind Kind) speaker.Config {
	n := c.Node
	switch kind {
	case KindRouteServer:
		return routeServerConfig(c)
	case KindMSEE:
		return mseeConfig(n)
	case KindNaive:
		return naiveConfig(n)
	default:
		return edgeConfig(c)
	}
}

func routeServerConfig(c nodeConfig) speaker.Config {
	rs := speaker.RouteServerConfig{Addr: c.Node.RouterID, Subnet: c.NIC.Subnet, VNets: c.Node.Announce, HoldTime: holdTime, PrefixCap: c.Options.Cap, Burst: c.Options.Burst}
	for _, s := range c.Node.Sessions {
		rs.Peers = append(rs.Peers, speaker.RouteServerPeer{
			Name: s.Peer, Addr: s.Addr, ASN: s.ASN, Passive: s.Passive,
			Gateway: s.Role == RoleMSEE,
		})
	}
	return speaker.RouteServer(rs)
}

func mseeConfig(n Node) speaker.Config {
	m := speaker.MSEEConfig{RouterID: n.RouterID, Listen: anyAddress(), RouteCap: 1000, HoldTime: holdTime}
	for _, s := range n.Sessions {
		p := speaker.MSEEPeer{Name: s.Peer, Addr: s.Addr, Local: s.Local, Passive: s.Passive}
		if s.Role == RoleRouteServer {
			m.RouteServers = append(m.RouteServers, p)
		} else {
			m.Edge, m.EdgeASN = p, s.ASN
		}
	}
	return speaker.MSEE(m)
}

// naiveConfig: the hub's NVA also tells the other one a default, as transitd would through the tunnel.
func naiveConfig(n Node) speaker.Config {
	nc := speaker.NaiveConfig{ASN: n.ASN, Addr: n.RouterID, HoldTime: holdTime}
	for _, s := range n.Sessions {
		p := speaker.NaivePeer{Name: s.Peer, Addr: s.Addr, ASN: s.ASN, Passive: s.Passive}
		if s.Role == RoleRouteServer {
			nc.RouteServers = append(nc.RouteServers, p)
		} else {
			nc.NVAs = append(nc.NVAs, p)
		}
	}
	cfg := speaker.Naive(nc)
	for _, p := range n.Announce {
		cfg.Originate = append(cfg.Originate, speaker.Path{Prefix: p})
	}
	if len(nc.NVAs) == 0 { // the only NVA of its VNet tells the Route Server what it originates, and nothing else
		for i := range cfg.Peers {
			cfg.Peers[i].Export = func(p speaker.Path) (speaker.Path, bool) { return p, p.From == "" }
		}
	}
	return cfg
}

func edgeConfig(c nodeConfig) speaker.Config {
	n := c.Node
	e := speaker.EdgeConfig{ASN: n.ASN, RouterID: n.RouterID, Prefixes: n.Announce, HoldTime: holdTime}
	if n.ASN == asnAVS {
		e.Origin = speaker.OriginIncomplete // what AVS' routes are seen with (facts, section 1.5)
	}
	for _, s := range n.Sessions {
		e.Peers = append(e.Peers, speaker.EdgePeer{Name: s.Peer, Addr: s.Addr, Local: s.Local, ASN: s.ASN, Passive: s.Passive})
	}
	cfg := speaker.Edge(e)
	if filtersDefault(c) {
		for i := range cfg.Peers {
			cfg.Peers[i].Import = func(p speaker.Path) (speaker.Path, bool) { return p, p.Prefix.Bits() != 0 }
		}
	}
	return cfg
}

// filtersDefault: the customer refuses a default from Azure, which Microsoft's own document asks for.
func filtersDefault(c nodeConfig) bool { return c.Options.FilterDefault && c.Node.Name == "onprem" }

func anyAddress() netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), speaker.DefaultPort)
}
