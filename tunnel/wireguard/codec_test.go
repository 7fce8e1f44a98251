package wireguard

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/transitd/transitd/tunnel"
)

// ends are two of our devices with sessions, without goroutines.
func ends(t testing.TB) (a, b *Device) {
	t.Helper()
	ka, kb := testKey(t), testKey(t)
	a, b = newDevice(t, Config{PrivateKey: ka, PeerPublicKey: kb.Public()}), newDevice(t, Config{PrivateKey: kb, PeerPublicKey: ka.Public()})
	now := time.Now()
	deliver(t, now, a, b)
	if !a.Resolved() || !b.Resolved() {
		t.Fatalf("no session: %+v, %+v", a.Status(), b.Status())
	}
	return a, b
}

func newDevice(t testing.TB, c Config) *Device {
	t.Helper()
	c.MTU, c.Remote = testMTU, netip.MustParseAddr("192.0.2.1")
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// deliver ticks a and carries messages between the two until there are none.
func deliver(t testing.TB, now time.Time, a, b *Device) {
	t.Helper()
	type letter struct {
		to *Device
		b  []byte
	}
	var post []letter
	other := map[*Device]*Device{a: b, b: a}
	sender := func(from *Device) func([]byte) {
		return func(m []byte) { post = append(post, letter{other[from], bytes.Clone(m)}) }
	}
	a.m.tick(now, sender(a))
	for len(post) > 0 {
		l := post[0]
		post = post[1:]
		inner, _, kind, r := l.to.Open(l.b)
		if r != tunnel.DropNone {
			t.Errorf("dropped: %s", r)
		}
		if kind == tunnel.Control {
			l.to.m.message(now, inner, false, sender(l.to))
		}
	}
}

// sealed is a packet as it goes over the wire.
func sealed(t testing.TB, d *Device, pkt []byte) []byte {
	t.Helper()
	buf := make([]byte, 40+len(pkt)+d.Trailer())
	copy(buf[40:], pkt)
	start, end, r := d.Seal(buf, 40, len(pkt))
	if r != tunnel.DropNone {
		t.Fatalf("seal: %s", r)
	}
	return buf[start:end]
}

func TestPaddingAndLength(t *testing.T) {
	a, b := ends(t)
	for _, c := range []struct{ inner, outer int }{
		{20, 16 + 32 + 16}, {32, 16 + 32 + 16}, {33, 16 + 48 + 16}, {testMTU - 1, 16 + testMTU + 16}, {testMTU, 16 + testMTU + 16},
	} {
		pkt := ping(c.inner - 20)
		d := sealed(t, a, pkt)
		if len(d) != c.outer || d[0] != typeTransport {
			t.Errorf("%d bytes become %d, want %d", c.inner, len(d), c.outer)
		}
		inner, info, kind, r := b.Open(d)
		if r != tunnel.DropNone || kind != tunnel.Packet || !bytes.Equal(inner, pkt) || info.Len != len(pkt) {
			t.Errorf("%d bytes: %s, %d, % x", c.inner, r, kind, inner)
		}
	}
}

func TestRefusedMessages(t *testing.T) {
	a, b := ends(t)
	good := func() []byte { return sealed(t, a, ping(100)) }
	old := good()
	for range 9000 {
		if _, _, _, r := b.Open(good()); r != tunnel.DropNone {
			t.Fatal(r)
		}
	}
	twice := good()
	if _, _, _, r := b.Open(bytes.Clone(twice)); r != tunnel.DropNone {
		t.Fatal(r)
	}
	change := func(at int) []byte {
		d := good()
		d[(at+len(d))%len(d)] ^= 0x10
		return d
	}
	other, _ := ends(t)
	stranger := sealed(t, other, ping(1))
	binary.LittleEndian.PutUint32(stranger[4:], b.table.current.Load().local)
	for name, c := range map[string]struct {
		d    []byte
		want tunnel.DropReason
	}{
		"nothing":                 {nil, tunnel.DropShort},
		"three bytes":             {[]byte{4, 0, 0}, tunnel.DropShort},
		"a header":                {good()[:16], tunnel.DropShort},
		"without the last byte":   {good()[:115], tunnel.DropAuthFailed},
		"with one more":           {append(good(), 0), tunnel.DropAuthFailed},
		"an unknown type":         {change(0), tunnel.DropBadHeader},
		"reserved bits":           {change(1), tunnel.DropBadHeader},
		"another index":           {change(4), tunnel.DropNoSession},
		"another counter":         {change(8), tunnel.DropAuthFailed},
		"another byte":            {change(30), tunnel.DropAuthFailed},
		"another tag":             {change(-1), tunnel.DropAuthFailed},
		"somebody else's":         {stranger, tunnel.DropAuthFailed},
		"a second time":           {twice, tunnel.DropReplayed},
		"much too late":           {old, tunnel.DropTooOld},
		"a short initiation":      {append([]byte{1, 0, 0, 0}, make([]byte, 100)...), tunnel.DropBadHeader},
		"a long response":         {append([]byte{2, 0, 0, 0}, make([]byte, 144)...), tunnel.DropBadHeader},
		"a cookie with some more": {append([]byte{3, 0, 0, 0}, make([]byte, 61)...), tunnel.DropBadHeader},
	} {
		if _, _, _, r := b.Open(c.d); r != c.want {
			t.Errorf("%s: %s, want %s", name, r, c.want)
		}
	}
	if _, _, _, r := b.Open(good()); r != tunnel.DropNone {
		t.Errorf("afterwards: %s", r)
	}
}

// What decrypts and is no IP packet is not for the kernel.
func TestNoPacketInside(t *testing.T) {
	a, b := ends(t)
	if _, _, kind, r := b.Open(sealed(t, a, nil)); r != tunnel.DropNone || kind != tunnel.Keepalive {
		t.Errorf("a keepalive: %s, %d", r, kind)
	}
	for _, p := range [][]byte{{0}, bytes.Repeat([]byte{0x45}, 30), ping(100)[:60]} {
		if _, _, _, r := b.Open(sealed(t, a, p)); r != tunnel.DropBadInner {
			t.Errorf("% x: %s", p, r)
		}
	}
}

func TestWithoutSession(t *testing.T) {
	d := newDevice(t, Config{PrivateKey: testKey(t), PeerPublicKey: testKey(t).Public()})
	if _, _, r := d.Seal(make([]byte, 200), 40, 100); r != tunnel.DropNoSession || d.Resolved() {
		t.Errorf("%s", r)
	}
}

func TestCounterEnds(t *testing.T) {
	a, _ := ends(t)
	a.table.current.Load().counter.Store(rejectAfterMessages - 1)
	sealed(t, a, ping(0))
	if _, _, r := a.Seal(make([]byte, 200), 40, 100); r != tunnel.DropNoSession {
		t.Errorf("after the last counter: %s", r)
	}
}

// A full queue of handshakes drops, and blocks nobody.
func TestHandshakeQueue(t *testing.T) {
	d := newDevice(t, Config{PrivateKey: testKey(t), PeerPublicKey: testKey(t).Public()})
	m := append([]byte{typeInitiation, 0, 0, 0}, make([]byte, initiationLen-4)...)
	for range queueLen {
		if _, r := d.Control(nil, m); r != tunnel.DropNone {
			t.Fatal(r)
		}
	}
	if _, r := d.Control(nil, m); r != tunnel.DropHandshakeQueue {
		t.Errorf("%s", r)
	}
	// More than half of them waiting is a flood: nobody is answered but with a cookie, and these have no valid mac1.
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan []byte, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx, func(b []byte) error { sent <- bytes.Clone(b); return nil })
	}()
	if b := <-sent; b[0] != typeInitiation {
		t.Errorf("sent % x", b)
	}
	cancel()
	<-done
	if s := d.Status(); s.CookiesSent > 0 || s.Handshakes > 0 {
		t.Errorf("%+v", s)
	}
}

func TestPathAllocates(t *testing.T) {
	a, b := ends(t)
	pkt := ping(1000)
	buf := make([]byte, 2000)
	n := testing.AllocsPerRun(1000, func() {
		copy(buf[headerLen:], pkt)
		start, end, _ := a.Seal(buf, headerLen, len(pkt))
		if _, _, _, r := b.Open(buf[start:end]); r != tunnel.DropNone {
			t.Fatal(r)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}

func FuzzOpen(f *testing.F) {
	a, b := ends(f)
	f.Add(sealed(f, a, ping(10)))
	f.Add(bytes.Repeat([]byte{1, 0, 0, 0}, initiationLen/4))
	f.Add(bytes.Repeat([]byte{2, 0, 0, 0}, responseLen/4))
	f.Add(bytes.Repeat([]byte{3, 0, 0, 0}, cookieLen/4))
	f.Add([]byte{4})
	none := func([]byte) {}
	f.Fuzz(func(t *testing.T, d []byte) {
		inner, _, kind, r := b.Open(d)
		if r == tunnel.DropNone && kind == tunnel.Packet && len(inner) == 0 {
			t.Error("a packet of no bytes")
		}
		if kind == tunnel.Control && r == tunnel.DropNone {
			b.m.message(time.Now(), slices.Clone(inner), len(d)%2 == 0, none)
			if b.m.status.Responses != 1 {
				t.Errorf("a forged message made a session: %+v", b.m.status)
			}
		}
	})
}

func benchmark(b *testing.B, n int, f func(a, z *Device, pkt, buf []byte)) {
	b.Helper()
	a, z := ends(b)
	pkt, buf := ping(n-20), make([]byte, 2000)
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		f(a, z, pkt, buf)
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{64, 512, 1392} {
		b.Run(byteCount(n), func(b *testing.B) {
			benchmark(b, n, func(a, _ *Device, pkt, buf []byte) { a.Seal(buf, 40, len(pkt)) })
		})
	}
}

// BenchmarkAEAD is the bare cipher, to compare with.
func BenchmarkAEAD(b *testing.B) {
	aead, err := chacha20poly1305.New(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{64, 512, 1392} {
		b.Run(byteCount(n), func(b *testing.B) {
			buf, nonce := make([]byte, 2000), make([]byte, 12)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				aead.Seal(buf[:0], nonce, buf[:n], nil)
			}
		})
	}
}

func BenchmarkSealAndOpen(b *testing.B) {
	for _, n := range []int{64, 512, 1392} {
		b.Run(byteCount(n), func(b *testing.B) {
			benchmark(b, n, func(a, z *Device, pkt, buf []byte) {
				copy(buf[40:], pkt)
				start, end, _ := a.Seal(buf, 40, len(pkt))
				z.Open(buf[start:end])
			})
		})
	}
}

func byteCount(n int) string { return map[int]string{64: "64", 512: "512", 1392: "1392"}[n] }

// Any mixture of lost, repeated and late packets is opened at most once each.
func TestAnyOrder(t *testing.T) {
	a, b := ends(t)
	r := rand.New(rand.NewPCG(1, 1))
	var wire [][]byte
	seen := map[int]bool{}
	for i := range 20000 {
		pkt := ping(8)
		binary.BigEndian.PutUint64(pkt[20:], uint64(i))
		wire = append(wire, sealed(t, a, pkt))
		for range r.IntN(3) {
			k := len(wire) - 1 - r.IntN(min(len(wire), 500))
			inner, _, _, reason := b.Open(bytes.Clone(wire[k]))
			if (reason == tunnel.DropNone) == seen[k] || reason != tunnel.DropNone && reason != tunnel.DropReplayed {
				t.Fatalf("packet %d (seen %v): %s", k, seen[k], reason)
			}
			if reason == tunnel.DropNone && binary.BigEndian.Uint64(inner[20:]) != uint64(k) {
				t.Fatalf("packet %d has other bytes", k)
			}
			seen[k] = true
		}
	}
}

// In a flood that has used up this second's cookies the loops drop what has no
// cookie, and take what has one.
func TestShed(t *testing.T) {
	a, b := testKey(t), testKey(t)
	d, err := New(Config{PrivateKey: a, PeerPublicKey: b.Public(), MTU: testMTU})
	if err != nil {
		t.Fatal(err)
	}
	m := make([]byte, initiationLen)
	m[0] = typeInitiation
	control := func(want tunnel.DropReason) {
		t.Helper()
		if _, r := d.Control(nil, m); r != want {
			t.Errorf("%s, want %s", r, want)
		}
	}
	control(tunnel.DropNone)
	d.shed.Store(time.Now().Add(time.Hour).UnixNano())
	control(tunnel.DropHandshakeQueue)
	m[initiationLen-1] = 1
	control(tunnel.DropNone)
	m[initiationLen-1], m[0] = 0, typeCookie
	control(tunnel.DropNone)
	m[0] = typeInitiation
	d.shed.Store(time.Now().Add(-time.Second).UnixNano())
	control(tunnel.DropNone)
}
