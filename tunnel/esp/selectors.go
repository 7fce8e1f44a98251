package esp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel/sa"
)

// selectors say which packets may go by a pair (RFC 4301, section 5).
type selectors struct {
	local, remote []sa.Selector
	open          [2]bool // IPv4, IPv6: everything may go
}

// newSelectors returns nil if everything may go.
func newSelectors(local, remote []sa.Selector) *selectors {
	if len(local) == 0 && len(remote) == 0 {
		return nil
	}
	s := &selectors{local: slices.Clone(local), remote: slices.Clone(remote)}
	for i, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		s.open[i] = slices.ContainsFunc(local, whole(all)) && slices.ContainsFunc(remote, whole(all))
	}
	if s.open[0] && s.open[1] {
		return nil
	}
	return s
}

// whole is whether a selector is all of a family.
func whole(all netip.Prefix) func(sa.Selector) bool {
	last := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if all.Addr().Is6() {
		var b [16]byte
		for i := range b {
			b[i] = 255
		}
		last = netip.AddrFrom16(b)
	}
	return func(s sa.Selector) bool {
		return s.Protocol == 0 && s.StartPort == 0 && s.EndPort == 65535 && s.Start == all.Addr() && s.End == last
	}
}

func (s *selectors) out(pkt []byte) bool {
	info, fault := packet.Parse(pkt)
	return fault == packet.None && s.permit(pkt, info, s.local, s.remote)
}

func (s *selectors) in(pkt []byte, info packet.Info) bool {
	return s.permit(pkt, info, s.remote, s.local)
}

// permit reports whether a packet's source is in one list, and its destination in the other.
func (s *selectors) permit(pkt []byte, info packet.Info, from, to []sa.Selector) bool {
	family := 0
	if info.Version == 6 {
		family = 1
	}
	if s.open[family] {
		return true
	}
	var src, dst netip.Addr
	if info.Version == 4 {
		src, dst = netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20]))
	} else {
		src, dst = netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))
	}
	srcPort, dstPort, known := ports(pkt, info)
	return match(from, src, info.Proto, srcPort, known) && match(to, dst, info.Proto, dstPort, known)
}

// ports are those of TCP, UDP and SCTP. A fragment that does not have them fits
// only selectors of any port.
func ports(pkt []byte, info packet.Info) (src, dst uint16, known bool) {
	const tcp, udp, sctp = 6, 17, 132
	if !info.First || info.Proto != tcp && info.Proto != udp && info.Proto != sctp || len(pkt) < info.Transport+4 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(pkt[info.Transport:]), binary.BigEndian.Uint16(pkt[info.Transport+2:]), true
}

func match(list []sa.Selector, a netip.Addr, proto uint8, port uint16, known bool) bool {
	for i := range list {
		s := &list[i]
		switch {
		case a.Less(s.Start) || s.End.Less(a) || a.Is4() != s.Start.Is4():
		case s.Protocol != 0 && s.Protocol != proto:
		case s.StartPort == 0 && s.EndPort == 65535:
			return true
		case known && port >= s.StartPort && port <= s.EndPort:
			return true
		}
	}
	return false
}
