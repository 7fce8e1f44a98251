package fabric

import (
	"net/netip"
	"slices"
)

// Void is the device that a packet leaves by when no route wants it: it ends there, counted.
const Void = "void"

// Hop is one way out of the fabric.
type Hop struct {
	Device string     // the NIC's name, or Void
	Via    netip.Addr // the NIC's address; not valid for a NIC's own address and for Void
}

// KernelRoute is one line of a NIC's kernel table.
type KernelRoute struct {
	Prefix netip.Prefix
	Hops   []Hop // several: equal-cost
}

// Program translates the effective routes of a NIC into its kernel table, sorted by prefix.
//
// The VNet's prefix alone tells the kernel nothing: it becomes one host route per NIC that is there. Such a host
// route stands only where the NIC's effective routes do lead to the VNet, so a longer user-defined route still
// takes its addresses away.
func Program(c Config, nic NIC, effective []Route) []KernelRoute {
	table := []KernelRoute{{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Hops: []Hop{{Device: Void}}}}
	put := func(r KernelRoute) {
		i := slices.IndexFunc(table, func(t KernelRoute) bool { return t.Prefix == r.Prefix })
		if i < 0 {
			table = append(table, r)
			return
		}
		table[i] = r
	}
	for _, r := range effective {
		if r.Active {
			put(KernelRoute{Prefix: r.Prefix, Hops: hops(c, nic, r)})
		}
	}
	for _, n := range c.NICs {
		r, ok := Lookup(effective, n.Address)
		if ok && (r.Type == VnetLocal || r.Type == VNetPeering) {
			put(KernelRoute{Prefix: netip.PrefixFrom(n.Address, 32), Hops: []Hop{{Device: n.Name}}})
		}
	}
	sortKernel(table)
	return table
}

// Host computes the fabric's own table, by which its ICMP errors find their way: every NIC, and what is behind
// the circuits. It uses what ExpressRoute gateways told, whichever Route Server heard it.
func Host(c Config, learned map[string][]BGPRoute) []KernelRoute {
	var table []KernelRoute
	for _, n := range c.NICs {
		table = append(table, KernelRoute{Prefix: netip.PrefixFrom(n.Address, 32), Hops: []Hop{{Device: n.Name}}})
	}
	for _, routes := range learned {
		for _, r := range routes {
			n, ok := c.at(r.NextHop)
			known := slices.ContainsFunc(table, func(k KernelRoute) bool { return k.Prefix == r.Prefix })
			if r.Circuit && ok && !known {
				table = append(table, KernelRoute{Prefix: r.Prefix, Hops: []Hop{{Device: n.Name, Via: n.Address}}})
			}
		}
	}
	sortKernel(table)
	return table
}

// hops finds the NICs behind an effective route; nothing there means the void.
func hops(c Config, nic NIC, r Route) []Hop {
	var hs []Hop
	switch r.Type {
	case Gateway, Appliance:
		for _, a := range r.NextHops {
			if n, ok := c.at(a); ok {
				hs = append(hs, Hop{Device: n.Name, Via: n.Address})
			}
		}
	case Internet:
		if nic.VNet == "" { // the internet's own NIC: the route is the host route of a public NIC
			if n, ok := c.at(r.Prefix.Addr()); ok {
				hs = append(hs, Hop{Device: n.Name})
			}
		} else if n, ok := c.internet(); ok && nic.Public {
			hs = append(hs, Hop{Device: n.Name, Via: n.Address})
		}
	case VnetLocal, VNetPeering, None:
		// the NICs of a VNet have host routes; the rest of its space is nobody
	}
	if hs == nil {
		return []Hop{{Device: Void}}
	}
	return hs
}

func sortKernel(table []KernelRoute) {
	slices.SortFunc(table, func(a, b KernelRoute) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
}

// diffRoutes tells what to remove from have and what to put, to get want.
func diffRoutes(have, want []KernelRoute) (remove []netip.Prefix, put []KernelRoute) {
	find := func(table []KernelRoute, p netip.Prefix) (KernelRoute, bool) {
		i := slices.IndexFunc(table, func(k KernelRoute) bool { return k.Prefix == p })
		if i < 0 {
			return KernelRoute{}, false
		}
		return table[i], true
	}
	for _, h := range have {
		if _, ok := find(want, h.Prefix); !ok {
			remove = append(remove, h.Prefix)
		}
	}
	for _, w := range want {
		h, ok := find(have, w.Prefix)
		if !ok || !slices.Equal(h.Hops, w.Hops) {
			put = append(put, w)
		}
	}
	return remove, put
}
