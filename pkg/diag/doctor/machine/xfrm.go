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
	var list []netlink.XfrmPolicy
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} { // without a family IPv6 addresses are cut to four bytes
		some, err := retry(func() ([]netlink.XfrmPolicy, error) { return netlink.XfrmPolicyList(family) })
		switch {
		case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ENOPROTOOPT): // a kernel without them
		case err != nil:
			r.unread("the kernel's IPsec policies", fmt.Errorf("list policies: %w", err), "ip xfrm policy")
			return
		}
		list = append(list, some...)
	}
	r.h.Policies = []doctor.Policy{}
	for _, x := range list {
		// Those of sockets are for the program that has them, those of an XFRM interface for what is routed there.
		direction := directions()[x.Dir]
		if x.Ifid != 0 || direction == "" {
			continue
		}
		p := doctor.Policy{
			Direction: direction, From: prefixOf(x.Src, x.Dst), To: prefixOf(x.Dst, x.Src), Protocol: int(x.Proto), FromPort: x.SrcPort, ToPort: x.DstPort,
			Priority: x.Priority, Block: x.Action == netlink.XFRM_POLICY_BLOCK, Protects: len(x.Tmpls) > 0,
		}
		if x.Mark != nil {
			p.Mark, p.Mask = x.Mark.Value, x.Mark.Mask
		}
		r.h.Policies = append(r.h.Policies, p)
	}
}

func directions() map[netlink.Dir]string {
	return map[netlink.Dir]string{netlink.XFRM_DIR_OUT: "out", netlink.XFRM_DIR_IN: "in", netlink.XFRM_DIR_FWD: "fwd"}
}

// prefixOf is a selector's prefix. One of length 0 may come without an address; the other side tells the family.
func prefixOf(n, other *net.IPNet) netip.Prefix {
	if n == nil || n.IP == nil {
		if other != nil && other.IP != nil && other.IP.To4() == nil {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
