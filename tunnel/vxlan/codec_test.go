package vxlan

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
)

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // in the error
	}{
		"VNI 0":                {func(c *Config) { c.VNI = 0 }, "vni 0"},
		"VNI of 25 bits":       {func(c *Config) { c.VNI = 1 << 24 }, "vni 16777216"},
		"no local endpoint":    {func(c *Config) { c.Local = netip.Addr{} }, "endpoints"},
		"no peer":              {func(c *Config) { c.Peer = netip.Addr{} }, "endpoints"},
		"both the same":        {func(c *Config) { c.Peer = c.Local }, ourMAC.String()},
		"configured equal MAC": {func(c *Config) { c.PeerMAC = ourMAC }, ourMAC.String()},
	} {
		cfg := validConfig()
		c.change(&cfg)
		if codec, err := New(cfg); err == nil || codec != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestNewAccepts(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"smallest VNI": func(c *Config) { c.VNI = 1 },
		"largest VNI":  func(c *Config) { c.VNI = 1<<24 - 1 },
		"IPv6 endpoints that differ in their prefix only": func(c *Config) {
			c.Local, c.Peer = netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:2::1")
		},
		"equal MACs in GPE, which has none": func(c *Config) { c.GPE, c.PeerMAC = true, ourMAC },
	} {
		cfg := validConfig()
		change(&cfg)
		if _, err := New(cfg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndpointMAC(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "02:00:c0:00:02:01", "::ffff:192.0.2.1": "02:00:c0:00:02:01", "2001:db8::a0b:c0d": "02:00:1f:ef:e6:4f",
	} {
		if got := EndpointMAC(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	c := newCodec(t, nil)
	if c.LocalMAC() != ourMAC || c.PeerMAC() != peerMAC {
		t.Errorf("default: %v and %v", c.LocalMAC(), c.PeerMAC())
	}
	c = newCodec(t, func(cfg *Config) { cfg.LocalMAC, cfg.PeerMAC = MAC{2, 1}, MAC{2, 0xff, 0xee, 0xdd, 0xcc, 0xbb} })
	if (c.LocalMAC() != MAC{2, 1}) || (c.PeerMAC() != MAC{2, 0xff, 0xee, 0xdd, 0xcc, 0xbb}) {
		t.Errorf("configured: %v and %v", c.LocalMAC(), c.PeerMAC())
	}
}

func TestSealedDatagram(t *testing.T) {
	for _, c := range []struct {
		name, packet, headers string
		change                func(*Config)
	}{
		{"VXLAN v4", packet4, "0800 0000 1234 5600" + toPeer + "0800", nil},
		{"VXLAN v6", packet6, "0800 0000 1234 5600" + toPeer + "86dd", nil},
		{"GPE v4", packet4, "0c00 0001 1234 5600", gpe},
		{"GPE v6", packet6, "0c00 0002 1234 5600", gpe},
	} {
		codec := newCodec(t, c.change)
		pkt, headers := unhex(t, c.packet), unhex(t, c.headers)
		if codec.Overhead() != len(headers) {
			t.Errorf("%s: overhead %d, want %d", c.name, codec.Overhead(), len(headers))
		}
		// More headroom than needed, and something behind: neither is touched.
		const off = 40
		buf := bytes.Repeat([]byte{0xee}, off)
		buf = append(append(buf, pkt...), 0xee, 0xee)
		want := slices.Concat(bytes.Repeat([]byte{0xee}, off-len(headers)), headers, pkt, []byte{0xee, 0xee})
		start, end, r := codec.Seal(buf, off, len(pkt))
		if r != tunnel.DropNone || start != off-len(headers) || end != off+len(pkt) || codec.Trailer() != 0 || !bytes.Equal(buf, want) {
			t.Errorf("%s: %v, %d to %d\n got % x\nwant % x", c.name, r, start, end, buf, want)
		}
	}
}

func TestGopacketReadsWhatSealWrote(t *testing.T) {
	c := newCodec(t, nil)
	for typ, pkt := range map[layers.EthernetType]string{layers.EthernetTypeIPv4: packet4, layers.EthernetTypeIPv6: packet6} {
		p := decode(t, sealed(t, c, unhex(t, pkt)))
		eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		if !bytes.Equal(eth.SrcMAC, ourMAC[:]) || !bytes.Equal(eth.DstMAC, peerMAC[:]) || eth.EthernetType != typ {
			t.Errorf("%+v", eth)
		}
		if !bytes.Equal(eth.Payload, unhex(t, pkt)) {
			t.Errorf("payload % x", eth.Payload)
		}
	}
}

func TestSealRefusesWhatIsNotIP(t *testing.T) {
	for _, change := range []func(*Config){nil, gpe} {
		c := newCodec(t, change)
		for _, b := range [][]byte{{}, {0x00}, {0x55, 0}, {0xf4}} {
			buf := append(make([]byte, 30), b...)
			if start, _, r := c.Seal(buf, 30, len(b)); r != tunnel.DropNotIP || start != 30 {
				t.Errorf("% x: %v, start %d", b, r, start)
			}
		}
	}
}

// Reserved bits that are set, padding, a flooding peer: all fine.
func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name, headers, packet, padding string
		change                         func(*Config)
	}{
		{"v4", "0800 0000 1234 5600" + toUs + "0800", packet4, "", nil},
		{"v6", "0800 0000 1234 5600" + toUs + "86dd", packet6, "", nil},
		{"all reserved bits", "ffff ffff 1234 56ff" + toUs + "0800", packet4, "", nil},
		{"Ethernet padding", "0800 0000 1234 5600" + toUs + "0800", packet4, strings.Repeat("00", 18), nil},
		{"Ethernet padding v6", "0800 0000 1234 5600" + toUs + "86dd", packet6, "ffff", nil},
		{"broadcast frame", "0800 0000 1234 5600 ffff ffff ffff 0200 c000 0202 0800", packet4, "", nil},
		{"from another MAC than the peer's", "0800 0000 1234 5600 0200 c000 0201 0611 2233 4455 0800", packet4, "", nil},
		{"ICMPv4 number 58 is no neighbor discovery", "0800 0000 1234 5600" + toUs + "0800", strings.Replace(header4, "4011", "403a", 1) + "8700 0000 0000 0000", "", nil},
		{"ICMPv6 without a byte", "0800 0000 1234 5600" + toUs + "86dd", strings.Replace(header6, "0008 1140", "0000 3aff", 1), "", nil},
		{"later fragment that looks like a solicitation", "0800 0000 1234 5600" + toUs + "86dd", strings.Replace(header6, "0008 1140", "0010 2cff", 1) + "3a00 0010 0000 0001 8700 0000 0000 0000", "", nil},
		{"neighbor discovery in GPE is a packet like others", "0c00 0002 1234 5600", strings.Replace(header6, "1140", "3aff", 1) + "8700 0000 0000 0000", "", gpe},
		{"GPE v4", "0c00 0001 1234 5600", packet4, "", gpe},
		{"GPE v6", "0c00 0002 1234 5600", packet6, "", gpe},
		{"GPE reserved bits and B", "ceff ff01 1234 56ff", packet4, "", gpe},
		{"GPE padding", "0c00 0002 1234 5600", packet6, "0000", gpe},
	} {
		want := unhex(t, c.packet)
		datagram := slices.Concat(unhex(t, c.headers), want, unhex(t, c.padding))
		before := bytes.Clone(datagram)
		inner, info, kind, r := newCodec(t, c.change).Open(datagram)
		if r != tunnel.DropNone || kind != tunnel.Packet || !bytes.Equal(inner, want) {
			t.Errorf("%s: %v, kind %d, % x", c.name, r, kind, inner)
		}
		if parsed, _ := packet.Parse(want); info != parsed {
			t.Errorf("%s: %+v, want %+v", c.name, info, parsed)
		}
		if !bytes.Equal(before, datagram) {
			t.Errorf("%s: the datagram was written to", c.name)
		}
	}
}

func TestOpenDrops(t *testing.T) {
	const vx, eth4, eth6 = "0800 0000 1234 5600", toUs + "0800", toUs + "86dd"
	cut := func(s string, n int) string { return strings.ReplaceAll(s, " ", "")[:2*n] }
	for _, c := range []struct {
		name, datagram string
		want           tunnel.DropReason
		change         func(*Config)
	}{
		{"empty", "", tunnel.DropShort, nil},
		{"7 bytes", "0800 0000 1234 56", tunnel.DropShort, nil},
		{"no Ethernet header", vx, tunnel.DropShort, nil},
		{"13 bytes of Ethernet", vx + toUs + "08", tunnel.DropShort, nil},
		{"I flag missing", "f7ff ffff 1234 5600" + eth4 + packet4, tunnel.DropBadHeader, nil},
		{"another VNI", "0800 0000 1234 5700" + eth4 + packet4, tunnel.DropWrongVNI, nil},
		{"VNI only in the low 24 bits", "0800 0000 0012 3456" + eth4 + packet4, tunnel.DropWrongVNI, nil},
		{"802.1Q", vx + toUs + "8100 0001 0800" + packet4, tunnel.DropVLANTagged, nil},
		{"802.1ad", vx + toUs + "88a8 0001 0800" + packet4, tunnel.DropVLANTagged, nil},
		{"LLDP", vx + "0180 c200 000e 0200 c000 0202 88cc" + packet4, tunnel.DropBadEthertype, nil},
		{"MPLS", vx + toUs + "8847" + packet4, tunnel.DropBadEthertype, nil},
		{"802.3 length", vx + toUs + "001c" + packet4, tunnel.DropBadEthertype, nil},
		{"for another MAC", vx + "0200 c000 0209 0200 c000 0202 0800" + packet4, tunnel.DropWrongMAC, nil},
		{"ARP for another MAC", vx + "0200 c000 0209 0200 c000 0202 0806" + packet4, tunnel.DropWrongMAC, nil},
		{"from our own MAC", vx + "0200 c000 0201 0200 c000 0201 0800" + packet4, tunnel.DropWrongMAC, nil},
		{"broadcast from our own MAC", vx + "ffff ffff ffff 0200 c000 0201 0806" + packet4, tunnel.DropWrongMAC, nil},
		{"IPv4 group frame", vx + "0100 5e00 0005 0200 c000 0202 0800" + packet4, tunnel.DropMulticast, nil},
		{"IPv6 group frame", vx + "3333 0000 0016 0200 c000 0202 86dd" + packet6, tunnel.DropMulticast, nil},
		{"router solicitation", vx + "3333 0000 0002 0200 c000 0202 86dd" + strings.Replace(header6, "1140", "3aff", 1) + "8500 0000 0000 0000", tunnel.DropMulticast, nil},
		{"no packet", vx + eth4, tunnel.DropBadInner, nil},
		{"v4 total length beyond the frame", vx + eth4 + strings.Replace(packet4, "001c", "001d", 1), tunnel.DropBadInner, nil},
		{"v4 header length beyond total length", vx + eth4 + strings.Replace(packet4, "4500", "4f00", 1), tunnel.DropBadInner, nil},
		{"v6 payload length beyond the frame", vx + eth6 + strings.Replace(packet6, "0008 1140", "0009 1140", 1), tunnel.DropBadInner, nil},
		{"v6 header cut off", vx + eth6 + cut(packet6, 39), tunnel.DropBadInner, nil},
		{"v6 packet called IPv4", vx + eth4 + packet6, tunnel.DropBadInner, nil},
		{"v4 packet called IPv6", vx + eth6 + packet4, tunnel.DropBadInner, nil},
		{"a bad packet in a group frame", vx + "ffff ffff ffff 0200 c000 0202 0800 5500", tunnel.DropBadInner, nil},
		{"plain VXLAN to a GPE tunnel", vx + eth4 + packet4, tunnel.DropBadHeader, gpe},
		{"GPE 7 bytes", "0c00 0001 1234 56", tunnel.DropShort, gpe},
		{"GPE I flag missing", "0400 0001 1234 5600" + packet4, tunnel.DropBadHeader, gpe},
		{"GPE P flag missing", "0800 0001 1234 5600" + packet4, tunnel.DropBadHeader, gpe},
		{"GPE version 1", "1c00 0001 1234 5600" + packet4, tunnel.DropBadHeader, gpe},
		{"GPE version 2", "2c00 0001 1234 5600" + packet4, tunnel.DropBadHeader, gpe},
		{"GPE OAM", "0d00 0001 1234 5600" + packet4, tunnel.DropBadHeader, gpe},
		{"GPE next protocol 0", "0c00 0000 1234 5600" + packet4, tunnel.DropBadEthertype, gpe},
		{"GPE Ethernet", "0c00 0003 1234 5600" + eth4 + packet4, tunnel.DropBadEthertype, gpe},
		{"GPE NSH", "0c00 0004 1234 5600" + packet4, tunnel.DropBadEthertype, gpe},
		{"GPE another VNI", "0c00 0001 1234 5500" + packet4, tunnel.DropWrongVNI, gpe},
		{"GPE empty", "0c00 0001 1234 5600", tunnel.DropBadInner, gpe},
		{"GPE v6 called IPv4", "0c00 0001 1234 5600" + packet6, tunnel.DropBadInner, gpe},
		{"GPE v4 called IPv6", "0c00 0002 1234 5600" + packet4, tunnel.DropBadInner, gpe},
		{"GPE lengths", "0c00 0001 1234 5600" + cut(packet4, 27), tunnel.DropBadInner, gpe},
	} {
		inner, _, kind, r := newCodec(t, c.change).Open(unhex(t, c.datagram))
		if r != c.want || inner != nil || kind != tunnel.Packet {
			t.Errorf("%s: %v, want %v; %d bytes, kind %d", c.name, r, c.want, len(inner), kind)
		}
	}
}

// What one end seals the other opens, whatever is in the packet and behind it.
func TestOpenInvertsSeal(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, change := range []func(*Config){nil, gpe} {
		ours := newCodec(t, change)
		theirs := newCodec(t, func(cfg *Config) {
			cfg.Local, cfg.Peer = cfg.Peer, cfg.Local
			cfg.GPE = change != nil
		})
		for range 500 {
			pkt := unhex(t, packet4)
			if r.IntN(2) == 0 {
				pkt = unhex(t, packet6)
			}
			n := r.IntN(1400)
			for range n {
				pkt = append(pkt, byte(r.Uint32()))
			}
			if pkt[0] == 0x45 {
				pkt[2], pkt[3] = byte(len(pkt)>>8), byte(len(pkt))
			} else {
				pkt[4], pkt[5] = byte((len(pkt)-40)>>8), byte(len(pkt)-40)
			}
			padded := append(sealed(t, ours, pkt), make([]byte, r.IntN(3))...)
			inner, _, kind, reason := theirs.Open(padded)
			if reason != tunnel.DropNone || kind != tunnel.Packet || !bytes.Equal(inner, pkt) {
				t.Fatalf("%v, kind %d, %d bytes of %d", reason, kind, len(inner), len(pkt))
			}
		}
	}
}

func TestSealAndOpenDoNotAllocate(t *testing.T) {
	for _, change := range []func(*Config){nil, gpe} {
		c := newCodec(t, change)
		pkt := unhex(t, packet6)
		buf := append(make([]byte, c.Overhead()), pkt...)
		received := receivedDatagram(t, change != nil)
		if n := testing.AllocsPerRun(100, func() { c.Seal(buf, c.Overhead(), len(pkt)) }); n != 0 {
			t.Errorf("Seal: %v allocations", n)
		}
		if n := testing.AllocsPerRun(100, func() { c.Open(received) }); n != 0 {
			t.Errorf("Open: %v allocations", n)
		}
	}
}

// receivedDatagram is a good one for us.
func receivedDatagram(t testing.TB, gpe bool) []byte {
	t.Helper()
	if gpe {
		return unhex(t, "0c00 0001 1234 5600"+packet4)
	}
	return unhex(t, "0800 0000 1234 5600"+toUs+"0800"+packet4)
}

func FuzzOpen(f *testing.F) {
	f.Add(receivedDatagram(f, false), false)
	f.Add(receivedDatagram(f, true), true)
	f.Add(unhex(f, "0800 0000 1234 5600"+toUs+"86dd"+packet6), false)
	f.Add(append(unhex(f, "0800 0000 1234 5600"), solicitation().frame(f)...), false)
	f.Add(append(unhex(f, "0800 0000 1234 5600"), arpMessage{1, newMAC, MAC{}, peer4, our4}.frame(f, broadcast)...), false)
	codecs := map[bool]*Codec{false: newCodec(f, nil), true: newCodec(f, gpe)}
	f.Fuzz(func(t *testing.T, datagram []byte, gpe bool) {
		inner, info, kind, r := codecs[gpe].Open(datagram)
		switch {
		case r != tunnel.DropNone:
			if inner != nil || kind != tunnel.Packet {
				t.Fatalf("%v with %d bytes, kind %d", r, len(inner), kind)
			}
		case kind == tunnel.Control:
			if gpe || !bytes.Equal(inner, datagram[headerLen:]) {
				t.Fatalf("GPE %v, frame % x of % x", gpe, inner, datagram)
			}
		default:
			parsed, fault := packet.Parse(inner)
			if fault != packet.None || parsed != info || info.Len != len(inner) || !bytes.Contains(datagram, inner) {
				t.Fatalf("%+v, fault %d, %+v of % x", info, fault, parsed, datagram)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	c := newCodec(b, nil)
	pkt := unhex(b, packet4)
	buf := append(make([]byte, c.Overhead()), pkt...)
	for b.Loop() {
		c.Seal(buf, c.Overhead(), len(pkt))
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, gpeMode := range map[string]bool{"VXLAN": false, "GPE": true} {
		b.Run(name, func(b *testing.B) {
			change := map[bool]func(*Config){true: gpe}[gpeMode]
			c, datagram := newCodec(b, change), receivedDatagram(b, gpeMode)
			for b.Loop() {
				c.Open(datagram)
			}
		})
	}
}
