package packet

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	addrs6 = "2001 0db8 0000 0000 0000 0000 0000 0001  2001 0db8 0000 0000 0000 0000 0000 0002 "
	tcp20  = "8000 01bb 0000 0001 0000 0000 5002 ffff 0000 0000 "
	udp8   = "d431 12b5 0008 0000 "
)

// Well-formed packets, and what is read from them. Offsets and lengths are
// literal on purpose: they are what an attacker would want to shift.
var parseCases = []struct {
	name, packet string
	want         Info
}{
	{
		"v4 TCP", "4500 0028 0001 4000 4006 0000 c000 0201 c633 6402" + tcp20,
		Info{Version: 4, Proto: TCP, DF: true, First: true, Transport: 20, Len: 40},
	},
	{
		"v4 options", "46b9 0020 0001 0000 4011 0000 c000 0201 c633 6402 9404 0000" + udp8,
		Info{Version: 4, Proto: UDP, TOS: 0xb9, First: true, Transport: 24, Len: 32},
	},
	{
		"v4 60 bytes of header", "4f00 003c 0001 0000 4011 0000 c000 0201 c633 6402" + strings.Repeat("0101 0101", 10),
		Info{Version: 4, Proto: UDP, First: true, Transport: 60, Len: 60},
	},
	{
		"v4 first fragment", "4500 001c 0001 2000 4011 0000 c000 0201 c633 6402" + udp8,
		Info{Version: 4, Proto: UDP, Fragment: true, First: true, Transport: 20, Len: 28},
	},
	{
		"v4 middle fragment", "4500 001c 0001 2001 4011 0000 c000 0201 c633 6402" + udp8,
		Info{Version: 4, Proto: UDP, Fragment: true, Transport: 20, Len: 28},
	},
	{
		"v4 last fragment", "4500 001c 0001 1fff 4011 0000 c000 0201 c633 6402" + udp8,
		Info{Version: 4, Proto: UDP, Fragment: true, Transport: 20, Len: 28},
	},
	{
		"v4 reserved flag is no fragment", "4500 001c 0001 8000 4011 0000 c000 0201 c633 6402" + udp8,
		Info{Version: 4, Proto: UDP, First: true, Transport: 20, Len: 28},
	},
	{
		"v4 padded", "4500 0014 0001 0000 4006 0000 c000 0201 c633 6402 ffff ffff",
		Info{Version: 4, Proto: TCP, First: true, Transport: 20, Len: 20},
	},
	{
		"v6 TCP", "6000 0000 0014 0640" + addrs6 + tcp20,
		Info{Version: 6, Proto: TCP, DF: true, First: true, Transport: 40, Len: 60},
	},
	{
		"v6 traffic class", "6b9f ffff 0008 1140" + addrs6 + udp8,
		Info{Version: 6, Proto: UDP, TOS: 0xb9, DF: true, First: true, Transport: 40, Len: 48},
	},
	{
		"v6 padded", "6000 0000 0008 1140" + addrs6 + udp8 + "0000",
		Info{Version: 6, Proto: UDP, DF: true, First: true, Transport: 40, Len: 48},
	},
	{
		"v6 no next header", "6000 0000 0000 3b40" + addrs6,
		Info{Version: 6, Proto: 59, DF: true, First: true, Transport: 40, Len: 40},
	},
	{
		"v6 hop-by-hop, destination options, routing", "6000 0000 0028 0040" + addrs6 + "3c00 0502 0000 0100  2b01 010c 0000 0000 0000 0000 0000 0000  1100 0400 0000 0000" + udp8,
		Info{Version: 6, Proto: UDP, DF: true, First: true, Transport: 72, Len: 80},
	},
	{
		"v6 mobility", "6000 0000 0008 8740" + addrs6 + "3b00 0000 0000 0000",
		Info{Version: 6, Proto: 59, DF: true, First: true, Transport: 48, Len: 48},
	},
	{
		"v6 authentication header counts in 4 bytes", "6000 0000 0014 3340" + addrs6 + "1101 0000 0000 0001 0000 0001" + udp8,
		Info{Version: 6, Proto: UDP, DF: true, First: true, Transport: 52, Len: 60},
	},
	{
		"v6 first fragment", "6000 0000 0010 2c40" + addrs6 + "1100 0001 0000 0001" + udp8,
		Info{Version: 6, Proto: UDP, DF: true, Fragment: true, First: true, Transport: 48, Len: 56},
	},
	{
		"v6 last fragment", "6000 0000 0010 2c40" + addrs6 + "1100 0008 0000 0001" + udp8,
		Info{Version: 6, Proto: UDP, DF: true, Fragment: true, Transport: 48, Len: 56},
	},
	{
		"v6 atomic fragment is none (RFC 6946)", "6000 0000 0010 2c40" + addrs6 + "1100 0006 0000 0001" + udp8,
		Info{Version: 6, Proto: UDP, DF: true, First: true, Transport: 48, Len: 56},
	},
	{
		"v6 later fragment's payload is no header", "6000 0000 0010 2c40" + addrs6 + "3c00 0008 0000 0001" + "11ff ffff ffff ffff",
		Info{Version: 6, Proto: 60, DF: true, Fragment: true, Transport: 48, Len: 56},
	},
	{
		"v6 more extension headers than walked", "6000 0000 0050 3c40" + addrs6 + strings.Repeat("3c00 0104 0000 0000", 9) + udp8,
		Info{Version: 6, Proto: 60, DF: true, First: true, Transport: 104, Len: 120},
	},
}

func TestParse(t *testing.T) {
	for _, c := range parseCases {
		got := mustParse(t, unhex(t, c.packet))
		got.Flow = 0 // has tests of its own
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestParseFaults(t *testing.T) {
	v4, v6 := "4500 0014 0001 0000 4006 0000 c000 0201 c633 6402", "6000 0000 0000 3b40"+addrs6
	for _, c := range []struct {
		name, packet string
		want         Fault
	}{
		{"empty", "", Truncated},
		{"version 0", "0500", NotIP},
		{"version 5", strings.Replace(v4, "45", "55", 1), NotIP},
		{"v4 of 19 bytes", v4[:len(v4)-2], Truncated},
		{"v4 header length 4 words", strings.Replace(v4, "45", "44", 1), BadLength},
		{"v4 header longer than total length", strings.Replace(v4, "45", "46", 1) + "0000 0000", BadLength},
		{"v4 total length less than header", strings.Replace(v4, "0014", "0013", 1), BadLength},
		{"v4 total length beyond the bytes", strings.Replace(v4, "0014", "0015", 1), BadLength},
		{"v6 of 39 bytes", v6[:len(v6)-3], Truncated},
		{"v6 payload length beyond the bytes", strings.Replace(v6, "0000 3b40", "0001 3b40", 1), BadLength},
		{"v6 hop-by-hop cut off", "6000 0000 0007 0040" + addrs6 + "1100 0104 0000 00", Truncated},
		{"v6 options longer than packet", "6000 0000 0008 3c40" + addrs6 + "1101 0104 0000 0000", BadLength},
		{"v6 fragment header cut off", "6000 0000 0004 2c40" + addrs6 + "1100 0000", Truncated},
		{"v6 authentication header cut off", "6000 0000 0004 3340" + addrs6 + "1101 0000", Truncated},
		{"v6 authentication header longer than packet", "6000 0000 0008 3340" + addrs6 + "1101 0000 0000 0000", BadLength},
		{"v6 options reach into the padding", "6000 0000 0008 3c40" + addrs6 + "1101 0104 0000 0000 0000 0000 0000 0000", BadLength},
	} {
		in, got := Parse(unhex(t, c.packet))
		if got != c.want || in != (Info{}) {
			t.Errorf("%s: fault %d and %+v, want fault %d and nothing", c.name, got, in, c.want)
		}
	}
}

// Reordering within a flow hurts, so whatever a flow's packets share must be all that counts.
func TestFlowIsTheSameForAllPacketsOfAFlow(t *testing.T) {
	for name, pair := range map[string][2]string{
		"payload, TTL and TOS": {"4500 0020 0001 4000 4011 0000 c000 0201 c633 6402" + udp8 + "0001 0002", "4501 001c 0002 4000 3f11 0000 c000 0201 c633 6402" + udp8},
		"v4 fragments":         {"4500 001c 0001 2000 4011 0000 c000 0201 c633 6402" + udp8, "4500 001c 0001 0001 4011 0000 c000 0201 c633 6402 0102 0304 0506 0708"},
		"v6 fragments":         {"6000 0000 0010 2c40" + addrs6 + "1100 0001 0000 0001" + udp8, "6000 0000 0010 2c40" + addrs6 + "1100 0008 0000 0001 0102 0304 0506 0708"},
		// Only the first fragment has the options that lead to the transport.
		"v6 fragments with options behind": {"6000 0000 0018 2c40" + addrs6 + "3c00 0001 0000 0001 1100 0104 0000 0000" + udp8, "6000 0000 0010 2c40" + addrs6 + "3c00 0010 0000 0001 0102 0304 0506 0708"},
	} {
		a, b := mustParse(t, unhex(t, pair[0])).Flow, mustParse(t, unhex(t, pair[1])).Flow
		if a != b {
			t.Errorf("%s: %08x and %08x", name, a, b)
		}
	}
}

func TestFlowSpreads(t *testing.T) {
	seen := map[uint32]bool{}
	b := unhex(t, "4500 001c 0001 4000 4011 0000 c000 0201 c633 6402"+udp8)
	add := func(b []byte) { seen[mustParse(t, b).Flow] = true }
	for port := range 1000 {
		b[20], b[21] = byte(port>>8), byte(port)
		add(b)
		b[9] = TCP // the same ports of another protocol
		add(b)
		b[9] = UDP
	}
	for host := range 250 {
		b[19] = byte(host)
		add(b)
	}
	if len(seen) < 2248 { // 2250 less a collision, which 32 bits hardly have
		t.Errorf("%d different values of 2250 flows", len(seen))
	}
	low := map[uint32]int{} // a queue is chosen by the low bits
	for f := range seen {
		low[f%4]++
	}
	for q, n := range low {
		if n < len(seen)/5 || n > len(seen)/3 {
			t.Errorf("queue %d of 4 gets %d of %d flows", q, n, len(seen))
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	for _, c := range parseCases {
		b := unhex(t, c.packet)
		noAllocs(t, c.name, func() { Parse(b) })
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range parseCases {
		f.Add(unhex(f, c.packet))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := slices.Clone(b)
		in, fault := Parse(b)
		if !bytes.Equal(before, b) {
			t.Fatal("Parse wrote to the packet")
		}
		if fault != None {
			if in != (Info{}) {
				t.Fatalf("fault %d with %+v", fault, in)
			}
			return
		}
		if in.Version != b[0]>>4 || in.Transport < 20 || in.Transport > in.Len || in.Len > len(b) || !in.First && !in.Fragment {
			t.Fatalf("%+v of %d bytes", in, len(b))
		}
		if again, fault := Parse(b[:in.Len]); fault != None || again != in {
			t.Fatalf("without padding: %+v, fault %d; with it %+v", again, fault, in)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, i := range []int{0, 8, 12} {
		buf := unhex(b, parseCases[i].packet)
		b.Run(parseCases[i].name, func(b *testing.B) {
			for b.Loop() {
				Parse(buf)
			}
		})
	}
}
