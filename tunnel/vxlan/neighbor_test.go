package vxlan

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/transitd/transitd/tunnel"
)

func TestARPRequestIsAnswered(t *testing.T) {
	c := newCodec(t, nil)
	request := arpMessage{1, newMAC, MAC{}, peer4, our4}
	for _, dst := range []MAC{broadcast, ourMAC} {
		frame := request.frame(t, dst)
		padded := append(slices.Clone(frame), make([]byte, 18)...) // a minimal Ethernet frame
		reply, r := control(t, c, padded)
		want := unhex(t, "0800 0000 1234 5600"+
			"0611 2233 4455 0200 c000 0201 0806"+
			"0001 0800 0604 0002"+
			"0200 c000 0201 c633 6401"+
			"0611 2233 4455 c633 6402")
		if r != tunnel.DropNone || !bytes.Equal(reply, want) {
			t.Errorf("to %v: %v\n got % x\nwant % x", dst, r, reply, want)
		}
		decode(t, reply)
	}
}

// Whose address and MAC are believed, and which questions get an answer.
func TestARP(t *testing.T) {
	zero4 := netip.IPv4Unspecified()
	for _, c := range []struct {
		name     string
		m        arpMessage
		learned  bool
		answered bool
	}{
		{"request of the peer", arpMessage{1, newMAC, MAC{}, peer4, our4}, true, true},
		{"reply of the peer", arpMessage{2, newMAC, ourMAC, peer4, our4}, true, false},
		{"gratuitous request of the peer", arpMessage{1, newMAC, MAC{}, peer4, peer4}, true, false},
		{"gratuitous reply of the peer", arpMessage{2, newMAC, newMAC, peer4, peer4}, true, false},
		{"probe for our address (RFC 5227)", arpMessage{1, newMAC, MAC{}, zero4, our4}, false, true},
		{"request of a stranger", arpMessage{1, newMAC, MAC{}, other4, our4}, false, true},
		{"request for a stranger", arpMessage{1, newMAC, MAC{}, other4, other4}, false, false},
		{"peer asks for a stranger", arpMessage{1, newMAC, MAC{}, peer4, other4}, true, false},
		{"reply of a stranger", arpMessage{2, newMAC, ourMAC, other4, our4}, false, false},
		{"gratuitous for our address", arpMessage{1, newMAC, MAC{}, our4, our4}, false, false},
		{"reply from a group MAC", arpMessage{2, MAC{0x07}, ourMAC, peer4, our4}, false, false},
		{"reply from broadcast", arpMessage{2, broadcast, ourMAC, peer4, our4}, false, false},
		{"reply without MAC", arpMessage{2, MAC{}, ourMAC, peer4, our4}, false, false},
		{"reply with our own MAC", arpMessage{2, ourMAC, ourMAC, peer4, our4}, false, false},
	} {
		codec := newCodec(t, nil)
		reply, r := codec.Control(nil, c.m.frame(t, ourMAC))
		if r != tunnel.DropNone || (len(reply) > 0) != c.answered {
			t.Errorf("%s: %v, reply % x", c.name, r, reply)
		}
		want := peerMAC
		if c.learned {
			want = c.m.senderMAC
		}
		if codec.PeerMAC() != want || codec.Resolved() != c.learned {
			t.Errorf("%s: peer %v, resolved %v", c.name, codec.PeerMAC(), codec.Resolved())
		}
	}
}

func TestSealGoesToTheLearnedMAC(t *testing.T) {
	c := newCodec(t, nil)
	control(t, c, arpMessage{2, newMAC, ourMAC, peer4, our4}.frame(t, ourMAC))
	if got := sealed(t, c, unhex(t, packet4)); !bytes.Equal(got[8:14], newMAC[:]) {
		t.Errorf("sealed for % x", got[8:14])
	}
}

func TestMalformedARPIsRefused(t *testing.T) {
	valid := arpMessage{1, newMAC, MAC{}, peer4, our4}.frame(t, ourMAC)
	for name, breakIt := range map[string]func(b []byte) []byte{
		"hardware type 6":          func(b []byte) []byte { b[15] = 6; return b },
		"protocol IPv6":            func(b []byte) []byte { b[16], b[17] = 0x86, 0xdd; return b },
		"hardware length 8":        func(b []byte) []byte { b[18] = 8; return b },
		"protocol length 16":       func(b []byte) []byte { b[19] = 16; return b },
		"operation 0":              func(b []byte) []byte { b[21] = 0; return b },
		"operation 3, RARP":        func(b []byte) []byte { b[21] = 3; return b },
		"operation with high byte": func(b []byte) []byte { b[20] = 1; return b },
		"27 bytes":                 func(b []byte) []byte { return b[:14+27] },
		"empty":                    func(b []byte) []byte { return b[:14] },
	} {
		c := newCodec(t, nil)
		if reply, r := control(t, c, breakIt(slices.Clone(valid))); r != tunnel.DropARPNDInvalid || reply != nil || c.Resolved() {
			t.Errorf("%s: %v, reply % x, resolved %v", name, r, reply, c.Resolved())
		}
	}
	if _, r := newCodec(t, nil).Control(nil, valid[:13]); r != tunnel.DropShort {
		t.Errorf("no Ethernet header: %v", r)
	}
}

// adverts decodes a datagram that has to be a neighbor advertisement, with
// gopacket, which also recomputes the checksum.
func adverts(t testing.TB, datagram []byte) (*layers.Ethernet, *layers.IPv6, *layers.ICMPv6NeighborAdvertisement) {
	t.Helper()
	p := decode(t, datagram)
	eth, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	v6, _ := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	icmp, _ := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	na, _ := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if eth == nil || v6 == nil || icmp == nil || na == nil {
		t.Fatalf("no advertisement: %v", p)
	}
	sum := icmp.Checksum
	if err := icmp.SetNetworkLayerForChecksum(v6); err != nil {
		t.Fatal(err)
	}
	if again := serialize(t, eth, v6, icmp, na); !bytes.Equal(again, datagram[headerLen:]) {
		t.Fatalf("gopacket would write (checksum %04x, ours %04x)\n     % x\nnot  % x", icmp.Checksum, sum, again, datagram[headerLen:])
	}
	return eth, v6, na
}

func TestNeighborSolicitationIsAnswered(t *testing.T) {
	linkLocal := netip.MustParseAddr("fe80::c0ff:fe00:201") // EUI-64 of 02:00:c0:00:02:01
	peerLinkLocal := netip.MustParseAddr("fe80::411:22ff:fe33:4455")
	allNodes6, allNodesMAC := netip.MustParseAddr("ff02::1"), MAC{0x33, 0x33, 0, 0, 0, 1}
	for _, c := range []struct {
		name      string
		change    func(m *ndMessage)
		to        netip.Addr
		toMAC     MAC
		flags     uint8
		from      netip.Addr
		isLearned bool
	}{
		{"to the solicited-node group", func(*ndMessage) {}, peer6, newMAC, 0x60, our6, true},
		{"unicast", func(m *ndMessage) { m.dst, m.to = ourMAC, our6 }, peer6, newMAC, 0x60, our6, true},
		{"without its link-layer address", func(m *ndMessage) { m.dst, m.to, m.options = ourMAC, our6, nil }, peer6, peerMAC, 0x60, our6, false},
		{"from the peer's link-local address", func(m *ndMessage) { m.from = peerLinkLocal }, peerLinkLocal, newMAC, 0x60, our6, false},
		{"for our link-local address", func(m *ndMessage) { m.to, m.target = netip.MustParseAddr("ff02::1:ff00:201"), linkLocal }, peer6, newMAC, 0x60, linkLocal, true},
		{"duplicate address detection", func(m *ndMessage) { m.from, m.options = netip.IPv6Unspecified(), nil }, allNodes6, allNodesMAC, 0x20, our6, false},
		{"with a nonce (RFC 3971)", func(m *ndMessage) {
			m.from, m.options = netip.IPv6Unspecified(), layers.ICMPv6Options{{Type: 14, Data: []byte{1, 2, 3, 4, 5, 6}}}
		}, allNodes6, allNodesMAC, 0x20, our6, false},
	} {
		codec := newCodec(t, nil)
		m := solicitation()
		c.change(&m)
		reply, r := control(t, codec, append(m.frame(t), 0, 0, 0)) // padding is not the message
		if r != tunnel.DropNone || len(reply) == 0 {
			t.Errorf("%s: %v, no answer", c.name, r)
			continue
		}
		eth, v6, na := adverts(t, reply)
		if !bytes.Equal(eth.DstMAC, c.toMAC[:]) || !bytes.Equal(eth.SrcMAC, ourMAC[:]) {
			t.Errorf("%s: frame from %v to %v", c.name, eth.SrcMAC, eth.DstMAC)
		}
		if !v6.SrcIP.Equal(ip(c.from)) || !v6.DstIP.Equal(ip(c.to)) || v6.HopLimit != 255 {
			t.Errorf("%s: packet from %v to %v, hop limit %d", c.name, v6.SrcIP, v6.DstIP, v6.HopLimit)
		}
		if !na.TargetAddress.Equal(ip(c.from)) || na.Flags != c.flags {
			t.Errorf("%s: target %v, flags %02x", c.name, na.TargetAddress, na.Flags)
		}
		if len(na.Options) != 1 || na.Options[0].Type != layers.ICMPv6OptTargetAddress || !bytes.Equal(na.Options[0].Data, ourMAC[:]) {
			t.Errorf("%s: options %v", c.name, na.Options)
		}
		if codec.Resolved() != c.isLearned || c.isLearned && codec.PeerMAC() != newMAC {
			t.Errorf("%s: resolved %v, peer %v", c.name, codec.Resolved(), codec.PeerMAC())
		}
	}
}

func TestSolicitationForAStrangerIsNotAnswered(t *testing.T) {
	for _, target := range []netip.Addr{other6, peer6, netip.MustParseAddr("fe80::1")} {
		m := solicitation()
		m.target = target
		if reply, r := control(t, newCodec(t, nil), m.frame(t)); r != tunnel.DropNone || reply != nil {
			t.Errorf("%v: %v, % x", target, r, reply)
		}
	}
}

func TestNeighborAdvertisement(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(m *ndMessage)
		learned bool
	}{
		{"of the peer", func(*ndMessage) {}, true},
		{"unsolicited, to all nodes", func(m *ndMessage) {
			m.flags, m.to, m.dst = 0x20, netip.MustParseAddr("ff02::1"), MAC{0x33, 0x33, 0, 0, 0, 1}
		}, true},
		{"the second option", func(m *ndMessage) {
			m.options = append(layers.ICMPv6Options{{Type: 14, Data: make([]byte, 14)}}, m.options...)
		}, true},
		{"of a stranger", func(m *ndMessage) { m.from, m.target = other6, other6 }, false},
		{"of our own address", func(m *ndMessage) { m.target = our6 }, false},
		{"without the option", func(m *ndMessage) { m.options = nil }, false},
		{"with the other option", func(m *ndMessage) { m.options = linkAddr(layers.ICMPv6OptSourceAddress, newMAC) }, false},
		{"an option for longer addresses", func(m *ndMessage) { m.options[0].Data = make([]byte, 14) }, false},
		{"a group MAC", func(m *ndMessage) { m.options = linkAddr(layers.ICMPv6OptTargetAddress, broadcast) }, false},
		{"our own MAC", func(m *ndMessage) { m.options = linkAddr(layers.ICMPv6OptTargetAddress, ourMAC) }, false},
	} {
		codec := newCodec(t, nil)
		m := advertisement()
		c.change(&m)
		reply, r := control(t, codec, m.frame(t))
		if r != tunnel.DropNone || reply != nil {
			t.Errorf("%s: %v, reply % x", c.name, r, reply)
		}
		want := map[bool]MAC{true: newMAC, false: peerMAC}[c.learned]
		if codec.Resolved() != c.learned || codec.PeerMAC() != want {
			t.Errorf("%s: resolved %v, peer %v", c.name, codec.Resolved(), codec.PeerMAC())
		}
	}
}

// RFC 4861, sections 7.1.1 and 7.1.2, line by line.
func TestInvalidNeighborDiscoveryIsRefused(t *testing.T) {
	group := netip.MustParseAddr("ff02::1")
	unspecified := func(m *ndMessage) { m.from, m.options = netip.IPv6Unspecified(), nil }
	keep := func(b []byte) []byte { return b }
	for _, c := range []struct {
		name     string
		m        ndMessage
		change   func(m *ndMessage)
		breakIt  func(b []byte) []byte // of the frame: Ethernet 14, IPv6 40, ICMP
		checksum bool                  // to be made right after breakIt
	}{
		{"hop limit 254", solicitation(), func(m *ndMessage) { m.hopLimit = 254 }, keep, false},
		{"hop limit 64 in advertisement", advertisement(), func(m *ndMessage) { m.hopLimit = 64 }, keep, false},
		{"code 1", solicitation(), func(m *ndMessage) { m.code = 1 }, keep, false},
		{"checksum", solicitation(), nil, func(b []byte) []byte { b[57] ^= 1; return b }, false},
		{"checksum does not cover the target", advertisement(), nil, func(b []byte) []byte { b[70] ^= 1; return b }, false},
		{"checksum of another destination", advertisement(), nil, func(b []byte) []byte { b[50] ^= 1; return b }, false},
		{"23 bytes", solicitation(), nil, func(b []byte) []byte { b[19] = 23; return b[:14+40+23] }, true},
		{"4 bytes", advertisement(), nil, func(b []byte) []byte { b[19] = 4; return b[:14+40+4] }, true},
		{"option of length 0", solicitation(), nil, func(b []byte) []byte { b[79] = 0; return b }, true},
		{"option longer than the message", advertisement(), nil, func(b []byte) []byte { b[79] = 2; return b }, true},
		{"half an option", solicitation(), nil, func(b []byte) []byte { b[19] = 28; return b[:14+40+28] }, true},
		{"solicitation for a group", solicitation(), func(m *ndMessage) { m.target = group }, keep, false},
		{"advertisement of a group", advertisement(), func(m *ndMessage) { m.target = group }, keep, false},
		{"solicited, but to a group", advertisement(), func(m *ndMessage) { m.flags, m.to = 0x60, group }, keep, false},
		{"from :: with a link-layer address", solicitation(), func(m *ndMessage) { m.from = netip.IPv6Unspecified() }, keep, false},
		{"from :: to all nodes", solicitation(), func(m *ndMessage) { unspecified(m); m.to = group }, keep, false},
		{"from :: to our address", solicitation(), func(m *ndMessage) { unspecified(m); m.to = our6 }, keep, false},
	} {
		if c.change != nil {
			c.change(&c.m)
		}
		b := c.m.frame(t)
		if c.breakIt != nil {
			b = c.breakIt(b)
		}
		if c.checksum {
			fixICMPv6Checksum(t, b)
		}
		codec := newCodec(t, nil)
		if reply, r := control(t, codec, b); r != tunnel.DropARPNDInvalid || reply != nil || codec.Resolved() {
			t.Errorf("%s: %v, reply % x, resolved %v", c.name, r, reply, codec.Resolved())
		}
	}
}

// Control answers only for what Open gave it: whatever else comes is refused, not read as a solicitation.
func TestControlOfAnotherMessageIsRefused(t *testing.T) {
	for _, typ := range []byte{128, 133, 134, 137} {
		b := solicitation().frame(t)
		b[54] = typ
		fixICMPv6Checksum(t, b)
		c := newCodec(t, nil)
		if reply, r := c.Control(nil, b); r != tunnel.DropARPNDInvalid || reply != nil || c.Resolved() {
			t.Errorf("type %d: %v, reply % x, resolved %v", typ, r, reply, c.Resolved())
		}
	}
}

// fixICMPv6Checksum lets gopacket sum up a broken message, so that nothing but the break is wrong.
func fixICMPv6Checksum(t testing.TB, frame []byte) {
	t.Helper()
	v6 := &layers.IPv6{Version: 6, SrcIP: frame[22:38], DstIP: frame[38:54], NextHeader: layers.IPProtocolICMPv6}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(frame[54], frame[55])}
	if err := icmp.SetNetworkLayerForChecksum(v6); err != nil {
		t.Fatal(err)
	}
	serialize(t, icmp, gopacket.Payload(frame[58:]))
	frame[56], frame[57] = byte(icmp.Checksum>>8), byte(icmp.Checksum)
}

// A fragmented message is refused (RFC 6980), however valid it is otherwise.
func TestFragmentedNeighborDiscoveryIsRefused(t *testing.T) {
	whole := solicitation().frame(t)
	for field, want := range map[byte]tunnel.DropReason{1: tunnel.DropARPNDInvalid, 0: tunnel.DropNone} { // 0: an atomic fragment
		b := slices.Insert(slices.Clone(whole), 54, 58, 0, 0, field, 0, 0, 0, 1)
		b[19] += 8
		b[20] = 44
		if _, r := control(t, newCodec(t, nil), b); r != want {
			t.Errorf("M bit %d: %v, want %v", field, r, want)
		}
	}
}

func TestResolvedFromTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   bool
	}{
		"peer to be asked":  {nil, false},
		"configured MAC":    {func(cfg *Config) { cfg.PeerMAC = newMAC }, true},
		"nobody to ask for": {func(cfg *Config) { cfg.PeerAddrs = nil }, true},
		"GPE":               {gpe, true},
	} {
		if got := newCodec(t, c.change).Resolved(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSolicitIPv4(t *testing.T) {
	got := newCodec(t, nil).Solicit([]byte("kept"), 0)
	want := append([]byte("kept"), unhex(t, "0800 0000 1234 5600"+
		"ffff ffff ffff 0200 c000 0201 0806"+
		"0001 0800 0604 0001"+
		"0200 c000 0201 c633 6401"+
		"0000 0000 0000 c633 6402")...)
	if !bytes.Equal(got, want) {
		t.Errorf("\n got % x\nwant % x", got, want)
	}
}

// The checksum is gopacket's: the whole datagram is compared.
func TestSolicitIPv6(t *testing.T) {
	v6 := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: ip(our6), DstIP: ip(netip.MustParseAddr("ff02::1:ff0b:2"))}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(v6); err != nil {
		t.Fatal(err)
	}
	want := serialize(t, &layers.VXLAN{ValidIDFlag: true, VNI: vni},
		ethernet(MAC{0x33, 0x33, 0xff, 0x0b, 0x00, 0x02}, ourMAC, layers.EthernetTypeIPv6), v6, icmp,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: ip(peer6), Options: linkAddr(layers.ICMPv6OptSourceAddress, ourMAC)})
	if got := newCodec(t, nil).Solicit(nil, 1); !bytes.Equal(got, want) {
		t.Errorf("\n got % x\nwant % x", got, want)
	}
}

func TestSolicitHasNothingToAsk(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		i      int
	}{
		"GPE":                    {gpe, 0},
		"i is negative":          {nil, -1},
		"i is too large":         {nil, 2},
		"no own address of IPv4": {func(cfg *Config) { cfg.Addrs = []netip.Addr{our6} }, 0},
		"no own address of IPv6": {func(cfg *Config) { cfg.Addrs = []netip.Addr{our4} }, 1},
	} {
		if got := newCodec(t, c.change).Solicit([]byte("kept"), c.i); string(got) != "kept" {
			t.Errorf("%s: % x", name, got)
		}
	}
}

// Two codecs resolve each other, with MAC addresses that neither could guess.
func TestTwoEndsResolveEachOther(t *testing.T) {
	for i := range 2 {
		ours := newCodec(t, func(cfg *Config) { cfg.LocalMAC = MAC{2, 9, 9, 9, 9, 1} })
		theirs := newCodec(t, func(cfg *Config) {
			cfg.Local, cfg.Peer, cfg.LocalMAC = cfg.Peer, cfg.Local, MAC{2, 9, 9, 9, 9, 2}
			cfg.Addrs, cfg.PeerAddrs = cfg.PeerAddrs, cfg.Addrs
		})
		datagram, hops := ours.Solicit(nil, i), 0
		for to, from := theirs, ours; len(datagram) > 0; to, from = from, to {
			frame, _, kind, r := to.Open(datagram)
			if r != tunnel.DropNone || kind != tunnel.Control {
				t.Fatalf("address %d, hop %d: %v, kind %d", i, hops, r, kind)
			}
			if datagram, r = to.Control(nil, frame); r != tunnel.DropNone {
				t.Fatalf("address %d, hop %d: %v", i, hops, r)
			}
			hops++
		}
		if hops != 2 || !ours.Resolved() || !theirs.Resolved() || ours.PeerMAC() != theirs.LocalMAC() || theirs.PeerMAC() != ours.LocalMAC() {
			t.Errorf("address %d after %d hops: %v (%v) and %v (%v)", i, hops, ours.PeerMAC(), ours.Resolved(), theirs.PeerMAC(), theirs.Resolved())
		}
	}
}

// Learning and sealing at once, for -race: a sealed frame has one MAC or the other, never a mix.
func TestSealWhileLearning(t *testing.T) {
	c := newCodec(t, nil)
	frames := [2][]byte{}
	for i, mac := range []MAC{peerMAC, newMAC} {
		frames[i] = arpMessage{2, mac, ourMAC, peer4, our4}.frame(t, ourMAC)
	}
	var loop sync.WaitGroup
	loop.Go(func() {
		for i := range 2000 {
			c.Control(nil, frames[i&1])
		}
	})
	pkt := unhex(t, packet4)
	buf := append(make([]byte, c.Overhead()), pkt...)
	for range 2000 {
		c.Seal(buf, c.Overhead(), len(pkt))
		if to := MAC(buf[8:14]); to != peerMAC && to != newMAC {
			t.Fatalf("sealed for %v", to)
		}
	}
	loop.Wait()
}
