// Package tunnel says what all tunnels have in common: the reasons for which a
// packet is dropped, and the counters.
//
// The path of a packet, each arrow a call and no hand-over between goroutines:
//
//	out: TUN queue → gso.Splitter → packet.ClampMSS → Codec.Seal → udp send
//	in:  udp receive → table of outer sources → Codec.Open → ECN, MSS → TUN queue
//
// tunnel/pump has the loops, tunnel/tun and tunnel/udp the devices and
// sockets, tunnel/vxlan the codec, tunnel/gso the segmentation. The codec and
// the segmentation are pure. This package knows none of them.
package tunnel

// Kind says what a datagram carries.
type Kind uint8

const (
	// Packet is an IP packet, for the TUN device.
	Packet Kind = iota
	// Control is a message between the ends of the tunnel (ARP, ND, a handshake), never for the TUN device.
	Control
	// Keepalive is a valid message that carries nothing.
	Keepalive
)
