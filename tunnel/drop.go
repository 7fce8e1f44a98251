package tunnel

import "fmt"

// DropReason says why a packet went no further. DropNone is the zero value.
type DropReason uint8

const (
	DropNone DropReason = iota

	// Received from the wire.

	DropWrongSource  // the outer source is not the peer of any tunnel here
	DropWrongVNI     // the peer's, but no tunnel has that VNI
	DropShort        // cut off before the end of a header
	DropBadHeader    // VXLAN without the I flag, a GPE version that is not 0, or ESP with SPI 0
	DropBadEthertype // neither IPv4, IPv6 nor ARP; in GPE, another next protocol
	DropVLANTagged   // an 802.1Q or 802.1ad tag (RFC 7348, section 6.1)
	DropWrongMAC     // an inner frame that is not for our MAC address, or came from it
	DropMulticast    // an IP packet for a group: the tunnel joins two hosts, not two links
	DropBadInner     // no IP packet, or its lengths contradict each other
	DropARPNDInvalid // a malformed ARP packet or neighbor discovery message
	DropTruncated    // the datagram is longer than the tunnel can carry
	DropECNCENotECT  // congestion marked on a packet that cannot carry the mark (RFC 6040, section 4.2)
	DropTUNWrite     // the TUN device took it not
	DropReceiveQueue // the socket's receive queue was full

	// Of tunnels that encrypt. DropNoSession,
	// DropExpired and DropSelector are also of what was read from the device.

	DropNoSession      // no keys have been agreed on, or not those
	DropAuthFailed     // altered, or encrypted by somebody else
	DropReplayed       // came before
	DropTooOld         // too far behind the newest to tell whether it came before
	DropHandshakeQueue // too many messages of handshakes wait
	DropExpired        // the keys have carried all that they may
	DropSelector       // not of the addresses that were agreed on
	DropBadPadding     // authentic, but the padding is not as it has to be
	DropNextHeader     // authentic, but neither IPv4 nor IPv6

	// Read from the TUN device.

	DropNotIP      // no IP packet, or its lengths contradict each other
	DropNoRoute    // multicast, broadcast or link-local: for nobody on the other side
	DropTooBig     // larger than the tunnel's MTU; the sender is told
	DropBadOffload // a segmentation request that contradicts the packet
	DropUDPSend    // the kernel did not send the datagram
	DropTUNQueue   // the device's queue was full, counted by the kernel

	NumDropReasons // how many there are, DropNone counted
)

var dropNames = [NumDropReasons]string{
	DropNone:         "none",
	DropWrongSource:  "wrong_source",
	DropWrongVNI:     "wrong_vni",
	DropShort:        "short",
	DropBadHeader:    "bad_header",
	DropBadEthertype: "bad_ethertype",
	DropVLANTagged:   "vlan_tagged",
	DropWrongMAC:     "wrong_mac",
	DropMulticast:    "multicast",
	DropBadInner:     "bad_inner",
	DropARPNDInvalid: "arp_nd_invalid",
	DropTruncated:    "truncated",
	DropECNCENotECT:  "ecn_ce_not_ect",
	DropTUNWrite:     "tun_write",
	DropReceiveQueue: "receive_queue_full",

	DropNoSession:      "no_session",
	DropAuthFailed:     "auth_failed",
	DropReplayed:       "replayed",
	DropTooOld:         "too_old",
	DropHandshakeQueue: "handshake_queue_full",
	DropExpired:        "sa_expired",
	DropSelector:       "selector",
	DropBadPadding:     "bad_padding",
	DropNextHeader:     "bad_next_header",

	DropNotIP:      "not_ip",
	DropNoRoute:    "no_route",
	DropTooBig:     "too_big",
	DropBadOffload: "bad_offload",
	DropUDPSend:    "udp_send",
	DropTUNQueue:   "tun_queue_full",
}

// String is the reason as the API and the metrics name it.
func (r DropReason) String() string {
	if r < NumDropReasons {
		return dropNames[r]
	}
	return fmt.Sprintf("unknown(%d)", uint8(r))
}

// Reasons are all reasons but DropNone, in a fixed order.
func Reasons() []DropReason {
	list := make([]DropReason, 0, NumDropReasons-1)
	for r := DropNone + 1; r < NumDropReasons; r++ {
		list = append(list, r)
	}
	return list
}
