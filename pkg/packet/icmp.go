package packet

import (
	"encoding/binary"
	"net/netip"
)

// TooBig appends to dst the ICMP error for a packet that does not fit a link
// of the given MTU: "fragmentation needed" (RFC 1191, section 4) or "packet
// too big" (RFC 4443, section 3.2), from src to the packet's source. It
// returns dst as it was where no error may be sent: about ICMP errors, later
// fragments, and packets from or to no single host (RFC 1812, section
// 4.3.2.7; RFC 4443, section 2.4). src must be of the packet's family.
func TooBig(dst []byte, src netip.Addr, orig []byte, in Info, mtu int) []byte {
	if !in.First || isICMPError(orig, in) {
		return dst
	}
	if in.Version == 6 {
		return tooBig6(dst, src, orig[:in.Len], mtu)
	}
	return tooBig4(dst, src, orig[:in.Len], mtu)
}

func isICMPError(b []byte, in Info) bool {
	if in.Transport >= in.Len {
		return false
	}
	switch t := b[in.Transport]; in.Proto {
	case ICMP: // everything but queries (RFC 1122, section 3.2.2)
		return t != 0 && t != 8 && (t < 13 || t > 18)
	case ICMPv6:
		return t < 128 || t == 137 // a redirect is one too (RFC 4443, section 2.4, rule e.2)
	}
	return false
}

// quote4 keeps the error within 576 bytes (RFC 1812, section 4.3.2.3), quote6 within IPv6's minimum MTU.
const (
	quote4 = 576 - 28
	quote6 = 1280 - 48
)

func tooBig4(dst []byte, src netip.Addr, orig []byte, mtu int) []byte {
	from, to := netip.AddrFrom4([4]byte(orig[12:16])), netip.AddrFrom4([4]byte(orig[16:20]))
	if !src.Is4() || !from.IsGlobalUnicast() && !from.IsLinkLocalUnicast() || to.IsMulticast() || to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return dst
	}
	n := min(len(orig), quote4)
	start := len(dst)
	dst = append(dst, 0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 64, ICMP, 0, 0) // TOS: internetwork control (RFC 1812, section 4.3.2.5)
	s := src.As4()
	dst = append(dst, s[:]...)
	dst = append(dst, orig[12:16]...)
	dst = append(dst, 3, 4, 0, 0, 0, 0, byte(mtu>>8), byte(mtu))
	dst = append(dst, orig[:n]...)
	ip := dst[start:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[10:], Checksum(ip[:20], 0))
	binary.BigEndian.PutUint16(ip[22:], Checksum(ip[20:], 0))
	return dst
}

func tooBig6(dst []byte, src netip.Addr, orig []byte, mtu int) []byte {
	from := netip.AddrFrom16([16]byte(orig[8:24]))
	if !src.Is6() || from.IsUnspecified() || from.IsMulticast() {
		return dst
	}
	n := min(len(orig), quote6)
	start := len(dst)
	dst = append(dst, 0x60, 0, 0, 0, byte((8+n)>>8), byte(8+n), ICMPv6, 64)
	s := src.As16()
	dst = append(dst, s[:]...)
	dst = append(dst, orig[8:24]...)
	dst = append(dst, 2, 0, 0, 0, byte(mtu>>24), byte(mtu>>16), byte(mtu>>8), byte(mtu))
	dst = append(dst, orig[:n]...)
	ip := dst[start:]
	binary.BigEndian.PutUint16(ip[42:], Checksum(ip[40:], PseudoSum(ip, ICMPv6, len(ip)-40)))
	return dst
}
