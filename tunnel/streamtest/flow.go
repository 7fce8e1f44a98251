package streamtest

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/transitd/transitd/pkg/packet"
)

// Protocols and extension headers without a name in package packet (IANA).
const (
	protoGRE  = 47
	protoESP  = 50
	protoSCTP = 132
	protoTest = 253 // for experiments

	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extDestination = 60
)

// Flags of TCP.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpCWR = 0x80
)

// Flow makes packets of one 5-tuple with what a real sender may do: it is
// built by hand, so that its packets owe nothing to the code under test.
type Flow struct {
	rng     *rand.Rand
	mtu     int
	v6      bool
	proto   byte
	n       byte // tells the flows apart
	tos     byte
	df      bool
	id      uint16
	seq     uint32
	options []byte // of TCP
	ip      []byte // IPv4 options
	ext     []byte // kinds of IPv6 extension headers
}

// Protocols are what flows may have, in an order in which any few of them are different.
func Protocols() []byte {
	return []byte{packet.TCP, packet.UDP, packet.TCP, packet.ICMP, packet.TCP, packet.UDP, protoGRE, packet.TCP, protoESP, packet.UDP, protoSCTP, protoTest}
}

// NewFlow makes the flow number n, whose packets are at most mtu bytes long. The protocol is one of Protocols.
func NewFlow(rng *rand.Rand, proto, n byte, mtu int) *Flow {
	f := &Flow{rng: rng, mtu: mtu, proto: proto, n: n, v6: rng.IntN(2) == 0, df: rng.IntN(2) == 0, id: uint16(rng.Uint32()), seq: rng.Uint32()}
	if f.proto == packet.ICMP && f.v6 {
		f.proto = packet.ICMPv6
	}
	if rng.IntN(3) == 0 {
		f.tos = byte(rng.Uint32())
	}
	if f.proto == packet.TCP {
		f.options = pick(rng, nil,
			[]byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},                                       // timestamps
			[]byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 11}, // and a selective acknowledgement
			[]byte{2, 4, 2, 0x18, 4, 2, 1, 3, 3, 7, 0, 0},                                     // MSS of 536, SACK permitted, window scale
			[]byte{30, 6, 0, 1, 2, 3, 1, 0},                                                   // Multipath TCP
		)
	}
	if rng.IntN(5) == 0 {
		if f.v6 {
			f.ext = pick(rng, []byte{extDestination}, []byte{extHopByHop}, []byte{extHopByHop, extRouting, extDestination})
		} else {
			f.ip = pick(rng, []byte{7, 7, 4, 0, 0, 0, 0, 0}, []byte{1, 1, 1, 0}, []byte{0x94, 4, 0, 0}) // record route; padding; router alert
		}
	}
	return f
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// extension is one IPv6 extension header, of which the first byte is filled in later.
func extension(rng *rand.Rand, kind byte) []byte {
	switch kind {
	case extRouting: // type 4, no segment left
		return []byte{0, 2, 4, 0, 23: 1}
	case extFragment:
		return []byte{0, 0, byte(rng.Uint32()), byte(rng.Uint32()) &^ 6, 1, 2, 3, 4}
	}
	return []byte{0, 0, 1, 4, 0, 0, 0, 0} // padding
}

func (f *Flow) transport() int {
	if !f.v6 {
		return 20 + len(f.ip)
	}
	n := 40
	for _, kind := range f.ext {
		n += len(extension(f.rng, kind))
	}
	return n
}

func (f *Flow) header() int {
	switch f.proto {
	case packet.TCP:
		return f.transport() + 20 + len(f.options)
	case packet.UDP, packet.ICMP, packet.ICMPv6:
		return f.transport() + 8
	case protoGRE, protoESP, protoSCTP:
		return f.transport() + 4
	}
	return f.transport()
}

// Packet makes one with a payload; flags are TCP's. The checksums are right.
func (f *Flow) Packet(payload int, flags byte) []byte {
	p := make([]byte, f.header()+payload)
	for i := f.header(); i < len(p); i++ {
		p[i] = byte(f.rng.Uint32())
	}
	f.network(p)
	t := p[f.transport():]
	switch f.proto {
	case packet.TCP:
		f.ports(t)
		binary.BigEndian.PutUint32(t[4:], f.seq)
		binary.BigEndian.PutUint32(t[8:], 77)
		t[12], t[13] = byte((20+len(f.options))/4)<<4, flags
		binary.BigEndian.PutUint16(t[14:], 512)
		copy(t[20:], f.options)
		f.seq += uint32(payload)
	case packet.UDP:
		f.ports(t)
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	case packet.ICMP:
		t[0], t[7] = 8, f.n // an echo request
	case packet.ICMPv6:
		t[0], t[7] = 128, f.n
	case protoGRE:
		binary.BigEndian.PutUint16(t[2:], 0x88b5) // a protocol for experiments
	case protoESP, protoSCTP: // the SPI stands where others have ports
		f.ports(t)
	}
	finish(p, f.transport(), f.proto)
	return p
}

func (f *Flow) ports(t []byte) {
	binary.BigEndian.PutUint16(t, 40000+uint16(f.n))
	binary.BigEndian.PutUint16(t[2:], 40000)
}

// network writes the IP header.
func (f *Flow) network(p []byte) {
	if f.v6 {
		copy(p, []byte{0x60 | f.tos>>4, f.tos << 4, 0, f.n, 0, 0, f.proto, 64})
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		copy(p[8:], []byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 15: f.n})
		copy(p[24:], destination6)
		next, at := 6, 40
		for _, kind := range f.ext {
			p[next] = kind
			next = at
			at += copy(p[at:], extension(f.rng, kind))
			p[next] = f.proto
		}
		return
	}
	copy(p, []byte{0x45 + byte(len(f.ip)/4), f.tos, 0, 0, 0, 0, 0, 0, 64, f.proto, 0, 0, 203, 0, 113, f.n})
	copy(p[16:], destination4)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[4:], f.id)
	f.id++
	if f.df {
		p[6] = 0x40
	}
	copy(p[20:], f.ip)
}

// Where all packets go: networks for documentation, which are on no device.
var (
	destination4 = []byte{203, 0, 113, 201}
	destination6 = []byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 15: 201}
)

// finish fills in the checksums of a whole packet.
func finish(p []byte, transport int, proto byte) {
	if p[0]>>4 == 4 {
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], reference(p[:int(p[0]&15)*4], 0))
	}
	t, field := p[transport:], checksumField(proto)
	if field == 0 {
		return
	}
	t[field], t[field+1] = 0, 0
	c := reference(t, pseudo(p, proto, len(t)))
	if c == 0 && proto == packet.UDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(t[field:], c)
}

// checksumField is where a transport has its checksum; 0 if it has none.
func checksumField(proto byte) int {
	return map[byte]int{packet.TCP: 16, packet.UDP: 6, packet.ICMP: 2, packet.ICMPv6: 2}[proto]
}

// pseudo is the sum of the pseudo-header of a transport of n bytes.
func pseudo(p []byte, proto byte, n int) uint32 {
	if proto == packet.ICMP {
		return 0
	}
	sum := uint32(proto) + uint32(n)
	from, to := 12, 20
	if p[0]>>4 == 6 {
		from, to = 8, 40
	}
	for i := from; i < to; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	return sum
}

// reference is RFC 1071's sum as simple as it can be.
func reference(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Burst is what a sender emits at once.
type Burst struct {
	Packets [][]byte
	// Whole is set if no packet is a fragment or has a wrong or no checksum: a
	// sender may leave the checksums, and the cutting, to its card.
	Whole bool
	// Bad is set if a transport's checksum is wrong.
	Bad bool
}

// Burst is what a sender may emit at once: mostly full segments.
func (f *Flow) Burst() Burst {
	full := f.mtu - f.header()
	switch f.rng.IntN(12) {
	case 0: // any flags, URG, CWR and a FIN among them
		return Burst{Packets: [][]byte{f.Packet(f.rng.IntN(full), byte(f.rng.Uint32()))}, Whole: true}
	case 1: // an acknowledgement or an empty datagram
		return Burst{Packets: [][]byte{f.Packet(0, tcpACK)}, Whole: true}
	case 2: // tiny
		return Burst{Packets: [][]byte{f.Packet(1, tcpACK), f.Packet(1, tcpACK), f.Packet(1, tcpACK|tcpPSH)}, Whole: true}
	case 3: // a hole
		f.seq += 1000
	case 4: // the sender began to number elsewhere
		f.id += 100
	case 5: // a wrong checksum must stay wrong
		p := f.Packet(full, tcpACK)
		p[len(p)-1] ^= 1
		return Burst{Packets: [][]byte{p}, Bad: checksumField(f.proto) > 0}
	case 6:
		return Burst{Packets: [][]byte{f.fragment(full)}}
	case 7: // no UDP checksum
		p := f.Packet(full, tcpACK)
		if f.proto == packet.UDP && !f.v6 {
			t := f.transport()
			p[t+6], p[t+7] = 0, 0
		}
		return Burst{Packets: [][]byte{p}}
	case 8: // the beginning of a connection
		return Burst{Packets: [][]byte{f.Packet(0, tcpSYN)}, Whole: true}
	}
	return Burst{Packets: f.run(full), Whole: true}
}

// fragment makes one, of which the rest does not come.
func (f *Flow) fragment(full int) []byte {
	if f.v6 {
		ext := f.ext
		f.ext = append(ext[:len(ext):len(ext)], extFragment)
		defer func() { f.ext = ext }()
		return f.Packet(full-8, tcpACK)
	}
	p := f.Packet(full, tcpACK)
	p[6], p[7] = 0x20, byte(f.rng.Uint32())
	finish(p[:f.transport()], f.transport(), 0)
	return p
}

// run makes segments of one size, of which the last may be shorter and end a message, or the connection.
func (f *Flow) run(full int) (list [][]byte) {
	size := full
	if f.rng.IntN(3) == 0 {
		size = 1 + f.rng.IntN(full)
	}
	first := byte(tcpACK)
	if f.rng.IntN(8) == 0 {
		first |= tcpCWR
	}
	list = append(list, f.Packet(size, first))
	for range f.rng.IntN(60) {
		list = append(list, f.Packet(size, tcpACK))
	}
	if f.rng.IntN(2) == 0 {
		list = append(list, f.Packet(1+f.rng.IntN(size), pick[byte](f.rng, tcpACK|tcpPSH, tcpACK|tcpPSH|tcpFIN)))
	}
	return list
}

// PlainTCP makes a flow as most are: IPv4 with DF, no options.
func PlainTCP(rng *rand.Rand, n byte, mtu int) *Flow {
	return &Flow{rng: rng, mtu: mtu, n: n, proto: packet.TCP, df: true}
}
