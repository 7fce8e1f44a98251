package ike

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// authorityUntil is an authority whose certificate ends then; by another one, or by itself.
func authorityUntil(t testing.TB, by *authority, name string, end time.Time) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t, "ecdsa")}
	if by == nil {
		by = a
	}
	a.cert = by.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: end,
	}, a.key.Public())
	return a
}

// until lets an end prove itself by a certificate, which it has by others, until a time.
func (a *authority) until(c *Config, name string, end time.Time, by ...*x509.Certificate) {
	c.PSK = nil
	if c.Key == nil {
		c.Key = newKey(a.t, "ecdsa")
	}
	own := a.sign(&x509.Certificate{DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: time.Unix(0, 0), NotAfter: end}, c.Key.Public())
	c.Certificates = append([]*x509.Certificate{own}, by...)
}

// TestFirstToEnd: status has when the first certificate of each way to the authority ends, and which that is.
func TestFirstToEnd(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC) }
	type ending struct {
		day    int
		issuer string
	}
	for _, tc := range []struct {
		name            string
		a, middle, root int // days; b's own ends on the 20th
		ours, theirs    ending
		atB             ending // a's, as b has it
	}{
		{"the ends' own", 10, 50, 60, ending{10, ""}, ending{20, ""}, ending{10, ""}},
		{"the one between", 40, 15, 60, ending{15, "CN=middle"}, ending{20, ""}, ending{15, "CN=middle"}},
		{"the authority", 40, 50, 5, ending{40, ""}, ending{5, "CN=root"}, ending{5, "CN=root"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := authorityUntil(t, nil, "root", day(tc.root))
			middle := authorityUntil(t, root, "middle", day(tc.middle))
			w := newWorld(t, 31, func(a, b *Config) {
				middle.until(a, "a.example", day(tc.a), middle.cert)
				root.until(b, "b.example", day(20))
				a.Authorities, b.Authorities = []*x509.Certificate{root.cert}, []*x509.Certificate{root.cert}
			})
			a, b := w.up()
			for _, x := range []struct {
				name   string
				want   ending
				at     time.Time
				issuer string
			}{
				{"ours", tc.ours, a.CertificateExpires, a.CertificateIssuer},
				{"the peer's", tc.theirs, a.PeerCertificateExpires, a.PeerCertificateIssuer},
				{"ours at the peer", tc.atB, b.PeerCertificateExpires, b.PeerCertificateIssuer},
			} {
				if !x.at.Equal(day(x.want.day)) || x.issuer != x.want.issuer {
					t.Errorf("%s ends at %s by %q, want %+v", x.name, x.at, x.issuer, x.want)
				}
			}
		})
	}
}

// traffic sends packets both ways all the time, and fails if there is none to send by.
func (w *world) traffic() (stop func()) {
	done := false
	var talk func()
	talk = func() {
		if done {
			return
		}
		for i, e := range w.end {
			if e.out == 0 {
				w.t.Fatalf("%s: end %d has nothing to send by\n%s", w.now.Format(time.DateTime), i, w.describe())
			}
			w.packet(i)
		}
		w.after(50*time.Millisecond+time.Duration(w.r.Int64N(int64(100*time.Millisecond))), talk)
	}
	talk()
	return func() { done = true }
}

// begins are who begins: one end or both.
func begins(first, second bool) func(a, b *Config) {
	return func(a, b *Config) { a.Initiate, b.Initiate = first, second }
}

// ending is a world in which b's certificate ends at a time, a's does not, and all works.
func ending(t *testing.T, seed uint64, root *authority, at time.Time, change ...func(a, b *Config)) *world {
	t.Helper()
	w := newWorld(t, seed, append(change, func(a, b *Config) {
		root.until(a, "a.example", at.AddDate(1, 0, 0))
		root.until(b, "b.example", at)
		a.Authorities, b.Authorities = []*x509.Certificate{root.cert}, []*x509.Certificate{root.cert}
	})...)
	w.calm(20 * time.Second)
	return w
}

// TestCertificateEnds: what a certificate has authenticated ends with it, also what
// has replaced that by rekeying, and both ends say why until there is another one.
func TestCertificateEnds(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)
	root := authorityUntil(t, nil, "root", at.AddDate(2, 0, 0))
	for _, tc := range []struct {
		name   string
		change func(a, b *Config)
	}{
		{"the other end begins", begins(false, true)},
		{"this end begins", begins(true, false)},
		{"both begin", begins(true, true)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := ending(t, 41, root, at, tc.change)
			a, b := w.end[0], w.end[1]
			stop := w.traffic()
			w.run(at.Add(-20 * time.Second).Sub(w.now))
			w.do(b, func(m *Machine) { _ = m.RekeyIKE(w.now) })
			w.run(at.Add(-50 * time.Millisecond).Sub(w.now))
			if s := a.m.Status(); !s.Up || s.IKERekeys == 0 || s.Established > 9 || s.Overdue(w.now) != "" || !s.IKE[len(s.IKE)-1].EndsAt.Equal(at) {
				t.Fatalf("before: %+v", s)
			}
			stop()
			w.excuse(time.Minute)
			w.run(at.Add(50 * time.Millisecond).Sub(w.now))
			if s := a.m.Status(); s.Up || len(a.pairs) != 0 || s.CauseNow(w.now) != CauseCertificate {
				t.Fatalf("50 ms after the end there are %d pairs, cause %q: %+v", len(a.pairs), s.CauseNow(w.now), s)
			}
			for range 60 {
				w.run(30 * time.Second)
				s, other := a.m.Status(), b.m.Status()
				if s.Up || other.Up || !s.PeerCertificateExpires.Equal(at) {
					t.Fatalf("%s: up %v and %v, the peer's certificate ends at %s\n%s", w.now.Format(time.TimeOnly), s.Up, other.Up, s.PeerCertificateExpires, w.describe())
				}
				if why := s.Why(w.now); s.CauseNow(w.now) != CauseCertificate || !strings.Contains(why, "certificate of b.example") || !strings.Contains(why, "2026-01-01 03:00:00") {
					t.Fatalf("%s: %q (%s)", w.now.Format(time.TimeOnly), why, s.CauseNow(w.now))
				}
				if why := other.Why(w.now); !strings.Contains(why, "the certificate of b.example ended at 2026-01-01 03:00:00") {
					t.Fatalf("%s, at the other end: %q", w.now.Format(time.TimeOnly), why)
				}
			}
			if n := a.count("the certificate of b.example ended at 2026-01-01 03:00:00, and the peer has not proved itself by another one"); n != 1 {
				t.Errorf("told %d times: %q", n, a.log)
			}
			for i, e := range w.end {
				if n := len(e.alarms); n == 0 || n > 8 {
					t.Errorf("end %d: %d problems in half an hour: %q", i, n, e.alarms)
				}
			}
			w.reload(1, func(c *Config) { root.until(c, "b.example", at.AddDate(1, 0, 0)) })
			w.calm(20 * time.Second)
			w.run(10 * time.Second) // who answered waits for a sign that the peer has it
			if s := a.m.Status(); s.Refusal(w.now) != "" || !s.PeerCertificateExpires.Equal(at.AddDate(1, 0, 0)) {
				t.Errorf("renewed: %+v", s)
			}
		})
	}
}

// TestCertificateRenewed: a peer that has a new certificate before the old one ends
// loses nothing, whoever begins, whether it begins anew by itself or not, and if the path was closed for a while.
func TestCertificateRenewed(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)
	root := authorityUntil(t, nil, "root", at.AddDate(2, 0, 0))
	silently := func(m *Machine, c Config) { m.cfg.Certificates = c.Certificates } // as strongSwan does
	reload := func(m *Machine, c Config) {
		if err := m.Reconfigure(m.now, c); err != nil {
			t.Error(err)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(a, b *Config)
		renew  func(m *Machine, c Config)
		before time.Duration
		closed bool // for new IKE SAs, for most of the hour before
	}{
		{"days before, silently, and this end begins", begins(true, false), silently, 2 * time.Hour, false},
		{"days before, silently, and the other end begins", begins(false, true), silently, 2 * time.Hour, false},
		{"by reload, and this end begins", begins(true, false), reload, 2 * time.Hour, false},
		{"by reload, and the other end begins", begins(false, true), reload, 2 * time.Hour, false},
		{"by reload, and both begin", begins(true, true), reload, 2 * time.Hour, false},
		{"at the last moment", begins(true, false), silently, 5 * time.Minute, false},
		{"at the last moment, and the other end begins", begins(false, true), silently, 5 * time.Minute, false},
		{"the path is closed", begins(true, false), silently, 2 * time.Hour, true},
		{"the path is closed, and the other end begins", begins(false, true), silently, 2 * time.Hour, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := ending(t, 42, root, at, tc.change)
			b := w.end[1]
			defer w.traffic()()
			w.run(at.Add(-tc.before).Sub(w.now))
			root.until(&b.conf, "b.example", at.AddDate(1, 0, 0))
			w.do(b, func(m *Machine) { tc.renew(m, b.conf) })
			if tc.closed {
				w.hold = func(_ int, d []byte) bool { return d[18] == byte(message.IKESAInit) }
				w.run(at.Add(-5 * time.Minute).Sub(w.now))
				w.hold = nil
			}
			w.run(at.Add(time.Hour).Sub(w.now))
			w.calm(20 * time.Second)
			s := w.end[0].m.Status()
			if !s.PeerCertificateExpires.Equal(at.AddDate(1, 0, 0)) || s.Refusal(w.now) != "" || s.Established > 6 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestCertificatesEndTogether: those of both ends end at once, one has an authority that
// ends before, and each end has renewed in time.
func TestCertificatesEndTogether(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)
	root := authorityUntil(t, nil, "root", at.AddDate(2, 0, 0))
	old, young := authorityUntil(t, root, "middle", at), authorityUntil(t, root, "middle", at.AddDate(1, 0, 0))
	for seed := range uint64(8) {
		w := newWorld(t, 50+seed, both, func(a, b *Config) {
			root.until(a, "a.example", at)
			old.until(b, "b.example", at.AddDate(1, 0, 0), old.cert)
			a.Authorities, b.Authorities = []*x509.Certificate{root.cert}, []*x509.Certificate{root.cert}
		})
		w.calm(20 * time.Second)
		stop := w.traffic()
		w.run(at.Add(-10 * time.Minute).Sub(w.now))
		root.until(&w.end[0].conf, "a.example", at.AddDate(1, 0, 0))
		young.until(&w.end[1].conf, "b.example", at.AddDate(1, 0, 0), young.cert)
		for _, e := range w.end {
			e.m.cfg.Certificates = e.conf.Certificates
		}
		w.run(at.Add(10 * time.Minute).Sub(w.now))
		w.calm(20 * time.Second)
		stop()
		for i, e := range w.end {
			if s := e.m.Status(); !s.PeerCertificateExpires.Equal(at.AddDate(1, 0, 0)) {
				t.Errorf("seed %d, end %d: %+v", seed, i, s)
			}
		}
	}
}

// TestWorldCertificates: both ends have certificates that last for minutes, and load
// others at any time, while messages are lost and SAs are replaced.
func TestWorldCertificates(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			certificateWorld(t, seed)
		})
	}
}

func certificateWorld(t *testing.T, seed uint64) {
	root := authorityUntil(t, nil, "root", time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	names := [2]string{"a.example", "b.example"}
	w := newWorld(t, seed, func(a, b *Config) {
		b.Initiate = seed%3 != 0
		for i, c := range []*Config{a, b} {
			root.until(c, names[i], time.Date(2026, 1, 1, 0, 10, 0, 0, time.UTC))
			c.Authorities = []*x509.Certificate{root.cert}
		}
	})
	var talk, renew func()
	talk = func() {
		w.packet(w.r.IntN(2))
		w.after(time.Duration(w.r.Int64N(int64(400*time.Millisecond))), talk)
	}
	renew = func() {
		for i, e := range w.end {
			if left := e.conf.Certificates[0].NotAfter.Sub(w.now); left < 3*time.Minute || w.r.IntN(10) == 0 {
				root.until(&e.conf, names[i], w.now.Add(time.Duration(5+w.r.IntN(20))*time.Minute))
				e.m.cfg.Certificates = e.conf.Certificates
			}
		}
		w.after(30*time.Second, renew)
	}
	talk()
	renew()
	for w.count < 40_000 && !t.Failed() {
		w.loss, w.twice, w.delay = w.r.Float64()*0.3, w.r.Float64()*0.3, time.Duration(1+w.r.IntN(700))*time.Millisecond
		for range w.r.IntN(4) {
			w.after(time.Duration(w.r.Int64N(int64(20*time.Second))), func() {
				e := w.end[w.r.IntN(2)]
				if w.r.IntN(2) == 0 {
					w.do(e, func(m *Machine) { _ = m.RekeyChild(w.now) })
					return
				}
				w.do(e, func(m *Machine) { _ = m.RekeyIKE(w.now) })
			})
		}
		w.run(time.Duration(w.r.Int64N(int64(time.Minute))))
		w.loss, w.twice, w.delay = 0, 0, 50*time.Millisecond
		w.run(20 * time.Second)
		w.calm(150 * time.Second)
	}
	for i, e := range w.end {
		s := e.m.Status()
		if s.Established < 3 || s.PeerCertificateExpires.Before(w.now) {
			t.Errorf("end %d: %+v", i, s)
		}
		if n := e.count("has not proved itself by another one"); n > 0 {
			t.Errorf("end %d: a certificate that was renewed in time ended what it authenticated: %q", i, e.log)
		}
	}
}
