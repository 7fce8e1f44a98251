package gso_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/gso"
	"github.com/transitd/transitd/tunnel/streamtest"
	"github.com/transitd/transitd/tunnel/vxlan"
)

// mtu is that of the tunnel in the tests of streams.
const mtu = 1400

// wire is a tunnel without its sockets: what Seal wrote is what Open gets.
type wire struct {
	t    testing.TB
	a, b *vxlan.Codec
	join *gso.Coalescer
	got  [][]byte // what the far side's kernel would see, segmented again
	// joined is how many packets came out of super packets.
	joined int
}

func newWire(t testing.TB, gpe bool) *wire {
	t.Helper()
	cfg := vxlan.Config{VNI: 7, GPE: gpe, Local: netip.MustParseAddr("192.0.2.1"), Peer: netip.MustParseAddr("192.0.2.2")}
	a, err := vxlan.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Local, cfg.Peer = cfg.Peer, cfg.Local
	b, err := vxlan.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, a: a, b: b, join: gso.NewCoalescer(true)}
}

// send takes a packet through the tunnel.
func (w *wire) send(pkt []byte) {
	w.t.Helper()
	buf := append(make([]byte, w.a.Overhead()), pkt...)
	start, _, r := w.a.Seal(buf, w.a.Overhead(), len(pkt))
	if r != tunnel.DropNone {
		w.t.Fatalf("seal: %v of % x", r, pkt)
	}
	inner, info, kind, r := w.b.Open(buf[start:])
	if r != tunnel.DropNone || kind != tunnel.Packet {
		w.t.Fatalf("open: %v, %v of % x", kind, r, pkt)
	}
	w.join.Add(inner, info, w.deliver)
}

// deliver does what the kernel does with a super packet: it segments it.
func (w *wire) deliver(s *gso.Super) {
	w.t.Helper()
	whole := bytes.Join(s.Parts, nil)
	if s.Header.Type == gso.TypeNone {
		if s.Segments != 1 || s.Bytes != len(whole) || s.Header != (gso.Header{}) {
			w.t.Fatalf("a packet as it came with %+v", s)
		}
		w.got = append(w.got, whole)
		return
	}
	info, fault := packet.Parse(whole)
	if fault != packet.None || info.Len != len(whole) {
		w.t.Fatalf("a super packet of %d bytes says %d (fault %d)", len(whole), info.Len, fault)
	}
	var split gso.Splitter
	if !split.Reset(s.Header, whole, info) {
		w.t.Fatalf("a super packet with a header that is not its own: %+v", s.Header)
	}
	seg, count, sum := make([]byte, split.MaxSegment()), 0, 0
	for n := split.Next(seg); n > 0; n = split.Next(seg) {
		w.got = append(w.got, slices.Clone(seg[:n]))
		count, sum = count+1, sum+n
	}
	if count != s.Segments || sum != s.Bytes || count < 2 {
		w.t.Fatalf("%d segments of %d bytes, the super packet says %d of %d", count, sum, s.Segments, s.Bytes)
	}
	w.joined += count
}

// check compares, flow by flow.
func (w *wire) check(sent [][]byte) {
	w.t.Helper()
	if err := streamtest.Compare(sent, w.got, mtu); err != nil {
		w.t.Fatal(err)
	}
}

// stream is that of some flows, packet by packet.
func stream(rng *rand.Rand, flows int) [][]byte {
	return streamtest.Packets(streamtest.Stream(rng, 0, flows, mtu))
}

// Whatever is sent through segmentation, encapsulation, decapsulation and
// coalescing comes out as it was, in its order.
func TestStreams(t *testing.T) {
	joined, total := 0, 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWire(t, seed%4 == 0)
		sent := stream(rng, 1+rng.IntN(12))
		for i, p := range sent {
			w.send(p)
			if i%48 == 47 { // the end of a batch
				w.join.Flush(w.deliver)
			}
		}
		w.join.Flush(w.deliver)
		w.check(sent)
		joined, total = joined+w.joined, total+len(sent)
	}
	if joined < total/3 {
		t.Errorf("only %d of %d packets were joined: it proves little", joined, total)
	}
	t.Logf("%d packets, %d of them joined", total, joined)
}

// The same for packets that nobody planned.
func FuzzCoalesce(f *testing.F) {
	f.Add(uint64(1), uint16(3), byte(0xff))
	f.Add(uint64(9), uint16(54), byte(1))
	f.Add(uint64(5), uint16(33), byte(0x80))
	f.Fuzz(func(t *testing.T, seed uint64, at uint16, flip byte) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWire(t, false)
		sent := stream(rng, 3)
		var good [][]byte
		for i, p := range sent {
			if i%7 == 3 { // damaged after it was made
				p[int(at)%len(p)] ^= flip
			}
			info, fault := packet.Parse(p)
			if fault != packet.None || isControl(p, info) {
				continue // the codec's business
			}
			p = p[:info.Len]
			good = append(good, p)
			w.send(p)
		}
		w.join.Flush(w.deliver)
		w.check(good)
	})
}

// isControl is neighbor discovery, which never reaches the coalescer.
func isControl(p []byte, info packet.Info) bool {
	return info.Version == 6 && info.Proto == packet.ICMPv6 || len(p) == 0
}

func TestCoalesceAllocates(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	f := streamtest.PlainTCP(rng, 1, mtu)
	var packets [][]byte
	var infos []packet.Info
	for range 40 {
		p := f.Packet(1348, 0x10)
		info, _ := packet.Parse(p)
		packets, infos = append(packets, p), append(infos, info)
	}
	c := gso.NewCoalescer(true)
	segments := 0
	out := func(s *gso.Super) { segments += s.Segments }
	saved := bytes.Clone(packets[0])
	if n := testing.AllocsPerRun(100, func() {
		copy(packets[0], saved) // its header is that of the super packet afterwards
		for i, p := range packets {
			c.Add(p, infos[i], out)
		}
		c.Flush(out)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if segments != 101*40 {
		t.Errorf("%d segments", segments)
	}
}

func BenchmarkCoalesce(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 7))
	f := streamtest.PlainTCP(rng, 1, mtu)
	var packets [][]byte
	for range 45 {
		packets = append(packets, f.Packet(1348, 0x10))
	}
	saved := bytes.Clone(packets[0])
	c := gso.NewCoalescer(true)
	out := func(*gso.Super) {}
	b.SetBytes(45 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		copy(packets[0], saved)
		for _, p := range packets {
			info, _ := packet.Parse(p)
			c.Add(p, info, out)
		}
		c.Flush(out)
	}
}
