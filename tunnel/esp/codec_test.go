package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/replay"
	"github.com/transitd/transitd/tunnel/sa"
)

var ciphers = []sa.Cipher{sa.AES128GCM16, sa.AES256GCM16, sa.ChaCha20Poly1305}

func TestSealOpen(t *testing.T) {
	for _, c := range ciphers {
		for _, esn := range []bool{false, true} {
			a, b := keyed(t, c, esn)
			for n := 28; n < 120; n++ {
				for _, pkt := range [][]byte{ip4(n), ip6(n + 12)} {
					d := seal(t, a, pkt)
					if (len(d)-headerLen-tagLen)%align != 0 {
						t.Fatalf("%s: %d bytes are not aligned", c, len(d))
					}
					got, info, kind, r := b.Open(d)
					if r != tunnel.DropNone || kind != tunnel.Packet || !bytes.Equal(got, pkt) || info.Len != len(pkt) {
						t.Fatalf("%s, %d bytes: %s, %v, %x", c, len(pkt), r, kind, got)
					}
				}
			}
			u, ok := b.Usage(0x55667788)
			if !ok || u.InPackets != 2*92 || u.OutPackets != 0 || u.InBytes == 0 {
				t.Errorf("%s: %+v", c, u)
			}
		}
	}
}

// The whole packets of draft-mcgrew-gcm-test-01, section 4, cases 1 (with an
// extended sequence number) and 3, and of RFC 7634, appendix A. The first two
// carry ICMP by next header 1, which is no tunnel mode, so it is not what
// comes out of Open.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		name          string
		cipher        sa.Cipher
		key           string // with the salt
		high          uint32
		esn           bool
		packet, plain string
		next          tunnel.DropReason
	}{
		{
			"GCM 128, ESN", sa.AES128GCM16, "4c80cdefbb5d10da906ac73c3613a6342e443b68", 0x87654321, true,
			"00004321000000004956ed7e3b244cfefecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
			"45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b000021000101020201", tunnel.DropNextHeader,
		},
		{
			"GCM 256", sa.AES256GCM16, "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344", 0, false,
			"4a2cbfe3000000020102030405060708ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c4915956c96",
			"4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201", tunnel.DropNextHeader,
		},
		{
			"ChaCha20", sa.ChaCha20Poly1305, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3", 0, false,
			"0102030400000005101112131415161724039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
			"45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204", tunnel.DropNone,
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			d := unhex(t, v.packet)
			made := func() (*Codec, *pair) {
				c := New()
				key := unhex(t, v.key)
				install(t, c, sa.Pair{In: sa.Direction{SPI: binary.BigEndian.Uint32(d), Key: key}, Out: sa.Direction{SPI: 999, Key: key}, Cipher: v.cipher, ESN: v.esn}, false)
				p := c.find(binary.BigEndian.Uint32(d))
				p.newest.Store(uint64(v.high) << 32)
				return c, p
			}
			c, p := made()
			plain, r := c.decrypt(p, bytes.Clone(d))
			if r != tunnel.DropNone || hex.EncodeToString(plain) != v.plain {
				t.Fatalf("%s, %x", r, plain)
			}
			c, _ = made()
			if _, _, _, r := c.Open(bytes.Clone(d)); r != v.next {
				t.Errorf("open: %s, want %s", r, v.next)
			}
		})
	}
}

// What is altered, cut, foreign or old is dropped under its own name, and does
// nothing to what is good.
func TestHostile(t *testing.T) {
	for _, cipher := range ciphers {
		a, b := keyed(t, cipher, true)
		first := seal(t, a, ip4(100))
		if _, _, _, r := b.Open(bytes.Clone(first)); r != tunnel.DropNone {
			t.Fatal(r)
		}
		good := seal(t, a, ip4(100))
		for i := range good {
			for bit := range 8 {
				d := bytes.Clone(good)
				d[i] ^= 1 << bit
				_, _, kind, r := b.Open(d)
				want := tunnel.DropAuthFailed
				if i < 4 {
					want = tunnel.DropNoSession
				}
				if kind == tunnel.Control || r != want {
					t.Fatalf("%s: bit %d of byte %d: %s, want %s", cipher, bit, i, r, want)
				}
				if want == tunnel.DropAuthFailed && bytes.Contains(d, ip4(100)[28:60]) {
					t.Fatalf("%s: clear text of a packet that is not authentic", cipher)
				}
			}
		}
		for n := range len(good) {
			_, _, _, r := b.Open(bytes.Clone(good[:n]))
			want := tunnel.DropAuthFailed
			if n < headerLen+trailerLen+tagLen {
				want = tunnel.DropShort
			}
			if r != want {
				t.Fatalf("%s: %d bytes: %s, want %s", cipher, n, r, want)
			}
		}
		if _, _, _, r := b.Open(bytes.Clone(first)); r != tunnel.DropReplayed {
			t.Errorf("%s: a replay is %s", cipher, r)
		}
		if _, _, _, r := b.Open(bytes.Clone(good)); r != tunnel.DropNone {
			t.Errorf("%s: the good one afterwards is %s", cipher, r)
		}
		late := seal(t, a, ip4(50))
		for range replay.Size + 100 {
			if _, _, _, r := b.Open(seal(t, a, ip4(50))); r != tunnel.DropNone {
				t.Fatal(r)
			}
		}
		if _, _, _, r := b.Open(late); r != tunnel.DropTooOld {
			t.Errorf("%s: far behind is %s", cipher, r)
		}
	}
}

// Not ESP, but on the same port (RFC 3948).
func TestNotESP(t *testing.T) {
	c := New()
	if got, _, kind, r := c.Open([]byte{0, 0, 0, 0, 1, 2, 3}); kind != tunnel.Control || r != tunnel.DropNone || !bytes.Equal(got, []byte{1, 2, 3}) {
		t.Errorf("IKE: %x, %v, %s", got, kind, r)
	}
	if _, _, kind, r := c.Open([]byte{0xff}); kind != tunnel.Keepalive || r != tunnel.DropNone {
		t.Errorf("a keepalive: %v, %s", kind, r)
	}
	for _, d := range [][]byte{{}, {0}, {0xfe}, {1, 2, 3}} {
		if _, _, _, r := c.Open(d); r != tunnel.DropShort {
			t.Errorf("%x: %s", d, r)
		}
	}
	if _, _, r := c.Seal(make([]byte, 200), room, 40); r != tunnel.DropNoSession || c.Resolved() {
		t.Errorf("without a pair: %s", r)
	}
}

// A peer that has the keys may still send nonsense, or more than a packet.
func TestInside(t *testing.T) {
	pkt := ip4(60)
	with := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, v := range []struct {
		name  string
		plain []byte
		kind  tunnel.Kind
		want  tunnel.DropReason
	}{
		{"a packet", with(pkt, []byte{0, 4}), tunnel.Packet, tunnel.DropNone},
		{"padding", with(pkt, []byte{1, 2, 3, 4, 5, 5, 4}), tunnel.Packet, tunnel.DropNone},
		{"padding against traffic analysis", with(pkt, make([]byte, 500), []byte{1, 2, 2, 4}), tunnel.Packet, tunnel.DropNone},
		{"a dummy", with(make([]byte, 40), []byte{0, 59}), tunnel.Keepalive, tunnel.DropNone},
		{"an empty dummy", []byte{0, 59}, tunnel.Keepalive, tunnel.DropNone},
		{"padding that is longer than all", with(pkt, []byte{255, 4}), tunnel.Packet, tunnel.DropBadPadding},
		{"padding of other bytes", with(pkt, []byte{9, 9, 2, 4}), tunnel.Packet, tunnel.DropBadPadding},
		{"TCP in transport mode", with(pkt, []byte{0, 6}), tunnel.Packet, tunnel.DropNextHeader},
		{"IPv4 as IPv6", with(pkt, []byte{0, 41}), tunnel.Packet, tunnel.DropBadInner},
		{"IPv6 as IPv4", with(ip6(60), []byte{0, 4}), tunnel.Packet, tunnel.DropBadInner},
		{"half a packet", with(pkt[:30], []byte{0, 4}), tunnel.Packet, tunnel.DropBadInner},
		{"nothing", []byte{0, 4}, tunnel.Packet, tunnel.DropBadInner},
	} {
		a, b := keyed(t, sa.AES128GCM16, false)
		got, _, kind, r := b.Open(inner(t, a, v.plain))
		if r != v.want || kind != v.kind {
			t.Errorf("%s: %s, %v; want %s, %v", v.name, r, kind, v.want, v.kind)
		}
		if v.want == tunnel.DropNone && v.kind == tunnel.Packet && !bytes.Equal(got, pkt) {
			t.Errorf("%s: %x", v.name, got)
		}
	}
}

// Sequence numbers go on over 2^32 with extended ones, in any order within the
// window, and end without.
func TestSequenceJump(t *testing.T) {
	a, b := keyed(t, sa.AES256GCM16, true)
	r := rand.New(rand.NewPCG(1, 2))
	for _, at := range []uint64{1<<32 - 3000, 1<<33 - 3000, 1<<34 - 3000} {
		a.out.Load().counter.Store(at)
		b.find(0x55667788).newest.Store(at) // nobody sends as many in between
		var list [][]byte
		for range 6000 {
			list = append(list, seal(t, a, ip4(40)))
		}
		for i := 0; i < len(list); i += 1000 { // reordered within a thousand
			part := list[i : i+1000]
			r.Shuffle(len(part), func(x, y int) { part[x], part[y] = part[y], part[x] })
		}
		for i, d := range list {
			if _, _, _, r := b.Open(d); r != tunnel.DropNone {
				t.Fatalf("from %d on, packet %d: %s", at, i, r)
			}
		}
	}
	a, _ = keyed(t, sa.AES256GCM16, false)
	a.out.Load().counter.Store(1<<32 - 3)
	for _, want := range []tunnel.DropReason{tunnel.DropNone, tunnel.DropNone, tunnel.DropExpired, tunnel.DropExpired} {
		buf := make([]byte, 300)
		copy(buf[room:], ip4(100))
		if _, _, r := a.Seal(buf, room, 100); r != want {
			t.Errorf("at the end: %s, want %s", r, want)
		}
	}
	if u, _ := a.Usage(0x11223344); u.OutPackets != 2 {
		t.Errorf("%+v", u)
	}
}

// guess agrees with a search over all that is near (RFC 4303, appendix A2).
func TestGuess(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		newest := uint64(r.IntN(4))<<32 + uint64(r.Uint32())
		if r.IntN(2) == 0 {
			newest = uint64(1+r.IntN(3))<<32 + uint64(r.IntN(4*late)) - 2*late
		}
		// Anything from the latest to 2^32 ahead of it has to be found.
		ahead := r.Int64N(1<<32) - late + 1
		if r.IntN(2) == 0 {
			ahead = r.Int64N(4*late) - late + 1
		}
		want := int64(newest) + ahead
		if want < 1 {
			continue
		}
		if got := guess(newest, uint32(want)); got != uint64(want) {
			t.Fatalf("newest %x, sent %x, guessed %x", newest, want, got)
		}
	}
}

func TestAllocations(t *testing.T) {
	for _, cipher := range ciphers {
		a, b := keyed(t, cipher, true)
		buf := make([]byte, room+1400+room)
		pkt := ip4(1400)
		n := testing.AllocsPerRun(1000, func() {
			copy(buf[room:], pkt)
			start, end, _ := a.Seal(buf, room, len(pkt))
			if _, _, _, r := b.Open(buf[start:end]); r != tunnel.DropNone {
				t.Fatal(r)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations for a packet", cipher, n)
		}
	}
}

func TestKeyLog(t *testing.T) {
	p := sa.Pair{In: sa.Direction{SPI: 0x11223344, Key: bytes.Repeat([]byte{1}, 20)}, Out: sa.Direction{SPI: 0x55667788, Key: bytes.Repeat([]byte{2}, 20)}, Cipher: sa.AES128GCM16}
	got := KeyLogLines(p, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"))
	if len(got) != 2 || got[0] != `"IPv4","192.0.2.2","192.0.2.1","0x11223344","AES-GCM with 16 octet ICV [RFC4106]","0x0101010101010101010101010101010101010101","NULL",""` {
		t.Errorf("%q", got)
	}
	p.Cipher = sa.ChaCha20Poly1305
	if got := KeyLogLines(p, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")); got != nil {
		t.Errorf("%q", got)
	}
}

// Without UDP there is no marker of IKE and no keepalive: an SPI of 0 is none
// (RFC 4303, section 2.1), and everything else is as in UDP.
func TestRaw(t *testing.T) {
	for name, b := range map[string][]byte{"marker": {0, 0, 0, 0, 1, 2, 3, 4}, "zeros": make([]byte, 100), "keepalive": {0xff}, "nothing": {}} {
		want := tunnel.DropShort
		if len(b) >= 4 {
			want = tunnel.DropBadHeader
		}
		if inner, _, kind, r := NewRaw().Open(bytes.Clone(b)); r != want || kind != tunnel.Packet || inner != nil {
			t.Errorf("%s: %s, %v, %d bytes; want %s", name, r, kind, len(inner), want)
		}
		if _, _, kind, r := New().Open(b); len(b) != 0 && (r != tunnel.DropNone || kind == tunnel.Packet) {
			t.Errorf("%s in UDP: %s, %v", name, r, kind)
		}
	}
	a, b := keyed(t, sa.AES256GCM16, true)
	a.raw, b.raw = true, true
	pkt := ip4(100)
	if got, _, kind, r := b.Open(seal(t, a, pkt)); r != tunnel.DropNone || kind != tunnel.Packet || !bytes.Equal(got, pkt) {
		t.Errorf("%s, %v, %x", r, kind, got)
	}
}
