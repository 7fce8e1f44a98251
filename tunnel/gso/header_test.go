package gso

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"

	"github.com/transitd/transitd/pkg/packet"
)

func TestHeaderIsLittleEndian(t *testing.T) {
	wire := []byte{1, 0x84, 0x42, 0x01, 0x78, 0x05, 0x28, 0x00, 0x10, 0x02}
	want := Header{Flags: 1, Type: TypeTCP6 | typeECN, HdrLen: 0x142, Size: 1400, ChecksumStart: 40, ChecksumOffset: 0x210}
	if diff := cmp.Diff(want, ParseHeader(append(wire, 0xff))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got := bytes.Repeat([]byte{0xee}, HeaderLen+1)
	want.Put(got)
	if !bytes.Equal(got, append(wire, 0xee)) {
		t.Errorf("% x, want % x and nothing behind", got, wire)
	}
}

// partial is a packet with a begun checksum, its header, and what gopacket finishes it to.
func partial(t testing.TB, version uint8, proto layers.IPProtocol, payload []byte) (h Header, pkt, want []byte) {
	t.Helper()
	s := shape{version: version, proto: proto, tcp: tcpOf(1, "P"), payload: payload}
	pkt, in := s.super(t)
	h = Header{Flags: NeedsChecksum, ChecksumStart: uint16(in.Transport), ChecksumOffset: 16}
	if proto == layers.IPProtocolUDP {
		h.ChecksumOffset = 6
	}
	return h, pkt, s.build(t)
}

func TestFinishChecksum(t *testing.T) {
	for _, version := range []uint8{4, 6} {
		for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
			for _, n := range []int{0, 1, 2, 99, 1400} {
				h, pkt, want := partial(t, version, proto, counting(n))
				if !FinishChecksum(h, pkt) || !bytes.Equal(pkt, want) {
					t.Errorf("v%d %v, %d bytes:\n got % x\nwant % x", version, proto, n, pkt, want)
				}
			}
		}
	}
}

// zeroSumPayload makes gopacket compute the checksum 0, which in UDP would
// read as "none": RFC 768 sends all ones instead.
func zeroSumPayload(t testing.TB, version uint8, proto layers.IPProtocol) []byte {
	t.Helper()
	payload := []byte{0, 0}
	h, _, b := partial(t, version, proto, payload)
	at := int(h.ChecksumStart + h.ChecksumOffset)
	copy(payload, b[at:at+2]) // adding the checksum to what it covers brings the sum to all ones
	if _, _, b = partial(t, version, proto, payload); b[at] != 0 || b[at+1] != 0 {
		t.Fatalf("checksum % x, meant to be 0", b[at:at+2])
	}
	return payload
}

// In TCP zero is a checksum, and all ones is none that tshark takes (RFC 1624, section 3).
func TestZeroChecksumOfTCPStaysZero(t *testing.T) {
	for _, version := range []uint8{4, 6} {
		h, pkt, want := partial(t, version, layers.IPProtocolTCP, zeroSumPayload(t, version, layers.IPProtocolTCP))
		if at := int(h.ChecksumStart) + 16; !FinishChecksum(h, pkt) || !bytes.Equal(pkt, want) || pkt[at] != 0 || pkt[at+1] != 0 {
			t.Errorf("v%d, finished:\n got % x\nwant % x", version, pkt, want)
		}
	}
}

func TestZeroChecksumOfUDPIsSentAsOnes(t *testing.T) {
	for _, version := range []uint8{4, 6} {
		payload := zeroSumPayload(t, version, layers.IPProtocolUDP)
		h, pkt, want := partial(t, version, layers.IPProtocolUDP, payload)
		at := int(h.ChecksumStart) + 6
		want[at], want[at+1] = 0xff, 0xff
		if !FinishChecksum(h, pkt) || !bytes.Equal(pkt, want) {
			t.Errorf("v%d, finished:\n got % x\nwant % x", version, pkt, want)
		}
		// The same as the only segment of a super packet.
		s := shape{version: version, proto: layers.IPProtocolUDP, payload: payload}
		b, in := s.super(t)
		if got := split(t, s.header(2), b, in); len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Errorf("v%d, split:\n got % x\nwant % x", version, got, want)
		}
	}
}

func TestFinishChecksumOutsideOfThePacket(t *testing.T) {
	for _, c := range []struct {
		name          string
		start, offset uint16
		ok            bool
	}{
		{"field at the very end", 20, 6, true},
		{"field half outside", 20, 7, false},
		{"field outside", 20, 16, false},
		{"start at the end", 28, 0, false},
		{"start outside", 100, 6, false},
		{"the sum of both overflows 16 bits", 20, 0xffff, false},
		{"both at their largest", 0xffff, 0xffff, false},
	} {
		pkt := counting(28)
		if ok := FinishChecksum(Header{Flags: NeedsChecksum, ChecksumStart: c.start, ChecksumOffset: c.offset}, pkt); ok != c.ok {
			t.Errorf("%s: %v", c.name, ok)
		}
		if !c.ok && !bytes.Equal(pkt, counting(28)) {
			t.Errorf("%s: refused, but written to", c.name)
		}
	}
	if FinishChecksum(Header{Flags: NeedsChecksum}, nil) {
		t.Error("no packet: accepted")
	}
}

func TestFinishChecksumDoesNotAllocate(t *testing.T) {
	h, pkt, _ := partial(t, 4, layers.IPProtocolTCP, counting(1400))
	if n := testing.AllocsPerRun(100, func() { FinishChecksum(h, pkt) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSplit(f *testing.F) {
	for _, version := range []uint8{4, 6} {
		for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
			s := shape{version: version, proto: proto, tcp: tcpOf(1, "CPF"), options: version == 6, payload: counting(300)}
			b, _ := s.super(f)
			wire := make([]byte, HeaderLen)
			s.header(128).Put(wire)
			f.Add(append(wire, b...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderLen {
			return
		}
		h, pkt := ParseHeader(b), bytes.Clone(b[HeaderLen:])
		again := make([]byte, HeaderLen)
		if h.Put(again); !bytes.Equal(again, b[:HeaderLen]) {
			t.Fatalf("% x read and written is % x", b[:HeaderLen], again)
		}
		in, fault := packet.Parse(pkt)
		var s Splitter
		if fault != packet.None || !s.Reset(h, pkt, in) {
			FinishChecksum(h, pkt)
			return
		}
		segments := split(t, h, pkt, in)
		header := transportEnd(pkt, in)
		var payload []byte
		for i, seg := range segments {
			got, fault := packet.Parse(seg)
			if fault != packet.None || got.Len != len(seg) || got.Transport != in.Transport || got.Proto != in.Proto {
				t.Fatalf("segment %d: fault %d, %+v of %d bytes, of %+v", i, fault, got, len(seg), in)
			}
			if packet.Checksum(seg[got.Transport:], packet.PseudoSum(seg, got.Proto, len(seg)-got.Transport)) != 0 {
				t.Fatalf("segment %d: wrong checksum in % x", i, seg)
			}
			if n := len(seg) - header; n > int(h.Size) || i < len(segments)-1 && n != int(h.Size) {
				t.Fatalf("segment %d of %d carries %d bytes of %d", i, len(segments), n, h.Size)
			}
			payload = append(payload, seg[header:]...)
		}
		if want := pkt[header:in.Len]; !bytes.Equal(payload, want) {
			t.Fatalf("payload % x, want % x", payload, want)
		}
	})
}

// transportEnd is where the payload starts.
func transportEnd(pkt []byte, in packet.Info) int {
	if in.Proto == packet.UDP {
		return in.Transport + 8
	}
	return in.Transport + int(pkt[in.Transport+12]>>4)*4
}
