package ike

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// ppkFixed is the type of a PPK_ID that is configured (RFC 8784, section 5.1).
const ppkFixed = 2

// authenticate goes on after IKE_SA_INIT: first the additional key exchanges.
func (s *ikeSA) authenticate() {
	if s.initial.additional < len(s.choice.Additional) {
		s.queue = append(s.queue, &intermediate{})
	} else {
		s.queue = append(s.queue, &authTask{})
	}
	s.proceed()
	if s.out == nil { // it cannot be made, and that has been said: there is no answer to wait for
		s.die(0)
		s.m.retry()
	}
}

// intermediate is an IKE_INTERMEDIATE exchange with an additional key exchange
// (RFC 9370, section 2.2.2).
type intermediate struct{ pending *keys.Pending }

func (t *intermediate) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	p, err := keys.Begin(s.choice.Additional[s.initial.additional], s.m.cfg.Random)
	if err != nil {
		s.m.problem("%v", err)
		return 0, nil, false
	}
	t.pending = p
	return message.IKEIntermediate, []message.Payload{message.KE{Method: p.Method, Data: p.Public}}, true
}

func (t *intermediate) answered(s *ikeSA, ps []message.Payload) {
	ke, ok := message.First[message.KE](ps)
	if !ok || ke.Method != t.pending.Method {
		s.initialFailed("the peer's IKE_INTERMEDIATE has no key exchange by %s", t.pending.Method)
		return
	}
	secret, err := t.pending.Finish(ke.Data)
	if err == nil {
		err = s.addSecret(secret)
	}
	if err != nil {
		s.initialFailed("the peer's IKE_INTERMEDIATE: %v", err)
		return
	}
	s.authenticate()
}

// addSecret makes the keys that follow an additional key exchange.
func (s *ikeSA) addSecret(secret []byte) error {
	seed := keys.NextSeed(s.prf, s.keys.D, s.ni, s.nr, secret)
	clear(secret)
	defer clear(seed)
	k, err := keys.Derive(s.choice, seed, s.ni, s.nr, s.spii, s.spir)
	if err != nil {
		return err
	}
	s.initial.additional++
	return s.key(k)
}

// intermediateRequest answers IKE_INTERMEDIATE.
func (s *ikeSA) intermediateRequest(h message.Header, ps []message.Payload) {
	ke, ok := message.First[message.KE](ps)
	n := s.initial.additional
	if !ok || n >= len(s.choice.Additional) || ke.Method != s.choice.Additional[n] {
		s.m.status.Refused++
		s.reply(h, message.Notify{Notify: message.InvalidSyntax})
		s.die(zombieLife)
		return
	}
	public, secret, err := keys.Answer(ke.Method, s.m.cfg.Random, ke.Data)
	if err != nil {
		s.m.status.Refused++
		s.reply(h, message.Notify{Notify: message.InvalidSyntax})
		s.die(zombieLife)
		return
	}
	s.reply(h, message.KE{Method: ke.Method, Data: public}) // under the keys before
	if err := s.addSecret(secret); err != nil {
		s.m.problem("IKE_INTERMEDIATE: %v", err)
		s.die(zombieLife)
	}
}

// initialFailed ends an attempt of ours.
func (s *ikeSA) initialFailed(format string, args ...any) {
	s.m.problem(format, args...)
	s.abandon()
}

// abandon ends an attempt of ours whose problem is noted.
func (s *ikeSA) abandon() {
	s.die(0)
	s.m.retry()
}

// authTask is the IKE_AUTH exchange, which also makes the first CHILD SA.
type authTask struct{ spi uint32 }

func (t *authTask) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	m, x := s.m, s.initial
	x.authID = s.sendID
	c := &m.cfg
	if c.PPK != nil {
		if err := s.keys.AddPPK(s.prf, c.PPK); err != nil {
			m.problem("%v", err)
			return 0, nil, false
		}
	}
	id := c.LocalID.Payload(message.TypeIDi)
	a, err := s.prove(id, s.keys.Pi, s.nr)
	if err != nil {
		m.problem("IKE_AUTH cannot be made: %v", err)
		return 0, nil, false
	}
	ps := []message.Payload{id}
	ps = append(ps, s.certificates()...)
	if !slices.ContainsFunc(m.sas, func(o *ikeSA) bool { return o.state >= stateEstablished && o.state != stateDead }) {
		ps = append(ps, message.Notify{Notify: message.InitialContact})
	}
	if len(c.Authorities) > 0 {
		ps = append(ps, auth.Request(c.Authorities))
	}
	ps = append(ps, c.RemoteID.Payload(message.TypeIDr), a)
	if c.PPK != nil {
		ps = append(ps, message.Notify{Notify: message.PPKIdentity, Data: append([]byte{ppkFixed}, c.PPKID...)})
	}
	t.spi = m.newChildSPI()
	ps = append(ps, suite.Offer(s.childOffer(true), spi4(t.spi)))
	ps = append(ps, message.TS{Of: message.TypeTSi, Selectors: c.LocalTS}, message.TS{Of: message.TypeTSr, Selectors: c.RemoteTS})
	return message.IKEAuth, ps, true
}

// certificates are our CERT payloads.
func (s *ikeSA) certificates() (ps []message.Payload) {
	for _, c := range auth.CertPayloads(s.m.cfg.Certificates) {
		ps = append(ps, c)
	}
	return ps
}

// prove makes our AUTH payload.
func (s *ikeSA) prove(id message.ID, p, peerNonce []byte) (message.Auth, error) {
	c, x := &s.m.cfg, s.initial
	octets := auth.Octets(s.prf, x.first, peerNonce, p, id, x.intermediate())
	if len(c.PSK) > 0 {
		return auth.PSK(s.prf, c.PSK, octets), nil
	}
	return auth.Sign(c.Key, octets, x.hashes, c.Random)
}

// verify checks who the peer is. The error is for our own log: the peer is told
// only that it failed.
func (s *ikeSA) verify(ps []message.Payload, of message.PayloadType, p, ourNonce []byte) error {
	c, x := &s.m.cfg, s.initial
	id, ok := message.FindID(ps, of)
	if !ok {
		return errors.New("the peer does not say who it is")
	}
	who, err := auth.IdentityOf(id)
	if err != nil {
		return fmt.Errorf("the peer's identity: %w", err)
	}
	if !who.Equal(c.RemoteID) {
		return because(CauseIdentity, "the peer says that it is %s, and remote_id is %s", who, c.RemoteID)
	}
	a, ok := message.First[message.Auth](ps)
	if !ok {
		return errors.New("the peer's IKE_AUTH has no AUTH payload (EAP is not spoken here)")
	}
	octets := auth.Octets(s.prf, x.peerFirst, ourNonce, p, id, x.intermediate())
	s.peerID = who.String()
	if len(c.PSK) > 0 {
		s.peerAuth = "psk"
		if a.Method != message.AuthPSK {
			return because(CauseMethod, "%s proves itself by %s, and here a preshared key is configured", who, a.Method)
		}
		if !auth.VerifyPSK(s.prf, c.PSK, octets, a) {
			return because(CauseSecret, "the preshared key of %s is not ours", who)
		}
		return nil
	}
	if a.Method == message.AuthPSK {
		return because(CauseMethod, "%s proves itself by a preshared key, and here certificates are configured", who)
	}
	chain, err := auth.ParseChain(message.All[message.Cert](ps))
	if err != nil {
		return because(CauseCertificate, "the certificate of %s: %w", who, err)
	}
	first, err := auth.VerifyChain(chain, c.Authorities, who, s.m.now)
	if err != nil {
		return because(CauseCertificate, "the certificate of %s: %w", who, err)
	}
	s.peerAuth, s.line.peer = keyName(chain[0]), validityOf(chain[0], first)
	if err := auth.Verify(chain[0].PublicKey, a, octets, auth.Hashes()); err != nil {
		return because(CauseCertificate, "the signature of %s: %w", who, err)
	}
	return nil
}

// sayPPK says which PPK_ID the peer has sent.
func sayPPK(data []byte) string {
	if len(data) < 2 {
		return "it names none"
	}
	return fmt.Sprintf("it names %q", data[1:])
}

// keyName is the kind of key that signs.
func keyName(c *x509.Certificate) string {
	switch crypto.PublicKey(c.PublicKey).(type) {
	case *rsa.PublicKey:
		return "rsa"
	case *ecdsa.PublicKey:
		return "ecdsa"
	case ed25519.PublicKey:
		return "ed25519"
	}
	return "certificate"
}

// answered takes the responder's IKE_AUTH.
func (t *authTask) answered(s *ikeSA, ps []message.Payload) {
	m := s.m
	if _, ok := message.First[message.Auth](ps); !ok {
		for _, n := range message.All[message.Notify](ps) {
			if n.Notify.Error() {
				m.refused("the peer refuses IKE_AUTH: %s%s", n.Notify, s.explain(n, m.cfg.ESP))
				s.abandon()
				return
			}
		}
	}
	if err := s.verify(ps, message.TypeIDr, s.keys.Pr, s.ni); err != nil {
		m.found(causeOf(err), "the peer is refused: %v", err)
		// RFC 7296, section 2.21.2: in an exchange of its own. One datagram has to do.
		if datagrams, err := s.protect(s.header(message.Informational, s.sendID, 0), []message.Payload{message.Notify{Notify: message.AuthenticationFailed}}); err == nil {
			s.send(datagrams)
		}
		s.die(0)
		m.retry()
		return
	}
	s.establish()
	s.childAnswered(ps, nil, childExchange{spi: t.spi, offer: s.childOffer(true), ni: s.ni, nr: s.nr})
}

// authRequest answers IKE_AUTH.
func (s *ikeSA) authRequest(h message.Header, ps []message.Payload) {
	m, x := s.m, s.initial
	c := &m.cfg
	x.authID = h.ID
	refuse := func(err error) {
		m.found(causeOf(err), "the peer is refused: %v", err)
		s.reply(h, message.Notify{Notify: message.AuthenticationFailed})
		s.die(zombieLife)
	}
	if x.additional < len(s.choice.Additional) {
		m.status.Refused++
		s.reply(h, message.Notify{Notify: message.InvalidSyntax})
		s.die(zombieLife)
		return
	}
	if c.PPK != nil {
		n, ok := message.FindNotify(ps, message.PPKIdentity)
		if !ok || !bytes.Equal(n.Data, append([]byte{ppkFixed}, c.PPKID...)) {
			refuse(because(CausePPK, "it does not use the postquantum preshared key %q: %s", c.PPKID, sayPPK(n.Data)))
			return
		}
		if err := s.keys.AddPPK(s.prf, c.PPK); err != nil {
			refuse(err)
			return
		}
	}
	if err := s.verify(ps, message.TypeIDi, s.keys.Pi, s.nr); err != nil {
		refuse(err)
		return
	}
	if id, ok := message.FindID(ps, message.TypeIDr); ok {
		if wanted, err := auth.IdentityOf(id); err == nil && !wanted.Equal(c.LocalID) {
			refuse(because(CauseIdentity, "it wants to talk to %s (its remote_id), and local_id is %s", wanted, c.LocalID))
			return
		}
	}
	id := c.LocalID.Payload(message.TypeIDr)
	proof, err := s.prove(id, s.keys.Pr, s.ni)
	if err != nil {
		refuse(fmt.Errorf("IKE_AUTH cannot be answered: %w", err))
		return
	}
	_, contact := message.FindNotify(ps, message.InitialContact)
	if contact {
		m.forgetBefore(s)
	}
	s.establish()
	out := append([]message.Payload{id}, s.certificates()...)
	out = append(out, proof)
	if c.PPK != nil {
		out = append(out, message.Notify{Notify: message.PPKIdentity}) // RFC 8784, section 3: it was used
	}
	made, pair := s.childAsked(ps, childExchange{ni: s.ni, nr: s.nr, first: true})
	s.reply(h, append(out, made...)...)
	s.childMade(pair, nil)
}

// forgetBefore drops what the peer does not know any more: it said
// INITIAL_CONTACT in an IKE SA that it began after those were established (RFC
// 7296, section 2.4). What was begun at the same time stays, and is settled.
func (m *Machine) forgetBefore(s *ikeSA) {
	for _, o := range slices.Clone(m.sas) {
		if o != s && o.state >= stateEstablished && o.state != stateDead && o.established.Before(s.born) {
			m.say("the peer has begun anew: the IKE SA before is forgotten")
			o.die(0)
		}
	}
}

// establish takes an IKE SA into use whose ends have proved themselves.
func (s *ikeSA) establish() {
	m := s.m
	s.state, s.initial = stateEstablished, nil
	s.line.lowest, s.line.at = s.lowest, m.now
	s.askNext()
	s.age()
	m.peer = s.line.peer
	m.failures, m.status.Unanswered = 0, 0
	m.status.Established++
	s.say("IKE SA established with %s (%s), %s", s.peerID, s.peerAuth, s.choice)
	if s.initiator {
		s.proclaim()
	}
	// An attempt of ours that nobody has answered is no longer needed: the peer
	// cannot have anything of it.
	m.drop(func(o *ikeSA) bool { return o != s && o.state == stateInit && !s.outdated })
	m.bound()
}

// age sets when an SA is replaced. It does not live longer than the certificates that
// it, or the one at the beginning of its line, was authenticated by.
func (s *ikeSA) age() {
	now, life := s.m.now, s.m.cfg.IKELifetime
	s.established, s.heard = now, now
	s.rekeyAt = now.Add(life - s.m.jitter(life/10))
	s.expireAt = now.Add(life + grace(life))
	s.overdueAt = overdue(s.expireAt, life)
	if until := s.line.peer.until; !until.IsZero() && until.Before(s.expireAt) {
		s.expireAt = until
	}
}

// grace is how long something may live on while it is being replaced: a tenth of
// its life, and at least as long as a request is sent again.
func grace(life time.Duration) time.Duration { return max(life/10, 30*time.Second) }

// overdue is when something that ends then, and was given that life, has had it: a
// tenth of it is left. Another life in the configuration is for what comes after.
func overdue(end time.Time, life time.Duration) time.Time { return end.Add(-life / 10) }
