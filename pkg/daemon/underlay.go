package daemon

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Facts are what the machine says about the underlay's network card.
type Facts struct {
	Interface string
	MTU       int
	// Addrs are the global addresses with their prefix lengths, in the kernel's order.
	Addrs []netip.Prefix
	// Gateway and Gateway6 are the next hops of the main table's default routes
	// through the card; invalid if there is none.
	Gateway, Gateway6 netip.Addr
}

// ReadFacts asks the kernel about a network card. This is the only file of the
// package that speaks netlink.
func ReadFacts(iface string) (Facts, error) {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return Facts{}, fmt.Errorf("find network card %q: %w", iface, err)
	}
	f := Facts{Interface: iface, MTU: link.Attrs().MTU}
	addrs, err := retry(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return Facts{}, fmt.Errorf("read the addresses of %s: %w", iface, err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if ok && a.Scope == unix.RT_SCOPE_UNIVERSE {
			f.Addrs = append(f.Addrs, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	f.Gateway, err = defaultGateway(link, netlink.FAMILY_V4)
	if err != nil {
		return Facts{}, err
	}
	f.Gateway6, err = defaultGateway(link, netlink.FAMILY_V6)
	return f, err
}

// defaultGateway finds the next hop of the main table's best default route through a card.
func defaultGateway(link netlink.Link, family int) (netip.Addr, error) {
	filter := &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_MAIN}
	routes, err := retry(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the routes of %s: %w", link.Attrs().Name, err)
	}
	var best netip.Addr
	metric := 0
	for _, r := range routes {
		if ones := 0; r.Dst != nil {
			if ones, _ = r.Dst.Mask.Size(); ones > 0 {
				continue
			}
		}
		gw, ok := netip.AddrFromSlice(r.Gw)
		if ok && (!best.IsValid() || r.Priority < metric) {
			best, metric = gw.Unmap(), r.Priority
		}
	}
	return best, nil
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

// deviceIndex returns an interface's index, 0 if there is none of the name.
func deviceIndex(name string) (int, error) {
	link, err := netlink.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for device %q: %w", name, err)
	}
	return link.Attrs().Index, nil
}
