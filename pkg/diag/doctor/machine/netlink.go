package machine

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/diag/doctor"
)

// links reads the interfaces with their addresses.
func (r *reader) links() {
	list, err := retry(netlink.LinkList)
	if err != nil {
		r.unread("network interfaces", fmt.Errorf("list interfaces: %w", err), "ip link")
		return
	}
	defaults := r.defaults()
	names := map[int]string{}
	for _, l := range list {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		tool = nil // then it is not known, and the check says so
	} else {
		defer tool.Close()
	}
	r.h.Links = []doctor.Link{}
	for _, l := range list {
		a := l.Attrs()
		x := doctor.Link{
			Name: a.Name, Kind: l.Type(), Master: names[a.MasterIndex], Up: a.RawFlags&unix.IFF_UP != 0, MTU: a.MTU, Default: slices.Contains(defaults, a.Index),
			// netvsc enslaves its virtual function; bridges, bonds and VRFs say what their ports are.
			Function: a.MasterIndex != 0 && a.RawFlags&unix.IFF_SLAVE != 0 && a.Slave == nil,
		}
		if x.Kind == "device" {
			x.Kind = ""
		}
		if tool != nil {
			if features, err := tool.Features(a.Name); err == nil {
				if on, there := features["rx-lro"]; there {
					x.LRO = &on
				}
			}
		}
		addrs, err := retry(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			r.unread("addresses of "+a.Name, fmt.Errorf("list addresses: %w", err), "ip addr")
		}
		for _, ip := range addrs {
			if v, ok := netip.AddrFromSlice(ip.IP); ok {
				x.Addrs = append(x.Addrs, v.Unmap())
			}
		}
		r.h.Links = append(r.h.Links, x)
	}
}

// defaults lists the interfaces that default routes of the main table lead out of.
func (r *reader) defaults() (list []int) {
	routes, err := retry(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		r.unread("default routes", fmt.Errorf("list routes: %w", err), "ip route")
	}
	for _, x := range routes {
		if x.Dst == nil || x.Dst.String() == "0.0.0.0/0" || x.Dst.String() == "::/0" {
			list = append(list, x.LinkIndex)
			for _, n := range x.MultiPath {
				list = append(list, n.LinkIndex)
			}
		}
	}
	return list
}

// routes counts the routes of all tables but local, and lists the rules.
func (r *reader) routes() {
	list, err := retry(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		r.unread("routes", fmt.Errorf("list routes: %w", err), "ip route show table all")
		return
	}
	type key struct{ table, protocol int }
	groups := map[key]*doctor.RouteGroup{}
	for _, x := range list {
		if x.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		k := key{x.Table, int(x.Protocol)}
		if groups[k] == nil {
			example := "the default"
			if x.Dst != nil {
				example = x.Dst.String()
			}
			groups[k] = &doctor.RouteGroup{Table: uint32(x.Table), Protocol: k.protocol, Example: example}
		}
		groups[k].Count++
	}
	r.h.Routes = []doctor.RouteGroup{}
	for _, g := range groups {
		r.h.Routes = append(r.h.Routes, *g)
	}
	slices.SortFunc(r.h.Routes, func(x, y doctor.RouteGroup) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), cmp.Compare(x.Protocol, y.Protocol))
	})
	r.rules()
}

func (r *reader) rules() {
	rules := []doctor.Rule{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := retry(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
		if err != nil {
			r.unread("routing rules", fmt.Errorf("list rules: %w", err), "ip rule")
			return
		}
		for _, x := range list {
			rules = append(rules, doctor.Rule{IPv6: family == netlink.FAMILY_V6, Priority: x.Priority, Protocol: int(x.Protocol), Table: uint32(x.Table)})
		}
	}
	r.h.Rules = rules
}

// ways asks how outer packets to the peers leave.
func (r *reader) ways() {
	names := map[int]string{}
	if list, err := retry(netlink.LinkList); err == nil {
		for _, l := range list {
			names[l.Attrs().Index] = l.Attrs().Name
		}
	}
	for _, peer := range r.q.Peers {
		w := doctor.Way{Peer: peer}
		routes, err := netlink.RouteGetWithOptions(peer.AsSlice(), &netlink.RouteGetOptions{Mark: r.q.Mark})
		switch {
		case err != nil:
			w.Err = err.Error()
		case len(routes) == 0:
			w.Err = "the kernel names none"
		default:
			w.Device, w.MTU = names[routes[0].LinkIndex], routes[0].MTU
		}
		r.h.Ways = append(r.h.Ways, w)
	}
}

// retry repeats a dump that another program's change interrupted.
func retry[T any](dump func() ([]T, error)) ([]T, error) {
	const tries = 5
	var list []T
	var err error
	for range tries {
		list, err = dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return list, err
}
