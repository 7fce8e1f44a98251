package pump

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/transitd/transitd/pkg/packet"
)

// udp4 is a packet with an ID and a TTL; the header's checksum follows the TTL.
func udp4(id uint16, ttl uint8) []byte {
	b := make([]byte, 60)
	b[0], b[8], b[9] = 0x45, ttl, packet.UDP
	binary.BigEndian.PutUint16(b[2:], 60)
	binary.BigEndian.PutUint16(b[4:], id)
	copy(b[12:], []byte{10, 50, 1, 10, 172, 16, 1, 10})
	binary.BigEndian.PutUint16(b[22:], 53)
	binary.BigEndian.PutUint16(b[24:], 40)
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20], 0))
	return b
}

func udp6(flow uint32, ttl uint8) []byte {
	b := make([]byte, 80)
	b[0], b[6], b[7] = 0x60, packet.UDP, ttl
	binary.BigEndian.PutUint16(b[4:], 40)
	copy(b[8:], netip.MustParseAddr("2001:db8::1").AsSlice())
	copy(b[24:], netip.MustParseAddr("2001:db8:1::1").AsSlice())
	binary.BigEndian.PutUint32(b[48:], flow)
	return b
}

func look(t testing.TB, w *loopWatch, pkt []byte) {
	t.Helper()
	info, fault := packet.Parse(pkt)
	if fault != packet.None {
		t.Fatal(fault)
	}
	w.see(pkt, info)
}

// Of packets that go round, about one in sixteen is seen, and it is counted from
// its third time on.
func TestLoopWatch(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(n int, ttl uint8) []byte{
		"IPv4": func(n int, ttl uint8) []byte { return udp4(uint16(n), ttl) },
		"IPv6": func(n int, ttl uint8) []byte { return udp6(uint32(n), ttl) },
	} {
		var w loopWatch
		const packets, rounds = 1600, 10
		for n := range packets {
			for round := range uint8(rounds) {
				pkt := make(n, 64-2*round)
				pkt[1] ^= round & 3 // ECN may change
				look(t, &w, pkt)
			}
		}
		got := w.detected.Load()
		if want := uint64(packets / watchSample * (rounds - sightings + 1)); got < want/2 || got > want*2 {
			t.Errorf("%s: %d detected, about %d expected", name, got, want)
		}
		if last := w.last.Load(); last == nil || !last.Destination.IsValid() || name == "IPv4" && last.Destination.String() != "172.16.1.10" {
			t.Errorf("%s: %+v", name, last)
		}
	}
}

// What is sent twice, what differs, and what comes with a higher TTL is no loop.
func TestNoLoop(t *testing.T) {
	t.Parallel()
	var w loopWatch
	for n := range 4000 {
		for range 10 {
			look(t, &w, udp4(uint16(n), 64)) // sent again and again
		}
		for ttl := uint8(1); ttl < 10; ttl++ {
			look(t, &w, udp4(uint16(n), ttl)) // a traceroute with one ID
		}
		look(t, &w, udp4(uint16(n), 64))
		look(t, &w, udp4(uint16(n), 63)) // on another way
	}
	for ttl := uint8(64); ttl > 1; ttl-- {
		look(t, &w, udp4(5000+uint16(ttl), ttl)) // other packets
	}
	if n := w.detected.Load(); n > 0 {
		t.Errorf("%d detected", n)
	}
}

func BenchmarkLoopWatch(b *testing.B) {
	var w loopWatch
	pkt := udp4(1, 64)
	info, _ := packet.Parse(pkt)
	b.ReportAllocs()
	for i := range b.N {
		binary.BigEndian.PutUint16(pkt[4:], uint16(i))
		w.see(pkt, info)
	}
}
