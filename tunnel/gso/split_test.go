package gso

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/transitd/transitd/pkg/packet"
)

// shape is a packet of a flow, built by gopacket, which is the reference here:
// it knows nothing of this package and computes every checksum from nothing.
type shape struct {
	version uint8
	proto   layers.IPProtocol
	id      uint16
	options bool // IPv4 options, or an IPv6 destination options header
	tcp     layers.TCP
	tos     uint8
	payload []byte
}

// build makes the packet with the whole payload.
func (s shape) build(t testing.TB) []byte {
	t.Helper()
	var ip gopacket.NetworkLayer
	parts := make([]gopacket.SerializableLayer, 0, 4)
	if s.version == 4 {
		v4 := &layers.IPv4{Version: 4, TTL: 61, TOS: s.tos, Id: s.id, Protocol: s.proto, Flags: layers.IPv4DontFragment, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{198, 51, 100, 2}}
		if s.options {
			v4.Options = []layers.IPv4Option{{OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}}}
		}
		ip, parts = v4, append(parts, v4)
	} else {
		v6 := &layers.IPv6{Version: 6, HopLimit: 61, TrafficClass: s.tos, FlowLabel: 0x12345, NextHeader: s.proto, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8::2")}
		ip, parts = v6, append(parts, v6)
		if s.options {
			v6.NextHeader = layers.IPProtocolIPv6Destination
			parts = append(parts, gopacket.Payload{byte(s.proto), 0, 1, 4, 0, 0, 0, 0})
		}
	}
	if s.proto == layers.IPProtocolTCP {
		tcp := s.tcp
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, &tcp)
	} else {
		udp := &layers.UDP{SrcPort: 4433, DstPort: 50000}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, udp)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(parts, gopacket.Payload(s.payload))...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// segments are what a sender without offload would have sent.
func (s shape) segments(t testing.TB, size int) [][]byte {
	t.Helper()
	var out [][]byte
	for at := 0; at < len(s.payload); at += size {
		seg, end := s, min(at+size, len(s.payload))
		seg.payload = s.payload[at:end]
		seg.id += uint16(len(out))
		seg.tcp.Seq += uint32(at)
		seg.tcp.CWR = s.tcp.CWR && at == 0
		last := end == len(s.payload)
		seg.tcp.FIN, seg.tcp.PSH = s.tcp.FIN && last, s.tcp.PSH && last
		out = append(out, seg.build(t))
	}
	return out
}

// header is what the kernel puts in front of the shape's packet.
func (s shape) header(size int) Header {
	h := Header{Flags: NeedsChecksum, Type: TypeUDP, Size: uint16(size)}
	if s.proto == layers.IPProtocolTCP {
		h.Type = TypeTCP4
		if s.version == 6 {
			h.Type = TypeTCP6
		}
		if s.tcp.CWR {
			h.Type |= typeECN
		}
	}
	return h
}

// super is the packet as the kernel hands it over: lengths of the whole, the
// transport's checksum only begun.
func (s shape) super(t testing.TB) ([]byte, packet.Info) {
	t.Helper()
	b := s.build(t)
	in, fault := packet.Parse(b)
	if fault != packet.None {
		t.Fatalf("fault %d", fault)
	}
	field := in.Transport + 16
	if in.Proto == packet.UDP {
		field = in.Transport + 6
	}
	partial := packet.Fold(packet.PseudoSum(b, in.Proto, in.Len-in.Transport))
	b[field], b[field+1] = byte(partial>>8), byte(partial)
	return b, in
}

// split hands out all segments. Each gets exactly the room that is promised.
func split(t testing.TB, h Header, pkt []byte, in packet.Info) [][]byte {
	t.Helper()
	var s Splitter
	if !s.Reset(h, pkt, in) {
		t.Fatalf("%+v refused for %+v", h, in)
	}
	var out [][]byte
	for {
		dst := make([]byte, s.MaxSegment())
		n := s.Next(dst)
		if n == 0 {
			return out
		}
		out = append(out, dst[:n])
	}
}

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func tcpOf(seq uint32, flags string) layers.TCP {
	t := layers.TCP{SrcPort: 443, DstPort: 40000, Seq: seq, Ack: 99, ACK: true, Window: 501, Options: []layers.TCPOption{
		{OptionType: 1}, {OptionType: 1}, {OptionType: layers.TCPOptionKindTimestamps, OptionData: []byte{0, 0, 1, 2, 0, 0, 3, 4}},
	}}
	for _, f := range flags {
		switch f {
		case 'F':
			t.FIN = true
		case 'P':
			t.PSH = true
		case 'C':
			t.CWR = true
		case 'E':
			t.ECE = true
		}
	}
	return t
}

func TestSplitEqualsSegmentsBuiltOneByOne(t *testing.T) {
	const tcp, udp = layers.IPProtocolTCP, layers.IPProtocolUDP
	for _, version := range []uint8{4, 6} {
		for name, s := range map[string]shape{
			"TCP":                   {proto: tcp, id: 7, tcp: tcpOf(1000, "")},
			"TCP PSH FIN":           {proto: tcp, id: 7, tcp: tcpOf(1000, "PF")},
			"TCP CWR ECE":           {proto: tcp, id: 7, tcp: tcpOf(1000, "CE"), tos: 2},
			"TCP all":               {proto: tcp, id: 7, tcp: tcpOf(1000, "CEPF"), options: true},
			"TCP sequence wraps":    {proto: tcp, id: 7, tcp: tcpOf(0xffffff00, "P")},
			"TCP without options":   {proto: tcp, id: 7, tcp: layers.TCP{SrcPort: 443, DstPort: 40000, ACK: true, URG: true, Urgent: 9}},
			"TCP id wraps":          {proto: tcp, id: 0xffff, tcp: tcpOf(1000, "P")},
			"UDP":                   {proto: udp, id: 7, tos: 0xb8},
			"UDP options, id wraps": {proto: udp, id: 0xfffe, options: true},
		} {
			s.version = version
			for _, c := range []struct{ payload, size int }{
				{1, 1}, {1, 1000}, {1000, 1000}, // a single segment
				{1001, 1000}, {999, 500}, {2999, 1000}, // a short tail
				{3000, 1000}, {3, 1}, {1500, 501}, {10000, 1348}, // odd sizes, full tails
			} {
				s.payload = counting(c.payload)
				b, in := s.super(t)
				before := bytes.Clone(b)
				got, want := split(t, s.header(c.size), append(b, 0xee, 0xee, 0xee), in), s.segments(t, c.size)
				what := fmt.Sprintf("v%d %s, %d bytes by %d", version, name, c.payload, c.size)
				if len(got) != len(want) {
					t.Errorf("%s: %d segments, want %d", what, len(got), len(want))
					continue
				}
				for i := range want {
					if !bytes.Equal(got[i], want[i]) {
						t.Errorf("%s, segment %d:\n got % x\nwant % x", what, i, got[i], want[i])
					}
				}
				if !bytes.Equal(before, b) {
					t.Errorf("%s: the super packet was written to", what)
				}
			}
		}
	}
}

// The largest packet that the kernel makes.
func TestSplitOf64KB(t *testing.T) {
	for _, version := range []uint8{4, 6} {
		s := shape{version: version, proto: layers.IPProtocolTCP, tcp: tcpOf(1, "P"), payload: counting(65000)}
		b, in := s.super(t)
		got, want := split(t, s.header(1360), b, in), s.segments(t, 1360)
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("v%d: segment %d of %d differs", version, i, len(want))
			}
		}
	}
}

func TestSplitterIsUsedAgain(t *testing.T) {
	first := shape{version: 4, proto: layers.IPProtocolTCP, tcp: tcpOf(5, ""), id: 3, payload: counting(100)}
	second := shape{version: 6, proto: layers.IPProtocolUDP, payload: counting(10)}
	var s Splitter
	dst := make([]byte, 2000)
	if n := s.Next(dst); n != 0 {
		t.Fatalf("the zero value has a segment of %d bytes", n)
	}
	b, in := first.super(t)
	if !s.Reset(first.header(60), b, in) || s.MaxSegment() != in.Len-40 || s.Next(dst) == 0 {
		t.Fatalf("first: largest segment %d of %d", s.MaxSegment(), in.Len)
	}
	b, in = second.super(t) // the first is given up half way
	if !s.Reset(second.header(1000), b, in) || s.MaxSegment() != 58 {
		t.Fatalf("second: largest segment %d", s.MaxSegment())
	}
	if n := s.Next(dst); !bytes.Equal(dst[:n], second.segments(t, 1000)[0]) {
		t.Errorf("second: % x", dst[:n])
	}
	for range 2 {
		if n := s.Next(dst); n != 0 {
			t.Errorf("%d bytes after the last", n)
		}
	}
}

func TestResetRefusesWhatContradictsThePacket(t *testing.T) {
	tcp := shape{version: 4, proto: layers.IPProtocolTCP, tcp: tcpOf(1, ""), payload: counting(100)}
	tcp6, udp := tcp, tcp
	tcp6.version, udp.proto = 6, layers.IPProtocolUDP
	for _, c := range []struct {
		name    string
		s       shape
		breakIt func(h *Header, b []byte, in *packet.Info)
	}{
		{"no type", tcp, func(h *Header, _ []byte, _ *packet.Info) { h.Type = TypeNone }},
		{"only the ECN bit", tcp, func(h *Header, _ []byte, _ *packet.Info) { h.Type = typeECN }},
		{"UDP fragmentation offload", udp, func(h *Header, _ []byte, _ *packet.Info) { h.Type = 3 }},
		{"unknown type", tcp, func(h *Header, _ []byte, _ *packet.Info) { h.Type = 2 }},
		{"TCP4 of v6", tcp6, func(h *Header, _ []byte, _ *packet.Info) { h.Type = TypeTCP4 }},
		{"TCP6 of v4", tcp, func(h *Header, _ []byte, _ *packet.Info) { h.Type = TypeTCP6 }},
		{"TCP of UDP", udp, func(h *Header, b []byte, in *packet.Info) {
			h.Type = TypeTCP4
			b[in.Transport+12] = 0x50 // the payload looks like a good data offset
		}},
		{"UDP of TCP", tcp, func(h *Header, _ []byte, _ *packet.Info) { h.Type = TypeUDP }},
		{"size 0", tcp, func(h *Header, _ []byte, _ *packet.Info) { h.Size = 0 }},
		{"UDP size 0", udp, func(h *Header, _ []byte, _ *packet.Info) { h.Size = 0 }},
		{"data offset 4", tcp, func(_ *Header, b []byte, in *packet.Info) { b[in.Transport+12] = 0x40 }},
		{"data offset 0", tcp, func(_ *Header, b []byte, in *packet.Info) { b[in.Transport+12] = 0 }},
		{"data offset beyond the packet", tcp, func(_ *Header, _ []byte, in *packet.Info) { in.Len = in.Transport + 24 }},
		{"TCP header cut off", tcp, func(_ *Header, _ []byte, in *packet.Info) { in.Len = in.Transport + 19 }},
		{"TCP header without data offset", tcp, func(_ *Header, _ []byte, in *packet.Info) { in.Len = in.Transport + 12 }},
		{"no TCP payload", tcp, func(_ *Header, _ []byte, in *packet.Info) { in.Len = in.Transport + 32 }},
		{"UDP header cut off", udp, func(_ *Header, _ []byte, in *packet.Info) { in.Len = in.Transport + 7 }},
		{"no UDP payload", udp, func(_ *Header, _ []byte, in *packet.Info) { in.Len = in.Transport + 8 }},
		{"first fragment", udp, func(_ *Header, _ []byte, in *packet.Info) { in.Fragment = true }},
		{"later fragment", tcp, func(_ *Header, _ []byte, in *packet.Info) { in.Fragment, in.First = true, false }},
	} {
		b, in := c.s.super(t)
		h := c.s.header(50)
		var s Splitter
		if !s.Reset(h, b, in) {
			t.Fatalf("%s: refused before it was broken", c.name)
		}
		c.breakIt(&h, b, &in)
		if s.Reset(h, b[:in.Len], in) {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

func TestSplitDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 2000)
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		shape := shape{version: 4, proto: proto, tcp: tcpOf(1, "P"), payload: counting(20000)}
		b, in := shape.super(t)
		var s Splitter
		if n := testing.AllocsPerRun(20, func() {
			s.Reset(shape.header(1360), b, in)
			for s.Next(dst) > 0 {
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", proto, n)
		}
	}
}

func BenchmarkSplit64KB(b *testing.B) {
	shape := shape{version: 4, proto: layers.IPProtocolTCP, tcp: tcpOf(1, "P"), payload: counting(65000)}
	pkt, in := shape.super(b)
	dst := make([]byte, 1500)
	var s Splitter
	b.SetBytes(int64(len(pkt)))
	for b.Loop() {
		s.Reset(shape.header(1400), pkt, in)
		for s.Next(dst) > 0 {
		}
	}
}
