package vxlan

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/transitd/transitd/tunnel"
)

// The two ends of the tunnel in all tests, and their addresses in it.
var (
	ourMAC  = MAC{0x02, 0x00, 0xc0, 0x00, 0x02, 0x01} // of 192.0.2.1
	peerMAC = MAC{0x02, 0x00, 0xc0, 0x00, 0x02, 0x02}
	newMAC  = MAC{0x06, 0x11, 0x22, 0x33, 0x44, 0x55} // what the peer turns out to have
	our4    = netip.MustParseAddr("198.51.100.1")
	our6    = netip.MustParseAddr("2001:db8:1::a:1")
	peer4   = netip.MustParseAddr("198.51.100.2")
	peer6   = netip.MustParseAddr("2001:db8:1::b:2")
	other4  = netip.MustParseAddr("198.51.100.77")
	other6  = netip.MustParseAddr("2001:db8:1::77")
)

const vni = 0x123456

func validConfig() Config {
	return Config{
		VNI: vni, Local: netip.MustParseAddr("192.0.2.1"), Peer: netip.MustParseAddr("192.0.2.2"),
		Addrs: []netip.Addr{our4, our6}, PeerAddrs: []netip.Addr{peer4, peer6},
	}
}

// newCodec makes a codec of the valid configuration with one thing changed.
func newCodec(t testing.TB, change func(*Config)) *Codec {
	t.Helper()
	cfg := validConfig()
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func gpe(cfg *Config) { cfg.GPE = true }

// unhex reads literal bytes; blanks are for the reader.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	header4 = "4500 001c 0001 4000 4011 0000 c633 6402 c633 6401 "
	header6 = "6000 0000 0008 1140 2001 0db8 0001 0000 0000 0000 000b 0002 2001 0db8 0001 0000 0000 0000 000a 0001 "
	packet4 = header4 + "0102 0304 0008 0000"
	packet6 = header6 + "0102 0304 0008 0000"
	toUs    = "0200 c000 0201 0200 c000 0202"
	toPeer  = "0200 c000 0202 0200 c000 0201"
)

// sealed is the datagram that the codec makes of a packet.
func sealed(t testing.TB, c *Codec, pkt []byte) []byte {
	t.Helper()
	buf := append(make([]byte, c.Overhead()), pkt...)
	start, _, r := c.Seal(buf, c.Overhead(), len(pkt))
	if r != tunnel.DropNone || start != 0 {
		t.Fatalf("Seal: %v, start %d", r, start)
	}
	return buf
}

// serialize builds bytes with gopacket, all lengths and checksums its own.
func serialize(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(buf.Bytes())
}

// decode parses a datagram with gopacket, which has to find no fault in it.
func decode(t testing.TB, datagram []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(datagram, layers.LayerTypeVXLAN, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket: %v: % x", e.Error(), datagram)
	}
	vx, ok := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
	if !ok || !vx.ValidIDFlag || vx.VNI != vni {
		t.Fatalf("gopacket reads %+v", vx)
	}
	return p
}

func ethernet(dst, src MAC, typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: dst[:], SrcMAC: src[:], EthernetType: typ}
}

func ip(a netip.Addr) net.IP { return a.AsSlice() }

// arpMessage is an ARP packet; zero MACs are what an unknown target has.
type arpMessage struct {
	op                   uint16
	senderMAC, targetMAC MAC
	sender, target       netip.Addr
}

// frame is the message in an Ethernet frame from its sender.
func (m arpMessage) frame(t testing.TB, dst MAC) []byte {
	t.Helper()
	return serialize(t, ethernet(dst, m.senderMAC, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: m.op, SourceHwAddress: m.senderMAC[:], SourceProtAddress: m.sender.AsSlice(),
		DstHwAddress: m.targetMAC[:], DstProtAddress: m.target.AsSlice(),
	})
}

// ndMessage is a neighbor solicitation, or an advertisement if advert is set.
type ndMessage struct {
	advert   bool
	flags    uint8
	hopLimit uint8
	code     uint8
	dst      MAC // of the frame
	from, to netip.Addr
	target   netip.Addr
	options  layers.ICMPv6Options
}

func linkAddr(typ layers.ICMPv6Opt, m MAC) layers.ICMPv6Options {
	return layers.ICMPv6Options{{Type: typ, Data: m[:]}}
}

// solicitation is the question that a Linux peer sends for our address.
func solicitation() ndMessage {
	return ndMessage{
		hopLimit: 255, dst: MAC{0x33, 0x33, 0xff, 0x0a, 0x00, 0x01}, from: peer6, to: netip.MustParseAddr("ff02::1:ff0a:1"), target: our6,
		options: linkAddr(layers.ICMPv6OptSourceAddress, newMAC),
	}
}

// advertisement is the answer of the peer to our question.
func advertisement() ndMessage {
	return ndMessage{
		advert: true, flags: 0x60, hopLimit: 255, dst: ourMAC, from: peer6, to: our6, target: peer6,
		options: linkAddr(layers.ICMPv6OptTargetAddress, newMAC),
	}
}

// frame is the message in an Ethernet frame, checksummed by gopacket.
func (m ndMessage) frame(t testing.TB) []byte {
	t.Helper()
	v6 := &layers.IPv6{Version: 6, HopLimit: m.hopLimit, NextHeader: layers.IPProtocolICMPv6, SrcIP: ip(m.from), DstIP: ip(m.to)}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, m.code)}
	var body gopacket.SerializableLayer = &layers.ICMPv6NeighborSolicitation{TargetAddress: ip(m.target), Options: m.options}
	if m.advert {
		icmp.TypeCode = layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, m.code)
		body = &layers.ICMPv6NeighborAdvertisement{Flags: m.flags, TargetAddress: ip(m.target), Options: m.options}
	}
	if err := icmp.SetNetworkLayerForChecksum(v6); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ethernet(m.dst, newMAC, layers.EthernetTypeIPv6), v6, icmp, body)
}

// control opens a frame as it would arrive and handles it.
func control(t testing.TB, c *Codec, frame []byte) (reply []byte, r tunnel.DropReason) {
	t.Helper()
	datagram := append(unhex(t, "0800 0000 1234 5600"), frame...)
	inner, _, kind, r := c.Open(datagram)
	if r != tunnel.DropNone || kind != tunnel.Control {
		t.Fatalf("Open: %v, kind %d", r, kind)
	}
	return c.Control(nil, inner)
}
