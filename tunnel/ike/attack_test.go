package ike

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/message"
)

// openedBy reads a protected message of an end, by the keys of its SA.
func (w *world) openedBy(from int, datagram []byte) (*ikeSA, message.Header, []message.Payload) {
	h, err := message.DecodeHeader(datagram)
	if err != nil || h.Exchange == message.IKESAInit {
		return nil, h, nil
	}
	for _, s := range w.end[1-from].m.sas {
		if s.spii != h.InitiatorSPI || s.open == nil {
			continue
		}
		if o, err := s.open.Open(datagram); err == nil {
			if ps, err := message.DecodePayloads(o.First, o.Plain); err == nil {
				return s, h, ps
			}
		}
	}
	return nil, h, nil
}

// altered lets an end send something else in its protected messages.
func (w *world) altered(from int, exchange message.Exchange, change func([]message.Payload) []message.Payload) func(int, []byte) bool {
	return func(end int, datagram []byte) bool {
		_, h, ps := w.openedBy(end, datagram)
		if end != from || ps == nil || h.Exchange != exchange {
			return false
		}
		for _, s := range w.end[from].m.sas {
			if s.spii != h.InitiatorSPI || s.seal == nil {
				continue
			}
			out, err := s.seal.Seal(h, change(slices.Clone(ps)))
			if err != nil {
				w.t.Fatal(err)
			}
			w.carry(from, PortESP, out)
			return true
		}
		return false
	}
}

// without leaves a notification out.
func without(n message.NotifyType) func([]message.Payload) []message.Payload {
	return func(ps []message.Payload) []message.Payload {
		return slices.DeleteFunc(ps, func(p message.Payload) bool {
			x, ok := p.(message.Notify)
			return ok && x.Notify == n
		})
	}
}

// An initiator that cannot make its IKE_AUTH, here for want of a hash that both
// ends know, says so and tries again: it does not wait for an answer to nothing.
func TestAuthCannotBeMade(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ecdsa")
	w := newWorld(t, 40, func(a, b *Config) {
		ca.by(a, "ed25519", "a.example")
		ca.by(b, "ecdsa", "b.example")
	})
	forget := true
	w.hold = func(from int, d []byte) bool {
		msg, err := message.Decode(d)
		if from != 1 || !forget || err != nil || msg.Exchange != message.IKESAInit {
			return false
		}
		for i, p := range msg.Payloads {
			if n, ok := p.(message.Notify); ok && n.Notify == message.SignatureHashAlgorithms {
				msg.Payloads[i] = message.Notify{Notify: n.Notify, Data: message.HashesData([]message.Hash{message.HashSHA256})}
			}
		}
		out, err := msg.Encode()
		if err != nil {
			t.Fatal(err)
		}
		w.carry(from, PortESP, out)
		return true
	}
	w.run(time.Minute)
	s := w.end[0].m.Status()
	if s.Attempts < 4 || !strings.Contains(s.Why(w.now), "Ed25519") {
		t.Errorf("%d attempts in a minute, and why: %q", s.Attempts, s.Why(w.now))
	}
	forget = false
	w.calm(time.Minute)
}

// Who has recorded an authentic message and sends it again proves nothing by it:
// not that the peer lives, and not where it is.
func TestReplays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 41)
	var last []byte
	w.hold = func(from int, d []byte) bool {
		if h, err := message.DecodeHeader(d); err == nil && from == 1 && h.Exchange == message.Informational && !h.Response() {
			last = bytes.Clone(d)
		}
		return false
	}
	w.up()
	w.run(time.Minute) // DPD goes both ways
	if last == nil {
		t.Fatal("no message of the peer was seen")
	}
	// From another port.
	for range 3 {
		w.end[0].m.Message(w.now, PortIKE, w.end[0].conf.Remote, bytes.Clone(last))
	}
	if x := w.live(0); x.port != PortESP {
		t.Error("a replay has turned where requests go")
	}
	// And for a dead peer.
	w.hold = func(from int, _ []byte) bool { return from == 1 }
	w.excused = w.now.Add(time.Hour)
	for range 120 {
		w.end[0].m.Message(w.now, PortESP, w.end[0].conf.Remote, bytes.Clone(last))
		w.run(500 * time.Millisecond)
	}
	if s := w.end[0].m.Status(); s.TimedOut == 0 {
		t.Error("replays keep a dead peer alive")
	}
	w.hold = nil
	w.calm(2 * time.Minute)
}

// A peer that replaces the IKE SA again and again, and never deletes the one
// before, does not make us keep them all.
func TestRekeysWithoutEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 42)
	w.up()
	w.run(time.Minute)
	w.hold = func(from int, d []byte) bool { // its deletes are lost, and we get no word of it
		_, _, ps := w.openedBy(from, d)
		_, deletes := message.First[message.Delete](ps)
		return from == 1 && deletes
	}
	for range 300 {
		w.do(w.end[1], func(m *Machine) {
			if x := w.live(1); x != nil {
				x.do(&rekeyIKE{})
			}
		})
		w.run(50 * time.Millisecond)
		if n := len(w.end[0].m.sas); n > maxEstablished+maxZombies+2 {
			t.Fatalf("%d IKE SAs", n)
		}
		w.bounded(w.end[0])
	}
	w.hold = nil
	w.excused = w.now.Add(time.Hour)
	w.calm(3 * time.Minute)
}

// The peer has lost all and begins anew, without INITIAL_CONTACT: what is new is
// what it has, whatever the nonces are.
func TestRestartWithoutInitialContact(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		w := newWorld(t, seed+430, func(_, b *Config) { b.Initiate = false })
		w.up()
		w.run(5 * time.Minute)
		w.excused = w.now.Add(time.Hour)
		w.hold = w.altered(0, message.IKEAuth, without(message.InitialContact))
		before := w.live(1)
		w.start(w.end[0])
		w.run(2 * time.Second)
		now := w.live(0)
		if now == nil {
			t.Fatalf("seed %d: not up\n%s", seed, w.describe())
		}
		w.calm(60 * time.Second)
		if after := w.live(1); after == before || after.spii != now.spii {
			t.Errorf("seed %d: the end that had not restarted did not keep the new IKE SA", seed)
		}
		if s := w.end[0].m.Status(); s.Established != 1 {
			t.Errorf("seed %d: %d IKE SAs were made", seed, s.Established)
		}
	}
}

// RFC 8784, section 3: who answers with the PPK says so.
func TestPPKIsConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 44, func(a, b *Config) {
		for _, c := range []*Config{a, b} {
			c.PPK, c.PPKID = []byte("a secret of the future"), "future"
		}
	})
	confirmed := false
	w.hold = func(from int, d []byte) bool {
		if _, h, ps := w.openedBy(from, d); from == 1 && h.Exchange == message.IKEAuth {
			n, ok := message.FindNotify(ps, message.PPKIdentity)
			confirmed = confirmed || ok && len(n.Data) == 0
		}
		return false
	}
	w.up()
	if !confirmed {
		t.Error("the responder did not confirm the postquantum preshared key")
	}
}

// Another secret is made use of as soon as both ends have it, however long that takes.
func TestSecretsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for first := range 2 {
		w := newWorld(t, 45, func(_, b *Config) { b.Initiate = false })
		before, _ := w.up()
		w.run(time.Minute)
		change := func(c *Config) { c.PSK = []byte("the next secret of the test") }
		w.reload(first, change)
		for range 300 { // the old one carries meanwhile
			w.packet(0)
			w.packet(1)
			w.run(time.Second)
		}
		w.reload(1-first, change)
		w.run(40 * time.Second)
		if after, _ := w.up(); after.IKE[0].InitiatorSPI == before.IKE[0].InitiatorSPI {
			t.Errorf("end %d first: the IKE SA is still one of the old secret", first)
		}
	}
}

// What a stranger sends is logged short, seldom, and as plain text.
func TestLogsOfStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 46)
	w.up()
	e := w.end[1]
	before, calls := len(e.log), time.Now()
	for i := range 5000 {
		ts := []message.Transform{{Type: message.TransformEncryption, ID: uint16(i)}}
		for j := range 100 {
			ts = append(ts, message.Transform{Type: message.TransformIntegrity, ID: uint16(i + j)})
		}
		sa := message.SA{}
		for n := range 8 {
			sa.Proposals = append(sa.Proposals, message.Proposal{Number: uint8(n + 1), Protocol: message.ProtocolIKE, Transforms: ts})
		}
		d, err := message.Message{
			Header:   message.Header{InitiatorSPI: uint64(i) + 1, Exchange: message.IKESAInit, Flags: message.FlagInitiator},
			Payloads: []message.Payload{sa, message.KE{Method: message.KEX25519, Data: make([]byte, 32)}, message.Nonce{Data: make([]byte, 32)}},
		}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		e.m.Message(w.now, PortESP, e.conf.Remote, d)
		w.now = w.now.Add(2 * time.Millisecond) // 500 a second, as the gate lets them through
	}
	took := time.Since(calls)
	t.Logf("%d lines, %v for each message", len(e.log)-before, took/5000)
	if n := len(e.log) - before; n == 0 || n > 40 {
		t.Errorf("%d lines in ten seconds", n)
	}
	checkLog(t, e)
	w.up()
}

// checkLog looks at what an end has logged: short lines, no bytes that a terminal acts on.
func checkLog(t testing.TB, e *end) {
	t.Helper()
	for _, l := range append([]string{e.m.Status().Problem}, e.log...) {
		if len(l) > 2*maxText {
			t.Errorf("a line of %d bytes: %.100s…", len(l), l)
		}
		if !utf8.ValidString(l) || strings.ContainsFunc(l, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a line that is no plain text: %q", l)
		}
	}
}

// Names in certificates that try to write to an operator's terminal.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	const nasty = "x\x1b[2J\r\nok\u202egnol"
	for name, tc := range map[string]func(ca *authority, c *Config){
		"alternative name": func(ca *authority, c *Config) {
			c.Certificates = []*x509.Certificate{ca.sign(&x509.Certificate{DNSNames: []string{"x\x1b[2J\r\nok"}}, c.Key.Public())}
		},
		"subject": func(ca *authority, c *Config) {
			c.Certificates = []*x509.Certificate{ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: nasty, Organization: []string{strings.Repeat("long ", 2000)}}}, c.Key.Public())}
		},
		"identity": func(_ *authority, c *Config) {
			id, err := auth.ParseIdentity("CN=" + nasty)
			if err != nil {
				t.Fatal(err)
			}
			c.LocalID = id
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t, "ecdsa")
			w := newWorld(t, 47, func(a, b *Config) {
				ca.by(a, "ecdsa", "a.example")
				ca.by(b, "ecdsa", "b.example")
				tc(ca, a)
			})
			w.down()
			for _, e := range w.end {
				checkLog(t, e)
			}
			if len(w.end[1].alarms) == 0 {
				t.Error("nothing was logged")
			}
		})
	}
}

// What an IKE SA knew is overwritten when it ends.
func TestKeysAreCleared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 48)
	w.up()
	x := w.live(0)
	held := [][]byte{x.keys.D, x.keys.Ei, x.keys.Er, x.keys.Pi, x.keys.Pr, x.children[0].pair.In.Key, x.children[0].pair.Out.Key}
	w.run(time.Minute)
	w.excused = w.now.Add(time.Minute)
	w.do(w.end[0], func(m *Machine) { m.Terminate(w.now) })
	w.run(500 * time.Millisecond)
	for i, k := range held {
		if len(k) > 0 && !bytes.Equal(k, make([]byte, len(k))) {
			t.Errorf("key %d is still there", i)
		}
	}
	w.up()
}

// What the peer has made and we cannot take is deleted: else it would send by it.
func TestRefusedChildIsDeleted(t *testing.T) {
	t.Parallel()
	wrong := message.TS{Of: message.TypeTSr, Selectors: []message.Selector{message.SelectorOf(netip.MustParsePrefix("203.0.113.0/24"))}}
	for name, change := range map[string]func([]message.Payload) []message.Payload{
		"selectors": func(ps []message.Payload) []message.Payload {
			for i, p := range ps {
				if p.Type() == message.TypeTSr {
					ps[i] = wrong
				}
			}
			return ps
		},
		"no selectors": func(ps []message.Payload) []message.Payload {
			return slices.DeleteFunc(ps, func(p message.Payload) bool { return p.Type() == message.TypeTSi })
		},
		"key exchange": func(ps []message.Payload) []message.Payload {
			for i, p := range ps {
				if p.Type() == message.TypeKE {
					ps[i] = message.KE{Method: message.KEX25519, Data: make([]byte, 32)}
				}
			}
			return ps
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 49, func(a, _ *Config) {
				a.LocalTS, a.RemoteTS = anywhere()[:1], []message.Selector{message.SelectorOf(netip.MustParsePrefix("198.51.100.0/24"))}
			})
			w.up()
			w.run(40 * time.Second)
			before := w.end[1].out
			w.hold = w.altered(1, message.CreateChildSA, change)
			w.do(w.end[0], func(m *Machine) { _ = m.RekeyChild(w.now) })
			w.run(2 * time.Second)
			w.hold = nil
			for i, e := range w.end {
				if s := e.m.Status(); len(s.Child) != 1 {
					t.Errorf("end %d has %d CHILD SAs: %+v", i, len(s.Child), s.Child)
				}
			}
			w.calm(2 * time.Minute)
			if w.end[1].pairs[before] == nil && w.end[0].m.Status().ChildRekeys == 0 {
				t.Error("the pair before is gone, and none has taken its place")
			}
		})
	}
}

// A configuration that somebody prints has no secret.
func TestConfigIsNotPrinted(t *testing.T) {
	t.Parallel()
	c := newWorld(t, 50).end[0].conf
	c.PPK, c.PPKID = []byte("a secret of the future"), "future"
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %v", c, c, &c)} {
		for _, s := range [][]byte{c.PSK, c.PPK} {
			if strings.Contains(text, string(s)) || strings.Contains(text, fmt.Sprintf("%v", s)) || strings.Contains(text, fmt.Sprintf("%#v", s)) {
				t.Errorf("%s has a secret", text)
			}
		}
	}
}

// An end that does not initiate, and has lost its pair without the peer's
// knowledge, makes another one: the peer has no reason to.
func TestPassiveEndWithoutChild(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 51, func(_, b *Config) { b.Initiate = false })
	w.up()
	w.run(time.Minute)
	w.excused = w.now.Add(time.Minute)
	w.do(w.end[1], func(m *Machine) {
		x := w.live(1)
		x.retire(x.children[0])
	})
	w.run(40 * time.Second)
	for range 20 {
		w.packet(0)
		w.packet(1)
		w.run(time.Second)
	}
	w.calm(2 * time.Minute)
	if s := w.end[0].m.Status(); s.Established != 1 {
		t.Errorf("%d IKE SAs were made", s.Established)
	}
}

// Both replace the IKE SA, and then nothing gets through until both give up: the
// pairs go to the one that the peer has made.
func TestCrossingRekeysTimeOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		s := newStage(t, seed+960, func(_, b *Config) { b.Initiate = false })
		s.begin(0, 'i')
		s.begin(1, 'i')
		s.step('a') // end 1 has made a successor, and its own request is on its way
		s.step('b')
		s.queue = [2][][]byte{}
		s.step('a')
		s.run(22 * time.Second)
		s.queue = [2][][]byte{}
		s.excuse(4 * time.Minute)
		s.finish()
	}
}
