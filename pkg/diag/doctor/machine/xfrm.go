package machine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/diag/doctor"
)

// policies reads the kernel's policies for IPsec.
func (r *reader) policies() {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := retry(func() ([]netlink.XfrmPolicy, error) { return netlink.XfrmPolicyList(family) })
		switch {
		case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ENOPROTOOPT): // a kernel without them
		case err != nil:
			r.unread("the kernel's IPsec policies", fmt.Errorf("list policies: %w", err), "ip xfrm policy")
			r.h.Policies = nil
			return
		}
		r.addPolicies(family, list)
	}
}

func (r *reader) addPolicies(family int, list []netlink.XfrmPolicy) {
	if r.h.Policies == nil {
		r.h.Policies = []doctor.Policy{}
	}
	directions := map[netlink.Dir]string{netlink.XFRM_DIR_OUT: "out", netlink.XFRM_DIR_IN: "in", netlink.XFRM_DIR_FWD: "fwd"}
	for _, x := range list {
		// Those of sockets are for the program that has them, those of an XFRM interface for what is routed there.
		direction := directions[x.Dir]
		from, known := prefixOf(family, x.Src)
		to, known2 := prefixOf(family, x.Dst)
		if x.Ifid != 0 || direction == "" || !known || !known2 {
			continue
		}
		p := doctor.Policy{
			Direction: direction, From: from, To: to, Protocol: int(x.Proto), FromPort: x.SrcPort, ToPort: x.DstPort,
			Priority: x.Priority, Block: x.Action == netlink.XFRM_POLICY_BLOCK, Protects: len(x.Tmpls) > 0,
		}
		if x.Mark != nil {
			p.Mark, p.Mask = x.Mark.Value, x.Mark.Mask
		}
		r.h.Policies = append(r.h.Policies, p)
	}
}

// prefixOf is a selector's prefix. The library takes an IPv6 address that ends in
// twelve zero bytes for IPv4, with a mask that has no length beyond 32: those are not known.
func prefixOf(family int, n *net.IPNet) (p netip.Prefix, known bool) {
	if n == nil {
		return p, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if !ok || size == 0 {
		return p, false
	}
	a = a.Unmap()
	if family == netlink.FAMILY_V6 && a.Is4() {
		var b [16]byte
		copy(b[:], a.AsSlice())
		a = netip.AddrFrom16(b)
	}
	return netip.PrefixFrom(a, bits), true
}
