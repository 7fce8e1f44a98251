package gso

import (
	"bytes"
	"encoding/binary"

	"github.com/transitd/transitd/pkg/packet"
)

const (
	// maxFlows is how many flows are joined at the same time.
	maxFlows = 8
	// MaxParts is how many segments a Super may have. The kernel takes 128 of
	// UDP since Linux 6.9, 64 before.
	MaxParts = 64
	// maxSuper is the longest IP packet.
	maxSuper = 65535

	tcpACK = 0x10
)

// Super is what Coalescer hands out: a packet as it came, or the segments of a
// flow joined to one. It is the coalescer's own until the next call.
type Super struct {
	Header   Header   // zero for a packet as it came
	Parts    [][]byte // the first starts with the IP header, the others are payload
	Segments int      // how many packets it was
	Bytes    int      // of those packets, with their headers
}

// Coalescer joins packets of a flow that follow each other into super packets,
// the opposite of Splitter: what it joins, segmentation gives back as it was.
// All that it is not sure of it hands out as it came. Packets of a flow keep
// their order; flows may overtake each other.
//
// The packets' memory must stay until Flush, and their headers are changed.
// One goroutine uses it. New ones come from NewCoalescer.
type Coalescer struct {
	udp   bool
	slots [maxFlows]slot
	next  int // the slot to give up when all are in use
	one   Super
	buf   [1][]byte
}

// slot is a flow with packets waiting.
type slot struct {
	open    bool // has packets
	sealed  bool // the last segment was short or pushed: nothing can follow
	checked bool // the first packet's checksums are known to be right
	info    packet.Info
	header  int // bytes of IP and transport header
	size    int // payload bytes of the first segment
	length  int // of the joined IP packet
	seq     uint32
	id      uint16
	psh     byte
	super   Super
	parts   [MaxParts][]byte
}

// NewCoalescer returns an empty one; udp says whether datagrams are joined too,
// which the reader of the super packets has to understand (Linux 6.2).
func NewCoalescer(udp bool) *Coalescer { return &Coalescer{udp: udp} }

// Add takes a parsed packet and calls out for what cannot wait, in order.
func (c *Coalescer) Add(pkt []byte, info packet.Info, out func(*Super)) {
	if info.Fragment { // its flow is not known to the byte
		c.Flush(out)
		c.single(pkt, out)
		return
	}
	header, payload, joinable := c.joinable(pkt, info)
	s := c.find(pkt, info)
	if s != nil {
		if joinable && s.join(pkt, info, header, payload) {
			return
		}
		s.flush(out)
	}
	if !joinable {
		c.single(pkt, out)
		return
	}
	if s == nil {
		s = c.free(out)
	}
	s.start(pkt, info, header, payload)
}

// Flush hands out everything that waits.
func (c *Coalescer) Flush(out func(*Super)) {
	for i := range c.slots {
		if c.slots[i].open {
			c.slots[i].flush(out)
		}
	}
}

func (c *Coalescer) single(pkt []byte, out func(*Super)) {
	c.buf[0] = pkt
	c.one = Super{Parts: c.buf[:], Segments: 1, Bytes: len(pkt)}
	out(&c.one)
}

// joinable reports whether a packet can be part of a super packet at all: plain
// TCP data or a datagram with a checksum, without IP options or extension headers.
func (c *Coalescer) joinable(pkt []byte, in packet.Info) (header, payload int, ok bool) {
	if in.Version == 4 && in.Transport != 20 || in.Version == 6 && in.Transport != 40 {
		return 0, 0, false
	}
	switch t := pkt[in.Transport:]; {
	case in.Proto == packet.TCP && len(t) >= 20:
		header = int(t[12]>>4) * 4
		if header < 20 || t[13]&^tcpPSH != tcpACK {
			return 0, 0, false
		}
	case in.Proto == packet.UDP && c.udp && len(t) > 8:
		if int(binary.BigEndian.Uint16(t[4:])) != len(t) || t[6]|t[7] == 0 {
			return 0, 0, false
		}
		header = 8
	default:
		return 0, 0, false
	}
	header += in.Transport
	return header, len(pkt) - header, len(pkt) > header
}

// find returns the slot of a packet's flow.
func (c *Coalescer) find(pkt []byte, in packet.Info) *slot {
	for i := range c.slots {
		s := &c.slots[i]
		if s.open && s.info.Flow == in.Flow && s.info.Version == in.Version && s.info.Proto == in.Proto && s.sameFlow(pkt, in) {
			return s
		}
	}
	return nil
}

// sameFlow compares addresses and ports, as far as the packet has them.
func (s *slot) sameFlow(pkt []byte, in packet.Info) bool {
	first, from := s.parts[0], 12
	if in.Version == 6 {
		from = 8
	}
	to := from + 8
	if in.Version == 6 {
		to = from + 32
	}
	if !bytes.Equal(first[from:to], pkt[from:to]) {
		return false
	}
	t := in.Transport
	return len(pkt) < t+4 || bytes.Equal(first[s.info.Transport:s.info.Transport+4], pkt[t:t+4])
}

func (c *Coalescer) free(out func(*Super)) *slot {
	for i := range c.slots {
		if !c.slots[i].open {
			return &c.slots[i]
		}
	}
	s := &c.slots[c.next]
	c.next = (c.next + 1) % maxFlows
	s.flush(out)
	return s
}

func (s *slot) start(pkt []byte, in packet.Info, header, payload int) {
	s.open, s.sealed, s.checked = true, false, false
	s.info, s.header, s.size, s.length, s.psh = in, header, payload, len(pkt), 0
	s.parts[0] = pkt
	s.super = Super{Parts: s.parts[:1], Segments: 1, Bytes: len(pkt)}
	if in.Version == 4 {
		s.id = binary.BigEndian.Uint16(pkt[4:])
	}
	if in.Proto == packet.TCP {
		t := pkt[in.Transport:]
		s.seq = binary.BigEndian.Uint32(t[4:]) + uint32(payload)
		s.sealed = t[13]&tcpPSH != 0
	}
}

// join adds a packet if segmentation would make exactly it. The IPv4
// identification of packets that may not be fragmented has no meaning (RFC
// 6864, section 4.1) and may differ.
func (s *slot) join(pkt []byte, in packet.Info, header, payload int) bool {
	if s.sealed || header != s.header || payload > s.size || s.length+payload > maxSuper || len(s.super.Parts) == MaxParts ||
		!s.sameHeader(pkt, in) || !s.valid(pkt, in) {
		return false
	}
	s.parts[len(s.super.Parts)] = pkt[header:]
	s.super.Parts = s.parts[:len(s.super.Parts)+1]
	s.super.Segments++
	s.super.Bytes += len(pkt)
	s.length += payload
	s.sealed = payload < s.size
	s.id++
	if in.Proto == packet.TCP {
		s.seq += uint32(payload)
		s.psh = pkt[in.Transport+13] & tcpPSH
		s.sealed = s.sealed || s.psh != 0
	}
	return true
}

// sameHeader compares what segmentation copies from the first packet, and the numbers that it counts on.
func (s *slot) sameHeader(pkt []byte, in packet.Info) bool {
	first, t := s.parts[0], in.Transport
	if in.Version == 4 {
		if first[1] != pkt[1] || !bytes.Equal(first[6:10], pkt[6:10]) { // TOS; flags, TTL
			return false
		}
		if !in.DF && binary.BigEndian.Uint16(pkt[4:]) != s.id+1 {
			return false
		}
	} else if !bytes.Equal(first[:4], pkt[:4]) || !bytes.Equal(first[6:8], pkt[6:8]) { // class, flow label; next header, hop limit
		return false
	}
	if in.Proto == packet.UDP {
		return true
	}
	a, b := first[t:s.header], pkt[t:s.header]
	return binary.BigEndian.Uint32(b[4:]) == s.seq && // and after it: acknowledgement; offset; flags; window; urgent pointer, options
		bytes.Equal(a[8:13], b[8:13]) && (a[13]^b[13])&^tcpPSH == 0 && bytes.Equal(a[14:16], b[14:16]) && bytes.Equal(a[18:], b[18:])
}

// valid verifies the checksums of a packet, and once those of the first: a
// super packet carries none, so what was wrong would be made right.
func (s *slot) valid(pkt []byte, in packet.Info) bool {
	if !s.checked {
		if !checksummed(s.parts[0], s.info) {
			return false
		}
		s.checked = true
	}
	return checksummed(pkt, in)
}

func checksummed(pkt []byte, in packet.Info) bool {
	if in.Version == 4 && packet.Checksum(pkt[:20], 0) != 0 {
		return false
	}
	t := pkt[in.Transport:]
	return packet.Checksum(t, packet.PseudoSum(pkt, in.Proto, len(t))) == 0
}

// flush hands out what waits.
func (s *slot) flush(out func(*Super)) {
	s.open = false
	if s.super.Segments > 1 {
		s.finish()
	}
	out(&s.super)
}

// finish makes the first packet's header that of the super packet.
func (s *slot) finish() {
	pkt, t := s.parts[0], s.info.Transport
	h := Header{Flags: NeedsChecksum, HdrLen: uint16(s.header), Size: uint16(s.size), ChecksumStart: uint16(t)}
	if s.info.Version == 4 {
		binary.BigEndian.PutUint16(pkt[2:], uint16(s.length))
		pkt[10], pkt[11] = 0, 0
		binary.BigEndian.PutUint16(pkt[10:], packet.Checksum(pkt[:20], 0))
		h.Type = TypeTCP4
	} else {
		binary.BigEndian.PutUint16(pkt[4:], uint16(s.length-40))
		h.Type = TypeTCP6
	}
	field := t + 16
	if s.info.Proto == packet.UDP {
		field = t + udpChecksum
		binary.BigEndian.PutUint16(pkt[t+4:], uint16(s.length-t))
		h.Type = TypeUDP
	} else {
		pkt[t+13] |= s.psh
	}
	h.ChecksumOffset = uint16(field - t)
	binary.BigEndian.PutUint16(pkt[field:], packet.Fold(packet.PseudoSum(pkt, s.info.Proto, s.length-t)))
	s.super.Header = h
}
