package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab/speaker"
)

// nodeKernel puts what a lab router learned into the main table of its namespace, as BIRD and FRR would. It runs
// inside the namespace and is used by one goroutine.
type nodeKernel struct {
	h    *netlink.Handle
	via  map[string]netip.Addr // by the neighbour's name: where packets go
	have map[netip.Prefix][]netip.Addr
}

func newNodeKernel(n Node) (*nodeKernel, error) {
	h, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	k := &nodeKernel{h: h, via: map[string]netip.Addr{}, have: map[netip.Prefix][]netip.Addr{}}
	for _, s := range n.Sessions {
		k.via[s.Peer] = s.Via
	}
	return k, k.flush()
}

// close takes the routes back, as a routing daemon does that is stopped.
func (k *nodeKernel) close() error {
	err := k.flush()
	k.h.Close()
	return err
}

// flush removes what a process before this one left.
func (k *nodeKernel) flush() error {
	routes, err := k.h.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: unix.RTPROT_BGP}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if err := k.h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove old route %v: %w", r.Dst, err)
		}
	}
	return nil
}

// onBest is the speaker's callback. A route that the kernel refuses is logged: the others are still right.
func (k *nodeKernel) onBest(log *zap.Logger) func([]speaker.Best) {
	return func(best []speaker.Best) {
		want := map[netip.Prefix][]netip.Addr{}
		for _, b := range best {
			if hops := k.hops(b); len(hops) > 0 {
				want[b.Prefix] = hops
			}
		}
		for p := range k.have {
			if _, ok := want[p]; ok {
				continue
			}
			if err := k.h.RouteDel(&netlink.Route{Dst: ipNet(p), Protocol: unix.RTPROT_BGP, Priority: metric}); err != nil && !errors.Is(err, unix.ESRCH) {
				log.Error("remove route", zap.Stringer("prefix", p), zap.Error(err))
			}
		}
		for p, hops := range want {
			if slices.Equal(k.have[p], hops) {
				continue
			}
			if err := k.h.RouteReplace(kernelRoute(p, hops)); err != nil {
				log.Error("put route", zap.Stringer("prefix", p), zap.Error(err))
			}
		}
		k.have = want
	}
}

// metric keeps a learned default apart from the one that DHCP gave.
const metric = 20

// hops are the gateways of the ECMP set; two instances behind one gateway are one.
func (k *nodeKernel) hops(b speaker.Best) []netip.Addr {
	var hops []netip.Addr
	for _, p := range b.Paths {
		if via, ok := k.via[p.From]; ok {
			hops = append(hops, via)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops)
}

func kernelRoute(p netip.Prefix, hops []netip.Addr) *netlink.Route {
	r := &netlink.Route{Dst: ipNet(p), Protocol: unix.RTPROT_BGP, Priority: metric}
	if len(hops) == 1 {
		r.Gw = hops[0].AsSlice()
		return r
	}
	for _, h := range hops {
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{Gw: h.AsSlice()})
	}
	return r
}
