package speaker

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// MSEEASN is the AS of Microsoft's enterprise edge routers.
const MSEEASN uint32 = 12076

// MSEEConfig describes an ExpressRoute edge router (MSEE) together with the
// ExpressRoute gateway behind it: towards Azure it peers with the Route Server
// instances, towards the customer (or AVS) with one edge router.
type MSEEConfig struct {
	// RouterID is the BGP identifier.
	RouterID netip.Addr
	// Listen is as in Config; usually 0.0.0.0:179, since an MSEE has two sides.
	Listen netip.AddrPort
	// Port to connect to; 0 is 179.
	Port uint16
	// RouteServers are the instances; their AS is 65515.
	RouteServers []MSEEPeer
	// Edge is the customer's or AVS' router, of AS EdgeASN.
	Edge    MSEEPeer
	EdgeASN uint32
	// RouteCap is Azure's limit of 1,000 routes towards a circuit: over it the
	// session to that Route Server instance is torn down. 0: not enforced.
	RouteCap int
	// HoldTime is offered; 0 is 180 s.
	HoldTime time.Duration
	OnBest   func([]Best)
	OnState  func(string, State)
	Log      *zap.Logger
}

// MSEEPeer is a neighbour of an MSEE.
type MSEEPeer struct {
	Name    string
	Addr    netip.Addr
	Local   netip.Addr // source address on that side; may be invalid
	Passive bool
}

// MSEE makes the configuration of an ExpressRoute edge. What comes from the
// edge router goes to the Route Servers with 12076 in front, private ASNs of
// the customer included; what comes from the Route Servers goes to the edge router
// without private ASNs (65515 is one of them). Paths with 12076 are dropped
// silently. Nothing goes from one Route Server instance to the other. What it
// originates goes to the Route Servers only: prefixes as from a customer.
//
// The gateway, of AS 65515 like the Route Server, adds nothing to a path: an
// NVA sees "65515 12076 CUSTOMER".
func MSEE(c MSEEConfig) Config {
	cfg := Config{
		ASN: MSEEASN, RouterID: c.RouterID, Listen: c.Listen, HoldTime: c.HoldTime,
		OnBest: c.OnBest, OnState: c.OnState, Log: c.Log,
	}
	edge := c.Edge.Name
	for _, rs := range c.RouteServers {
		cfg.Peers = append(cfg.Peers, Peer{
			Name: rs.Name, Addr: rs.Addr, ASN: RouteServerASN, Port: c.Port, Local: rs.Local, Passive: rs.Passive,
			MaxPrefixes: c.RouteCap,
			Export:      func(r Path) (Path, bool) { return r, r.From == edge || r.From == "" },
		})
	}
	cfg.Peers = append(cfg.Peers, Peer{
		Name: edge, Addr: c.Edge.Addr, ASN: c.EdgeASN, Port: c.Port, Local: c.Edge.Local, Passive: c.Edge.Passive,
		Export: func(r Path) (Path, bool) { return RemovePrivateAS(r), r.From != edge && r.From != "" },
	})
	return cfg
}
