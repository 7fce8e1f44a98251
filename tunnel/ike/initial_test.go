package ike

import (
	"bytes"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// A path that is slower than a request is repeated answers it twice: what asks for
// another key exchange, or a cookie, is acted on once.
func TestSlowPath(t *testing.T) {
	t.Parallel()
	wanted := func(a, b *Config) {
		b.Initiate = false
		a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-x25519")
		b.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519")
	}
	for name, tc := range map[string]struct {
		change func(a, b *Config)
		busy   bool // the responder asks for cookies
	}{
		"another key exchange":            {wanted, false},
		"a cookie":                        {func(_, b *Config) { b.Initiate = false }, true},
		"another key exchange, a cookie":  {wanted, true},
		"neither, and both ends initiate": {both, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, oneWay := range []time.Duration{100, 240, 260, 300, 600, 1500} {
				w := newWorld(t, 62, tc.change)
				w.events = nil // what was sent before the path was slow
				w.hold = func(from int, d []byte) bool {
					d = bytes.Clone(d)
					w.after(oneWay*time.Millisecond, func() { w.deliver(from, PortESP, d) })
					return true
				}
				for _, e := range w.end {
					w.start(e)
				}
				if tc.busy {
					others := newWorld(t, 63) // they have what end 1 takes
					for spi := range uint64(cookiesFrom) {
						w.end[1].m.Message(w.now, PortESP, w.end[1].conf.Remote, initRequest(t, others, spi+1))
					}
				}
				w.calm(40 * time.Second)
				if s := w.end[0].m.Status(); s.Attempts != 1 {
					t.Errorf("%d ms one way: %d attempts", oneWay, s.Attempts)
				}
				if s := w.end[1].m.Status(); (s.CookiesSent > 0) != tc.busy {
					t.Errorf("%d ms one way: %d cookies", oneWay, s.CookiesSent)
				}
			}
		})
	}
}

// What we send comes back to us, and both ends have one identity: that is nobody
// to make a tunnel with.
func TestReflection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 64, func(a, b *Config) {
		b.Initiate = false
		b.LocalID, b.RemoteID, a.RemoteID = a.LocalID, a.LocalID, a.LocalID
	})
	w.events = nil
	w.hold = func(from int, d []byte) bool {
		d = bytes.Clone(d)
		w.after(time.Millisecond, func() { w.deliver(1-from, PortESP, d) })
		return true
	}
	w.start(w.end[0])
	for range 120 {
		w.run(500 * time.Millisecond)
		if s := w.end[0].m.Status(); s.Established != 0 || s.HalfOpen != 0 || s.Up {
			t.Fatalf("an IKE SA with ourselves\n%s", w.describe())
		}
	}
	if s := w.end[0].m.Status(); s.Refused == 0 || s.Unanswered == 0 {
		t.Errorf("%d messages refused, %d requests not answered", s.Refused, s.Unanswered)
	}
	w.hold = nil
	w.start(w.end[1])
	w.calm(30 * time.Second) // with the peer, whose identity is the same
}
