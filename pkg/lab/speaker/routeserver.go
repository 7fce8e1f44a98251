package speaker

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Facts of Azure that the roles are made of.
const (
	// RouteServerASN is the AS of every Route Server and ExpressRoute gateway.
	RouteServerASN uint32 = 65515
	// DefaultPrefixCap is how many routes a Route Server takes from a neighbour.
	DefaultPrefixCap = 4000
	// DefaultBurst is the pause that ends a burst of UPDATEs for the cap. That
	// Azure counts bursts is inferred from its documentation's example (2,001
	// routes announced again break 4,000), which fits in no single UPDATE.
	DefaultBurst = time.Second
	// gatewayPreference puts ExpressRoute before an NVA for the same prefix,
	// Azure's default hub routing preference.
	gatewayPreference = 100
)

// RouteServerConfig describes one of the two instances of an Azure Route Server.
type RouteServerConfig struct {
	// Addr is the instance's address: listener, source, next hop and router id.
	Addr netip.Addr
	// Port to listen on and connect to; 0 is 179.
	Port uint16
	// Subnet is the RouteServerSubnet: an announcement equal to it is ignored.
	Subnet netip.Prefix
	// VNets are the address spaces announced with path 65515: that of the own
	// VNet and of VNets peered with "use remote gateway". Later changes are
	// made with Speaker.Originate, Withdraw and Refresh.
	VNets []netip.Prefix
	// Peers are the NVAs and gateways.
	Peers []RouteServerPeer
	// PrefixCap is the cap on current + incoming routes of each NVA; 0 is DefaultPrefixCap.
	PrefixCap int
	// Burst is the pause that ends a burst for the cap; 0 is DefaultBurst, negative: each UPDATE counts for itself.
	Burst time.Duration
	// LimitIdle is how long an NVA over the cap is refused; 0 is DefaultLimitIdle.
	LimitIdle time.Duration
	// HoldTime is offered; 0 is 180 s.
	HoldTime time.Duration
	// IsolateBranches turns branch-to-branch off: routes do not cross between gateways and NVAs.
	IsolateBranches bool
	// OnBest, OnState and Log are as in Config. OnBest's paths from NVAs are what
	// Azure programs into NICs; those of the VNets are Best.Local.
	OnBest  func([]Best)
	OnState func(string, State)
	Log     *zap.Logger
}

// RouteServerPeer is an NVA, or a gateway (which in the lab is the MSEE behind it).
type RouteServerPeer struct {
	Name    string
	Addr    netip.Addr
	ASN     uint32
	Gateway bool
	Passive bool
}

// RouteServer makes the configuration of one Route Server instance: AS 65515,
// next hop self, AS path and communities untouched, no graceful restart. What
// every neighbour hears is the same best path, except that a neighbour does
// not hear its own; NO_ADVERTISE is honoured. Paths with 65515 are dropped without
// a word (they show as Dropped.ASLoop only).
func RouteServer(c RouteServerConfig) Config {
	cfg := Config{
		ASN:          RouteServerASN,
		RouterID:     c.Addr,
		Listen:       netip.AddrPortFrom(c.Addr, c.Port),
		HoldTime:     c.HoldTime,
		AnnounceIPv6: true, // it does, and uses none
		OnBest:       c.OnBest,
		OnState:      c.OnState,
		Log:          c.Log,
	}
	gateways := make(map[string]bool)
	for _, p := range c.Peers {
		gateways[p.Name] = p.Gateway
	}
	for _, p := range c.Peers {
		cfg.Peers = append(cfg.Peers, c.peer(p, gateways))
	}
	for _, v := range c.VNets {
		cfg.Originate = append(cfg.Originate, Path{Prefix: v, Origin: OriginIGP})
	}
	return cfg
}

// peer makes one neighbour; gateways says by name who is one.
func (c RouteServerConfig) peer(p RouteServerPeer, gateways map[string]bool) Peer {
	out := Peer{
		Name: p.Name, Addr: p.Addr, ASN: p.ASN, Port: c.Port, Local: c.Addr, Passive: p.Passive,
		Export: func(r Path) (Path, bool) {
			if r.From == "" {
				return r, true
			}
			from := gateways[r.From]
			// ExpressRoute is never a transit between two circuits, and
			// between circuits and NVAs only with branch-to-branch.
			return r, (!from || !p.Gateway) && (!c.IsolateBranches || from == p.Gateway)
		},
	}
	if p.Gateway {
		out.Preference = gatewayPreference
		return out
	}
	out.ShieldOriginated = true
	out.MaxPrefixes = defaultInt(c.PrefixCap, DefaultPrefixCap)
	out.CountIncoming = true
	out.Burst = max(defaultDuration(c.Burst, DefaultBurst), 0)
	out.LimitIdle = c.LimitIdle
	out.Import = func(r Path) (Path, bool) { return r, r.Prefix != c.Subnet }
	return out
}

func defaultInt(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}

func defaultDuration(v, d time.Duration) time.Duration {
	if v == 0 {
		return d
	}
	return v
}
