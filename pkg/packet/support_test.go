package packet

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// unhex reads literal bytes; blanks are for the reader.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// naiveSum is the ones' complement sum word by word, as RFC 1071, section 4.1,
// has it in C: slow and plainly right.
func naiveSum(b []byte) uint16 {
	var sum uint64
	for i := 0; i < len(b); i += 2 {
		word := uint64(b[i]) << 8
		if i+1 < len(b) {
			word |= uint64(b[i+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// headerValid reports whether an IPv4 header's checksum holds.
func headerValid(b []byte) bool { return naiveSum(b[:int(b[0]&0xf)*4]) == 0xffff }

// transportValid reports whether the checksum of a transport with a
// pseudo-header holds. The pseudo-header is spelled out, not summed by PseudoSum.
func transportValid(b []byte, in Info) bool {
	body := b[in.Transport:in.Len]
	var pseudo []byte
	if in.Version == 4 {
		pseudo = append(pseudo, b[12:20]...)
		pseudo = append(pseudo, 0, in.Proto, byte(len(body)>>8), byte(len(body)))
	} else {
		pseudo = append(pseudo, b[8:40]...)
		pseudo = append(pseudo, 0, 0, byte(len(body)>>8), byte(len(body)), 0, 0, 0, in.Proto)
	}
	return naiveSum(append(pseudo, body...)) == 0xffff
}

// mustParse is Parse of a packet that has to be good.
func mustParse(t testing.TB, b []byte) Info {
	t.Helper()
	in, fault := Parse(b)
	if fault != None {
		t.Fatalf("Parse: fault %d of % x", fault, b)
	}
	return in
}

// serialize builds a packet with gopacket, all lengths and checksums its own.
func serialize(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// decode parses a packet with gopacket, which has to find no fault in it.
func decode(t testing.TB, b []byte) gopacket.Packet {
	t.Helper()
	first := gopacket.Decoder(layers.LayerTypeIPv4)
	if b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket: %v: % x", e.Error(), b)
	}
	return p
}

// noAllocs fails if f allocates: the packet path must not.
func noAllocs(t *testing.T, name string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(100, f); n != 0 {
		t.Errorf("%s: %v allocations", name, n)
	}
}
