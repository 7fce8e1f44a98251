package fabric

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// firstTable is the kernel table of the first NIC; the others follow.
	firstTable = 101
	// rulePriority is that of the first NIC's rule: after the local table, before main.
	rulePriority = 1000
	// hostTable is for what the fabric says itself: its ICMP errors.
	hostTable = unix.RT_TABLE_MAIN
	// protocol marks the fabric's routes.
	protocol = 99
)

// kernel writes routing tables of the fabric's namespace. It remembers what it wrote, so it owns these tables alone.
type kernel struct {
	h       *netlink.Handle
	devices map[string]int        // interface indices
	have    map[int][]KernelRoute // by table
}

func newKernel(h *netlink.Handle) *kernel {
	return &kernel{h: h, devices: map[string]int{}, have: map[int][]KernelRoute{}}
}

// addRule sends what comes from a NIC to its table.
func (k *kernel) addRule(i int, nic NIC) error {
	rule := netlink.NewRule()
	rule.IifName, rule.Table, rule.Priority, rule.Family = nic.Name, firstTable+i, rulePriority+i, unix.AF_INET
	if err := k.h.RuleDel(rule); err != nil && !gone(err) {
		return fmt.Errorf("replace the rule of NIC %s: %w", nic.Name, err)
	}
	if err := k.h.RuleAdd(rule); err != nil {
		return fmt.Errorf("add the rule of NIC %s: %w", nic.Name, err)
	}
	return nil
}

// apply makes a table hold exactly want.
func (k *kernel) apply(table int, want []KernelRoute) error {
	remove, put := diffRoutes(k.have[table], want)
	for _, r := range put {
		nr, err := k.route(table, r)
		if err != nil {
			return err
		}
		if err := k.h.RouteReplace(nr); err != nil {
			return fmt.Errorf("put route %s into table %d: %w", r.Prefix, table, err)
		}
	}
	for _, p := range remove {
		err := k.h.RouteDel(&netlink.Route{Dst: ipNet(p), Table: table, Protocol: protocol})
		if err != nil && !gone(err) {
			return fmt.Errorf("remove route %s from table %d: %w", p, table, err)
		}
	}
	k.have[table] = want
	return nil
}

// adopt reads what an agent before this one left, so that it is replaced and not added to.
func (k *kernel) adopt(table int) error {
	routes, err := k.h.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: table, Protocol: protocol},
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list table %d: %w", table, err)
	}
	for _, r := range routes {
		p := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Dst != nil {
			a, _ := netip.AddrFromSlice(r.Dst.IP.To4())
			bits, _ := r.Dst.Mask.Size()
			p = netip.PrefixFrom(a, bits)
		}
		k.have[table] = append(k.have[table], KernelRoute{Prefix: p})
	}
	return nil
}

func (k *kernel) route(table int, r KernelRoute) (*netlink.Route, error) {
	nr := &netlink.Route{Dst: ipNet(r.Prefix), Table: table, Protocol: protocol}
	for _, hop := range r.Hops {
		index, err := k.index(hop.Device)
		if err != nil {
			return nil, err
		}
		info := &netlink.NexthopInfo{LinkIndex: index}
		if hop.Via.IsValid() {
			info.Gw, info.Flags = hop.Via.AsSlice(), int(netlink.FLAG_ONLINK)
		}
		nr.MultiPath = append(nr.MultiPath, info)
	}
	if len(nr.MultiPath) == 1 {
		only := nr.MultiPath[0]
		nr.LinkIndex, nr.Gw, nr.Flags, nr.MultiPath = only.LinkIndex, only.Gw, only.Flags, nil
		if only.Gw == nil {
			nr.Scope = netlink.SCOPE_LINK
		}
	}
	return nr, nil
}

func (k *kernel) index(device string) (int, error) {
	if i, ok := k.devices[device]; ok {
		return i, nil
	}
	link, err := k.h.LinkByName(device)
	if err != nil {
		return 0, fmt.Errorf("find device %q: %w", device, err)
	}
	k.devices[device] = link.Attrs().Index
	return link.Attrs().Index, nil
}
