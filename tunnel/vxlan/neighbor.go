package vxlan

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
)

var broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

const (
	arpLen     = 28
	arpRequest = 1
	arpReply   = 2

	ndSolicitation  = 135 // RFC 4861, section 4.3
	ndAdvertisement = 136 // RFC 4861, section 4.4
	ndLen           = 24
	ndHopLimit      = 255
	optionSourceLL  = 1
	optionTargetLL  = 2
	ndSolicited     = 0x40
	ndOverride      = 0x20
)

// arpPrefix is hardware Ethernet, protocol IPv4, lengths 6 and 4 (RFC 826).
var arpPrefix = [6]byte{0, 1, 8, 0, 6, 4}

// isND reports whether a packet is a neighbor solicitation or advertisement.
// Router discovery and redirects are not: they go to nobody here.
func isND(b []byte, in packet.Info) bool {
	if in.Version != 6 || in.Proto != packet.ICMPv6 || !in.First || in.Transport >= in.Len {
		return false
	}
	t := b[in.Transport]
	return t == ndSolicitation || t == ndAdvertisement
}

// Control handles a frame that Open called Control. It appends the datagram
// that answers it to dst, if one is due, and learns the peer's MAC address from
// what the peer says of its own overlay address.
func (c *Codec) Control(dst, frame []byte) (reply []byte, r tunnel.DropReason) {
	if len(frame) < ethernetLen {
		return dst, tunnel.DropShort
	}
	if binary.BigEndian.Uint16(frame[12:]) == etherARP {
		return c.arp(dst, frame[ethernetLen:])
	}
	return c.nd(dst, frame[ethernetLen:])
}

func (c *Codec) learn(m MAC) {
	if m[0]&1 != 0 || m == (MAC{}) || m == c.local { // no station has such an address
		return
	}
	c.peer.Store(pack(m))
	c.resolved.Store(true)
}

func (c *Codec) arp(dst, p []byte) ([]byte, tunnel.DropReason) {
	if len(p) < arpLen || !bytes.Equal(p[:6], arpPrefix[:]) {
		return dst, tunnel.DropARPNDInvalid
	}
	op := binary.BigEndian.Uint16(p[6:])
	if op != arpRequest && op != arpReply {
		return dst, tunnel.DropARPNDInvalid
	}
	sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	senderMAC := MAC(p[8:14])
	if slices.Contains(c.cfg.PeerAddrs, sender) {
		c.learn(senderMAC)
	}
	if op != arpRequest || !slices.Contains(c.cfg.Addrs, target) || sender == target {
		return dst, tunnel.DropNone
	}
	dst = c.frame(dst, senderMAC, etherARP)
	dst = append(dst, arpPrefix[:]...)
	dst = append(dst, 0, arpReply)
	dst = append(dst, c.local[:]...)
	dst = append(dst, p[24:28]...)
	return append(dst, p[8:18]...), tunnel.DropNone
}

// frame appends the VXLAN and Ethernet headers.
func (c *Codec) frame(dst []byte, to MAC, typ uint16) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, headerLen)...)
	c.header(dst[n:], false)
	dst = append(dst, to[:]...)
	dst = append(dst, c.local[:]...)
	return binary.BigEndian.AppendUint16(dst, typ)
}

// nd validates as RFC 4861, sections 7.1.1 and 7.1.2, say.
func (c *Codec) nd(dst, b []byte) ([]byte, tunnel.DropReason) {
	in, fault := packet.Parse(b)
	if fault != packet.None || !isND(b, in) {
		return dst, tunnel.DropARPNDInvalid
	}
	m := b[in.Transport:in.Len]
	if len(m) < ndLen || b[7] != ndHopLimit || m[1] != 0 || in.Fragment ||
		packet.Checksum(m, packet.PseudoSum(b, packet.ICMPv6, len(m))) != 0 {
		return dst, tunnel.DropARPNDInvalid
	}
	src, target := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(m[8:24]))
	link, ok := linkOption(m[ndLen:], m[0])
	if !ok || target.IsMulticast() {
		return dst, tunnel.DropARPNDInvalid
	}
	if m[0] == ndAdvertisement {
		if m[4]&ndSolicited != 0 && b[24] == 0xff {
			return dst, tunnel.DropARPNDInvalid
		}
		if link != (MAC{}) && c.isPeer(target) {
			c.learn(link)
		}
		return dst, tunnel.DropNone
	}
	return c.solicited(dst, b, src, target, link)
}

func (c *Codec) isPeer(a netip.Addr) bool {
	return slices.Contains(c.cfg.PeerAddrs, a)
}

// linkOption finds the link-layer address option that belongs to the message
// type; ok is false if an option has no length.
func linkOption(options []byte, typ byte) (m MAC, ok bool) {
	want := byte(optionSourceLL)
	if typ == ndAdvertisement {
		want = optionTargetLL
	}
	for len(options) >= 8 {
		n := int(options[1]) * 8
		if n == 0 || n > len(options) {
			return m, false
		}
		if options[0] == want && n == 8 {
			m = MAC(options[2:8])
		}
		options = options[n:]
	}
	return m, len(options) == 0
}

// solicited answers a solicitation for an address of ours (RFC 4861, section 7.2.4).
func (c *Codec) solicited(dst, b []byte, src, target netip.Addr, link MAC) ([]byte, tunnel.DropReason) {
	probe := src.IsUnspecified() // duplicate address detection (RFC 4862, section 5.4.3)
	if probe && (link != (MAC{}) || !bytes.Equal(b[24:37], solicitedNode[:])) {
		return dst, tunnel.DropARPNDInvalid
	}
	if link != (MAC{}) && c.isPeer(src) {
		c.learn(link)
	}
	if !slices.Contains(c.cfg.Addrs, target) && target != c.linkLocal() {
		return dst, tunnel.DropNone
	}
	to, flags, mac := src, byte(ndSolicited|ndOverride), link
	if probe {
		to, flags = allNodes, ndOverride
		mac = MAC{0x33, 0x33, 0, 0, 0, 1}
	} else if mac == (MAC{}) {
		mac = c.PeerMAC()
	}
	dst = c.frame(dst, mac, etherIPv6)
	return c.message(dst, target, to, ndAdvertisement, flags, optionTargetLL, target), tunnel.DropNone
}

var allNodes = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 1})

// solicitedNode is ff02::1:ff00:0/104 (RFC 4291, section 2.7.1).
var solicitedNode = [13]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff}

// linkLocal is the modified EUI-64 address of our MAC (RFC 4291, appendix A).
func (c *Codec) linkLocal() netip.Addr {
	m := c.local
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// message appends a neighbor discovery packet with our link-layer address as its option.
func (c *Codec) message(dst []byte, src, to netip.Addr, typ, flags, option byte, target netip.Addr) []byte {
	start := len(dst)
	dst = append(dst, 0x60, 0, 0, 0, 0, ndLen+8, packet.ICMPv6, ndHopLimit)
	s, d, t := src.As16(), to.As16(), target.As16()
	dst = append(dst, s[:]...)
	dst = append(dst, d[:]...)
	dst = append(dst, typ, 0, 0, 0, flags, 0, 0, 0)
	dst = append(dst, t[:]...)
	dst = append(dst, option, 1)
	dst = append(dst, c.local[:]...)
	ip := dst[start:]
	binary.BigEndian.PutUint16(ip[42:], packet.Checksum(ip[40:], packet.PseudoSum(ip, packet.ICMPv6, ndLen+8)))
	return dst
}

// Solicit appends a datagram that asks for the peer's overlay address number i
// (RFC 826; RFC 4861, section 7.2.2). It returns dst as it was where there is
// nothing to ask: in GPE, for an unknown i, without an own address of the family.
func (c *Codec) Solicit(dst []byte, i int) []byte {
	if c.cfg.GPE || i < 0 || i >= len(c.cfg.PeerAddrs) {
		return dst
	}
	target := c.cfg.PeerAddrs[i]
	own := slices.IndexFunc(c.cfg.Addrs, func(a netip.Addr) bool { return a.Is4() == target.Is4() })
	if own < 0 {
		return dst
	}
	src := c.cfg.Addrs[own]
	if target.Is4() {
		dst = c.frame(dst, broadcast, etherARP)
		dst = append(dst, arpPrefix[:]...)
		dst = append(dst, 0, arpRequest)
		dst = append(dst, c.local[:]...)
		s, t := src.As4(), target.As4()
		dst = append(dst, s[:]...)
		dst = append(dst, 0, 0, 0, 0, 0, 0)
		return append(dst, t[:]...)
	}
	// The solicited-node group (RFC 4291, section 2.7.1) and its MAC (RFC 2464, section 7).
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	dst = c.frame(dst, MAC{0x33, 0x33, 0xff, t[13], t[14], t[15]}, etherIPv6)
	return c.message(dst, src, group, ndSolicitation, 0, optionSourceLL, target)
}
