package fib

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernel reads and writes what carries one protocol number. Its sockets belong
// to the network namespace in which it was opened. One goroutine at a time.
type kernel struct {
	h        *netlink.Handle
	batch    *batchConn
	protocol int
}

func openKernel(protocol int) (*kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	batch, err := openBatch()
	if err != nil {
		h.Close()
		return nil, err
	}
	return &kernel{h: h, batch: batch, protocol: protocol}, nil
}

func (k *kernel) close() error {
	k.h.Close()
	return k.batch.close()
}

// dump repeats a reading that another program's change interrupted.
func dump[T any](read func() ([]T, error)) ([]T, error) {
	const tries = 10
	var list []T
	var err error
	for range tries {
		if list, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return list, err
}

// state reads all that is ours.
func (k *kernel) state() (s State, err error) {
	names, err := k.deviceNames()
	if err != nil {
		return s, err
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		v6 := family == netlink.FAMILY_V6
		// Table 0 with the filter means all tables.
		filter := &netlink.Route{Protocol: netlink.RouteProtocol(k.protocol), Table: unix.RT_TABLE_UNSPEC}
		routes, err := dump(func() ([]netlink.Route, error) {
			return k.h.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return s, fmt.Errorf("read the kernel's routes: %w", err)
		}
		for i := range routes {
			s.Routes = append(s.Routes, routeFrom(&routes[i], names, v6))
		}
		rules, err := k.batch.rules(v6, k.protocol)
		if err != nil {
			return s, err
		}
		s.Rules = append(s.Rules, rules...)
	}
	return s, nil
}

func (k *kernel) deviceNames() (map[int]string, error) {
	links, err := dump(k.h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("read the devices: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names, nil
}

func routeFrom(r *netlink.Route, names map[int]string, v6 bool) Route {
	out := Route{Table: uint32(r.Table), Device: names[r.LinkIndex], Gateway: addrFrom(r.Gw), Source: addrFrom(r.Src)}
	const ipv6Metric = 1024 // what the kernel calls none
	if r.Priority > 0 && (!v6 || r.Priority != ipv6Metric) {
		out.Metric = uint32(r.Priority)
	}
	if r.Type == unix.RTN_UNREACHABLE {
		out = Route{Table: out.Table, Unreachable: true, Metric: out.Metric} // IPv6 names the loopback
	}
	if len(r.MultiPath) > 0 {
		devices := make([]string, len(r.MultiPath))
		for i, hop := range r.MultiPath {
			devices[i] = names[hop.LinkIndex]
		}
		slices.Sort(devices)
		out.Device, out.More = devices[0], strings.Join(devices[1:], ",")
	}
	if r.Dst == nil {
		out.Prefix = prefixOf(nil, 0, v6)
	} else {
		ones, _ := r.Dst.Mask.Size()
		out.Prefix = prefixOf(r.Dst.IP, ones, v6)
	}
	return out
}

// addrFrom is the invalid address for none.
func addrFrom(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// apply makes the changes: first what must be there, in the order in which it
// is needed, then what must go. It goes on after an error and returns the
// changes that were made.
func (k *kernel) apply(c Changes) (done Changes, err error) {
	var errs []error
	failed := k.batch.routes(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, k.protocol, c.SetRoutes, k.index())
	for i, r := range c.SetRoutes {
		if err := failed[i]; err != nil {
			errs = append(errs, fmt.Errorf("add route %s: %w", r, err))
			continue
		}
		done.SetRoutes = append(done.SetRoutes, r)
	}
	for _, r := range c.AddRules {
		if err := k.batch.rule(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r, k.protocol); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("add rule %s: %w", r, err))
			continue
		}
		done.AddRules = append(done.AddRules, r)
	}
	for _, r := range c.DelRules {
		if err := k.batch.rule(unix.RTM_DELRULE, 0, r, k.protocol); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete rule %s: %w", r, err))
			continue
		}
		done.DelRules = append(done.DelRules, r)
	}
	failed = k.batch.routes(unix.RTM_DELROUTE, 0, k.protocol, c.DelRoutes, k.index())
	for i, r := range c.DelRoutes {
		// ENODEV: the device took its routes with it.
		if err := failed[i]; err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("delete route %s: %w", r, err))
			continue
		}
		done.DelRoutes = append(done.DelRoutes, r)
	}
	return done, joinSome(errs)
}

// index finds devices' numbers, each once; 0 for one that is not there.
func (k *kernel) index() func(string) int {
	known := map[string]int{}
	return func(name string) int {
		i, ok := known[name]
		if !ok {
			if link, err := k.h.LinkByName(name); err == nil {
				i = link.Attrs().Index
			}
			known[name] = i
		}
		return i
	}
}

// joinSome joins errors, but says only the first few: thousands of routes may
// fail for the same reason.
func joinSome(errs []error) error {
	const most = 3
	if len(errs) <= most {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs[:most:most], fmt.Errorf("and %d more", len(errs)-most))...)
}
