package ike

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/sa"
)

// up waits for a tunnel, and returns both ends' status.
func (w *world) up() (a, b Status) {
	w.t.Helper()
	w.calm(20 * time.Second)
	return w.end[0].m.Status(), w.end[1].m.Status()
}

// down checks that nothing comes about, and returns what each end has logged.
func (w *world) down() (a, b string) {
	w.t.Helper()
	w.run(20 * time.Second)
	for i, e := range w.end {
		if s := e.m.Status(); len(s.Child) != 0 || len(e.pairs) != 0 || s.Up {
			w.t.Fatalf("end %d is up\n%s", i, w.describe())
		}
	}
	return strings.Join(w.end[0].alarms, "\n"), strings.Join(w.end[1].alarms, "\n")
}

// a test's authority, and what it has issued.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "rsa":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ecdsa":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t testing.TB, kind string) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t, kind)}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a.key.Public())
	return a
}

func (a *authority) sign(c *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// by lets an end prove itself by a certificate.
func (a *authority) by(c *Config, kind, name string) {
	c.PSK, c.Key, c.Authorities = nil, newKey(a.t, kind), []*x509.Certificate{a.cert}
	c.Certificates = []*x509.Certificate{a.sign(&x509.Certificate{DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature}, c.Key.Public())}
}

// TestAgreements is what two ends can agree on.
func TestAgreements(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "p384")
	certificates := func(first, second string) func(a, b *Config) {
		return func(a, b *Config) {
			ca.by(a, first, "a.example")
			ca.by(b, second, "b.example")
		}
	}
	both := func(ike, esp string) func(a, b *Config) {
		return func(a, b *Config) {
			a.IKE, a.ESP = proposals(t, message.ProtocolIKE, ike), proposals(t, message.ProtocolESP, esp)
			b.IKE, b.ESP = a.IKE, a.ESP
		}
	}
	for _, tc := range []struct {
		name   string
		change func(a, b *Config)
		ike    string // what is agreed on
		esp    string
		auth   string
	}{
		{"ecdsa", certificates("ecdsa", "p384"), "", "", "ecdsa"},
		{"rsa and ed25519", certificates("rsa", "ed25519"), "", "", "ed25519"},
		{"cbc", both("aes256-sha384-ecp521", "aes128gcm16"), "aes256-sha384-ecp521", "aes128gcm16", ""},
		{"chacha", both("chacha20poly1305-prfsha512-modp2048", "chacha20poly1305-esn"), "chacha20poly1305-prfsha512-modp2048", "chacha20poly1305-esn", ""},
		{"the first that fits", func(a, b *Config) {
			a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-ecp256")
			b.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-ecp256", "aes128gcm16-prfsha256-ecp384")
		}, "aes128gcm16-prfsha256-ecp256", "", ""},
		{"another key exchange", func(a, b *Config) {
			a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-ecp384-x25519")
			b.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519")
		}, "aes256gcm16-prfsha384-x25519", "", ""},
		{"ML-KEM", both("aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes256gcm16-x25519"), "aes256gcm16-prfsha384-x25519-ke1_mlkem768", "", ""},
		{"ML-KEM if there is", func(a, _ *Config) {
			a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes256gcm16-prfsha384-x25519")
		}, "aes256gcm16-prfsha384-x25519", "", ""},
		{"PPK", func(a, b *Config) {
			a.PPK, a.PPKID = bytes.Repeat([]byte{7}, 32), "ppk"
			b.PPK, b.PPKID = a.PPK, a.PPKID
		}, "", "", ""},
		{"a peer that refuses ESN by refusing all", func(a, b *Config) {
			b.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519-noesn")
			a.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519-esn", "aes256gcm16-x25519-noesn")
		}, "", "aes256gcm16", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 3, tc.change)
			a, _ := w.up()
			if tc.ike != "" && a.IKE[0].Proposal != tc.ike {
				t.Errorf("IKE: %s, want %s", a.IKE[0].Proposal, tc.ike)
			}
			if tc.esp != "" && a.Child[0].Proposal != tc.esp {
				t.Errorf("ESP: %s, want %s", a.Child[0].Proposal, tc.esp)
			}
			if tc.auth != "" && a.IKE[0].PeerAuth != tc.auth {
				t.Errorf("by %s, want %s", a.IKE[0].PeerAuth, tc.auth)
			}
			if cert := a.PeerCertificateExpires; (tc.auth != "") == cert.IsZero() {
				t.Errorf("the peer's certificate ends at %v", cert)
			}
			for i := range w.end { // what was agreed on holds for what follows
				w.do(w.end[i], func(m *Machine) { _ = m.RekeyIKE(w.now) })
				w.run(15 * time.Second)
				w.do(w.end[i], func(m *Machine) { _ = m.RekeyChild(w.now) })
				w.run(45 * time.Second)
			}
			if a, _ := w.up(); a.IKERekeys != 2 || a.ChildRekeys != 2 {
				t.Errorf("%d and %d rekeyings, want 2 and 2\n%s", a.IKERekeys, a.ChildRekeys, w.describe())
			}
		})
	}
}

// TestMismatches: both logs say what differs.
func TestMismatches(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ecdsa"), newAuthority(t, "ecdsa")
	for _, tc := range []struct {
		name         string
		change       func(a, b *Config)
		ours, theirs []string // parts of each end's log
	}{
		{"the IKE proposals", func(a, b *Config) {
			a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-ecp384")
			b.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-ecp384")
		}, []string{"NO_PROPOSAL_CHOSEN", "aes256gcm16-prfsha384-ecp384"}, []string{"aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-ecp384"}},
		{"the secret", func(_, b *Config) { b.PSK = []byte("another") }, []string{"AUTHENTICATION_FAILED", "preshared key"}, []string{"a.example", "preshared key"}},
		{"our name", func(a, _ *Config) { a.LocalID = identity(t, "c.example") }, []string{"AUTHENTICATION_FAILED", "c.example"}, []string{"c.example", "remote_id is a.example"}},
		{"the peer's name", func(a, _ *Config) { a.RemoteID = identity(t, "c.example") }, []string{"AUTHENTICATION_FAILED"}, []string{"c.example", "local_id is b.example"}},
		{"certificates and a secret", func(a, _ *Config) { ca.by(a, "ecdsa", "a.example") }, []string{"AUTHENTICATION_FAILED"}, []string{"a preshared key is configured"}},
		{"a secret and certificates", func(_, b *Config) { ca.by(b, "ecdsa", "b.example") }, []string{"AUTHENTICATION_FAILED"}, []string{"certificates are configured"}},
		{"the authority", func(a, b *Config) { stranger.by(a, "ecdsa", "a.example"); ca.by(b, "ecdsa", "b.example") }, []string{"AUTHENTICATION_FAILED", "authority"}, []string{"the certificate of a.example"}},
		{"the name in the certificate", func(a, b *Config) { ca.by(a, "ecdsa", "c.example"); ca.by(b, "ecdsa", "b.example") }, []string{"AUTHENTICATION_FAILED"}, []string{"a.example"}},
		{"the name in the responder's certificate", func(a, b *Config) { ca.by(a, "ecdsa", "a.example"); ca.by(b, "ecdsa", "c.example") }, []string{"the peer is refused", "b.example"}, nil},
		{"the key of the certificate", func(a, b *Config) {
			ca.by(a, "ecdsa", "a.example")
			ca.by(b, "ecdsa", "b.example")
			b.Key = newKey(t, "ecdsa")
		}, []string{"signature"}, nil},
		{"an old certificate", func(a, b *Config) {
			ca.by(a, "ecdsa", "a.example")
			ca.by(b, "ecdsa", "b.example")
			b.Certificates[0] = ca.sign(&x509.Certificate{DNSNames: []string{"b.example"}, NotBefore: time.Unix(1, 0), NotAfter: time.Unix(2, 0)}, b.Key.Public())
		}, []string{"b.example", "expired"}, nil},
		{"no PPK there", func(a, _ *Config) { a.PPK, a.PPKID = []byte("12345678901234567890123456789012"), "x" }, []string{"USE_PPK"}, nil},
		{"no PPK here", func(_, b *Config) { b.PPK, b.PPKID = []byte("12345678901234567890123456789012"), "x" }, []string{"AUTHENTICATION_FAILED"}, []string{`does not use the postquantum preshared key "x"`}},
		{"another PPK", func(a, b *Config) {
			a.PPK, a.PPKID = []byte("12345678901234567890123456789012"), "x"
			b.PPK, b.PPKID = []byte("12345678901234567890123456789013"), "x"
		}, []string{"AUTHENTICATION_FAILED"}, []string{"a.example"}},
		{"another PPK's name", func(a, b *Config) {
			a.PPK, a.PPKID = []byte("12345678901234567890123456789012"), "x"
			b.PPK, b.PPKID = a.PPK, "y"
		}, []string{"AUTHENTICATION_FAILED"}, []string{`"y"`}},
		{"ML-KEM only here", func(a, b *Config) {
			a.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519-ke1_mlkem768")
			b.IKE = proposals(t, message.ProtocolIKE, "aes256gcm16-prfsha384-x25519")
		}, []string{"mlkem768"}, []string{"mlkem768"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 4, tc.change)
			a, b := w.down()
			for _, part := range tc.ours {
				if !strings.Contains(a, part) {
					t.Errorf("%q is not in the initiator's log:\n%s", part, a)
				}
			}
			for _, part := range tc.theirs {
				if !strings.Contains(b, part) {
					t.Errorf("%q is not in the responder's log:\n%s", part, b)
				}
			}
			s := w.end[0].m.Status()
			if why := s.Why(w.now); why == "" {
				t.Error("the status does not say why")
			}
			if secret := "a secret of the test"; strings.Contains(a+b+strings.Join(w.end[0].log, ""), secret) {
				t.Error("the secret is in the log")
			}
		})
	}
}

// TestChildMismatches: the IKE SA stands, and the log says why no CHILD SA does.
func TestChildMismatches(t *testing.T) {
	t.Parallel()
	ts := func(p string) []message.Selector {
		return []message.Selector{message.SelectorOf(netip.MustParsePrefix(p))}
	}
	for _, tc := range []struct {
		name         string
		change       func(a, b *Config)
		ours, theirs string
	}{
		{"the ESP proposals", func(a, b *Config) {
			a.ESP, b.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519"), proposals(t, message.ProtocolESP, "chacha20poly1305-x25519")
		}, "NO_PROPOSAL_CHOSEN", "chacha20poly1305"},
		{"the selectors", func(a, b *Config) {
			a.LocalTS, b.RemoteTS = ts("10.0.0.0/8"), ts("172.16.0.0/12")
		}, "TS_UNACCEPTABLE", "172.16.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 5, tc.change)
			a, b := w.down()
			if !strings.Contains(a, tc.ours) || !strings.Contains(b, tc.theirs) {
				t.Errorf("%s\n%s", a, b)
			}
			if n := len(w.end[0].m.Status().IKE); n != 1 {
				t.Errorf("%d IKE SAs", n)
			}
		})
	}
}

func TestNarrowing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6, func(a, b *Config) {
		b.LocalTS = []message.Selector{message.SelectorOf(netip.MustParsePrefix("10.2.0.0/16"))}
		b.RemoteTS = []message.Selector{message.SelectorOf(netip.MustParsePrefix("10.1.0.0/16")), message.SelectorOf(netip.MustParsePrefix("fd00::/8"))}
		a.LocalTS = []message.Selector{message.SelectorOf(netip.MustParsePrefix("10.0.0.0/8")), message.SelectorOf(netip.MustParsePrefix("fd01::/16"))}
	})
	a, _ := w.up()
	if got := a.Child[0].LocalTS; !slices.Equal(got, []string{"10.1.0.0/16", "fd01::/16"}) {
		t.Errorf("local %v", got)
	}
	if got := a.Child[0].RemoteTS; !slices.Equal(got, []string{"10.2.0.0/16"}) {
		t.Errorf("remote %v", got)
	}
	for i, e := range w.end {
		if p := e.pairs[e.out]; len(p.Local) == 0 || len(p.Remote) == 0 {
			t.Errorf("end %d installed %+v", i, p.Pair)
		}
	}
}

// TestLifetimes: SAs are replaced before their end, with a jitter, and carry
// packets all the time.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 7, func(a, b *Config) {
		for _, c := range []*Config{a, b} {
			c.ChildLifetime, c.IKELifetime = 10*time.Minute, time.Hour
		}
	})
	w.up()
	var talk func()
	talk = func() {
		w.packet(0)
		w.packet(1)
		w.after(500*time.Millisecond, talk)
	}
	talk()
	w.run(8*time.Minute + 50*time.Second)
	if s := w.end[0].m.Status(); s.ChildRekeys != 0 {
		t.Errorf("%d rekeyings before nine tenths of the life", s.ChildRekeys)
	}
	w.run(24*time.Hour - 530*time.Second)
	s := w.end[0].m.Status()
	if s.ChildRekeys < 144 || s.ChildRekeys > 170 || s.IKERekeys < 24 || s.IKERekeys > 30 || s.Established != 1 {
		t.Errorf("in a day: %d CHILD SAs replaced, %d IKE SAs, %d made anew", s.ChildRekeys, s.IKERekeys, s.Established)
	}
	w.up()
}

// A pair that has carried what it may is replaced at once.
func TestSpent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	w.up()
	w.packet(1)
	w.run(2 * time.Second)
	spent := w.end[0].out
	w.end[0].spent = map[uint32]bool{spent: true}
	w.run(5 * time.Second)
	if a, _ := w.up(); a.ChildRekeys != 1 || w.end[0].out == spent {
		t.Errorf("%d rekeyings", a.ChildRekeys)
	}
	p := w.end[0].pairs[w.end[0].out]
	if p.Limits != w.end[0].m.limits(true) {
		t.Errorf("limits %+v", p.Limits)
	}
}

// TestLimits: what a pair may carry is the least of what the format, the cipher
// and the configuration allow, and it is replaced at four fifths of that.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		packets, bytes uint64
		esn            bool
		want           sa.Limits
	}{
		{0, 0, false, sa.Limits{SoftPackets: 3_435_973_836, HardPackets: 1<<32 - 1}},
		{0, 0, true, sa.Limits{SoftPackets: 879_609_302_221, HardPackets: 1 << 40}},
		{1000, 5_000_000, true, sa.Limits{SoftPackets: 800, HardPackets: 1000, SoftBytes: 4_000_000, HardBytes: 5_000_000}},
		{1 << 35, 0, false, sa.Limits{SoftPackets: 3_435_973_836, HardPackets: 1<<32 - 1}}, // more than the format has
		{1 << 35, 0, true, sa.Limits{SoftPackets: 1<<35 - 1<<35/5, HardPackets: 1 << 35}},
	} {
		w := newWorld(t, 8, func(a, _ *Config) { a.ChildPackets, a.ChildBytes = tc.packets, tc.bytes })
		if got := w.end[0].m.limits(tc.esn); got != tc.want {
			t.Errorf("%d packets, %d bytes, extended %v: %+v", tc.packets, tc.bytes, tc.esn, got)
		}
	}
	w := newWorld(t, 8, func(a, _ *Config) { a.ChildBytes = 5_000_000 })
	w.up()
	if got := w.end[0].pairs[w.end[0].out].Limits.HardBytes; got != 5_000_000 {
		t.Errorf("the pair was installed with a limit of %d bytes", got)
	}
}

// An SA that cannot be replaced ends, and does not go on for ever.
func TestTooOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9, func(a, b *Config) {
		a.ChildLifetime, a.IKELifetime, b.ChildLifetime, b.IKELifetime = time.Hour, 2*time.Hour, 24*time.Hour, 24*time.Hour
	})
	w.up()
	w.excused = w.now.Add(48 * time.Hour)
	// The peer refuses every replacement.
	w.end[1].m.cfg.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-ecp256")
	w.end[1].m.cfg.ESP = proposals(t, message.ProtocolESP, "aes128gcm16-ecp256")
	w.run(3 * time.Hour)
	log := strings.Join(w.end[0].log, "\n")
	for _, part := range []string{"the peer refuses the CHILD SA: NO_PROPOSAL_CHOSEN", "is too old and could not be replaced: it is deleted", "the IKE SA is too old and could not be replaced"} {
		if !strings.Contains(log, part) {
			t.Errorf("%q is not in the log:\n%s", part, log)
		}
	}
	if len(w.end[0].pairs) != 0 {
		t.Errorf("%d pairs outlive their SAs", len(w.end[0].pairs))
	}
}

// TestDPD: a peer that has gone is noticed, and the tunnel comes back with it.
func TestDPD(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10)
	w.up()
	w.run(time.Minute)
	if a, b := w.end[0].m.Status(), w.end[1].m.Status(); a.TimedOut+b.TimedOut != 0 || w.end[0].sent < 5 {
		t.Errorf("%+v after %d messages", a, w.end[0].sent)
	}
	w.excused = w.now.Add(time.Hour)
	w.loss = 1
	w.run(10*time.Second + 23500*time.Millisecond + 2*time.Second)
	for i, e := range w.end {
		if s := e.m.Status(); s.Up || s.TimedOut != 1 || len(e.pairs) != 0 {
			t.Errorf("end %d: %+v", i, s)
		}
	}
	if s := w.end[0].m.Status(); !strings.Contains(s.Why(w.now), "did not answer") {
		t.Errorf("why: %q", s.Why(w.now))
	}
	w.run(3 * time.Minute)
	if s := w.end[0].m.Status(); !strings.Contains(s.Why(w.now), "no answer to IKE_SA_INIT") {
		t.Errorf("why: %q", s.Why(w.now))
	}
	if s := w.end[1].m.Status(); s.Why(w.now) == "" {
		t.Error("the responder says nothing")
	}
	w.loss = 0
	w.up()
	// Without DPD nobody asks.
	w = newWorld(t, 11, func(a, b *Config) { a.DPDDelay, b.DPDDelay = 0, 0 })
	w.up()
	before := w.end[0].sent
	w.run(20 * time.Minute)
	if w.end[0].sent != before {
		t.Errorf("%d messages without DPD", w.end[0].sent-before)
	}
}

// A peer that has lost all begins anew, and the one that has not says so when it is asked.
func TestRestart(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		w := newWorld(t, 12, func(a, b *Config) { a.DPDDelay, b.DPDDelay = 5*time.Second, 5*time.Second })
		w.up()
		w.run(time.Minute)
		w.excused = w.now.Add(time.Hour)
		w.start(w.end[i])
		begun := w.now
		w.calm(40 * time.Second)
		if took := w.now.Sub(begun); i == 0 && took > 3*time.Second {
			t.Errorf("the initiator was back after %v", took)
		}
	}
}

func TestTerminateAndClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 13)
	w.up()
	w.run(time.Minute)
	w.excused = w.now.Add(time.Hour)
	for _, e := range w.end {
		w.do(e, func(m *Machine) { m.Terminate(w.now) })
		w.run(300 * time.Millisecond)
		if len(w.end[0].pairs)+len(w.end[1].pairs) != 0 {
			t.Fatalf("pairs are left\n%s", w.describe())
		}
		w.up()
	}
	w.do(w.end[0], func(m *Machine) { m.Close(w.now) })
	w.run(300 * time.Millisecond)
	if len(w.end[0].pairs)+len(w.end[1].pairs) != 0 {
		t.Fatalf("pairs are left\n%s", w.describe())
	}
	if err := w.end[0].m.RekeyChild(w.now); err == nil {
		t.Error("a closed machine replaces a CHILD SA")
	}
	if err := w.end[0].m.RekeyIKE(w.now); err == nil {
		t.Error("a closed machine replaces an IKE SA")
	}
	before := w.end[0].sent
	w.end[0].m.Message(w.now, PortESP, w.end[0].conf.Remote, []byte("anything"))
	w.run(10 * time.Minute)
	if w.end[0].sent != before {
		t.Error("a closed machine sends")
	}
}

// TestReconfigure: what another configuration agrees to is made anew, without a gap.
func TestReconfigure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 14)
	w.up()
	w.run(time.Minute)
	both := func(change func(c *Config)) {
		for _, i := range []int{1, 0} {
			w.reload(i, change)
		}
		for range 400 {
			w.packet(0)
			w.packet(1)
			w.run(50 * time.Millisecond)
		}
		w.up()
	}
	before, _ := w.up()
	both(func(c *Config) { c.ChildLifetime = 2 * time.Hour })
	if after, _ := w.up(); after.IKE[0].InitiatorSPI != before.IKE[0].InitiatorSPI {
		t.Error("another lifetime made another IKE SA")
	}
	both(func(c *Config) { c.IKE = proposals(t, message.ProtocolIKE, "aes128gcm16-prfsha256-ecp256") })
	after, _ := w.up()
	if after.IKE[0].Proposal != "aes128gcm16-prfsha256-ecp256" {
		t.Errorf("still %s", after.IKE[0].Proposal)
	}
	both(func(c *Config) { c.PSK = []byte("a new secret") })
	if again, _ := w.up(); again.IKE[0].InitiatorSPI == after.IKE[0].InitiatorSPI {
		t.Error("another secret did not make another IKE SA")
	}
	if err := w.end[0].m.Reconfigure(w.now, Config{}); err == nil {
		t.Error("an empty configuration is taken")
	}
	w.up()
}

func TestCheck(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ecdsa")
	for name, tc := range map[string]struct {
		change func(c *Config)
		says   string
	}{
		"addresses":    {func(c *Config) { c.Remote = netip.AddrPort{} }, "addresses"},
		"nothing":      {func(c *Config) { c.PSK = nil }, "preshared key, or certificates"},
		"both":         {func(c *Config) { p := c.PSK; ca.by(c, "ecdsa", "a.example"); c.PSK = p }, "both"},
		"proposals":    {func(c *Config) { c.ESP = nil }, "proposals"},
		"selectors":    {func(c *Config) { c.LocalTS = nil }, "selectors"},
		"lifetimes":    {func(c *Config) { c.ChildLifetime = 0 }, "lifetimes"},
		"random":       {func(c *Config) { c.Random = nil }, "randomness"},
		"PPK":          {func(c *Config) { c.PPKID = "x" }, "postquantum"},
		"not in ESP":   {func(c *Config) { c.ESP = proposals(t, message.ProtocolESP, "aes256-sha256") }, "not carried here"},
		"ESP's ML-KEM": {func(c *Config) { c.ESP = proposals(t, message.ProtocolESP, "aes256gcm16-x25519-ke1_mlkem768") }, "inherited"},
	} {
		c := newWorld(t, 15).end[0].conf
		tc.change(&c)
		if _, err := New(c, nil, time.Now()); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Secrets are logged when somebody wants them logged, and the status says so.
func TestKeyLog(t *testing.T) {
	t.Parallel()
	var lines []string
	w := newWorld(t, 16, func(a, _ *Config) { a.KeyLog = func(line string) { lines = append(lines, line) } })
	a, b := w.up()
	if len(lines) == 0 || !a.KeyLogged || b.KeyLogged {
		t.Errorf("%d lines, %v, %v", len(lines), a.KeyLogged, b.KeyLogged)
	}
}
