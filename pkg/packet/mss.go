package packet

import "encoding/binary"

const (
	tcpSYN      = 0x02
	optionEnd   = 0
	optionNop   = 1
	optionMSS   = 2
	lenMSS      = 4
	tcpHeader   = 20
	tcpChecksum = 16
)

// MSS is the largest TCP segment for an inner MTU: the MTU less the IP and TCP
// headers without options (RFC 6691).
func MSS(mtu int, version uint8) uint16 {
	if version == 6 {
		return uint16(max(mtu-60, 0))
	}
	return uint16(max(mtu-40, 0))
}

// ClampMSS lowers the MSS option of a SYN or SYN-ACK to what the tunnel's MTU
// allows and reports whether it changed the packet. The checksum is adjusted,
// not recomputed, so a partial checksum (pseudo-header only) has to be told:
// it does not cover the option and stays.
func ClampMSS(b []byte, in Info, mtu int, partial bool) bool {
	if in.Proto != TCP || !in.First || in.Transport+tcpHeader > in.Len {
		return false
	}
	tcp := b[in.Transport:in.Len]
	end := int(tcp[12]>>4) * 4
	if tcp[13]&tcpSYN == 0 || end < tcpHeader || end > len(tcp) {
		return false
	}
	limit := MSS(mtu, in.Version)
	for at := tcpHeader; at < end; {
		switch tcp[at] {
		case optionEnd:
			return false
		case optionNop:
			at++
			continue
		}
		if at+1 >= end || tcp[at+1] < 2 || at+int(tcp[at+1]) > end {
			return false
		}
		if tcp[at] == optionMSS && tcp[at+1] == lenMSS {
			return setMSS(tcp, at+2, limit, partial)
		}
		at += int(tcp[at+1])
	}
	return false
}

// setMSS writes the value. The checksum counts words from the header's start,
// so a value at an odd place touches two of them.
func setMSS(tcp []byte, at int, limit uint16, partial bool) bool {
	old := binary.BigEndian.Uint16(tcp[at:])
	if old <= limit {
		return false
	}
	binary.BigEndian.PutUint16(tcp[at:], limit)
	if partial {
		return true
	}
	if at&1 != 0 { // the sum of swapped words is the swapped sum (RFC 1071, section 2)
		old, limit = old<<8|old>>8, limit<<8|limit>>8
	}
	adjust(tcp, tcpChecksum, old, limit)
	return true
}
