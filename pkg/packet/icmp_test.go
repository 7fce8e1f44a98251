package packet

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	router4 = netip.MustParseAddr("203.0.113.9")
	router6 = netip.MustParseAddr("2001:db8:ffff::9")
)

func router(version uint8) netip.Addr {
	if version == 6 {
		return router6
	}
	return router4
}

// udpPacket is a valid UDP packet with n bytes of payload.
func udpPacket(t testing.TB, version uint8, n int) []byte {
	t.Helper()
	ip := network(version, layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: 1234, DstPort: 53}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ip.(gopacket.SerializableLayer), udp, gopacket.Payload(bytes.Repeat([]byte{0xa5}, n)))
}

func TestTooBig4(t *testing.T) {
	for _, n := range []int{0, 1, 519, 520, 521, 1472} { // 520 bytes of payload fill the quote
		orig := udpPacket(t, 4, n)
		in := mustParse(t, orig)
		padded := append(slices.Clone(orig), 0xee, 0xee)
		got := TooBig([]byte("before"), router4, padded, in, 1234)
		ip, found := bytes.CutPrefix(got, []byte("before"))
		if !found {
			t.Fatal("dst was not kept")
		}
		if !headerValid(ip) || naiveSum(ip[20:]) != 0xffff {
			t.Errorf("%d: header checksum valid %v, ICMP sum %04x", n, headerValid(ip), naiveSum(ip[20:]))
		}
		p := decode(t, ip)
		v4 := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if v4.SrcIP.String() != "203.0.113.9" || !v4.DstIP.Equal(net4a) || v4.TTL != 64 || v4.TOS != 0xc0 || int(v4.Length) != len(ip) {
			t.Errorf("%d: %+v", n, v4)
		}
		icmp := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		want := layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded)
		if icmp.TypeCode != want || icmp.Id != 0 || icmp.Seq != 1234 { // gopacket calls the MTU Seq
			t.Errorf("%d: %v, unused %d, mtu %d", n, icmp.TypeCode, icmp.Id, icmp.Seq)
		}
		if quote := orig[:min(len(orig), 548)]; !bytes.Equal(icmp.Payload, quote) {
			t.Errorf("%d: quotes %d bytes, want %d", n, len(icmp.Payload), len(quote))
		}
	}
}

func TestTooBig6(t *testing.T) {
	for _, n := range []int{0, 1, 1183, 1184, 1185, 1452} {
		orig := udpPacket(t, 6, n)
		ip := TooBig(nil, router6, append(slices.Clone(orig), 0xee), mustParse(t, orig), 0x12345678)
		in := mustParse(t, ip)
		if !transportValid(ip, in) || in.Len != len(ip) {
			t.Errorf("%d: checksum valid %v, length %d of %d", n, transportValid(ip, in), in.Len, len(ip))
		}
		p := decode(t, ip)
		v6 := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		if v6.SrcIP.String() != "2001:db8:ffff::9" || !v6.DstIP.Equal(net6a) || v6.HopLimit != 64 || v6.TrafficClass != 0 || v6.FlowLabel != 0 {
			t.Errorf("%d: %+v", n, v6)
		}
		icmp := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		if icmp.TypeCode != layers.CreateICMPv6TypeCode(layers.ICMPv6TypePacketTooBig, 0) {
			t.Errorf("%d: %v", n, icmp.TypeCode)
		}
		want := append([]byte{0x12, 0x34, 0x56, 0x78}, orig[:min(len(orig), 1232)]...)
		if !bytes.Equal(icmp.Payload, want) {
			t.Errorf("%d: payload of %d bytes, want %d", n, len(icmp.Payload), len(want))
		}
	}
}

const (
	icmp4 = "4500 0018 0001 4000 4001 0000 c000 0201 c633 6402"
	icmp6 = "6000 0000 0004 3a40" + addrs6
)

// About an error no error is sent, about a question one is.
func TestTooBigAboutICMP(t *testing.T) {
	for _, c := range []struct {
		packet string
		types  []byte
		sent   bool
	}{
		{icmp4, []byte{0, 8, 13, 14, 15, 16, 17, 18}, true},
		{icmp4, []byte{3, 4, 5, 11, 12, 19, 40, 255}, false},
		{icmp6, []byte{128, 129, 133, 134, 135, 136, 138}, true},
		{icmp6, []byte{0, 1, 2, 3, 4, 100, 127, 137}, false}, // 137: redirect (RFC 4443, section 2.4, e.2)
	} {
		for _, typ := range c.types {
			b := append(unhex(t, c.packet), typ, 0, 0, 0)
			in := mustParse(t, b)
			if sent := len(TooBig(nil, router(in.Version), b, in, 1280)) > 0; sent != c.sent {
				t.Errorf("v%d type %d: sent %v, want %v", in.Version, typ, sent, c.sent)
			}
		}
	}
}

func TestTooBigIsNotSent(t *testing.T) {
	v4, v6 := "4500 001c 0001 4000 4011 0000 c000 0201 c633 6402"+udp8, "6000 0000 0008 1140"+addrs6+udp8
	swap := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("no %q in %q", old, s)
		}
		return strings.Replace(s, old, new, 1)
	}
	const host6, zero6 = "2001 0db8 0000 0000 0000 0000 0000 0001", "0000 0000 0000 0000 0000 0000 0000 0000"
	for _, c := range []struct {
		name, packet string
		src          netip.Addr
	}{
		{"later fragment", swap(v4, "4000", "0001"), router4},
		{"from a group", swap(v4, "c000 0201", "e000 0001"), router4},
		{"from 0.0.0.0", swap(v4, "c000 0201", "0000 0000"), router4},
		{"from broadcast", swap(v4, "c000 0201", "ffff ffff"), router4},
		{"from loopback", swap(v4, "c000 0201", "7f00 0001"), router4},
		{"to a group", swap(v4, "c633 6402", "e000 0001"), router4},
		{"to broadcast", swap(v4, "c633 6402", "ffff ffff"), router4},
		{"v4, our address is v6", v4, router6},
		{"v6, our address is v4", v6, router4},
		{"v6 later fragment", "6000 0000 0010 2c40" + addrs6 + "1100 0008 0000 0001" + udp8, router6},
		{"from ::", swap(v6, host6, zero6), router6},
		{"from a v6 group", swap(v6, host6, swap(host6, "2001", "ff02")), router6},
	} {
		b := unhex(t, c.packet)
		if got := TooBig([]byte("kept"), c.src, b, mustParse(t, b), 1280); string(got) != "kept" {
			t.Errorf("%s: % x", c.name, got)
		}
	}
	// The other side of the coin: link-local hosts are hosts, and packets to a
	// v6 group are the exception of RFC 4443, section 2.4, e.3.
	for name, packet := range map[string]string{
		"v4 link-local":       swap(v4, "c000 0201", "a9fe 0001"),
		"v6 link-local":       swap(v6, host6, "fe80 0000 0000 0000 0000 0000 0000 0001"),
		"to a v6 group":       "6000 0000 0008 1140" + swap(addrs6, "2001 0db8 0000 0000 0000 0000 0000 0002", "ff02 0000 0000 0000 0000 0000 0000 0001") + udp8,
		"ICMP without a byte": "4500 0014 0001 4000 4001 0000 c000 0201 c633 6402",
		"v4 first part":       swap(v4, "4000", "2000"),
	} {
		b := unhex(t, packet)
		in := mustParse(t, b)
		if len(TooBig(nil, router(in.Version), b, in, 1280)) == 0 {
			t.Errorf("%s: not sent", name)
		}
	}
}

func TestTooBigDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 1500)
	for _, version := range []uint8{4, 6} {
		b := udpPacket(t, version, 1400)
		in := mustParse(t, b)
		noAllocs(t, "TooBig", func() { TooBig(dst, router(version), b, in, 1400) })
	}
}

func FuzzTooBig(f *testing.F) {
	f.Add(udpPacket(f, 4, 1000), uint16(1400))
	f.Add(udpPacket(f, 6, 1400), uint16(1280))
	f.Add(append(unhex(f, icmp4), 3, 4, 0, 0), uint16(576))
	f.Add(append(unhex(f, icmp6), 2, 0, 0, 0), uint16(1280))
	f.Fuzz(func(t *testing.T, b []byte, mtu uint16) {
		in, fault := Parse(b)
		if fault != None {
			return
		}
		ip := TooBig(nil, router(in.Version), b, in, int(mtu))
		if len(ip) == 0 {
			return
		}
		out := mustParse(t, ip)
		if out.Len != len(ip) || out.Version != in.Version {
			t.Fatalf("%+v of %d bytes about %+v", out, len(ip), in)
		}
		if out.Version == 4 && (len(ip) > 576 || !headerValid(ip) || naiveSum(ip[20:]) != 0xffff) {
			t.Fatalf("v4 error with a wrong sum or of %d bytes: % x", len(ip), ip)
		}
		if out.Version == 6 && (len(ip) > 1280 || !transportValid(ip, out)) {
			t.Fatalf("v6 error with a wrong sum or of %d bytes: % x", len(ip), ip)
		}
		if !bytes.HasPrefix(b[:in.Len], ip[out.Transport+8:]) {
			t.Fatal("the quote is not the packet's start")
		}
		if len(TooBig(nil, router(in.Version), ip, out, int(mtu))) != 0 {
			t.Fatal("an error about the error")
		}
	})
}
