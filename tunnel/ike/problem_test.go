package ike

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// count is how many of an end's lines have a part.
func (e *end) count(part string) (n int) {
	for _, l := range e.log {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// both lets both ends begin, as transitd's do.
func both(a, b *Config) { a.Initiate, b.Initiate = true, true }

// TestRefuserKnowsMore: where both ends begin, each refuses and is refused in
// turn. Status says what this end has found, whoever came last, for as long as it lasts, and
// the log does not fill.
func TestRefuserKnowsMore(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ecdsa"), newAuthority(t, "ecdsa")
	for _, tc := range []struct {
		name   string
		change func(a, b *Config)
		why    [2]string
		cause  [2]Cause
	}{
		{"the secret", func(_, b *Config) { b.PSK = []byte("another") }, [2]string{"the preshared key of b.example is not ours", "the preshared key of a.example is not ours"}, [2]Cause{CauseSecret, CauseSecret}},
		{"our name", func(a, _ *Config) { a.LocalID = identity(t, "c.example") }, [2]string{"it wants to talk to a.example (its remote_id), and local_id is c.example", "it is c.example, and remote_id is a.example"}, [2]Cause{CauseIdentity, CauseIdentity}},
		{"the proposals", func(a, _ *Config) {
			a.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-ecp256")
		}, [2]string{"the peer offers aes256gcm16-prfsha384-x25519; here are aes128gcm16-prfsha256-ecp256", "the peer offers aes128gcm16-prfsha256-ecp256; here are aes256gcm16-prfsha384-x25519"}, [2]Cause{CauseProposals, CauseProposals}},
		{"the authority", func(a, b *Config) { ca.by(a, "ecdsa", "a.example"); stranger.by(b, "ecdsa", "b.example") }, [2]string{"signed by unknown authority", "signed by unknown authority"}, [2]Cause{CauseCertificate, CauseCertificate}},
		{"a name in a certificate", func(a, b *Config) { ca.by(a, "ecdsa", "a.example"); ca.by(b, "ecdsa", "c.example") }, [2]string{"the certificate is for c.example, not for b.example", "it does not take our certificate"}, [2]Cause{CauseCertificate, CauseRefused}},
		{"the postquantum key", func(a, _ *Config) { a.PPK, a.PPKID = []byte("12345678901234567890123456789012"), "x" }, [2]string{"postquantum", "it has a postquantum preshared key and here is no ppk_file"}, [2]Cause{CausePPK, CauseRefused}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 21, both, tc.change)
			w.run(30 * time.Second)
			for range 25 {
				w.run(time.Minute)
				for i, e := range w.end {
					s := e.m.Status()
					if s.Up { // for as long as the word of the one that refuses is on its way
						continue
					}
					if !strings.Contains(s.Why(w.now), tc.why[i]) || s.CauseNow(w.now) != tc.cause[i] {
						t.Fatalf("%s, end %d: %q (%s) says not %q (%s)", w.now.Format("15:04:05"), i, s.Why(w.now), s.CauseNow(w.now), tc.why[i], tc.cause[i])
					}
				}
			}
			for i, e := range w.end {
				if n := len(e.log); n > 3*4+4 {
					t.Errorf("end %d: %d lines in half an hour: %q", i, n, e.log[n-9:])
				}
				if n := e.count("established"); n != 0 { // not even by who only learns afterwards that it is refused
					t.Errorf("end %d: %d lines tell of an IKE SA: %q", i, n, e.log)
				}
			}
		})
	}
}

// TestMended: what was wrong is forgotten when it works, and told again at once
// if it comes again.
func TestMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 22, both)
	right, wrong := w.end[1].conf, w.end[1].conf
	wrong.PSK = []byte("another")
	for range 2 {
		w.do(w.end[1], func(m *Machine) {
			if err := m.Reconfigure(w.now, wrong); err != nil {
				t.Fatal(err)
			}
			m.Terminate(w.now)
		})
		w.run(20 * time.Second)
		w.reload(1, func(c *Config) { *c = right })
		w.run(20 * time.Second)
		for i, e := range w.end {
			if s := e.m.Status(); !s.Up || s.Refusal(w.now) != "" || s.Problem != "" || s.PeerSays != "" {
				t.Errorf("end %d: up %v, %q, %q", i, s.Up, s.Problem, s.PeerSays)
			}
		}
	}
	if n := w.end[0].count("the preshared key of b.example is not ours"); n != 2 {
		t.Errorf("told %d times, want 2: %q", n, w.end[0].log)
	}
}

// TestSilence: each end says what it can know of a path that is closed one way, and the log has a word of it.
func TestSilence(t *testing.T) {
	t.Parallel()
	closed := func(to int) func(w *world) {
		return func(w *world) { w.hold = func(from int, _ []byte) bool { return from != to } }
	}
	for _, tc := range []struct {
		name   string
		change func(a, b *Config)
		path   func(*world)
		why    [2]string
	}{
		{"there", both, closed(1), [2]string{"IKE_SA_INIT of 192.0.2.2 arrives here, and ours gets no answer", "no answer to IKE_SA_INIT from 192.0.2.1"}},
		{"there, and only the other end begins", func(a, b *Config) { a.Initiate, b.Initiate = false, true }, closed(1), [2]string{"IKE_SA_INIT of 192.0.2.2 was answered and nothing follows", "no answer to IKE_SA_INIT from 192.0.2.1"}},
		{"there, and only this end begins", func(*Config, *Config) {}, closed(1), [2]string{"no answer to IKE_SA_INIT from 192.0.2.2", "nothing has come from 192.0.2.1, which has to begin"}},
		{"nobody begins", func(a, b *Config) { a.Initiate, b.Initiate = false, false }, func(*world) {}, [2]string{"nothing has come from 192.0.2.2, which has to begin", "nothing has come from 192.0.2.1, which has to begin"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 23, tc.change)
			tc.path(w)
			for _, e := range w.end { // the first messages went before the path was closed
				w.events = nil
				w.do(e, func(m *Machine) { m.Terminate(w.now) })
			}
			for _, e := range w.end {
				w.tick(e)
			}
			w.run(6 * time.Second)
			for range 20 {
				for i, e := range w.end {
					if s := e.m.Status(); !strings.Contains(s.Why(w.now), tc.why[i]) {
						t.Fatalf("%s, end %d: %q says not %q", w.now.Format("15:04:05"), i, s.Why(w.now), tc.why[i])
					}
				}
				w.run(17 * time.Second)
			}
			for i, e := range w.end {
				if e.count(tc.why[i]) == 0 || len(e.log) > 3 {
					t.Errorf("end %d: %q", i, e.log)
				}
			}
		})
	}
}

// TestLargePacketsLost: the first exchange is small, and passes.
func TestLargePacketsLost(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ecdsa")
	w := newWorld(t, 25, func(a, b *Config) { ca.by(a, "ecdsa", "a.example"); ca.by(b, "ecdsa", "b.example") })
	w.hold = func(_ int, d []byte) bool { return len(d) > 600 }
	w.run(8 * time.Second)
	if s := w.end[0].m.Status(); !strings.Contains(s.Why(w.now), "192.0.2.2 has answered IKE_SA_INIT, and what follows gets no answer") {
		t.Errorf("%q", s.Why(w.now))
	}
	if s := w.end[1].m.Status(); !strings.Contains(s.Why(w.now), "IKE_SA_INIT of 192.0.2.1 was answered and nothing follows") {
		t.Errorf("%q", s.Why(w.now))
	}
}

// TestOverdue: other groups for PFS show only when the first pair is to be
// replaced. Status says so before it ends.
func TestOverdue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 24, both, func(a, b *Config) {
		a.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-ecp384-esn")
		b.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519-esn")
	})
	w.run(50 * time.Minute)
	for i, e := range w.end {
		if s := e.m.Status(); !s.Up || s.Overdue(w.now) != "" {
			t.Errorf("end %d: up %v, %q", i, s.Up, s.Overdue(w.now))
		}
	}
	w.run(14 * time.Minute)
	var said []string
	for _, e := range w.end {
		s := e.m.Status()
		said = append(said, s.Overdue(w.now))
	}
	if !slices.ContainsFunc(said, func(s string) bool {
		return strings.Contains(s, "could not be replaced in time and ends in") && strings.Contains(s, "the key exchange is")
	}) {
		t.Errorf("%q\n%s", said, w.describe())
	}
}

// TestOverdueAfterReload: an SA has the lifetime that it was given. Another one in
// the configuration makes none that is young overdue, and hides none that is old.
func TestOverdueAfterReload(t *testing.T) {
	t.Parallel()
	reload := func(w *world, ike, child time.Duration) {
		t.Helper()
		for i := range w.end {
			w.reload(i, func(c *Config) { c.IKELifetime, c.ChildLifetime = ike, child })
		}
	}
	w := newWorld(t, 26, both)
	w.run(time.Minute)
	reload(w, 24*time.Hour, 24*time.Hour)
	for i, e := range w.end {
		if s := e.m.Status(); s.Overdue(w.now) != "" {
			t.Errorf("end %d, a minute old: %q", i, s.Overdue(w.now))
		}
	}
	w.run(time.Hour)
	w.calm(20 * time.Second)
	for i, e := range w.end {
		if s := e.m.Status(); s.ChildRekeys != 1 || s.Overdue(w.now) != "" {
			t.Errorf("end %d: %d CHILD SAs replaced, %q", i, s.ChildRekeys, s.Overdue(w.now))
		}
	}

	w = newWorld(t, 27, both, func(a, b *Config) { // which cannot be replaced: see TestOverdue
		a.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-ecp384-esn")
		b.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519-esn")
	})
	w.run(64 * time.Minute)
	reload(w, 8*time.Hour, time.Minute)
	for i, e := range w.end {
		if s := e.m.Status(); !s.Up || !strings.Contains(s.Overdue(w.now), "could not be replaced in time") {
			t.Errorf("end %d, past its lifetime: up %v, %q", i, s.Up, s.Overdue(w.now))
		}
	}
}

// TestExpired: SAs of a short life end a moment after they are overdue. That they have
// ended is counted, where whoever looks once a minute can see it.
func TestExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 28, func(a, b *Config) { // which cannot be replaced: see TestOverdue
		a.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-ecp384-esn")
		b.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519-esn")
		a.ChildLifetime, b.ChildLifetime = time.Minute, time.Minute
	})
	w.run(80 * time.Second)
	overdue := 0
	for range 40 {
		w.run(time.Second)
		if s := w.end[0].m.Status(); s.Overdue(w.now) != "" {
			overdue++
		}
	}
	if s := w.end[0].m.Status(); s.Expired+w.end[1].m.Status().Expired == 0 || s.Up || overdue == 0 || overdue > 20 {
		t.Errorf("%d seconds overdue, then: %+v", overdue, s)
	}

	w = newWorld(t, 29, both, func(a, b *Config) { // an IKE SA
		a.IKELifetime, b.IKELifetime = 10*time.Minute, 10*time.Minute
	})
	w.calm(20 * time.Second)
	for _, e := range w.end {
		e.m.cfg.IKE = proposals(t, message.ProtocolIKE, []string{"aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-ecp256"}[e.i])
	}
	w.run(15 * time.Minute)
	if n := w.end[0].m.Status().Expired + w.end[1].m.Status().Expired; n == 0 || n > 2 {
		t.Errorf("%d IKE SAs are counted: %q", n, w.end[0].log)
	}
}
