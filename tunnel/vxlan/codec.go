package vxlan

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
)

const (
	headerLen   = 8
	ethernetLen = 14

	flagI   = 0x08 // the VNI is valid (RFC 7348, section 5)
	flagP   = 0x04 // GPE: the next protocol field is valid
	gpeVer  = 0x30 // GPE: version, must be 0
	gpeOAM  = 0x01 // GPE: the packet is for the endpoint itself; there is no such protocol here
	gpeIPv4 = 1
	gpeIPv6 = 2

	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
	etherIPv6 = 0x86dd
)

// MAC is an Ethernet address.
type MAC [6]byte

// String is the usual form with colons.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// EndpointMAC is the MAC address that an endpoint has by default: locally
// administered, 02:00 and the IPv4 address, or a hash (FNV-1a) of an IPv6 one.
func EndpointMAC(a netip.Addr) MAC {
	m := MAC{0: 2}
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		copy(m[2:], b[:])
		return m
	}
	h := uint32(2166136261)
	for _, b := range a.As16() {
		h = (h ^ uint32(b)) * 16777619
	}
	binary.BigEndian.PutUint32(m[2:], h)
	return m
}

// Config is one tunnel's codec. Local and Peer are the outer addresses.
type Config struct {
	VNI         uint32 // 1 to 1<<24 - 1
	GPE         bool   // VXLAN-GPE: no inner Ethernet, no ARP, no ND
	Local, Peer netip.Addr
	// LocalMAC and PeerMAC are EndpointMAC if zero. The peer's holds until ARP
	// or ND tells another one.
	LocalMAC, PeerMAC [6]byte
	// Addrs are our overlay addresses, which are answered for; PeerAddrs the
	// peer's, which are resolved. At most one of each family.
	Addrs, PeerAddrs []netip.Addr
}

// Codec encapsulates and decapsulates for one tunnel. Its methods may be
// called from any number of goroutines at once.
type Codec struct {
	cfg      Config
	local    MAC
	overhead int
	peer     atomic.Uint64 // MAC address in the low 48 bits
	resolved atomic.Bool
	foreign  atomic.Uint32 // the last VNI that was not ours, 0: none
}

// New makes a codec; it refuses a configuration that could not work.
func New(cfg Config) (*Codec, error) {
	if cfg.VNI == 0 || cfg.VNI >= 1<<24 {
		return nil, fmt.Errorf("vxlan: vni %d is out of range (1 to 16777215)", cfg.VNI)
	}
	if !cfg.Local.IsValid() || !cfg.Peer.IsValid() {
		return nil, fmt.Errorf("vxlan: endpoints %v and %v: both are needed", cfg.Local, cfg.Peer)
	}
	c := &Codec{cfg: cfg, local: MAC(cfg.LocalMAC), overhead: headerLen + ethernetLen}
	if c.local == (MAC{}) {
		c.local = EndpointMAC(cfg.Local)
	}
	peer := MAC(cfg.PeerMAC)
	if peer == (MAC{}) {
		peer = EndpointMAC(cfg.Peer)
	}
	if peer == c.local && !cfg.GPE {
		return nil, fmt.Errorf("vxlan: both ends have the MAC address %s", peer)
	}
	c.peer.Store(pack(peer))
	// A configured address needs no answer to be believed.
	c.resolved.Store(cfg.GPE || cfg.PeerMAC != (MAC{}) || len(cfg.PeerAddrs) == 0)
	if cfg.GPE {
		c.overhead = headerLen
	}
	return c, nil
}

func pack(m MAC) uint64 {
	return uint64(binary.BigEndian.Uint16(m[:]))<<32 | uint64(binary.BigEndian.Uint32(m[2:]))
}

// Overhead is how many bytes Seal puts in front of a packet.
func (c *Codec) Overhead() int { return c.overhead }

// Trailer is how many bytes Seal puts behind a packet: none.
func (c *Codec) Trailer() int { return 0 }

// LocalMAC is ours.
func (c *Codec) LocalMAC() MAC { return c.local }

// PeerMAC is the peer's as it is known now.
func (c *Codec) PeerMAC() (m MAC) {
	putMAC(m[:], c.peer.Load())
	return m
}

func putMAC(b []byte, v uint64) {
	binary.BigEndian.PutUint16(b, uint16(v>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(v))
}

// Resolved reports whether the peer's MAC address is known from its own
// answer, or need not be. Before, packets go to the default one.
func (c *Codec) Resolved() bool { return c.resolved.Load() }

// ForeignVNI is the last VNI in a datagram of the peer that was not this
// tunnel's, 0 if there was none. With several tunnels to one peer it may be another one's.
func (c *Codec) ForeignVNI() uint32 { return c.foreign.Load() }

// Seal writes the headers into the headroom in front of the IP packet
// buf[off:off+n]; off is at least Overhead. The datagram is then buf[start:end].
func (c *Codec) Seal(buf []byte, off, n int) (start, end int, r tunnel.DropReason) {
	end = off + n
	if n == 0 {
		return off, end, tunnel.DropNotIP
	}
	v6 := false
	switch buf[off] >> 4 {
	case 4:
	case 6:
		v6 = true
	default:
		return off, end, tunnel.DropNotIP
	}
	start = off - c.overhead
	c.header(buf[start:], v6)
	if c.cfg.GPE {
		return start, end, tunnel.DropNone
	}
	ether := buf[start+headerLen:]
	putMAC(ether, c.peer.Load())
	copy(ether[6:], c.local[:])
	typ := uint16(etherIPv4)
	if v6 {
		typ = etherIPv6
	}
	binary.BigEndian.PutUint16(ether[12:], typ)
	return start, end, tunnel.DropNone
}

// header writes the VXLAN header. All reserved bits are sent as zero: the
// kernel's vxlan drops what has any of them set.
func (c *Codec) header(b []byte, v6 bool) {
	var first uint32 = flagI << 24
	if c.cfg.GPE {
		first |= flagP<<24 | gpeIPv4
		if v6 {
			first ^= gpeIPv4 ^ gpeIPv6
		}
	}
	binary.BigEndian.PutUint32(b, first)
	binary.BigEndian.PutUint32(b[4:], c.cfg.VNI<<8)
}

// Open checks a datagram's headers and returns the IP packet in it, without
// padding. The info is the packet's. Reserved bits are ignored (RFC 7348,
// section 5). Of tunnel.Control, inner is the Ethernet frame.
func (c *Codec) Open(datagram []byte) (inner []byte, info packet.Info, kind tunnel.Kind, r tunnel.DropReason) {
	if len(datagram) < headerLen {
		return nil, info, tunnel.Packet, tunnel.DropShort
	}
	if datagram[0]&flagI == 0 {
		return nil, info, tunnel.Packet, tunnel.DropBadHeader
	}
	if vni := binary.BigEndian.Uint32(datagram[4:]) >> 8; vni != c.cfg.VNI {
		if c.foreign.Load() != vni { // a load costs nothing, a store in two loops would
			c.foreign.Store(vni)
		}
		return nil, info, tunnel.Packet, tunnel.DropWrongVNI
	}
	if c.cfg.GPE {
		inner, info, r = openGPE(datagram)
		return inner, info, tunnel.Packet, r
	}
	return c.openEthernet(datagram[headerLen:])
}

func openGPE(d []byte) (inner []byte, info packet.Info, r tunnel.DropReason) {
	if d[0]&flagP == 0 || d[0]&(gpeVer|gpeOAM) != 0 {
		return nil, info, tunnel.DropBadHeader
	}
	if d[3] != gpeIPv4 && d[3] != gpeIPv6 {
		return nil, info, tunnel.DropBadEthertype
	}
	return openIP(d[headerLen:], d[3] == gpeIPv6)
}

func openIP(b []byte, v6 bool) ([]byte, packet.Info, tunnel.DropReason) {
	info, fault := packet.Parse(b)
	if fault != packet.None || (info.Version == 6) != v6 {
		return nil, info, tunnel.DropBadInner
	}
	return b[:info.Len], info, tunnel.DropNone
}

func (c *Codec) openEthernet(f []byte) (inner []byte, info packet.Info, kind tunnel.Kind, r tunnel.DropReason) {
	if len(f) < ethernetLen {
		return nil, info, tunnel.Packet, tunnel.DropShort
	}
	typ := binary.BigEndian.Uint16(f[12:])
	if typ == etherVLAN || typ == etherQinQ {
		return nil, info, tunnel.Packet, tunnel.DropVLANTagged
	}
	if MAC(f[6:12]) == c.local {
		return nil, info, tunnel.Packet, tunnel.DropWrongMAC
	}
	ours, group := MAC(f[:6]) == c.local, f[0]&1 != 0
	switch {
	case typ == etherARP && (ours || group):
		return f, info, tunnel.Control, tunnel.DropNone
	case typ != etherIPv4 && typ != etherIPv6 && typ != etherARP:
		return nil, info, tunnel.Packet, tunnel.DropBadEthertype
	case !ours && !group:
		return nil, info, tunnel.Packet, tunnel.DropWrongMAC
	}
	inner, info, r = openIP(f[ethernetLen:], typ == etherIPv6)
	if r != tunnel.DropNone {
		return nil, info, tunnel.Packet, r
	}
	if isND(inner, info) {
		return f, info, tunnel.Control, tunnel.DropNone
	}
	if !ours && MAC(f[:6]) != broadcast { // a peer that does not know our MAC address may flood
		return nil, info, tunnel.Packet, tunnel.DropMulticast
	}
	return inner, info, tunnel.Packet, tunnel.DropNone
}
