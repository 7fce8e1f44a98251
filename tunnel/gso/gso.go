// Package gso cuts the super packets that a TUN device with segmentation
// offload hands over into packets that fit the tunnel, and finishes the
// checksums that the kernel left to the "hardware". It knows the virtio-net
// header in front of them (virtio 1.3, section 5.1.6).
//
// Pure: it works on bytes of the caller and allocates nothing. Joining the
// segments of a flow again on the receiving side will live here too.
package gso

import (
	"encoding/binary"

	"github.com/transitd/transitd/pkg/packet"
)

// HeaderLen is the length of a Header on the wire.
const HeaderLen = 10

// Values of Header.Flags and Header.Type.
const (
	NeedsChecksum = 1 // the checksum at ChecksumStart+ChecksumOffset covers the pseudo-header only

	TypeNone = 0
	TypeTCP4 = 1
	TypeTCP6 = 4
	TypeUDP  = 5    // UDP_L4: many datagrams of equal size
	typeECN  = 0x80 // with TCP: the first segment has CWR
)

// Header is the virtio-net header, little endian on the wire.
type Header struct {
	Flags, Type                   uint8
	HdrLen                        uint16 // a hint of the kernel, not relied upon
	Size                          uint16 // payload bytes of one segment
	ChecksumStart, ChecksumOffset uint16
}

// ParseHeader reads the first HeaderLen bytes of b.
func ParseHeader(b []byte) Header {
	le := binary.LittleEndian
	return Header{
		Flags: b[0], Type: b[1], HdrLen: le.Uint16(b[2:]), Size: le.Uint16(b[4:]),
		ChecksumStart: le.Uint16(b[6:]), ChecksumOffset: le.Uint16(b[8:]),
	}
}

// Put writes the header to the first HeaderLen bytes of b.
func (h Header) Put(b []byte) {
	le := binary.LittleEndian
	b[0], b[1] = h.Flags, h.Type
	le.PutUint16(b[2:], h.HdrLen)
	le.PutUint16(b[4:], h.Size)
	le.PutUint16(b[6:], h.ChecksumStart)
	le.PutUint16(b[8:], h.ChecksumOffset)
}

// udpChecksum is where a UDP header has its checksum.
const udpChecksum = 6

// FinishChecksum completes a partial checksum of a single packet. It reports
// false if the header points outside of the packet.
func FinishChecksum(h Header, pkt []byte) bool {
	start, field := int(h.ChecksumStart), int(h.ChecksumStart)+int(h.ChecksumOffset)
	if field+2 > len(pkt) || start >= len(pkt) {
		return false
	}
	// The field holds the pseudo-header's sum, so it is part of what is summed.
	sum := packet.Checksum(pkt[start:], 0)
	if sum == 0 && h.ChecksumOffset == udpChecksum { // RFC 768: zero means that there is none
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(pkt[field:], sum)
	return true
}

// Splitter hands out the segments of one super packet. The zero value has
// none; it may be used again and again by Reset.
type Splitter struct {
	pkt       []byte
	info      packet.Info
	header    int // bytes of IP and transport header, repeated in every segment
	size      int // payload bytes of a segment
	at        int // payload bytes handed out
	transport uint8
	id        uint16
	count     uint16
}

const (
	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpCWR = 0x80
)

// Reset takes a packet with its header. It reports false if they contradict
// each other. The packet is read by Next and must stay until the last segment.
func (s *Splitter) Reset(h Header, pkt []byte, info packet.Info) bool {
	*s = Splitter{pkt: pkt[:info.Len], info: info, size: int(h.Size)}
	transport := info.Transport
	switch h.Type &^ typeECN {
	case TypeTCP4, TypeTCP6:
		if info.Proto != packet.TCP || transport+20 > info.Len || (h.Type&^typeECN == TypeTCP4) != (info.Version == 4) {
			return false
		}
		s.header, s.transport = transport+int(pkt[transport+12]>>4)*4, packet.TCP
		if s.header < transport+20 {
			return false
		}
	case TypeUDP:
		s.header, s.transport = transport+8, packet.UDP
		if info.Proto != packet.UDP {
			return false
		}
	default:
		return false
	}
	if info.Fragment || s.header >= info.Len || s.size == 0 {
		return false
	}
	if info.Version == 4 {
		s.id = binary.BigEndian.Uint16(pkt[4:])
	}
	return true
}

// MaxSegment is the length of the largest segment, an IP packet.
func (s *Splitter) MaxSegment() int { return min(s.header+s.size, s.info.Len) }

// Count is how many segments there are in all.
func (s *Splitter) Count() int { return (s.info.Len - s.header + s.size - 1) / s.size }

// Next writes the next segment, a whole IP packet with good checksums, to dst,
// which has room for MaxSegment bytes, and returns its length; 0 after the last.
func (s *Splitter) Next(dst []byte) int {
	payload := s.pkt[s.header+s.at:]
	if len(payload) == 0 {
		return 0
	}
	payload = payload[:min(len(payload), s.size)]
	n := s.header + len(payload)
	copy(dst, s.pkt[:s.header])
	sum := packet.CopySum(dst[s.header:n], payload, 0)
	seg := dst[:n]
	s.ip(seg)
	if s.transport == packet.TCP {
		s.tcp(seg[s.info.Transport:], s.at+len(payload) == len(s.pkt)-s.header)
	} else {
		binary.BigEndian.PutUint16(seg[s.info.Transport+4:], uint16(n-s.info.Transport))
	}
	s.checksum(seg, sum)
	s.at += len(payload)
	s.count++
	return n
}

func (s *Splitter) ip(seg []byte) {
	if s.info.Version == 6 {
		binary.BigEndian.PutUint16(seg[4:], uint16(len(seg)-40))
		return
	}
	binary.BigEndian.PutUint16(seg[2:], uint16(len(seg)))
	binary.BigEndian.PutUint16(seg[4:], s.id+s.count)
	seg[10], seg[11] = 0, 0
	header := int(seg[0]&0xf) * 4
	binary.BigEndian.PutUint16(seg[10:], packet.Checksum(seg[:header], 0))
}

// tcp moves the sequence number on. FIN and PSH belong to the last segment,
// CWR to the first (RFC 3168, section 6.1.2).
func (s *Splitter) tcp(t []byte, last bool) {
	binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(s.at))
	if !last {
		t[13] &^= tcpFIN | tcpPSH
	}
	if s.at > 0 {
		t[13] &^= tcpCWR
	}
}

// checksum finishes a segment whose payload, which begins at an even offset, has the given sum.
func (s *Splitter) checksum(seg []byte, payload uint64) {
	t := seg[s.info.Transport:]
	field := 16
	if s.transport == packet.UDP {
		field = udpChecksum
	}
	t[field], t[field+1] = 0, 0
	pseudo := packet.PseudoSum(seg, s.transport, len(t))
	sum := packet.Checksum(t[:s.header-s.info.Transport], pseudo+uint64(packet.Fold(payload)))
	if sum == 0 && s.transport == packet.UDP {
		sum = 0xffff // RFC 768: zero means that there is none
	}
	binary.BigEndian.PutUint16(t[field:], sum)
}
