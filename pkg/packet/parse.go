package packet

import "encoding/binary"

// IP protocol numbers (IANA) that the packet path knows.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Fault says why bytes are no IP packet; None is the zero value.
type Fault uint8

const (
	None      Fault = iota
	NotIP           // the version is neither 4 nor 6
	Truncated       // a header is not whole
	BadLength       // a length field contradicts the bytes that are there
)

// Info is what the packet path needs to know of an IP packet.
type Info struct {
	Version   uint8 // 4 or 6
	Proto     uint8 // the transport; of a fragment too
	TOS       uint8 // IPv4 TOS or IPv6 traffic class
	DF        bool  // may not be fragmented: always so in IPv6
	Fragment  bool  // any fragment of a larger packet
	First     bool  // not a fragment, or the first one: the transport's header is here
	Transport int   // offset of the transport's header, or of the payload of a later fragment
	Len       int   // bytes of the IP packet: what follows is padding
	Flow      uint32
}

// maxExtensions bounds the walk over IPv6 extension headers.
const maxExtensions = 8

// Parse reads an IP packet's headers. Bytes after the packet's own length are
// allowed: an Ethernet frame may be padded.
func Parse(b []byte) (Info, Fault) {
	if len(b) == 0 {
		return Info{}, Truncated
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return Info{}, NotIP
}

func parse4(b []byte) (Info, Fault) {
	if len(b) < 20 {
		return Info{}, Truncated
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || total > len(b) {
		return Info{}, BadLength
	}
	frag := binary.BigEndian.Uint16(b[6:])
	in := Info{
		Version: 4, Proto: b[9], TOS: b[1], DF: frag&0x4000 != 0, Fragment: frag&0x3fff != 0,
		First: frag&0x1fff == 0, Transport: header, Len: total,
	}
	in.Flow = flow(b[12:20], b[:total], in)
	return in, None
}

func parse6(b []byte) (Info, Fault) {
	if len(b) < 40 {
		return Info{}, Truncated
	}
	total := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return Info{}, BadLength
	}
	in := Info{Version: 6, TOS: b[0]<<4 | b[1]>>4, DF: true, First: true, Len: total}
	if f := in.extensions(b[:total], b[6]); f != None {
		return Info{}, f
	}
	in.Flow = flow(b[8:40], b[:total], in)
	return in, None
}

// extensions walks the headers of RFC 8200, section 4, up to the transport.
func (in *Info) extensions(b []byte, next uint8) Fault {
	at := 40
	for range maxExtensions {
		length := 8
		switch next {
		case 0, 43, 60, 135: // hop-by-hop, routing, destination options, mobility
			if at+8 > len(b) {
				return Truncated
			}
			length = 8 + int(b[at+1])*8
		case 51: // authentication header counts in 4 bytes, less 2 (RFC 4302, section 2.2)
			if at+8 > len(b) {
				return Truncated
			}
			length = 8 + int(b[at+1])*4
		case 44: // fragment
			if at+8 > len(b) {
				return Truncated
			}
			field := binary.BigEndian.Uint16(b[at+2:])
			in.Fragment = in.Fragment || field&0xfff9 != 0
			in.First = field&0xfff8 == 0
		default:
			in.Proto, in.Transport = next, at
			return None
		}
		if at+length > len(b) {
			return BadLength
		}
		next = b[at]
		at += length
		if !in.First { // what follows is the middle of somebody's payload
			break
		}
	}
	in.Proto, in.Transport = next, at
	return None
}

// flow hashes what stays the same for all packets of a flow: addresses and,
// unless the packet is a fragment, protocol and ports. All fragments of a
// packet, the first too, get the same value; only the first can know the
// transport behind further extension headers.
func flow(addrs, b []byte, in Info) uint32 {
	h := uint64(0x9e3779b97f4a7c15)
	if !in.Fragment {
		h += uint64(in.Proto)
	}
	for ; len(addrs) >= 4; addrs = addrs[4:] {
		h = mix(h ^ uint64(binary.BigEndian.Uint32(addrs)))
	}
	if !in.Fragment && (in.Proto == TCP || in.Proto == UDP) && len(b) >= in.Transport+4 {
		h = mix(h ^ uint64(binary.BigEndian.Uint32(b[in.Transport:])))
	}
	return uint32(h ^ h>>32)
}

// mix is the finaliser of SplitMix64: every input bit reaches every output bit.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
