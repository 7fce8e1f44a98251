package speaker

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// EdgeConfig describes a plain edge router: the customer's or AVS'. It
// announces its prefixes and uses whatever it hears.
type EdgeConfig struct {
	ASN      uint32
	RouterID netip.Addr
	// Listen is as in Config.
	Listen netip.AddrPort
	// Port to connect to; 0 is 179.
	Port uint16
	// Peers are its MSEEs; their AS is 12076 unless given.
	Peers []EdgePeer
	// Prefixes are announced to all of them.
	Prefixes []netip.Prefix
	// Origin is the ORIGIN of Prefixes; AVS' are OriginIncomplete.
	Origin uint8
	// HoldTime is offered; 0 is 180 s.
	HoldTime time.Duration
	OnBest   func([]Best)
	OnState  func(string, State)
	Log      *zap.Logger
}

// EdgePeer is a neighbour of an edge router.
type EdgePeer struct {
	Name    string
	Addr    netip.Addr
	Local   netip.Addr
	ASN     uint32 // 0: 12076
	Passive bool
}

// Edge makes the configuration of a plain edge router.
func Edge(c EdgeConfig) Config {
	cfg := Config{
		ASN: c.ASN, RouterID: c.RouterID, Listen: c.Listen, HoldTime: c.HoldTime,
		OnBest: c.OnBest, OnState: c.OnState, Log: c.Log,
	}
	for _, p := range c.Peers {
		asn := p.ASN
		if asn == 0 {
			asn = MSEEASN
		}
		cfg.Peers = append(cfg.Peers, Peer{
			Name: p.Name, Addr: p.Addr, ASN: asn, Port: c.Port, Local: p.Local, Passive: p.Passive,
		})
	}
	for _, prefix := range c.Prefixes {
		cfg.Originate = append(cfg.Originate, Path{Prefix: prefix, Origin: c.Origin})
	}
	return cfg
}
