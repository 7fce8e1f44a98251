package fabric

import (
	"cmp"
	"net/netip"
	"slices"
)

// Source tells where an effective route comes from, in Azure's words.
type Source string

// The sources, from the one that wins on equal length to the one that loses.
const (
	SourceUser    Source = "User"
	SourceGateway Source = "VirtualNetworkGateway" // ExpressRoute and everything that a Route Server learned
	SourceDefault Source = "Default"
)

// NextHopType is what an effective route leads to, in Azure's words.
type NextHopType string

// The next hop types.
const (
	VnetLocal   NextHopType = "VnetLocal"
	VNetPeering NextHopType = "VNetPeering"
	Gateway     NextHopType = "VirtualNetworkGateway"
	Appliance   NextHopType = "VirtualAppliance"
	Internet    NextHopType = "Internet"
	None        NextHopType = "None"
)

// BGPRoute is a path that a Route Server instance learned.
type BGPRoute struct {
	Prefix  netip.Prefix `json:"prefix"`
	NextHop netip.Addr   `json:"next_hop"` // the attribute as received: where the fabric sends the packets
	ASPath  []uint32     `json:"as_path"`
	// Circuit: learned from an ExpressRoute gateway, not from an NVA.
	Circuit bool `json:"circuit,omitempty"`
}

// Route is one line of a NIC's effective routes.
type Route struct {
	Prefix   netip.Prefix `json:"prefix"`
	Source   Source       `json:"source"`
	Type     NextHopType  `json:"type"`
	NextHops []netip.Addr `json:"next_hops,omitempty"` // several: equal-cost
	Active   bool         `json:"active"`
	Reason   string       `json:"reason,omitempty"` // why it is not active
}

// Effective computes the effective routes of a NIC from the topology and from what the Route Server of its VNet
// learned. The result is sorted: active routes first, then by prefix. It has inactive lines too, each with the reason.
//
// The rules (learn.microsoft.com, virtual-networks-udr-overview): the longest prefix wins; on equal length
// user-defined before BGP before system; but the prefixes of the VNet and of its peerings win over BGP routes that
// are equal or more specific. Among BGP routes for one prefix ExpressRoute wins over an NVA (the default hub
// routing preference), then the shorter AS path; what is still equal is used together.
func Effective(c Config, nic NIC, learned []BGPRoute) []Route {
	if nic.VNet == "" {
		return internetRoutes(c)
	}
	routes := systemRoutes(c, nic)
	local := routes[:countLocal(routes)]
	for _, r := range bgpRoutes(learned) {
		i := slices.IndexFunc(local, func(l Route) bool { return covers(l.Prefix, r.Prefix) })
		if i >= 0 {
			r.Active, r.Reason = false, "inside "+local[i].Prefix.String()+" ("+string(local[i].Type)+"), which wins over BGP"
		}
		routes = append(routes, r)
	}
	for _, u := range nic.UDRs {
		r := Route{Prefix: u.Prefix.Masked(), Source: SourceUser, Type: u.Type, Active: true}
		if u.NextHop.IsValid() {
			r.NextHops = []netip.Addr{u.NextHop}
		}
		routes = append(routes, r)
	}
	preferSource(routes)
	sortRoutes(routes)
	return routes
}

// Lookup finds the active route with the longest prefix that contains dst.
func Lookup(routes []Route, dst netip.Addr) (Route, bool) {
	var best Route
	found := false
	for _, r := range routes {
		if r.Active && r.Prefix.Contains(dst) && (!found || r.Prefix.Bits() > best.Prefix.Bits()) {
			best, found = r, true
		}
	}
	return best, found
}

// systemRoutes are those that every subnet has; VNet and peering prefixes come first.
func systemRoutes(c Config, nic NIC) []Route {
	v := c.vnet(nic.VNet)
	var routes []Route
	add := func(t NextHopType, prefixes ...netip.Prefix) {
		for _, p := range prefixes {
			routes = append(routes, Route{Prefix: p.Masked(), Source: SourceDefault, Type: t, Active: true})
		}
	}
	add(VnetLocal, v.Prefixes...)
	for _, peer := range v.Peers {
		add(VNetPeering, c.vnet(peer).Prefixes...)
	}
	add(None, unroutable()...)
	add(Internet, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	return routes
}

// unroutable are the private ranges that a subnet drops unless something more specific is known.
func unroutable() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
	}
}

func countLocal(routes []Route) int {
	n := slices.IndexFunc(routes, func(r Route) bool { return r.Type != VnetLocal && r.Type != VNetPeering })
	if n < 0 {
		return len(routes)
	}
	return n
}

// bgpRoutes turns paths into one route per prefix, with the next hops of all best paths.
func bgpRoutes(learned []BGPRoute) []Route {
	byPrefix := map[netip.Prefix][]BGPRoute{}
	for _, l := range learned {
		p := l.Prefix.Masked()
		byPrefix[p] = append(byPrefix[p], l)
	}
	routes := make([]Route, 0, len(byPrefix))
	for prefix, paths := range byPrefix {
		best := slices.MinFunc(paths, comparePaths)
		r := Route{Prefix: prefix, Source: SourceGateway, Type: Gateway, Active: true}
		for _, p := range paths {
			if comparePaths(p, best) == 0 && !slices.Contains(r.NextHops, p.NextHop) {
				r.NextHops = append(r.NextHops, p.NextHop)
			}
		}
		slices.SortFunc(r.NextHops, netip.Addr.Compare)
		routes = append(routes, r)
	}
	return routes
}

// comparePaths orders paths for one prefix: what comes first wins, equal paths share.
func comparePaths(a, b BGPRoute) int {
	if a.Circuit != b.Circuit {
		if a.Circuit {
			return -1
		}
		return 1
	}
	return cmp.Compare(len(a.ASPath), len(b.ASPath))
}

// preferSource makes those routes inactive that lose against another source for the same prefix.
func preferSource(routes []Route) {
	best := map[netip.Prefix]Source{}
	for _, r := range routes {
		if s, ok := best[r.Prefix]; r.Active && (!ok || rank(r.Source) < rank(s)) {
			best[r.Prefix] = r.Source
		}
	}
	for i := range routes {
		r := &routes[i]
		if r.Active && r.Source != best[r.Prefix] {
			r.Active, r.Reason = false, "same prefix from source "+string(best[r.Prefix])
		}
	}
}

func rank(s Source) int {
	return slices.Index([]Source{SourceUser, SourceGateway, SourceDefault}, s)
}

func sortRoutes(routes []Route) {
	slices.SortFunc(routes, func(a, b Route) int {
		switch {
		case a.Active && !b.Active:
			return -1
		case !a.Active && b.Active:
			return 1
		}
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
			cmp.Compare(rank(a.Source), rank(b.Source)))
	})
}

// internetRoutes are those of the internet's NIC: it can answer NICs with a public address, nobody else.
func internetRoutes(c Config) []Route {
	var routes []Route
	for _, n := range c.NICs {
		if n.Public {
			routes = append(routes, Route{
				Prefix: netip.PrefixFrom(n.Address, 32), Source: SourceDefault,
				Type: Internet, NextHops: []netip.Addr{n.Address}, Active: true,
			})
		}
	}
	sortRoutes(routes)
	return routes
}
