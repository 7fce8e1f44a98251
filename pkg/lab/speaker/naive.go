package speaker

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// AVSASN is the AS of AVS' edge routers; it needs four octets.
const AVSASN uint32 = 398656

// NaiveConfig describes the NVA of the "no encapsulation" demonstration: what
// published BIRD recipes do. Everything is accepted; everything from the Route
// Server goes to the other NVAs and the reverse, without 65515, 12076 and
// 398656 in the AS path.
type NaiveConfig struct {
	ASN uint32
	// Addr is the NIC's address: listener, source, next hop and router id.
	Addr netip.Addr
	// Port to listen on and connect to; 0 is 179.
	Port uint16
	// RouteServers are the own VNet's instances.
	RouteServers []NaivePeer
	// NVAs are the other NVAs (multihop), of the AS in NaivePeer.ASN.
	NVAs []NaivePeer
	// HoldTime is offered; 0 is 180 s.
	HoldTime time.Duration
	OnBest   func([]Best)
	OnState  func(string, State)
	Log      *zap.Logger
}

// NaivePeer is a neighbour of a naive NVA.
type NaivePeer struct {
	Name    string
	Addr    netip.Addr
	ASN     uint32 // 0: 65515
	Passive bool
}

// Naive makes the configuration of a naive NVA. What it originates itself
// (Config.Originate, empty here) goes to the other NVAs.
func Naive(c NaiveConfig) Config {
	cfg := Config{
		ASN: c.ASN, RouterID: c.Addr, Listen: netip.AddrPortFrom(c.Addr, c.Port), HoldTime: c.HoldTime,
		OnBest: c.OnBest, OnState: c.OnState, Log: c.Log,
	}
	nvas := make(map[string]bool)
	for _, p := range c.NVAs {
		nvas[p.Name] = true
	}
	add := func(p NaivePeer, nva bool) {
		asn := p.ASN
		if asn == 0 {
			asn = RouteServerASN
		}
		cfg.Peers = append(cfg.Peers, Peer{
			Name: p.Name, Addr: p.Addr, ASN: asn, Port: c.Port, Local: c.Addr, Passive: p.Passive,
			Export: func(r Path) (Path, bool) {
				return RemoveAS(r, RouteServerASN, MSEEASN, AVSASN), nvas[r.From] != nva
			},
		})
	}
	for _, p := range c.RouteServers {
		add(p, false)
	}
	for _, p := range c.NVAs {
		add(p, true)
	}
	return cfg
}
