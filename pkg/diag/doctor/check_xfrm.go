package doctor

import (
	"fmt"
	"net/netip"
	"slices"
)

// protocols of IP that the policies are tried with.
const (
	protocolUDP = 17
	protocolTCP = 6
)

// flow is a packet that the kernel's policies are tried with.
type flow struct {
	what, direction  string
	from, to         netip.Addr
	protocol         int
	fromPort, toPort int
	mark             uint32
}

// checkKernelIPsec looks for policies of the kernel's own IPsec that would take
// the tunnels' packets, outside or inside. Those of another program that has
// ended stay.
func (d *doctor) checkKernelIPsec() {
	if d.h.Policies == nil {
		return
	}
	for _, t := range d.n.Tunnels {
		taken := false
		for _, f := range d.flows(t) {
			p := d.h.policy(f)
			if p == nil || !p.Block && !p.Protects {
				continue
			}
			taken = true
			does := "has to be protected by an SA of the kernel's"
			if p.Block {
				does = "is dropped"
			}
			d.find(KernelIPsec, SeverityError, t.Name, "ip xfrm policy; ip xfrm state # whose are they? systemctl stop strongswan ipsec; if nobody's: ip xfrm policy flush; ip xfrm state flush",
				"%s %s, by the kernel's policy %s %s to %s with priority %d", f.what, does, p.Direction, p.From, p.To, p.Priority)
		}
		if !taken {
			d.ok(KernelIPsec, t.Name, "none of the kernel's %d IPsec policies takes its packets", len(d.h.Policies))
		}
	}
}

// flows are a tunnel's packets, each way.
func (d *doctor) flows(t Tunnel) (list []flow) {
	ours := d.n.Address
	if l := d.h.link(d.n.Interface); !ours.IsValid() && l != nil {
		i := slices.IndexFunc(l.Addrs, func(a netip.Addr) bool { return a.Is4() == t.Remote.Is4() && !a.IsLinkLocalUnicast() })
		if i >= 0 {
			ours = l.Addrs[i]
		}
	}
	if ours.IsValid() && t.Remote.IsValid() && t.Port != 0 {
		list = append(list,
			flow{fmt.Sprintf("what is sent to %s port %d", t.Remote, t.PeerPort), "out", ours, t.Remote, protocolUDP, int(t.Port), int(t.PeerPort), d.n.Mark},
			flow{fmt.Sprintf("what comes from %s to port %d", t.Remote, t.Port), "in", t.Remote, ours, protocolUDP, int(t.PeerPort), int(t.Port), 0})
	}
	if t.Address.IsValid() && t.Peer.IsValid() {
		list = append(list,
			flow{fmt.Sprintf("BGP to %s", t.Peer), "out", t.Address, t.Peer, protocolTCP, 50000, bgpPort, 0},
			flow{fmt.Sprintf("BGP from %s", t.Peer), "in", t.Peer, t.Address, protocolTCP, 50000, bgpPort, 0})
	}
	return list
}

// policy is the one that the kernel takes for a packet; nil if none fits.
func (h *Host) policy(f flow) (best *Policy) {
	for i := range h.Policies {
		p := &h.Policies[i]
		switch {
		case p.Direction != f.direction, !p.From.Contains(f.from), !p.To.Contains(f.to):
		case p.Protocol != 0 && p.Protocol != f.protocol:
		case p.FromPort != 0 && p.FromPort != f.fromPort, p.ToPort != 0 && p.ToPort != f.toPort:
		case f.mark&p.Mask != p.Mark&p.Mask:
		case best == nil || p.Priority < best.Priority:
			best = p
		}
	}
	return best
}
