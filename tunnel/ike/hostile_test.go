package ike

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/sa"
)

// initRequest is a good IKE_SA_INIT request of somebody who has our SPI to choose.
func initRequest(t testing.TB, w *world, spi uint64) []byte {
	t.Helper()
	var got []byte
	c := w.end[0].conf
	c.Initiate = true
	m, err := New(c, catcher(func(d []byte) { got = d }), w.now)
	if err != nil {
		t.Fatal(err)
	}
	m.Tick(w.now)
	binary.BigEndian.PutUint64(got, spi)
	return got
}

// withCookie is a request once more, with a cookie.
func withCookie(t testing.TB, request, cookie []byte) []byte {
	t.Helper()
	msg, err := message.Decode(request)
	if err != nil {
		t.Fatal(err)
	}
	msg.Payloads = append([]message.Payload{message.Notify{Notify: message.Cookie, Data: cookie}}, msg.Payloads...)
	out, err := msg.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestForgedInits: 100,000 requests with different SPIs, in an hour and in a
// moment, cost little memory, and harm nothing that stands.
func TestForgedInits(t *testing.T) { //nolint:paralleltest // it measures the memory
	w := newWorld(t, 20)
	w.up()
	w.run(time.Minute)
	e := w.end[1]
	forged := initRequest(t, w, 1)
	before := heapBytes()
	answers := e.sent
	w.hold = func(from int, _ []byte) bool { return from == 1 } // they go nowhere
	const n = 100_000
	for i := range uint64(n) {
		binary.BigEndian.PutUint64(forged, i+1)
		e.m.Message(w.now, PortESP, e.conf.Remote, forged)
		if i%1000 == 0 {
			w.run(10 * time.Millisecond)
		}
	}
	s := e.m.Status()
	if s.HalfOpen > cookiesFrom || s.CookiesSent < n-cookiesFrom || e.sent-answers < n {
		t.Errorf("%d half-open SAs, %d cookies, %d answers", s.HalfOpen, s.CookiesSent, e.sent-answers)
	}
	if grown := int64(heapBytes()) - int64(before); grown > 4<<20 {
		t.Errorf("the memory grew by %d bytes", grown)
	}
	w.hold = nil
	w.up() // what stands, stands
	w.run(time.Minute)
	if s := e.m.Status(); s.HalfOpen != 0 {
		t.Errorf("%d half-open SAs a minute later", s.HalfOpen)
	}
	w.up()
}

// TestCookieFlood: who knows cookies, because it sees what we send, cannot have
// more than the limit either.
func TestCookieFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 21)
	w.up()
	e := w.end[1]
	for spi := range uint64(200) {
		var cookie []byte
		w.hold = func(_ int, d []byte) bool {
			if msg, err := message.Decode(d); err == nil {
				if n, ok := message.FindNotify(msg.Payloads, message.Cookie); ok {
					cookie = bytes.Clone(n.Data)
				}
			}
			return true
		}
		request := initRequest(t, w, spi+1)
		e.m.Message(w.now, PortESP, e.conf.Remote, request)
		if cookie != nil {
			e.m.Message(w.now, PortESP, e.conf.Remote, withCookie(t, request, cookie))
		}
	}
	w.hold = nil
	if s := e.m.Status(); s.HalfOpen != maxHalfOpen {
		t.Errorf("%d half-open SAs, want %d", s.HalfOpen, maxHalfOpen)
	}
	w.up()
}

// An end behind the flood gets in, by a cookie.
func TestCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 22, func(a, _ *Config) { a.Initiate = false })
	for spi := range uint64(10) {
		w.end[1].m.Message(w.now, PortESP, w.end[1].conf.Remote, initRequest(t, w, spi+1))
	}
	w.do(w.end[0], func(m *Machine) { m.cfg.Initiate = true; m.beginAt = w.now })
	w.calm(5 * time.Second)
	if s := w.end[1].m.Status(); s.CookiesSent == 0 {
		t.Error("no cookie was asked for")
	}
	// A cookie is for one address and one SPI, and not for long.
	var j cookieJar
	m := w.end[1].m
	at := w.end[0].conf.Local
	good := j.bake(m, at, 1, []byte("nonce"))
	if !j.good(m, at, 1, []byte("nonce"), good) {
		t.Error("a cookie is refused")
	}
	other := append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1)
	if j.good(m, w.end[1].conf.Local, 1, []byte("nonce"), good) || j.good(m, at, 2, []byte("nonce"), good) || j.good(m, at, 1, []byte("other"), good) ||
		j.good(m, at, 1, []byte("nonce"), other) || j.good(m, at, 1, []byte("nonce"), nil) {
		t.Error("a cookie of something else is taken")
	}
	m.now = m.now.Add(cookieLife)
	if !j.good(m, at, 1, []byte("nonce"), good) {
		t.Error("a cookie of the secret before is refused")
	}
	m.now = m.now.Add(cookieLife)
	if j.good(m, at, 1, []byte("nonce"), good) {
		t.Error("an old cookie is taken")
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// catcher is a world that only looks at what is sent.
type catcher func(d []byte)

// TestOutside: what nobody could authenticate changes nothing that stands: old
// messages, messages with bits flipped, cut messages, answers that nobody asked for.
func TestOutside(t *testing.T) {
	t.Parallel()
	var seen [2][][]byte
	w := newWorld(t, 23)
	record := func(from int, d []byte) bool {
		if len(seen[from]) < 64 {
			seen[from] = append(seen[from], bytes.Clone(d))
		}
		return false
	}
	w.hold = record
	w.up()
	w.run(time.Minute)
	for i := range w.end {
		w.do(w.end[i], func(m *Machine) { _ = m.RekeyChild(w.now) })
		w.run(10 * time.Second)
		w.do(w.end[i], func(m *Machine) { _ = m.RekeyIKE(w.now) })
		w.run(40 * time.Second)
	}
	w.hold = nil
	before, _ := w.up()
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		to := r.IntN(2)
		from := seen[r.IntN(2)]
		d := bytes.Clone(from[r.IntN(len(from))])
		switch r.IntN(4) {
		case 0: // as it was
		case 1:
			d[r.IntN(len(d))] ^= 1 << r.IntN(8)
		case 2:
			d = d[:r.IntN(len(d))]
		case 3: // with the SPIs of what stands
			binary.BigEndian.PutUint64(d, before.IKE[0].InitiatorSPI)
			binary.BigEndian.PutUint64(d[8:], before.IKE[0].ResponderSPI)
			d[19] ^= byte(r.IntN(256))
		}
		w.end[to].m.Message(w.now, Port(r.IntN(2)), w.end[to].conf.Remote, d)
		if r.IntN(200) == 0 {
			w.packet(0)
			w.packet(1)
			w.run(time.Second)
		}
	}
	after, _ := w.up()
	if after.IKE[0].InitiatorSPI != before.IKE[0].InitiatorSPI || after.Child[0].InSPI != before.Child[0].InSPI || after.TimedOut != 0 {
		t.Errorf("%+v\nthen\n%+v", before, after)
	}
	if after.Refused == 0 {
		t.Error("nothing was counted")
	}
	w.run(2 * time.Minute)
	w.up()
}

// Fragments that never become whole, of a hundred messages at once.
func TestFragmentFlood(t *testing.T) { //nolint:paralleltest // it measures the memory
	w := newWorld(t, 26)
	w.up()
	before := heapBytes()
	x := w.live(1)
	first, plain, err := message.EncodePayloads([]message.Payload{message.Vendor{Data: make([]byte, 40_000)}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(100) {
		out, err := x.seal.SealPlain(message.Header{InitiatorSPI: x.spii, ResponderSPI: x.spir, Exchange: message.Informational, ID: x.sendID + i%3}, first, plain, 1200)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range out[1:] {
			w.deliver(1, PortESP, d)
		}
	}
	if grown := int64(heapBytes()) - int64(before); grown > 1<<20 {
		t.Errorf("the memory grew by %d bytes", grown)
	}
	// The message itself still arrives, whole.
	out, _ := x.seal.SealPlain(message.Header{InitiatorSPI: x.spii, ResponderSPI: x.spir, Exchange: message.Informational, ID: x.sendID}, first, plain, 1200)
	for _, d := range out {
		w.deliver(1, PortESP, d)
	}
	if got := w.live(0).recvID; got != x.sendID+1 {
		t.Errorf("the next request is %d, want %d", got, x.sendID+1)
	}
	x.sendID++
	w.run(time.Minute)
	w.up()
}

// Certificates and messages that do not fit a datagram go in fragments.
func TestFragments(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "rsa")
	longest := 0
	w := newWorld(t, 27, func(a, b *Config) {
		ca.by(a, "rsa", "a.example")
		ca.by(b, "rsa", "b.example")
	})
	w.loss, w.twice = 0.2, 0.2
	w.hold = func(_ int, d []byte) bool { longest = max(longest, len(d)); return false }
	w.calm(time.Minute)
	if longest > fragmentSize || longest < fragmentSize-64 {
		t.Errorf("the longest message has %d bytes, want at most %d", longest, fragmentSize)
	}
}

// Two machines of another version, strangers, and critical payloads.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 28)
	w.up()
	e := w.end[1]
	var got []message.Message
	w.hold = func(_ int, d []byte) bool {
		msg, err := message.Decode(d)
		if err != nil {
			t.Errorf("an answer cannot be read: %v", err)
		}
		got = append(got, msg)
		return true
	}
	send := func(d []byte) {
		got = nil
		w.now = w.now.Add(2 * time.Second)
		e.m.Message(w.now, PortESP, e.conf.Remote, d)
	}
	d := initRequest(t, w, 77)
	d[17] = 0x30 // version 3
	send(d)
	if len(got) != 1 || !has(got[0], message.InvalidMajorVersion) {
		t.Errorf("to version 3: %+v", got)
	}
	d, _ = message.Message{Header: message.Header{InitiatorSPI: 5, ResponderSPI: 6, Exchange: message.Informational, Flags: message.FlagInitiator, ID: 9}}.Encode()
	send(d)
	if len(got) != 1 || !has(got[0], message.InvalidIKESPI) || got[0].ID != 9 {
		t.Errorf("to an unknown SPI: %+v", got)
	}
	send(d[:20])
	if len(got) != 0 {
		t.Errorf("to half a header: %+v", got)
	}
	d, _ = message.Message{Header: message.Header{InitiatorSPI: 5, Exchange: message.IKESAInit, Flags: message.FlagInitiator}, Payloads: []message.Payload{message.Nonce{Data: make([]byte, 32)}}}.Encode()
	send(d)
	if len(got) != 1 || !has(got[0], message.InvalidSyntax) {
		t.Errorf("to half an IKE_SA_INIT: %+v", got)
	}
	w.hold = nil
	w.up()
	// An unprotected INVALID_IKE_SPI is a hint: we ask, and believe nothing else.
	x := w.live(0)
	d, _ = message.Message{Header: message.Header{InitiatorSPI: x.spii, ResponderSPI: x.spir, Exchange: message.Informational, Flags: message.FlagResponse, ID: x.sendID}, Payloads: []message.Payload{message.Notify{Notify: message.InvalidIKESPI}}}.Encode()
	before := w.end[0].sent
	for range 10 {
		w.deliver(1, PortESP, d)
	}
	w.run(time.Second)
	if sent := w.end[0].sent - before; sent != 1 {
		t.Errorf("%d messages for a hint", sent)
	}
	w.up()
	// A critical payload that nobody knows is refused, and nothing is lost by it.
	y := w.live(1)
	w.inside(1, message.Header{Exchange: message.Informational, ID: y.sendID}, 200, []byte{0, 0x80, 0, 4}, message.MaxLen)
	y.sendID++
	w.run(time.Minute)
	w.up()
}

func has(m message.Message, t message.NotifyType) bool {
	_, ok := message.FindNotify(m.Payloads, t)
	return ok
}

// A request that cannot be read ends the IKE SA (RFC 7296, section 2.21), and
// the tunnel comes back.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for _, flags := range []message.Flags{0, message.FlagResponse} {
		w := newWorld(t, 29)
		w.up()
		w.run(time.Minute)
		w.excused = w.now.Add(time.Hour)
		h := message.Header{Exchange: message.Informational, Flags: flags, ID: w.live(1).sendID}
		if flags != 0 {
			w.hold = func(int, []byte) bool { return true }
			w.live(0).do(&probe{})
			w.hold = nil
			h.ID = w.live(0).out.id
		}
		w.inside(1, h, message.TypeNonce, []byte{0, 0, 0, 200, 1}, message.MaxLen)
		if x := w.live(0); x != nil {
			t.Errorf("flags %v: the IKE SA still stands", flags)
		}
		if log := strings.Join(w.end[0].alarms, "\n"); !strings.Contains(log, "cannot be read") {
			t.Errorf("the log: %s", log)
		}
		w.calm(time.Minute)
	}
}

// Send implements Effects.
func (c catcher) Send(_ Port, _ netip.AddrPort, d []byte) { c(bytes.Clone(d)) }

// Log implements Effects.
func (catcher) Log(Event) {}

// Install implements sa.Installer.
func (catcher) Install(sa.Pair, bool) error { return errors.New("not here") }

// Use implements sa.Installer.
func (catcher) Use(uint32) {}

// Remove implements sa.Installer.
func (catcher) Remove(uint32) {}

// Usage implements sa.Installer.
func (catcher) Usage(uint32) (sa.Usage, bool) { return sa.Usage{}, false }
