package pmtud

import (
	"encoding/binary"
	"net/netip"

	"github.com/transitd/transitd/pkg/packet"
)

// Port is the UDP port of probes and answers, source and destination, on the
// overlay addresses. It is the number of the firewall mark's default, 0x7464.
const Port = 29796

const (
	ipHeader  = 20
	udpHeader = 8
	// messageLen is a message without padding.
	messageLen = 36
	// minPacket is the shortest probe, an IP packet, in bytes; maxPacket the longest.
	minPacket = ipHeader + udpHeader + messageLen
	maxPacket = 9216
	// ttl says that no router has forwarded it (RFC 5082).
	ttl = 255
)

// magic begins a message: "tpmt" and the version.
var magic = [5]byte{'t', 'p', 'm', 't', 1} //nolint:gochecknoglobals // a constant in all but name

type kind uint8

const (
	request kind = 1
	answer  kind = 2
)

// code says in an answer why it is not as long as was asked for.
type code uint8

const (
	codeOK      code = 0
	codeTooLong code = 1 // for the answerer's own card
)

// message is a probe or an answer. Lengths are of inner IP packets, in bytes.
//
//	 0  magic, version
//	 5  kind, code, 0
//	 8  token
//	16  want, got, using, most, card, hop MTU: 16 bits each
//	28  hop: an IPv4 address
//	32  0
type message struct {
	kind  kind
	code  code
	token uint64
	want  uint16 // how long the answer shall be, in a request
	got   uint16 // how long the request was that arrived, in an answer
	using uint16 // the sender's MTU now
	most  uint16 // the sender's configured MTU
	card  uint16 // the MTU of the sender's card
	// What a router told the sender lately: the outer MTU, and who it was; 0: nothing.
	hopMTU uint16
	hop    netip.Addr
}

// append adds the message and pads it to n bytes.
func (m message) append(b []byte, n int) []byte {
	start := len(b)
	b = append(b, magic[:]...)
	b = append(b, byte(m.kind), byte(m.code), 0)
	b = binary.BigEndian.AppendUint64(b, m.token)
	for _, v := range [...]uint16{m.want, m.got, m.using, m.most, m.card, m.hopMTU} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	hop := [4]byte{}
	if m.hop.Is4() {
		hop = m.hop.As4()
	}
	b = append(b, hop[:]...)
	return append(b, make([]byte, max(messageLen, n)-(len(b)-start))...)
}

// parseMessage reads the payload of a datagram.
func parseMessage(b []byte) (m message, ok bool) {
	if len(b) < messageLen || [5]byte(b) != magic {
		return m, false
	}
	m = message{kind: kind(b[5]), code: code(b[6]), token: binary.BigEndian.Uint64(b[8:])}
	for i, v := range [...]*uint16{&m.want, &m.got, &m.using, &m.most, &m.card, &m.hopMTU} {
		*v = binary.BigEndian.Uint16(b[16+2*i:])
	}
	if m.hopMTU != 0 {
		m.hop = netip.AddrFrom4([4]byte(b[28:]))
	}
	return m, m.kind == request || m.kind == answer
}

// datagram makes an IP packet of n bytes with the message.
func (m message) datagram(from, to netip.Addr, n int) []byte {
	n = min(max(n, minPacket), maxPacket)
	b := header(make([]byte, 0, n), from, to, packet.UDP, n)
	b = binary.BigEndian.AppendUint16(b, Port)
	b = binary.BigEndian.AppendUint16(b, Port)
	b = binary.BigEndian.AppendUint16(b, uint16(n-ipHeader))
	b = append(b, 0, 0)
	b = m.append(b, n-ipHeader-udpHeader)
	sum := packet.Checksum(b[ipHeader:], packet.PseudoSum(b, packet.UDP, n-ipHeader))
	if sum == 0 { // RFC 768
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[ipHeader+6:], sum)
	return b
}

// header appends an IPv4 header with DF (RFC 791, section 3.1). The identification
// of such a packet has no meaning (RFC 6864, section 4.1).
func header(b []byte, from, to netip.Addr, proto uint8, n int) []byte {
	b = append(b, 0x45, 0, byte(n>>8), byte(n), 0, 0, 0x40, 0, ttl, proto, 0, 0)
	b = append(b, from.AsSlice()...)
	b = append(b, to.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:ipHeader], 0))
	return b
}
