package packet

import (
	"bytes"
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	net4a, net4b = net.IP{192, 0, 2, 1}, net.IP{198, 51, 100, 2}
	net6a, net6b = net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
)

// network is a gopacket IP header of the version between documentation addresses.
func network(version uint8, proto layers.IPProtocol) gopacket.NetworkLayer {
	if version == 4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net4a, DstIP: net4b, Id: 0x1234}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net6a, DstIP: net6b}
}

// synPacket is a TCP packet with the given raw options, checksums by gopacket.
func synPacket(t testing.TB, version uint8, options, payload []byte) []byte {
	t.Helper()
	ip := network(version, layers.IPProtocolTCP)
	tcp := &layers.TCP{SrcPort: 1, DstPort: 2, Seq: 77, SYN: true, Window: 0xffff}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	for range options { // room for them: gopacket would pad and order options as it likes
		tcp.Options = append(tcp.Options, layers.TCPOption{OptionType: layers.TCPOptionKindNop, OptionLength: 1})
	}
	b := serialize(t, ip.(gopacket.SerializableLayer), tcp, gopacket.Payload(payload))
	in := mustParse(t, b)
	copy(b[in.Transport+tcpHeader:], options)
	fixTCPChecksum(b, in)
	return b
}

// fixTCPChecksum recomputes the checksum from nothing.
func fixTCPChecksum(b []byte, in Info) {
	tcp := b[in.Transport:in.Len]
	tcp[16], tcp[17] = 0, 0
	sum := Checksum(tcp, PseudoSum(b, TCP, len(tcp)))
	tcp[16], tcp[17] = byte(sum>>8), byte(sum)
}

var mssCases = []struct {
	name    string
	version uint8
	options string
	mtu     int
	want    string // the options afterwards, empty: untouched
}{
	{"v4", 4, "0204 05b4", 1400, "0204 0550"},
	{"v6", 6, "0204 05a0", 1400, "0204 053c"},
	{"the limit itself", 4, "0204 0550", 1400, ""},
	{"one above the limit", 4, "0204 0551", 1400, "0204 0550"},
	{"smaller", 4, "0204 0218", 1400, ""},
	{"never raised", 6, "0204 0100", 9000, ""},
	{"behind two NOPs", 4, "0101 0204 05b4 0101", 1400, "0101 0204 0550 0101"},
	{"at an odd offset", 4, "01 0204 05b4 010101", 1400, "01 0204 0550 010101"},
	{"at an odd offset, v6", 6, "01 0204 ffff 010101", 1280, "01 0204 04c4 010101"},
	{"behind SACK permitted, timestamps, window scale", 4, "0402 080a 0102 0304 0506 0708 0303 07 0204 05b4 010101", 1400, "0402 080a 0102 0304 0506 0708 0303 07 0204 0550 010101"},
	{"behind the end", 4, "0000 0204 05b4 0000", 1400, ""},
	{"no option", 4, "", 1400, ""},
	{"an option without length", 4, "01010103", 1400, ""},
	{"an option of length 0", 4, "0300 0101 0204 05b4", 1400, ""},
	{"an option of length 1", 4, "0301 0101 0204 05b4", 1400, ""},
	{"an option longer than the header", 4, "0305 0101", 1400, ""},
	{"MSS cut off by the header", 4, "0101 0204", 1400, ""},
	{"MSS of a wrong length is none", 4, "0203 0501 0204 05b4", 1400, "0203 0501 0204 0550"},
}

func TestClampMSS(t *testing.T) {
	for _, c := range mssCases {
		for _, payload := range [][]byte{nil, []byte("odd")} {
			options := unhex(t, c.options)
			b := synPacket(t, c.version, options, payload)
			in := mustParse(t, b)
			want := slices.Clone(b)
			if c.want != "" {
				copy(want[in.Transport+tcpHeader:], unhex(t, c.want))
				fixTCPChecksum(want, in)
			}
			if changed := ClampMSS(b, in, c.mtu, false); changed != (c.want != "") || !bytes.Equal(b, want) {
				t.Errorf("%s: changed %v\n got % x\nwant % x", c.name, changed, b[in.Transport:], want[in.Transport:])
			}
			if !transportValid(b, in) {
				t.Errorf("%s: the checksum is wrong", c.name)
			}
		}
	}
}

// gopacket reads from the clamped packet what it should.
func TestClampMSSAsGopacketSeesIt(t *testing.T) {
	for version, want := range map[uint8]uint16{4: 1410, 6: 1390} {
		b := synPacket(t, version, unhex(t, "0204 05b4 0101 0402"), nil)
		if !ClampMSS(b, mustParse(t, b), 1450, false) {
			t.Fatal("not clamped")
		}
		tcp := decode(t, b).Layer(layers.LayerTypeTCP).(*layers.TCP)
		o := tcp.Options[0]
		if o.OptionType != layers.TCPOptionKindMSS || uint16(o.OptionData[0])<<8|uint16(o.OptionData[1]) != want {
			t.Errorf("v%d: %v, want %d", version, o, want)
		}
	}
}

// A SYN that the kernel left half finished: the field is the pseudo-header's
// sum, which the option is not part of.
func TestClampMSSLeavesPartialChecksum(t *testing.T) {
	for _, options := range []string{"0204 05b4", "01 0204 05b4 010101"} {
		b := synPacket(t, 4, unhex(t, options), nil)
		in := mustParse(t, b)
		partial := Fold(PseudoSum(b, TCP, in.Len-in.Transport))
		b[in.Transport+16], b[in.Transport+17] = byte(partial>>8), byte(partial)
		if !ClampMSS(b, in, 1400, true) {
			t.Fatal("not clamped")
		}
		if got := uint16(b[in.Transport+16])<<8 | uint16(b[in.Transport+17]); got != partial {
			t.Errorf("the field became %04x, it was %04x", got, partial)
		}
		// What hardware would do now: sum up from the transport on.
		sum := Checksum(b[in.Transport:], 0)
		b[in.Transport+16], b[in.Transport+17] = byte(sum>>8), byte(sum)
		if !transportValid(b, in) {
			t.Error("the finished checksum is wrong")
		}
	}
}

func TestClampMSSOnlyOfWholeSYNs(t *testing.T) {
	for name, breakIt := range map[string]func(b []byte, in *Info){
		"ACK":                      func(b []byte, in *Info) { b[33] = 0x10 },
		"RST":                      func(b []byte, in *Info) { b[33] = 0x04 },
		"UDP":                      func(b []byte, in *Info) { in.Proto = UDP },
		"later fragment":           func(b []byte, in *Info) { in.First = false },
		"data offset 4":            func(b []byte, in *Info) { b[32] = 0x40 },
		"data offset beyond":       func(b []byte, in *Info) { b[32] = 0x70 },
		"header cut off":           func(b []byte, in *Info) { in.Len = 39 },
		"options end in padding":   func(b []byte, in *Info) { in.Len = 43 },
		"transport behind the end": func(b []byte, in *Info) { in.Transport = in.Len },
	} {
		b := synPacket(t, 4, unhex(t, "0204 05b4"), nil)
		in := mustParse(t, b)
		breakIt(b, &in)
		before := slices.Clone(b)
		if ClampMSS(b, in, 1400, false) || !bytes.Equal(before, b) {
			t.Errorf("%s: changed", name)
		}
	}
	b := synPacket(t, 4, unhex(t, "0204 05b4"), nil)
	b[33] = 0x12
	if !ClampMSS(b, mustParse(t, b), 1400, false) {
		t.Error("a SYN-ACK was not clamped")
	}
}

func TestMSS(t *testing.T) {
	for _, c := range []struct {
		mtu     int
		version uint8
		want    uint16
	}{{1500, 4, 1460}, {1500, 6, 1440}, {1280, 6, 1220}, {40, 4, 0}, {39, 4, 0}, {59, 6, 0}} {
		if got := MSS(c.mtu, c.version); got != c.want {
			t.Errorf("MSS(%d, %d) = %d, want %d", c.mtu, c.version, got, c.want)
		}
	}
}

func TestClampMSSDoesNotAllocate(t *testing.T) {
	b := synPacket(t, 4, unhex(t, "01 0204 05b4 010101"), nil)
	in := mustParse(t, b)
	noAllocs(t, "ClampMSS", func() {
		b[in.Transport+tcpHeader+3] = 0xff
		ClampMSS(b, in, 1400, false)
	})
}

func FuzzClampMSS(f *testing.F) {
	for _, c := range mssCases {
		f.Add(synPacket(f, c.version, unhex(f, c.options), nil), uint16(c.mtu), false)
	}
	f.Add(synPacket(f, 6, unhex(f, "01 0204 05b4 010101"), nil), uint16(1280), true)
	f.Fuzz(func(t *testing.T, b []byte, mtu uint16, partial bool) {
		in, fault := Parse(b)
		if fault != None {
			return
		}
		before, wasValid := slices.Clone(b), transportValid(b, in)
		changed := ClampMSS(b, in, int(mtu), partial)
		if changed == bytes.Equal(before, b) {
			t.Fatalf("changed %v\n% x\n% x", changed, before, b)
		}
		if !changed {
			return
		}
		if again, fault := Parse(b); fault != None || again.Len != in.Len || again.Transport != in.Transport {
			t.Fatalf("%+v, fault %d; before %+v", again, fault, in)
		}
		checkMSSDiff(t, before, b, in, partial)
		if wasValid && !partial && !transportValid(b, in) {
			t.Fatalf("the checksum was valid and is not: % x", b)
		}
	})
}

// checkMSSDiff fails if more changed than the two bytes of one option and the checksum.
func checkMSSDiff(t *testing.T, before, after []byte, in Info, partial bool) {
	t.Helper()
	sum := in.Transport + tcpChecksum
	var at []int
	for i := range before {
		if before[i] != after[i] && (partial || i != sum && i != sum+1) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return
	}
	first, last := at[0], at[len(at)-1]
	if first < in.Transport+tcpHeader+2 || last > first+1 || last >= in.Len {
		t.Fatalf("bytes %v changed; transport at %d", at, in.Transport)
	}
	if v := before[first-2]; v != optionMSS && before[first-3] != optionMSS { // the value's second byte alone may change
		t.Fatalf("byte %d is not an MSS", first)
	}
}
