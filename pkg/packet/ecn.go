package packet

import "encoding/binary"

// ECN code points, the low two bits of the TOS (RFC 3168, section 5).
const (
	NotECT = 0
	ECT1   = 1
	ECT0   = 2
	CE     = 3
)

// DecapECN combines the outer and the inner ECN field on the way out of a
// tunnel (RFC 6040, section 4.2). It returns the field to deliver, and false
// for the combination that must be dropped: congestion was signalled to a
// transport that cannot understand it.
func DecapECN(outer, inner uint8) (uint8, bool) {
	outer, inner = outer&3, inner&3
	switch {
	case outer == CE:
		return CE, inner != NotECT
	case inner == ECT0 && outer == ECT1:
		return ECT1, true
	}
	return inner, true
}

// SetECN writes the ECN field of a parsed packet, with IPv4's header checksum.
func SetECN(b []byte, version, ecn uint8) {
	if version == 6 {
		b[1] = b[1]&^0x30 | ecn<<4
		return
	}
	old := binary.BigEndian.Uint16(b)
	b[1] = b[1]&^3 | ecn
	adjust(b, 10, old, binary.BigEndian.Uint16(b))
}
