package wireguard

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel"
)

// shake is a machine, what it has sent, and the time for it.
type shake struct {
	*machine
	now  time.Time
	sent [][]byte
}

// newShakes are the machines of two ends whose configurations fit; each change is made to one of them.
func newShakes(t testing.TB, changeA, changeB func(*Config)) (a, b *shake) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{42})
	ka, kb := testKey(t), testKey(t)
	make1 := func(ours PrivateKey, theirs PublicKey, change func(*Config)) *shake {
		c := Config{MTU: testMTU, Remote: netip.MustParseAddr("192.0.2.9"), PrivateKey: ours, PeerPublicKey: theirs, Random: random}
		if change != nil {
			change(&c)
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		return &shake{machine: newMachine(c, &table{}, now), now: now}
	}
	return make1(ka, kb.Public(), changeA), make1(kb, ka.Public(), changeB)
}

func (s *shake) collect(b []byte) { s.sent = append(s.sent, bytes.Clone(b)) }

// take returns what was sent last, and expects it to be of a type.
func (s *shake) take(t testing.TB, typ byte) []byte {
	t.Helper()
	if len(s.sent) == 0 {
		t.Fatalf("nothing was sent, want a message of type %d; %s", typ, s.status.Problem)
	}
	b := s.sent[len(s.sent)-1]
	s.sent = nil
	if b[0] != typ {
		t.Fatalf("sent a message of type %d, want %d", b[0], typ)
	}
	return b
}

func (s *shake) begin(t testing.TB) []byte {
	t.Helper()
	s.tick(s.now, s.collect)
	return s.take(t, typeInitiation)
}

func (s *shake) get(b []byte, loaded bool) {
	s.message(s.now, bytes.Clone(b), loaded, s.collect)
}

func (s *shake) wait(d time.Duration) { s.now = s.now.Add(d) }

func (s *shake) why() string {
	status := s.status
	status.Up = s.table.current.Load() != nil
	for _, id := range s.ours {
		status.OurKeys = append(status.OurKeys, id.public)
	}
	return status.Why(s.now)
}

// What comes in between, from somebody who can send by the peer's address and
// knows our public key and the index, does not stop a handshake.
func TestForgedResponses(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	b.get(a.begin(t), false)
	good := b.take(t, typeResponse)
	forged := func(change func([]byte)) []byte {
		m := bytes.Clone(good)
		change(m)
		b.macs[a.ours[0].public].sign(m) // mac1 needs no secret
		return m
	}
	for name, m := range map[string][]byte{
		"a point of low order":  forged(func(m []byte) { clear(m[responseNoise : responseNoise+keyLen]) }),
		"another one":           forged(func(m []byte) { clear(m[responseNoise : responseNoise+keyLen]); m[responseNoise] = 1 }),
		"another ephemeral key": forged(func(m []byte) { m[responseNoise] ^= 1 }),
		"another tag":           forged(func(m []byte) { m[responseMAC1-1] ^= 1 }),
		"another index":         forged(func(m []byte) { m[responseReceiver] ^= 1 }),
	} {
		before := a.status.Refused
		a.get(m, false)
		if a.status.Refused != before+1 || a.table.current.Load() != nil {
			t.Errorf("%s: was taken", name)
		}
	}
	a.get(good, false)
	if a.table.current.Load() == nil {
		t.Fatalf("the true response was refused: %s", a.status.Problem)
	}
	a.take(t, typeTransport)
	a.get(good, false) // once more: the network did it
	if a.status.Handshakes != 1 {
		t.Errorf("%d handshakes", a.status.Handshakes)
	}
}

// A recorded initiation gives nobody anything, however often it comes.
func TestClockWentBack(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	first := a.begin(t)
	b.get(first, false)
	b.take(t, typeResponse)
	b.wait(time.Minute)
	b.get(first, false)
	if len(b.sent) > 0 || !strings.Contains(b.why(), "clock went back") {
		t.Errorf("answered, or: %s", b.why())
	}
	// The peer, restarted with a clock that is wrong, is told to look at it.
	back, _ := newShakes(t, func(c *Config) { c.PrivateKey, c.PeerPublicKey = a.ours[0].private, b.ours[0].public }, nil)
	back.wait(-time.Hour)
	back.retry = back.now
	b.get(back.begin(t), false)
	if w := b.why(); len(b.sent) > 0 || !strings.Contains(w, "it says 2025-12-31T23:00:00Z, and said 2026-01-01T00:00:00Z before") {
		t.Errorf("why: %s", w)
	}
}

// In one process time never goes back for the peer, even if the clock does.
func TestStampsGrow(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	for i := range 5 {
		b.get(a.begin(t), false)
		if b.status.Responses != uint64(i+1) {
			t.Fatalf("step %d: %s", i, b.status.Problem)
		}
		a.pending, a.retry = nil, a.now.Add(-time.Hour)
		a.wait(-time.Minute)
		b.wait(initiationGap)
	}
}

// Two initiations in a moment: the second has to wait.
func TestInitiationFlood(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	b.get(a.begin(t), false)
	a.wait(2 * rekeyTimeout)
	second := a.begin(t)
	b.get(second, false)
	if b.status.Responses != 1 {
		t.Errorf("%d responses", b.status.Responses)
	}
	b.wait(initiationGap)
	b.get(second, false)
	if b.status.Responses != 2 {
		t.Errorf("%d responses: %s", b.status.Responses, b.status.Problem)
	}
}

// Who asks under load gets a cookie, comes back with it, and is served. Both ends
// may be loaded.
func TestCookiesBothWays(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	b.get(a.begin(t), true)
	a.get(b.take(t, typeCookie), false)
	if b.status.Responses != 0 || b.status.CookiesSent != 1 || a.status.CookiesTaken != 1 || b.status.Loaded.IsZero() {
		t.Fatalf("%+v, %+v", a.status, b.status)
	}
	a.wait(2 * rekeyTimeout)
	b.now = a.now
	b.get(a.begin(t), true)
	response := b.take(t, typeResponse)

	a.get(response, true) // now a is loaded, and b has no cookie for its response
	b.get(a.take(t, typeCookie), false)
	if a.table.current.Load() != nil || b.status.CookiesTaken != 1 {
		t.Fatalf("%+v, %+v", a.status, b.status)
	}
	a.wait(2 * rekeyTimeout)
	b.now = a.now
	b.get(a.begin(t), true)
	a.get(b.take(t, typeResponse), true)
	if a.table.current.Load() == nil {
		t.Fatalf("no session: %s", a.status.Problem)
	}
}

// A cookie is for one address, one key and one message.
func TestWrongCookies(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	b.get(a.begin(t), true)
	good := b.take(t, typeCookie)
	for i := range good {
		if i < cookieReceiver { // the type: Open has looked at it
			continue
		}
		m := bytes.Clone(good)
		m[i] ^= 4
		a.get(m, false)
	}
	if a.status.CookiesTaken > 0 {
		t.Errorf("%d altered cookies were taken", a.status.CookiesTaken)
	}
	a.get(good, false)
	if a.status.CookiesTaken != 1 {
		t.Fatalf("the good one was not: %s", a.status.Problem)
	}
	b.source = netip.MustParseAddr("192.0.2.77").AsSlice() // of somebody else
	a.wait(2 * rekeyTimeout)
	b.now = a.now
	b.get(a.begin(t), true)
	b.take(t, typeCookie)
}

// A flood costs no more than so many cookies.
func TestCookieLimit(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	m := a.begin(t)
	for range 2 * cookiesPerSecond {
		b.get(m, true)
	}
	if b.status.CookiesSent != cookiesPerSecond {
		t.Errorf("%d cookies", b.status.CookiesSent)
	}
	b.wait(time.Second)
	b.get(m, true)
	if b.status.CookiesSent != cookiesPerSecond+1 {
		t.Errorf("%d cookies", b.status.CookiesSent)
	}
}

func TestWhyInWords(t *testing.T) {
	other := testKey(t)
	for name, c := range map[string]struct {
		changeA, changeB func(*Config)
		rounds           int
		deaf             bool // a does not hear b
		want             [2]string
	}{
		"nothing yet":           {rounds: 0, want: [2]string{"no handshake has begun yet", "no handshake has begun yet"}},
		"no answer":             {changeA: func(c *Config) { c.PeerPublicKey = other.Public() }, rounds: 3, want: [2]string{"no answer to 3 handshakes in 12s", "made for another public key than ours"}},
		"unknown key":           {changeA: func(c *Config) { c.PrivateKey = other }, rounds: 1, want: [2]string{"it does not know our public key " + other.Public().String(), "the peer has the public key " + other.Public().String()}},
		"one has a preshared":   {changeA: func(c *Config) { c.PresharedKey = PresharedKey{1} }, rounds: 2, want: [2]string{"the preshared keys differ", "the preshared keys differ"}},
		"another preshared key": {changeA: func(c *Config) { c.PresharedKey = PresharedKey{1} }, changeB: func(c *Config) { c.PresharedKey = PresharedKey{2} }, rounds: 1, want: [2]string{"the preshared keys differ", "the preshared keys differ"}},
		"one direction":         {rounds: 4, deaf: true, want: [2]string{"no answer to 4 handshakes", "our datagrams do not reach it"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newShakes(t, c.changeA, c.changeB)
			for range c.rounds {
				b.get(a.begin(t), false)
				for _, m := range b.sent {
					if !c.deaf {
						a.get(m, false)
					}
				}
				b.sent = nil
				a.wait(6 * time.Second)
				b.now = a.now
			}
			if c.rounds > 0 {
				a.wait(-6 * time.Second)
			}
			for i, s := range []*shake{a, b} {
				if w := s.why(); !strings.Contains(w, c.want[i]) {
					t.Errorf("end %d: %s\nwant: %s", i, w, c.want[i])
				}
			}
		})
	}
}

// Who sends and hears nothing begins anew after 15 seconds; who only listens, and
// keeps the peer content, does not.
func TestSilentPeer(t *testing.T) {
	a, b := newShakes(t, nil, nil)
	b.get(a.begin(t), false)
	a.get(b.take(t, typeResponse), false)
	a.sent = nil
	s := a.table.current.Load()
	for i := range 40 {
		a.wait(time.Second)
		s.used.set()
		s.usedData.set()
		a.tick(a.now, a.collect)
		if len(a.sent) > 0 {
			if i < 14 || i > 17 {
				t.Errorf("a handshake after %d seconds", i+1)
			}
			a.take(t, typeInitiation)
			return
		}
	}
	t.Error("no handshake")
}

// tshark reads these lines in this order.
func TestKeyLog(t *testing.T) {
	var log bytes.Buffer
	psk := PresharedKey{7}
	a, b := newShakes(t, func(c *Config) { c.KeyLog, c.PresharedKey = &log, psk }, func(c *Config) { c.PresharedKey = psk })
	b.get(a.begin(t), false)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 4 || lines[0] != "LOCAL_STATIC_PRIVATE_KEY = "+a.ours[0].private.Base64() || lines[1] != "REMOTE_STATIC_PUBLIC_KEY = "+b.ours[0].public.String() ||
		!strings.HasPrefix(lines[2], "LOCAL_EPHEMERAL_PRIVATE_KEY = ") || lines[3] != "PRESHARED_KEY = BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" {
		t.Errorf("%q", lines)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

// Without randomness there is no handshake, and the reason is told.
func TestNoRandomness(t *testing.T) {
	a, _ := newShakes(t, func(c *Config) { c.Random = brokenReader{} }, nil)
	a.tick(a.now, a.collect)
	if len(a.sent) > 0 || !strings.Contains(a.status.Problem, "no randomness") {
		t.Errorf("sent %d, %q", len(a.sent), a.status.Problem)
	}
}

func TestRefusedConfig(t *testing.T) {
	k, other := testKey(t), testKey(t)
	for want, c := range map[string]Config{
		"a private key and the peer's":       {PeerPublicKey: k.Public()},
		"the peer's public key are":          {PrivateKey: k},
		"is the peer's public key and our":   {PrivateKey: k, PeerPublicKey: k.Public()},
		"public key and our own":             {PrivateKey: k, PeerPublicKey: other.Public(), NextPrivateKey: other},
		"is the peer's public key and our o": {PrivateKey: k, PeerPublicKey: other.Public(), NextPeerPublicKey: k.Public()},
		"is nobody's public key":             {PrivateKey: k, PeerPublicKey: PublicKey{1}},
		"nobody's public key":                {PrivateKey: k, PeerPublicKey: other.Public(), NextPeerPublicKey: PublicKey{1}},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Loops seal and open at both ends at once, while sessions and keys are replaced
// again and again: not one packet is refused. -race judges the rest.
func TestManyLoops(t *testing.T) {
	ka, kb, next := testKey(t), testKey(t), testKey(t)
	var d [2]*Device
	conf := [2]Config{{PrivateKey: ka, PeerPublicKey: kb.Public()}, {PrivateKey: kb, PeerPublicKey: ka.Public()}}
	for i := range d {
		conf[i].MTU, conf[i].Remote = testMTU, netip.MustParseAddr("192.0.2.1")
		var err error
		if d[i], err = New(conf[i]); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range d {
		all.Go(func() {
			d[i].Run(ctx, func(b []byte) error {
				b = bytes.Clone(b)
				if inner, _, kind, r := d[1-i].Open(b); r == tunnel.DropNone && kind == tunnel.Control {
					_, _ = d[1-i].Control(nil, inner)
				}
				return nil
			})
		})
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				cancel()
				t.Fatalf("%s: %+v, %+v", what, d[0].Status(), d[1].Status())
			}
		}
	}
	until("no session", func() bool { return d[0].Resolved() && d[1].Resolved() })
	var packets, refused atomic.Int64
	for i := range 2 * len(d) {
		all.Go(func() {
			from, to := d[i%2], d[1-i%2]
			pkt, buf := ping(100), make([]byte, 400)
			for ctx.Err() == nil {
				copy(buf[headerLen:], pkt)
				shakes := to.Status().Handshakes
				start, end, r := from.Seal(buf, headerLen, len(pkt))
				if r == tunnel.DropNone {
					var inner []byte
					if inner, _, _, r = to.Open(buf[start:end]); r == tunnel.DropNone && !bytes.Equal(inner, pkt) {
						t.Error("another packet came out")
					}
				}
				if r == tunnel.DropTooOld { // the other goroutine sent thousands in between
					continue
				}
				if to.Status().Handshakes > shakes+1 { // and this one slept while two sessions passed
					continue
				}
				if r != tunnel.DropNone && refused.Add(1) < 5 {
					t.Errorf("refused: %s", r)
				}
				packets.Add(1)
			}
		})
	}
	for round := range 5 {
		d[round%2].mu.Lock()
		for _, s := range d[round%2].m.sessions {
			s.born = s.born.Add(-RejectAfter + keepaliveTimeout) // old enough for whoever began it
		}
		before := d[round%2].m.status.Handshakes
		d[round%2].mu.Unlock()
		d[round%2].wake()
		until("no new session", func() bool { return d[round%2].Status().Handshakes > before })
	}
	for _, step := range []func() (int, Config){
		func() (int, Config) { conf[1].NextPeerPublicKey = next.Public(); return 1, conf[1] },
		func() (int, Config) { conf[0].NextPrivateKey = next; return 0, conf[0] },
	} {
		i, c := step()
		if err := d[i].Reconfigure(c); err != nil {
			t.Fatal(err)
		}
	}
	using := func(k PublicKey) func() bool {
		return func() bool {
			return d[0].table.current.Load().keys.ours == k && d[1].table.current.Load().keys.theirs == k
		}
	}
	until("the next key is not used", using(next.Public()))
	cancel()
	all.Wait()
	if packets.Load() < 1000 || refused.Load() > 0 {
		t.Errorf("%d of %d packets were refused", refused.Load(), packets.Load())
	}
}

// FuzzMachine gives a machine messages with a valid mac1, which needs no secret:
// in the middle of a handshake, and with a session. No session comes of it.
func FuzzMachine(f *testing.F) {
	a, b := newShakes(f, nil, nil)
	init1 := a.begin(f)
	b.get(init1, false)
	response := b.take(f, typeResponse)
	b.wait(time.Second)
	b.get(init1, true)
	cookie := b.take(f, typeCookie)
	for _, m := range [][]byte{init1, response, cookie, init1[:initiationLen-1], nil} {
		f.Add(m, true, false)
		f.Add(m, false, true)
	}
	f.Fuzz(func(t *testing.T, m []byte, sign, loaded bool) {
		x, y := newShakes(t, nil, nil)
		y.get(x.begin(t), false)
		good := y.take(t, typeResponse)
		m = bytes.Clone(m)
		d := &Device{}
		d.mtu.Store(testMTU)
		d.m = x.machine
		inner, _, kind, r := d.Open(m)
		if r != tunnel.DropNone || kind != tunnel.Control {
			return
		}
		if inner[0] != typeCookie {
			if binary.LittleEndian.PutUint32(inner[responseReceiver:], x.pending.local); sign {
				y.macs[x.ours[0].public].sign(inner)
			}
		} else {
			binary.LittleEndian.PutUint32(inner[cookieReceiver:], x.pending.local)
		}
		x.get(inner, loaded)
		if x.status.Handshakes+x.status.Responses+x.status.CookiesTaken > 0 {
			t.Fatalf("a forged message was taken: %+v", x.status)
		}
		x.get(good, false)
		if x.table.current.Load() == nil {
			t.Fatalf("a forged message spoiled the handshake: %s", x.status.Problem)
		}
	})
}
