package fib

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Lookup is where the kernel sends a packet.
type Lookup struct {
	Type    string // "unicast", "local", "unreachable", "blackhole", "prohibit", "throw" …
	Prefix  netip.Prefix
	Table   uint32
	Device  string
	Gateway netip.Addr
	Source  netip.Addr
}

// Lookup asks the kernel where a packet to dst goes that comes in by the device
// iif, or from this host if iif is empty, with a mark or 0. That there is no way
// is an answer, not an error.
func (k *Keeper) Lookup(dst netip.Addr, iif string, mark uint32) (Lookup, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return Lookup{}, errors.New("the routes have been given back to the kernel")
	}
	return k.k.lookup(dst, iif, mark)
}

func (k *kernel) lookup(dst netip.Addr, iif string, mark uint32) (Lookup, error) {
	o := &netlink.RouteGetOptions{Iif: iif, Mark: mark, FIBMatch: true}
	if iif != "" {
		src, err := k.neighbor(iif, dst.Is6())
		if err != nil {
			return Lookup{}, err
		}
		o.SrcAddr = src
	}
	routes, err := k.h.RouteGetWithOptions(dst.AsSlice(), o)
	if typ := noWay(err); typ != "" {
		return Lookup{Type: typ}, nil
	}
	if err != nil || len(routes) == 0 {
		return Lookup{}, fmt.Errorf("ask the kernel for the route to %s: %w", dst, err)
	}
	names, err := k.deviceNames()
	if err != nil {
		return Lookup{}, err
	}
	r := routeFrom(&routes[0], names, dst.Is6())
	return Lookup{Type: typeName(routes[0].Type), Prefix: r.Prefix, Table: r.Table, Device: r.Device, Gateway: r.Gateway, Source: r.Source}, nil
}

// noWay names the errors that are answers.
func noWay(err error) string {
	switch {
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, unix.EACCES):
		return "prohibit"
	case errors.Is(err, unix.EINVAL):
		return "blackhole"
	}
	return ""
}

func typeName(t int) string {
	names := map[int]string{
		unix.RTN_UNICAST: "unicast", unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast",
		unix.RTN_MULTICAST: "multicast", unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable",
		unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
	}
	if n, ok := names[t]; ok {
		return n
	}
	return fmt.Sprintf("type %d", t)
}

// neighbor makes up a sender behind a device: the kernel does not route a
// packet without a source, and not one whose source is an address of ours.
func (k *kernel) neighbor(iif string, v6 bool) (net.IP, error) {
	link, err := k.h.LinkByName(iif)
	if err != nil {
		return nil, fmt.Errorf("find device %q: %w", iif, err)
	}
	family := netlink.FAMILY_V4
	if v6 {
		family = netlink.FAMILY_V6
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return k.h.AddrList(link, family) })
	if err != nil {
		return nil, fmt.Errorf("read the addresses of %s: %w", iif, err)
	}
	for _, a := range addrs {
		ones, _ := a.Mask.Size()
		own := addrFrom(a.IP)
		p := netip.PrefixFrom(own, ones)
		for _, c := range []netip.Addr{p.Masked().Addr().Next(), own.Next(), own.Prev()} {
			if p.Contains(c) && c != own {
				return c.AsSlice(), nil
			}
		}
	}
	return nil, fmt.Errorf("%s has no address of the family: there is nobody behind it to send the packet", iif)
}
