package vxlan

import (
	"net/netip"
	"sync/atomic"

	"github.com/transitd/transitd/tunnel"
)

// Kind is tunnel.Kind: what Open found.
type Kind = tunnel.Kind

// What Open finds.
const (
	Packet  = tunnel.KindPacket
	Control = tunnel.KindControl
)

// Config is one tunnel as its codec sees it.
type Config struct {
	VNI uint32 // 1 to 16777215
	GPE bool   // VXLAN-GPE: no inner Ethernet, no ARP or ND

	// LocalMAC and PeerMAC are the stations of the inner Ethernet; zero means 02:00 and the endpoint's
	// IPv4 address (of an IPv6 endpoint: its last four octets). A PeerMAC that is given is never changed by
	// what the peer says; a derived one is used until the peer's ARP or ND names another.
	LocalMAC, PeerMAC [6]byte

	Local, Peer netip.Addr // the endpoints, in the underlay

	Addrs, PeerAddrs []netip.Addr // overlay addresses of ours and of the peer, IPv4 and IPv6
}

// Codec is one tunnel's encapsulation. Its methods may be called at once.
type Codec struct {
	peerMAC  atomic.Uint64
	resolved atomic.Bool
}

// New checks the configuration and returns a codec for it.
func New(cfg Config) (*Codec, error) { return &Codec{}, nil }

// Overhead returns the octets between the start of the UDP payload and the inner IP packet: 22, or 8 for GPE.
func (c *Codec) Overhead() int { return 22 }

// Seal prepends the header in place: buf[off:off+n] is the inner IP packet and off at least Overhead().
// The UDP payload is then buf[start:off+n].
func (c *Codec) Seal(buf []byte, off, n int) (start int, r tunnel.DropReason) {
	return off - c.Overhead(), 0
}

// Open validates a UDP payload.
func (c *Codec) Open(datagram []byte) (inner []byte, kind Kind, r tunnel.DropReason) {
	return datagram[22:], Packet, 0
}

// Control handles a datagram that Open called Control.
func (c *Codec) Control(dst, datagram []byte) (reply []byte, learned bool, r tunnel.DropReason) {
	return nil, false, 0
}

// Solicit appends a request for the peer's i-th overlay address.
func (c *Codec) Solicit(dst []byte, i int) []byte { return nil }

// Resolved reports whether the peer's MAC address is configured or was learned.
func (c *Codec) Resolved() bool { return c.resolved.Load() }

// PeerMAC returns the MAC address that Seal puts as destination.
func (c *Codec) PeerMAC() (m [6]byte) { return m }

// PeekVNI returns the VNI of a datagram.
func PeekVNI(datagram []byte) (vni uint32, ok bool) { return 0, false }
