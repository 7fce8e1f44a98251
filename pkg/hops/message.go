package hops

import "encoding/binary"

// Kind is what an answer means.
type Kind uint8

// The kinds.
const (
	Silence     Kind = iota
	Exceeded         // the TTL ran out there
	Reached          // an echo reply
	Unreachable      // a router knows no way, or may not
)

// Types of messages, IPv4 and IPv6 (RFC 792; RFC 4443).
const (
	echo4, reply4, unreachable4, exceeded4 = 8, 0, 3, 11
	echo6, reply6, unreachable6, exceeded6 = 128, 129, 1, 3
	protocol4, protocol6                   = 1, 58
	headerLen                              = 8
	requestLen                             = 40 // without the IP header
)

// request makes an echo request. The kernel computes the checksum of IPv6's.
func request(v6 bool, id, seq uint16, token uint64) []byte {
	b := make([]byte, requestLen)
	b[0] = echo4
	if v6 {
		b[0] = echo6
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	binary.BigEndian.PutUint64(b[headerLen:], token)
	if !v6 {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// answer is what a message says about one of our requests.
type answer struct {
	kind Kind
	code uint8 // of Unreachable
	seq  uint16
}

// parse reads an ICMP message; ok is false if it is not about a request with
// this identifier. The token is only in replies: routers quote eight bytes.
func parse(b []byte, v6 bool, id uint16, token uint64) (a answer, ok bool) {
	if len(b) < headerLen {
		return a, false
	}
	kinds := map[uint8]Kind{reply4: Reached, exceeded4: Exceeded, unreachable4: Unreachable}
	if v6 {
		kinds = map[uint8]Kind{reply6: Reached, exceeded6: Exceeded, unreachable6: Unreachable}
	}
	a.kind, a.code = kinds[b[0]], b[1]
	about := b
	switch a.kind {
	case Silence:
		return a, false
	case Reached:
		if len(b) < headerLen+8 || binary.BigEndian.Uint64(b[headerLen:]) != token {
			return a, false
		}
	case Exceeded, Unreachable:
		if about, ok = quoted(b[headerLen:], v6); !ok {
			return a, false
		}
	}
	a.seq = binary.BigEndian.Uint16(about[6:])
	return a, binary.BigEndian.Uint16(about[4:]) == id
}

// quoted finds the echo request in the packet that an error is about.
func quoted(ip []byte, v6 bool) (icmp []byte, ok bool) {
	header, protocol, want, echo := 40, 6, uint8(protocol6), uint8(echo6)
	if !v6 {
		if len(ip) < 20 {
			return nil, false
		}
		header, protocol, want, echo = int(ip[0]&0xf)*4, 9, protocol4, echo4
	}
	if header < 20 || len(ip) < header+headerLen || ip[protocol] != want || ip[header] != echo {
		return nil, false
	}
	return ip[header:], true
}

// checksum is that of RFC 1071, of an even number of octets.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
