package ike

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 7296, section 2.23, has NAT detection by SHA-1: it protects nothing
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// nonceLen is at least half of the key of every function we propose (RFC 7296, section 2.10).
const nonceLen = 32

// initial is what an IKE SA needs only until it is established.
type initial struct {
	first, peerFirst []byte // IKE_SA_INIT, as it was on the wire
	hashes           []message.Hash
	ppk              bool // the peer can do RFC 8784

	offer    []suite.Proposal
	pending  *keys.Pending
	cookie   []byte
	restarts int // by COOKIE and INVALID_KE_PAYLOAD

	additional     int // key exchanges of RFC 9370 that are done
	chainI, chainR []byte
	authID         uint32
}

// chain adds a message of IKE_INTERMEDIATE, ours or the peer's, to what is
// authenticated later (RFC 9242, section 3.3): under the keys as they are before it.
func (x *initial) chain(s *ikeSA, h message.Header, first message.PayloadType, plain []byte) {
	if x == nil {
		return
	}
	if h.Response() {
		x.chainR = auth.IntermediateStep(s.prf, s.keys.Pr, x.chainR, h, first, plain)
		return
	}
	x.chainI = auth.IntermediateStep(s.prf, s.keys.Pi, x.chainI, h, first, plain)
}

// intermediate is what AUTH covers of these exchanges.
func (x *initial) intermediate() []byte {
	if x.chainI == nil {
		return nil
	}
	return auth.Intermediate(x.chainI, x.chainR, x.authID)
}

// attempt begins an IKE SA.
func (m *Machine) attempt() {
	m.status.Attempts++
	s := &ikeSA{
		m: m, initiator: true, spii: m.newSPI(), born: m.now, heard: m.now, ours: true,
		port: m.cfg.port(), to: m.cfg.Remote, ni: m.random(nonceLen), initial: &initial{offer: m.cfg.IKE},
	}
	m.sas = append(m.sas, s)
	s.initSend(m.cfg.IKE[0].KeyExchanges()[0])
}

// initTask stands for the IKE_SA_INIT request, which is not protected and so goes its own way.
type initTask struct{}

func (initTask) begin(*ikeSA) (message.Exchange, []message.Payload, bool) { return 0, nil, false }
func (initTask) answered(*ikeSA, []message.Payload)                       {}

// initSend sends IKE_SA_INIT, once more after COOKIE and INVALID_KE_PAYLOAD.
func (s *ikeSA) initSend(method message.KeyExchange) {
	m, x := s.m, s.initial
	if x.pending == nil || x.pending.Method != method {
		p, err := keys.Begin(method, m.cfg.Random)
		if err != nil {
			m.problem("%v", err)
			s.die(0)
			m.retry()
			return
		}
		x.pending = p
	}
	var ps []message.Payload
	if x.cookie != nil {
		ps = append(ps, message.Notify{Notify: message.Cookie, Data: x.cookie})
	}
	ps = append(ps, suite.Offer(x.offer, nil), message.KE{Method: method, Data: x.pending.Public}, message.Nonce{Data: s.ni})
	ps = append(ps, s.natDetection()...)
	ps = append(ps, s.announce(hasAdditional(x.offer))...)
	h := s.header(message.IKESAInit, 0, 0)
	b, err := message.Message{Header: h, Payloads: ps}.Encode()
	if err != nil {
		m.problem("IKE_SA_INIT cannot be made: %v", err)
		s.die(0)
		m.retry()
		return
	}
	x.first = b
	s.request(&request{task: initTask{}, exchange: message.IKESAInit, datagrams: [][]byte{b}})
}

// announce says what we can do.
func (s *ikeSA) announce(intermediate bool) []message.Payload {
	ps := []message.Payload{
		message.Notify{Notify: message.IKEv2FragmentationSupported},
		message.Notify{Notify: message.SignatureHashAlgorithms, Data: message.HashesData(auth.Hashes())},
	}
	if s.m.cfg.PPK != nil {
		ps = append(ps, message.Notify{Notify: message.UsePPK})
	}
	if intermediate {
		ps = append(ps, message.Notify{Notify: message.IntermediateExchangeSupport})
	}
	return ps
}

// natDetection says that our address is another one, so that the peer carries
// ESP in UDP whether there is a NAT or not (RFC 7296, section 2.23), and truly
// where we think the peer is. Where ESP is raw, both are true.
func (s *ikeSA) natDetection() []message.Payload {
	source := s.m.random(sha1.Size)
	if s.m.cfg.Raw {
		source = natHash(s.spii, s.spir, s.m.cfg.Local)
	}
	return []message.Payload{
		message.Notify{Notify: message.NATDetectionSourceIP, Data: source},
		message.Notify{Notify: message.NATDetectionDestinationIP, Data: natHash(s.spii, s.spir, s.to)},
	}
}

func natHash(spii, spir uint64, at netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint64(nil, spii)
	b = binary.BigEndian.AppendUint64(b, spir)
	b = append(b, at.Addr().AsSlice()...)
	h := sha1.Sum(binary.BigEndian.AppendUint16(b, at.Port())) //nolint:gosec // see the import
	return h[:]
}

// peerCan notes what the peer's IKE_SA_INIT announces.
func (s *ikeSA) peerCan(ps []message.Payload, spir uint64) {
	_, s.fragments = message.FindNotify(ps, message.IKEv2FragmentationSupported)
	if _, s.initial.ppk = message.FindNotify(ps, message.UsePPK); !s.initiator {
		s.m.status.PeerPPK = s.initial.ppk
	}
	if n, ok := message.FindNotify(ps, message.SignatureHashAlgorithms); ok {
		s.initial.hashes, _ = n.Hashes() // unreadable is none
	}
	if n, ok := message.FindNotify(ps, message.NATDetectionDestinationIP); ok {
		at := s.m.cfg.Local
		if s.port == PortIKE {
			at = netip.AddrPortFrom(at.Addr(), 500)
		}
		s.m.status.NATHere = !bytes.Equal(n.Data, natHash(s.spii, spir, at))
	}
}

// unfitForRaw says why ESP cannot be raw; empty if it can. The peer may say several
// addresses that it sends from; one has to be that from which it came (RFC 7296,
// section 2.23). One that says none knows no NATs.
func (s *ikeSA) unfitForRaw(ps []message.Payload, spir uint64) string {
	if !s.m.cfg.Raw {
		return ""
	}
	differs := func(kind message.NotifyType, from netip.AddrPort) bool {
		said, same := false, false
		for _, n := range message.All[message.Notify](ps) {
			if n.Notify == kind {
				said, same = true, same || bytes.Equal(n.Data, natHash(s.spii, spir, from))
			}
		}
		return said && !same
	}
	switch {
	case differs(message.NATDetectionDestinationIP, s.m.cfg.Local):
		return fmt.Sprintf("a NAT is on the path: the peer does not see us at %s%s", s.m.cfg.Local, mendRaw)
	case differs(message.NATDetectionSourceIP, s.to):
		return fmt.Sprintf("a NAT is on the path, or the peer wants ESP in UDP: it says that it is not at %s%s", s.to, mendRaw)
	}
	return ""
}

// mendRaw says what to do about a NAT where ESP is in no UDP.
const mendRaw = ". ESP without UDP does not get through: set udp_encapsulation: true at both ends"

// initAnswer takes the peer's answer to IKE_SA_INIT. Nothing protects it, but
// for our SPI, which nobody else can know who does not see the path.
func (s *ikeSA) initAnswer(datagram []byte) {
	m, x := s.m, s.initial
	msg, err := message.Decode(datagram)
	if err != nil || s.out == nil {
		m.status.Refused++
		return
	}
	m.status.Unanswered = 0
	if msg.ResponderSPI == 0 || len(message.All[message.SA](msg.Payloads)) == 0 {
		s.initRefused(msg.Payloads)
		return
	}
	choice, secret, err := s.initAccept(msg)
	if err != nil {
		m.status.Refused++
		m.found(causeOf(err), "the peer's IKE_SA_INIT: %v", err)
		s.doubt()
		return
	}
	nonce, _ := message.First[message.Nonce](msg.Payloads)
	s.spir, s.nr, x.peerFirst = msg.ResponderSPI, bytes.Clone(nonce.Data), bytes.Clone(datagram)
	s.peerCan(msg.Payloads, s.spir)
	if err := s.schedule(choice, secret); err != nil {
		m.problem("%v", err)
		s.die(0)
		m.retry()
		return
	}
	s.out, s.sendID = nil, 1
	s.state = stateAuth
	s.authenticate()
}

// initAccept is what an answer chooses, and the secret of its key exchange; or why
// it is of no use. Nothing is kept of one that is not.
func (s *ikeSA) initAccept(msg message.Message) (choice suite.Choice, secret []byte, err error) {
	x, ps := s.initial, msg.Payloads
	answer, _ := message.First[message.SA](ps)
	ke, hasKE := message.First[message.KE](ps)
	if _, hasNonce := message.First[message.Nonce](ps); !hasKE || !hasNonce {
		return choice, nil, errors.New("it has no key exchange, or no nonce")
	}
	if choice, err = suite.Accept(answer, x.offer); err != nil {
		return choice, nil, err
	}
	if ke.Method != choice.KeyExchange || ke.Method != x.pending.Method {
		return choice, nil, errKEMethod
	}
	if _, can := message.FindNotify(ps, message.IntermediateExchangeSupport); len(choice.Additional) > 0 && !can {
		return choice, nil, errNoIntermediate
	}
	if why := s.unfitForRaw(ps, msg.ResponderSPI); why != "" {
		return choice, nil, errors.New(why)
	}
	if _, can := message.FindNotify(ps, message.UsePPK); s.m.cfg.PPK != nil && !can {
		return choice, nil, because(CausePPK, "the peer has no postquantum preshared key (it does not announce USE_PPK), and here is ppk_id %s", s.m.cfg.PPKID)
	}
	secret, err = x.pending.Finish(ke.Data)
	return choice, secret, err
}

// doubt has an attempt whose answer is a refusal, or of no use, end when the next
// one is due, and not before: nothing protects the answer, and the peer's own may
// be on its way (RFC 7296, section 2.21.1). Nothing more is sent until then.
func (s *ikeSA) doubt() {
	if s.out.doubted {
		return
	}
	s.m.retry()
	s.out.doubted, s.out.next = true, s.m.beginAt
}

// schedule makes the first keys.
func (s *ikeSA) schedule(c suite.Choice, secret []byte) error {
	s.choice = c
	s.lowest = lower(s.ni, s.nr)
	var err error
	if s.prf, err = keys.PRFOf(c.PRF); err != nil {
		return err
	}
	seed := keys.Seed(s.prf, s.ni, s.nr, secret)
	clear(secret)
	defer clear(seed)
	k, err := keys.Derive(c, seed, s.ni, s.nr, s.spii, s.spir)
	if err != nil {
		return err
	}
	return s.key(k)
}

// initRefused takes an answer without an SA: COOKIE, INVALID_KE_PAYLOAD, or an error.
func (s *ikeSA) initRefused(ps []message.Payload) {
	m, x := s.m, s.initial
	if s.initRepeated(ps) {
		m.status.Refused++
		return
	}
	if x.restarts < 5 {
		if n, ok := message.FindNotify(ps, message.Cookie); ok && len(n.Data) > 0 && len(n.Data) <= 64 {
			x.restarts++
			x.cookie = bytes.Clone(n.Data)
			s.initSend(x.pending.Method)
			return
		}
		if n, ok := message.FindNotify(ps, message.InvalidKEPayload); ok {
			if method, err := n.KeyExchange(); err == nil && method != x.pending.Method && offers(x.offer, method) {
				x.restarts++
				s.initSend(method)
				return
			}
		}
	}
	for _, n := range message.All[message.Notify](ps) {
		if n.Notify.Error() {
			m.refused("the peer refuses IKE_SA_INIT: %s%s", n.Notify, s.explain(n, x.offer))
			s.doubt()
			return
		}
	}
	m.status.Refused++
}

// initRepeated reports whether an answer asks for what the request on its way has
// already: it came to the one before once more, for that was sent more than once,
// where the round trip is longer than firstWait. To begin again would make another
// request than the one that the peer is answering.
func (s *ikeSA) initRepeated(ps []message.Payload) bool {
	x := s.initial
	if x.restarts == 0 {
		return false
	}
	if n, ok := message.FindNotify(ps, message.Cookie); ok {
		return bytes.Equal(n.Data, x.cookie)
	}
	n, ok := message.FindNotify(ps, message.InvalidKEPayload)
	method, err := n.KeyExchange()
	return ok && err == nil && method == x.pending.Method
}

// initRequest answers an IKE_SA_INIT request.
func (m *Machine) initRequest(port Port, from netip.AddrPort, h message.Header, datagram []byte) {
	if h.ResponderSPI != 0 || h.ID != 0 || !h.FromInitiator() {
		m.status.Refused++
		return
	}
	for _, s := range m.sas {
		if s.initiator && s.spii == h.InitiatorSPI {
			// It is ours, sent back: where both ends have one identity and one secret
			// we would talk to ourselves.
			m.status.Refused++
			return
		}
		if s.initiator || s.spii != h.InitiatorSPI || s.initial == nil {
			continue
		}
		if !bytes.Equal(s.initial.peerFirst, datagram) {
			m.status.Refused++
			return
		}
		m.status.PeerBeganAt = m.now
		m.e.Send(port, from, s.initial.first)
		return
	}
	msg, err := message.Decode(datagram)
	if err != nil {
		m.status.Refused++
		return
	}
	offer, a := message.First[message.SA](msg.Payloads)
	ke, b := message.First[message.KE](msg.Payloads)
	nonce, c := message.First[message.Nonce](msg.Payloads)
	if !a || !b || !c {
		m.status.Refused++
		m.sendPlain(port, from, answerHeader(h), message.Notify{Notify: message.InvalidSyntax})
		return
	}
	m.status.PeerBegan++
	m.status.PeerBeganAt = m.now
	open := m.count(func(s *ikeSA) bool { return !s.initiator && s.state < stateEstablished })
	if open >= cookiesFrom || m.crowded() {
		n, ok := message.FindNotify(msg.Payloads, message.Cookie)
		if !ok || !m.jar.good(m, from, h.InitiatorSPI, nonce.Data, n.Data) {
			m.status.CookiesSent++
			m.sendPlain(port, from, answerHeader(h), message.Notify{Notify: message.Cookie, Data: m.jar.bake(m, from, h.InitiatorSPI, nonce.Data)})
			return
		}
	}
	if open >= maxHalfOpen {
		m.status.Refused++
		return
	}
	s := &ikeSA{
		m: m, spii: h.InitiatorSPI, spir: m.newSPI(), state: stateAuth, port: port, to: from, born: m.now, heard: m.now,
		ni: bytes.Clone(nonce.Data), nr: m.random(nonceLen), initial: &initial{peerFirst: bytes.Clone(datagram)}, recvID: 1,
	}
	if refusal := s.initAgree(offer, ke, msg.Payloads); refusal != nil {
		m.sendPlain(port, from, answerHeader(h), refusal)
		return
	}
	m.sas = append(m.sas, s)
}

// initAgree chooses, makes the keys and answers; or returns why not.
func (s *ikeSA) initAgree(offer message.SA, ke message.KE, ps []message.Payload) message.Payload {
	m := s.m
	s.peerCan(ps, 0)
	if why := s.unfitForRaw(ps, 0); why != "" {
		m.problem("IKE_SA_INIT from the peer: %s", why)
		// RFC 4555, section 3.9, has this error for another exchange; any would end this one (RFC 7296, section 3.10.1).
		return message.Notify{Notify: message.UnexpectedNATDetected}
	}
	ours := m.cfg.IKE
	_, intermediate := message.FindNotify(ps, message.IntermediateExchangeSupport)
	if !intermediate {
		ours = withoutAdditional(optional(ours))
	}
	choice, err := suite.Select(offer, ours)
	if err != nil {
		m.found(CauseProposals, "IKE_SA_INIT from the peer, IKE proposals: %v", err)
		return message.Notify{Notify: message.NoProposalChosen}
	}
	if choice.KeyExchange != ke.Method {
		return message.WantKE(choice.KeyExchange)
	}
	public, secret, err := keys.Answer(ke.Method, m.cfg.Random, ke.Data)
	if err != nil {
		m.status.Refused++
		return message.Notify{Notify: message.InvalidSyntax}
	}
	out := []message.Payload{choice.Answer(nil), message.KE{Method: ke.Method, Data: public}, message.Nonce{Data: s.nr}}
	out = append(out, s.natDetection()...)
	if len(m.cfg.Authorities) > 0 {
		out = append(out, auth.Request(m.cfg.Authorities))
	}
	out = append(out, s.announce(intermediate && len(choice.Additional) > 0)...)
	b, err := message.Message{Header: s.header(message.IKESAInit, 0, message.FlagResponse), Payloads: out}.Encode()
	if err == nil {
		err = s.schedule(choice, secret)
	}
	if err != nil {
		m.problem("IKE_SA_INIT cannot be answered: %v", err)
		return message.Notify{Notify: message.InvalidSyntax}
	}
	s.initial.first = b
	s.send([][]byte{b})
	return nil
}
