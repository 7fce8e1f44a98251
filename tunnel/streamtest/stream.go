package streamtest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel/gso"
)

// Unit is what a sender hands to its card in one piece: a packet, or a super
// packet with the packets that the card has to make of it.
type Unit struct {
	Header  gso.Header // offsets count from the IP header
	Data    []byte
	Packets [][]byte
	Bad     bool // of one packet: its checksum is wrong
}

// Stream mixes the bursts of several flows, numbered from first, as a wire does.
func Stream(rng *rand.Rand, first byte, flows, mtu int) (list []Unit) {
	senders := make([]*Flow, flows)
	protocols := Protocols()
	turn := rng.IntN(len(protocols))
	for i := range senders {
		senders[i] = NewFlow(rng, protocols[(turn+i)%len(protocols)], first+byte(i), mtu)
	}
	queues := make([]Burst, flows)
	for range 20 * flows {
		i := rng.IntN(flows)
		b := &queues[i]
		if len(b.Packets) == 0 {
			*b = senders[i].Burst()
		}
		n := min(len(b.Packets), 1+rng.IntN(40))
		list = append(list, senders[i].units(b.Packets[:n], b.Whole, b.Bad)...)
		b.Packets = b.Packets[n:]
	}
	return list
}

// Packets are those of all units, in their order.
func Packets(units []Unit) (list [][]byte) {
	for _, u := range units {
		list = append(list, u.Packets...)
	}
	return list
}

// units hands packets of a burst over one by one, or as super packets.
func (f *Flow) units(packets [][]byte, whole, bad bool) (list []Unit) {
	super := whole && (f.proto == packet.TCP || f.proto == packet.UDP) && f.rng.IntN(3) > 0
	for len(packets) > 0 {
		n := 1
		if super {
			for n < len(packets) && n < gso.MaxParts && f.joins(packets[:n], packets[n]) {
				n++
			}
		}
		u := Unit{Packets: packets[:n:n], Data: packets[0], Bad: bad}
		switch {
		case n > 1:
			u.Header, u.Data = f.super(u.Packets)
		case whole && (f.proto == packet.TCP || f.proto == packet.UDP) && f.rng.IntN(2) == 0:
			u.Data = slices.Clone(u.Data)
			u.Header = f.unfinished(u.Data)
		}
		list, packets = append(list, u), packets[n:]
	}
	return list
}

// joins says whether a packet can follow the others in a super packet.
func (f *Flow) joins(before [][]byte, p []byte) bool {
	first, last, total := before[0], before[len(before)-1], 0
	for _, b := range before {
		total += len(b) - f.header()
	}
	payload := len(p) - f.header()
	return payload > 0 && len(last) == len(first) && len(p) <= len(first) && f.header()+total+payload <= 65535
}

// super joins the segments of a flow: the header is that of the first, with the
// PSH and FIN of the last and the CWR of the first.
func (f *Flow) super(segments [][]byte) (h gso.Header, data []byte) {
	data = slices.Clone(segments[0])
	for _, s := range segments[1:] {
		data = append(data, s[f.header():]...)
	}
	t := data[f.transport():]
	h.Size = uint16(len(segments[0]) - f.header())
	switch {
	case f.proto == packet.UDP:
		h.Type = gso.TypeUDP
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	case f.v6:
		h.Type = gso.TypeTCP6
	default:
		h.Type = gso.TypeTCP4
	}
	if f.proto == packet.TCP {
		const ecn = 0x80 // VIRTIO_NET_HDR_GSO_ECN
		if t[13]&tcpCWR != 0 {
			h.Type |= ecn
		}
		t[13] |= segments[len(segments)-1][f.transport()+13]
	}
	if f.v6 {
		binary.BigEndian.PutUint16(data[4:], uint16(len(data)-40))
	} else {
		binary.BigEndian.PutUint16(data[2:], uint16(len(data)))
		finish(data[:f.transport()], f.transport(), 0)
	}
	partial := f.unfinished(data)
	partial.Type, partial.Size = h.Type, h.Size
	return partial, data
}

// unfinished leaves the checksum of a packet to the card.
func (f *Flow) unfinished(p []byte) gso.Header {
	t, field := p[f.transport():], checksumField(f.proto)
	binary.BigEndian.PutUint16(t[field:], ^reference(nil, pseudo(p, f.proto, len(t))))
	return gso.Header{Flags: gso.NeedsChecksum, HdrLen: uint16(f.header()), ChecksumStart: uint16(f.transport()), ChecksumOffset: uint16(field)}
}
