package tunnel

import "strconv"

// DropReason says why a packet went no further. The zero value, DropNone, says
// that it did. Its String is the label in metrics and in the JSON of the API, so
// a name is a contract and is never reused for something else.
//
// The data path has no errors: every function on it returns a DropReason, and
// whoever owns the packet counts it once.
type DropReason uint8

// The reasons. "In" is from the underlay to the TUN, "out" the other way.
const (
	DropNone DropReason = iota

	// In: the encapsulation.

	DropShort         // the datagram ends before its headers do
	DropBadHeader     // VXLAN without the I flag; GPE with another version, without the P flag, or OAM
	DropWrongVNI      // another VNI than the tunnel's
	DropWrongSource   // an outer source address that is no configured peer
	DropBadEthertype  // neither IPv4, IPv6 nor ARP inside; in GPE, another next protocol
	DropVLANTagged    // an 802.1Q or 802.1ad tag inside (RFC 7348, section 6.1)
	DropWrongMAC      // an inner frame to a station that is not us
	DropBadSourceMAC  // an inner frame from our own MAC address, or from a group address
	DropMulticast     // an IP packet to a multicast or broadcast address or frame: a tunnel is point to point
	DropBadInner      // inner IP version, length fields or header checksum contradict the packet
	DropECNCENotECT   // outer CE on an inner packet that is not ECN capable (RFC 6040, section 4.2)
	DropNotReady      // the tunnel has been stopped, or is not started yet
	DropARPNDInvalid  // an ARP or ND message that breaks a rule of its RFC
	DropARPNDIgnored  // an ARP or ND message of a kind we do not serve, or about addresses that are not ours
	DropDuplicateAddr // the peer claims one of our own overlay addresses
	DropTruncated     // the datagram was longer than the receive buffer
	DropTUNWrite      // the kernel refused the packet on the TUN device
	DropTUNWriteAgain // the TUN device's queue is full

	// Out: the packet and the wire.

	DropNotIP      // the TUN device gave something that is not IPv4 or IPv6
	DropNoRoute    // link-local or multicast destination: nothing of the other side's
	DropBadOffload // the virtio-net header contradicts its packet, or asks for an offload we did not
	DropTooBig     // larger than the tunnel's MTU and may not be fragmented
	DropUnresolved // the peer's link-layer address is not known
	DropUDPSend    // the kernel refused the datagram

	// NumDropReasons is the number of reasons, DropNone included: the length of an array indexed by DropReason.
	NumDropReasons
)

// Reasons returns every reason but DropNone, in order.
func Reasons() []DropReason {
	out := make([]DropReason, 0, NumDropReasons-1)
	for r := DropNone + 1; r < NumDropReasons; r++ {
		out = append(out, r)
	}
	return out
}

// String returns the label: snake_case, stable. DropNone is "none".
func (r DropReason) String() string {
	names := [NumDropReasons]string{
		DropNone:          "none",
		DropShort:         "short",
		DropBadHeader:     "bad_header",
		DropWrongVNI:      "wrong_vni",
		DropWrongSource:   "wrong_source",
		DropBadEthertype:  "bad_ethertype",
		DropVLANTagged:    "vlan_tagged",
		DropWrongMAC:      "wrong_mac",
		DropBadSourceMAC:  "bad_source_mac",
		DropMulticast:     "multicast",
		DropBadInner:      "bad_inner",
		DropECNCENotECT:   "ecn_ce_not_ect",
		DropNotReady:      "not_ready",
		DropARPNDInvalid:  "arp_nd_invalid",
		DropARPNDIgnored:  "arp_nd_ignored",
		DropDuplicateAddr: "duplicate_address",
		DropTruncated:     "truncated",
		DropTUNWrite:      "tun_write",
		DropTUNWriteAgain: "tun_full",
		DropNotIP:         "not_ip",
		DropNoRoute:       "no_route",
		DropBadOffload:    "bad_offload",
		DropTooBig:        "too_big",
		DropUnresolved:    "unresolved",
		DropUDPSend:       "udp_send",
	}
	if r < NumDropReasons {
		return names[r]
	}
	return "unknown(" + strconv.Itoa(int(r)) + ")"
}
