package pmtud

import (
	"encoding/binary"
	"net/netip"

	"github.com/transitd/transitd/pkg/packet"
)

// ICMP types that matter here (RFC 792; RFC 4443, section 3.2).
const (
	icmpEchoReply   = 0
	icmpUnreachable = 3
	icmpEcho        = 8
	icmpTooBig6     = 2

	fragmentationNeeded = 4 // a code of icmpUnreachable
	icmpHeader          = 8
)

// echoRequest makes an ICMP echo request, an IP packet of n bytes, with the token as data.
func echoRequest(from, to netip.Addr, token uint64, n int) []byte {
	n = min(max(n, minPacket), maxPacket)
	b := header(make([]byte, 0, n), from, to, packet.ICMP, n)
	b = append(b, icmpEcho, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(token)) // identifier and sequence number
	b = binary.BigEndian.AppendUint64(b, token)
	b = append(b, make([]byte, n-len(b))...)
	binary.BigEndian.PutUint16(b[ipHeader+2:], packet.Checksum(b[ipHeader:], 0))
	return b
}

// echoReply reads an ICMP message; ok says that it is a reply, and n is how long
// the IP packet was.
func echoReply(b []byte) (token uint64, n int, ok bool) {
	if len(b) < icmpHeader+8 || b[0] != icmpEchoReply || b[1] != 0 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b[icmpHeader:]), len(b) + ipHeader, true
}

// tooBig reads what a router says of an outer packet that was too long for it:
// the MTU, if the packet was UDP from and to these addresses.
func tooBig(b []byte, from, to netip.Addr) (mtu int, ok bool) {
	if len(b) < icmpHeader {
		return 0, false
	}
	quoted, at, proto := b[icmpHeader:], 12, 9
	switch {
	case from.Is4() && b[0] == icmpUnreachable && b[1] == fragmentationNeeded:
		mtu = int(binary.BigEndian.Uint16(b[6:])) // RFC 1191, section 4
	case from.Is6() && b[0] == icmpTooBig6:
		mtu = int(min(binary.BigEndian.Uint32(b[4:]), 1<<16))
		at, proto = 8, 6
	default:
		return 0, false
	}
	n := from.BitLen() / 8
	if len(quoted) < at+2*n || quoted[proto] != packet.UDP || string(quoted[at:at+n]) != string(from.AsSlice()) || string(quoted[at+n:at+2*n]) != string(to.AsSlice()) {
		return 0, false
	}
	return mtu, mtu > 0
}
