package vxlan

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
)

func TestControlDoesNotAllocate(t *testing.T) {
	c := newCodec(t, nil)
	dst := make([]byte, 0, 256)
	for name, frame := range controlFrames(t) {
		if n := testing.AllocsPerRun(100, func() { c.Control(dst, frame) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	for i := range 2 {
		if n := testing.AllocsPerRun(100, func() { c.Solicit(dst, i) }); n != 0 {
			t.Errorf("Solicit %d: %v allocations", i, n)
		}
	}
}

// controlFrames are one of each message.
func controlFrames(t testing.TB) map[string][]byte {
	t.Helper()
	probe := solicitation()
	probe.from, probe.options = netip.IPv6Unspecified(), nil
	unicast := solicitation()
	unicast.dst, unicast.to = ourMAC, our6
	return map[string][]byte{
		"ARP request":      arpMessage{1, newMAC, MAC{}, peer4, our4}.frame(t, broadcast),
		"ARP reply":        arpMessage{2, newMAC, ourMAC, peer4, our4}.frame(t, ourMAC),
		"gratuitous ARP":   arpMessage{1, newMAC, MAC{}, peer4, peer4}.frame(t, broadcast),
		"ND solicitation":  solicitation().frame(t),
		"ND unicast":       unicast.frame(t),
		"ND probe":         probe.frame(t),
		"ND advertisement": advertisement().frame(t),
	}
}

// FuzzControl fixes a mutated message's checksum if asked to: without that the
// fuzzer would hardly ever get behind it.
func FuzzControl(f *testing.F) {
	for _, frame := range controlFrames(f) {
		f.Add(frame, true)
	}
	f.Fuzz(func(t *testing.T, frame []byte, fix bool) {
		frame = bytes.Clone(frame)
		if fix && len(frame) > ethernetLen {
			if in, fault := packet.Parse(frame[ethernetLen:]); fault == packet.None && in.Proto == packet.ICMPv6 && in.Len-in.Transport >= 4 {
				b := frame[ethernetLen : ethernetLen+in.Len]
				m := b[in.Transport:]
				m[2], m[3] = 0, 0
				sum := packet.Checksum(m, packet.PseudoSum(b, packet.ICMPv6, len(m)))
				m[2], m[3] = byte(sum>>8), byte(sum)
			}
		}
		c, before := newCodec(t, nil), bytes.Clone(frame)
		reply, r := c.Control([]byte("kept"), frame)
		if !bytes.Equal(before, frame) {
			t.Fatal("the frame was written to")
		}
		reply, kept := bytes.CutPrefix(reply, []byte("kept"))
		if !kept || r != tunnel.DropNone && (len(reply) > 0 || c.Resolved()) {
			t.Fatalf("%v, reply % x, resolved %v", r, reply, c.Resolved())
		}
		if m := c.PeerMAC(); m == ourMAC || m == (MAC{}) || m[0]&1 != 0 || m != peerMAC && !c.Resolved() {
			t.Fatalf("learned %v", m)
		}
		if len(reply) > 0 {
			checkReply(t, frame, reply)
		}
	})
}

// checkReply fails if a reply is no ARP reply or advertisement of ours.
func checkReply(t *testing.T, frame, reply []byte) {
	t.Helper()
	arp, isARP := decode(t, reply).Layer(layers.LayerTypeARP).(*layers.ARP)
	if !isARP {
		eth, v6, na := adverts(t, reply)
		if !bytes.Equal(eth.SrcMAC, ourMAC[:]) || v6.HopLimit != 255 || !v6.SrcIP.Equal(na.TargetAddress) {
			t.Fatalf("%+v %+v %+v", eth, v6, na)
		}
		return
	}
	if arp.Operation != 2 || !bytes.Equal(arp.SourceHwAddress, ourMAC[:]) || !bytes.Equal(arp.SourceProtAddress, our4.AsSlice()) ||
		!bytes.Equal(arp.DstHwAddress, frame[22:28]) || !bytes.Equal(arp.DstProtAddress, frame[28:32]) {
		t.Fatalf("%+v to % x", arp, frame)
	}
}
