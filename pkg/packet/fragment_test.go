package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"
)

// fragments calls Fragment4 to the end; nil if there can be none.
func fragments(t testing.TB, orig []byte, in Info, mtu int) [][]byte {
	t.Helper()
	var out [][]byte
	for done := 0; done < in.Len-in.Transport; {
		dst := make([]byte, max(mtu, 60)) // no more room than a caller has to give
		n, next := Fragment4(dst, orig, in, mtu, done)
		if n == 0 {
			return nil
		}
		if next <= done || n > mtu {
			t.Fatalf("%d bytes for an MTU of %d, done %d after %d", n, mtu, next, done)
		}
		out, done = append(out, dst[:n]), next
	}
	return out
}

// reassemble checks fragments on their own and against each other, and returns
// the payload that they carry. copied are the options expected in all but the first.
func reassemble(t testing.TB, orig []byte, in Info, parts [][]byte, copied []byte) []byte {
	t.Helper()
	const mf = 0x2000
	field := binary.BigEndian.Uint16(orig[6:])
	var payload []byte
	for i, p := range parts {
		got := mustParse(t, p)
		if got.Len != len(p) || !headerValid(p) {
			t.Fatalf("fragment %d: length %d of %d, checksum valid %v", i, got.Len, len(p), headerValid(p))
		}
		options := copied
		if i == 0 {
			options = orig[20:in.Transport]
		}
		if !bytes.Equal(p[20:got.Transport], options) {
			t.Fatalf("fragment %d: options % x, want % x", i, p[20:got.Transport], options)
		}
		// Identification, TTL, protocol, addresses, TOS.
		if p[1] != orig[1] || !bytes.Equal(p[4:6], orig[4:6]) || !bytes.Equal(p[8:10], orig[8:10]) || !bytes.Equal(p[12:20], orig[12:20]) {
			t.Fatalf("fragment %d: header % x of % x", i, p[:20], orig[:20])
		}
		f := binary.BigEndian.Uint16(p[6:])
		if int(f&0x1fff) != int(field&0x1fff)+len(payload)/8 {
			t.Fatalf("fragment %d: offset %d after %d bytes", i, f&0x1fff, len(payload))
		}
		last := i == len(parts)-1
		if more := f&mf != 0; more != (!last || field&mf != 0) || f&0xc000 != field&0xc000 {
			t.Fatalf("fragment %d of %d: flags %04x of %04x", i, len(parts), f, field)
		}
		if n := len(p) - got.Transport; n == 0 || !last && n%8 != 0 {
			t.Fatalf("fragment %d of %d carries %d bytes", i, len(parts), n)
		}
		payload = append(payload, p[got.Transport:]...)
	}
	return payload
}

// v4Packet is an IPv4 packet with raw options (padded by the caller).
func v4Packet(field uint16, options, payload []byte) []byte {
	header := 20 + len(options)
	b := make([]byte, header, header+len(payload))
	b[0], b[1], b[8], b[9] = 0x40|byte(header/4), 0x2a, 61, UDP
	binary.BigEndian.PutUint16(b[2:], uint16(header+len(payload)))
	binary.BigEndian.PutUint16(b[4:], 0xbeef)
	binary.BigEndian.PutUint16(b[6:], field)
	copy(b[12:], []byte{192, 0, 2, 1, 198, 51, 100, 2})
	copy(b[20:], options)
	sum := ^naiveSum(b)
	binary.BigEndian.PutUint16(b[10:], sum)
	return append(b, payload...)
}

func TestFragment4OfLiteralPacket(t *testing.T) {
	payload := []byte("0123456789abcdefghijklm") // 23 bytes
	orig := v4Packet(0, nil, payload)
	parts := fragments(t, orig, mustParse(t, orig), 20+14) // room for 8 bytes each: 14 is no multiple
	want := []string{
		"452a 001c beef 2000 3d11 b280 c000 0201 c633 6402 3031 3233 3435 3637",
		"452a 001c beef 2001 3d11 b27f c000 0201 c633 6402 3839 6162 6364 6566",
		"452a 001b beef 0002 3d11 d27f c000 0201 c633 6402 6768 696a 6b6c 6d",
	}
	if len(parts) != len(want) {
		t.Fatalf("%d fragments, want %d", len(parts), len(want))
	}
	for i := range want {
		if w := unhex(t, want[i]); !bytes.Equal(parts[i], w) {
			t.Errorf("fragment %d:\n got % x\nwant % x", i, parts[i], w)
		}
		if f := decode(t, parts[i]).Layer(layers.LayerTypeIPv4).(*layers.IPv4); int(f.FragOffset) != i {
			t.Errorf("gopacket reads offset %d of fragment %d", f.FragOffset, i)
		}
	}
}

func TestFragment4CopiesOptionsWithTheCopyBit(t *testing.T) {
	for _, c := range []struct{ name, options, copied string }{
		{"none", "", ""},
		{"router alert", "9404 0000", "9404 0000"},
		{"record route is for the first only", "0707 04c0 0002 0100", ""},
		{"NOP and end are not copied", "0101 0100", ""},
		{"one of each, padded", "01 0707 04c0 0002 01 8303 04 8802 00 00 00", "8303 0488 0200 0000"},
		{"behind the end is nothing", "0000 0000 9404 0000", ""},
		{"length beyond the header", "9404 0000 8609 0000", "9404 0000"},
		{"length 1", "9404 0000 8601 9404 0000 0000", "9404 0000"},
		{"length 2, no data", "8602 0000", "8602 0000"},
		{"length 0", "8600 0000", ""},
		{"no length", "0101 0186", ""},
	} {
		orig := v4Packet(0, unhex(t, c.options), bytes.Repeat([]byte{1, 2, 3}, 40))
		in := mustParse(t, orig)
		parts := fragments(t, orig, in, 68)
		if len(parts) < 2 {
			t.Fatalf("%s: %d fragments", c.name, len(parts))
		}
		if got := reassemble(t, orig, in, parts, unhex(t, c.copied)); !bytes.Equal(got, orig[in.Transport:]) {
			t.Errorf("%s: another payload", c.name)
		}
	}
}

func TestFragment4Reassembles(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	choices := []struct{ option, copied []byte }{
		{[]byte{1}, nil},
		{[]byte{0x94, 4, 0, 0}, []byte{0x94, 4, 0, 0}},
		{[]byte{7, 7, 4, 0, 0, 0, 0}, nil},
		{[]byte{0x83, 3, 4}, []byte{0x83, 3, 4}},
	}
	for range 3000 {
		var options, copied []byte
		for range r.IntN(6) {
			c := choices[r.IntN(len(choices))]
			options, copied = append(options, c.option...), append(copied, c.copied...)
		}
		for len(options)%4 != 0 {
			options = append(options, 0)
		}
		for len(copied)%4 != 0 {
			copied = append(copied, 0)
		}
		payload := make([]byte, 1+r.IntN(3000))
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		field := uint16(0)
		if r.IntN(3) == 0 { // a fragment is fragmented again
			field = uint16(r.IntN(4096)) | uint16(r.IntN(2))<<13
		}
		orig := v4Packet(field, options, payload)
		in, mtu := mustParse(t, orig), 68+r.IntN(1500)
		parts := fragments(t, append(slices.Clone(orig), 0xee), in, mtu) // padding must not travel
		if got := reassemble(t, orig, in, parts, copied); !bytes.Equal(got, payload) {
			t.Fatalf("%d bytes, MTU %d, options % x: another payload", len(payload), mtu, options)
		}
	}
}

func TestFragment4IsImpossible(t *testing.T) {
	orig := v4Packet(0, nil, make([]byte, 100))
	in := mustParse(t, orig)
	if n, next := Fragment4(make([]byte, 68), orig, in, 27, 0); n != 0 || next != 100 {
		t.Errorf("no room for 8 bytes: %d, %d", n, next)
	}
	// Were the second of these cut, a later offset might wrap to the front of the packet.
	const offset = 0x1ff1
	orig = v4Packet(offset, nil, make([]byte, 0xffff-8*offset))
	in = mustParse(t, orig)
	if n, next := Fragment4(make([]byte, 68), orig, in, 68, 0); n != 68 || next != 48 {
		t.Errorf("up to the largest offset: %d, %d", n, next)
	}
	orig = v4Packet(offset, nil, make([]byte, 0xffff-8*offset+1))
	in = mustParse(t, orig)
	if n, next := Fragment4(make([]byte, 68), orig, in, 68, 0); n != 0 || next != in.Len-in.Transport {
		t.Errorf("beyond the largest offset: %d, %d", n, next)
	}
}

func TestFragment4DoesNotAllocate(t *testing.T) {
	orig, dst := v4Packet(0, []byte{0x94, 4, 0, 0}, make([]byte, 1400)), make([]byte, 1500)
	in := mustParse(t, orig)
	noAllocs(t, "Fragment4", func() {
		for done := 0; done < in.Len-in.Transport; {
			_, done = Fragment4(dst, orig, in, 600, done)
		}
	})
}

func FuzzFragment4(f *testing.F) {
	f.Add(v4Packet(0, nil, make([]byte, 100)), uint16(68))
	f.Add(v4Packet(0x2010, []byte{0x94, 4, 0, 0}, make([]byte, 200)), uint16(100))
	f.Add(v4Packet(0x1ff0, []byte{7, 7, 4, 0, 0, 0, 0, 0}, make([]byte, 200)), uint16(80))
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		in, fault := Parse(b)
		mtu := int(size%2000) + 20
		if fault != None || in.Version != 4 || in.Len <= mtu {
			return
		}
		parts := fragments(t, b, in, mtu)
		if parts == nil {
			return
		}
		// Which options are copied is TestFragment4CopiesOptions' business: here
		// all later fragments agree and have none that the packet had not.
		var copied []byte
		if len(parts) > 1 {
			copied = parts[1][20:mustParse(t, parts[1]).Transport]
		}
		if got := reassemble(t, b, in, parts, copied); !bytes.Equal(got, b[in.Transport:in.Len]) {
			t.Fatalf("another payload from % x", b)
		}
	})
}
