package gso_test

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/transitd/transitd/pkg/packet"
)

// mtu is that of the tunnel in the tests of streams.
const mtu = 1400

// flow makes packets of one 5-tuple with what a real sender may do: it is
// built by hand, so that its packets owe nothing to the code under test.
type flow struct {
	rng     *rand.Rand
	v6      bool
	proto   byte
	n       byte // tells the flows apart
	df      bool
	id      uint16
	seq     uint32
	options []byte // of TCP, or of IPv4 where ip is set
	ip      []byte // IPv4 options or IPv6 extension headers
}

func newFlow(rng *rand.Rand, n byte) *flow {
	f := &flow{rng: rng, n: n, v6: rng.IntN(2) == 0, df: rng.IntN(2) == 0, id: uint16(rng.Uint32()), seq: rng.Uint32()}
	f.proto = []byte{packet.TCP, packet.TCP, packet.TCP, packet.UDP, packet.UDP, 47}[rng.IntN(6)]
	if f.proto == packet.TCP && rng.IntN(2) == 0 {
		f.options = []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8} // timestamps
	}
	if rng.IntN(6) == 0 {
		f.ip = []byte{7, 7, 4, 0, 0, 0, 0, 0} // record route and end of list
		if f.v6 {
			f.ip = []byte{f.proto, 0, 1, 4, 0, 0, 0, 0} // destination options: padding
		}
	}
	return f
}

func (f *flow) transport() int {
	if f.v6 {
		return 40 + len(f.ip)
	}
	return 20 + len(f.ip)
}

func (f *flow) header() int {
	switch f.proto {
	case packet.TCP:
		return f.transport() + 20 + len(f.options)
	case packet.UDP:
		return f.transport() + 8
	}
	return f.transport()
}

// packet makes one with a payload; flags are TCP's. The checksums are right.
func (f *flow) packet(payload int, flags byte) []byte {
	p := make([]byte, f.header()+payload)
	for i := f.header(); i < len(p); i++ {
		p[i] = byte(f.rng.Uint32())
	}
	f.network(p)
	t := p[f.transport():]
	if f.proto != 47 {
		binary.BigEndian.PutUint16(t, 1000+uint16(f.n))
		binary.BigEndian.PutUint16(t[2:], 2000)
	}
	switch f.proto {
	case packet.TCP:
		binary.BigEndian.PutUint32(t[4:], f.seq)
		binary.BigEndian.PutUint32(t[8:], 77)
		t[12], t[13] = byte((20+len(f.options))/4)<<4, flags
		binary.BigEndian.PutUint16(t[14:], 512)
		copy(t[20:], f.options)
		f.seq += uint32(payload)
	case packet.UDP:
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	finish(p, f.transport(), f.proto)
	return p
}

// network writes the IP header.
func (f *flow) network(p []byte) {
	if f.v6 {
		copy(p, []byte{0x60, 0, 0, f.n, 0, 0, f.proto, 64})
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		copy(p[8:], []byte{0x20, 1, 0xd, 0xb8, 15: f.n})
		copy(p[24:], []byte{0x20, 1, 0xd, 0xb8, 1, 15: 1})
		if len(f.ip) > 0 {
			p[6] = 60
			copy(p[40:], f.ip)
		}
		return
	}
	copy(p, []byte{0x45 + byte(len(f.ip)/4), 0, 0, 0, 0, 0, 0, 0, 64, f.proto, 0, 0, 192, 0, 2, f.n, 198, 51, 100, 1})
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[4:], f.id)
	f.id++
	if f.df {
		p[6] = 0x40
	}
	copy(p[20:], f.ip)
}

// finish fills in the checksums of a whole packet.
func finish(p []byte, transport int, proto byte) {
	if p[0]>>4 == 4 {
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], reference(p[:int(p[0]&15)*4], 0))
	}
	t := p[transport:]
	field := map[byte]int{packet.TCP: 16, packet.UDP: 6}[proto]
	if field == 0 {
		return
	}
	t[field], t[field+1] = 0, 0
	sum := uint32(proto) + uint32(len(t))
	from, to := 12, 20
	if p[0]>>4 == 6 {
		from, to = 8, 40
	}
	for i := from; i < to; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	c := reference(t, sum)
	if c == 0 && proto == packet.UDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(t[field:], c)
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

// burst is what a sender may emit at once: mostly full segments.
func (f *flow) burst() (list [][]byte) {
	full := mtu - f.header()
	flags := byte(0x10)
	switch f.rng.IntN(12) {
	case 0: // any flags, URG, CWR and a FIN among them
		return [][]byte{f.packet(f.rng.IntN(full), byte(f.rng.Uint32()))}
	case 1: // an acknowledgement or an empty datagram
		return [][]byte{f.packet(0, flags)}
	case 2: // tiny
		return [][]byte{f.packet(1, flags), f.packet(1, flags), f.packet(1, flags|8)}
	case 3: // a hole
		f.seq += 1000
	case 4: // the sender began to number elsewhere
		f.id += 100
	case 5: // a wrong checksum must stay wrong
		p := f.packet(full, flags)
		p[len(p)-1] ^= 1
		return [][]byte{p}
	case 6: // a fragment
		p := f.packet(full, flags)
		if !f.v6 {
			p[6], p[7] = 0x20, byte(f.rng.Uint32())
			finish(p[:f.transport()], f.transport(), 0)
		}
		return [][]byte{p}
	case 7: // no UDP checksum
		p := f.packet(full, flags)
		if f.proto == packet.UDP && !f.v6 {
			t := f.transport()
			p[t+6], p[t+7] = 0, 0
		}
		return [][]byte{p}
	}
	size := full
	if f.rng.IntN(3) == 0 {
		size = 1 + f.rng.IntN(full)
	}
	for range 1 + f.rng.IntN(60) {
		list = append(list, f.packet(size, flags))
	}
	if f.rng.IntN(2) == 0 {
		list = append(list, f.packet(1+f.rng.IntN(size), flags|8))
	}
	return list
}
