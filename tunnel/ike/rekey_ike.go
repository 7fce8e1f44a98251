package ike

import (
	"encoding/binary"
	"errors"

	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// rekeyIKE replaces an IKE SA (RFC 7296, section 1.3.2).
type rekeyIKE struct {
	spi     uint64
	ni      []byte
	offer   []suite.Proposal
	method  message.KeyExchange // that the peer wants; KENone: as before
	pending *keys.Pending
	wanted  int
}

func (t *rekeyIKE) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	m := s.m
	if s.state != stateEstablished || s.successor != nil && s.successor.state == stateEstablished {
		return 0, nil, false
	}
	t.spi, t.ni, t.offer = m.newSPI(), m.random(nonceLen), withoutAdditional(m.cfg.IKE)
	if t.method == message.KENone {
		t.method = s.choice.KeyExchange
	}
	if !offers(t.offer, t.method) { // the configuration is another one by now
		t.method = t.offer[0].KeyExchanges()[0]
	}
	var err error
	if t.pending, err = keys.Begin(t.method, m.cfg.Random); err != nil {
		m.problem("the IKE SA cannot be replaced: %v", err)
		return 0, nil, false
	}
	return message.CreateChildSA, []message.Payload{
		suite.Offer(t.offer, spi8(t.spi)), message.Nonce{Data: t.ni}, message.KE{Method: t.method, Data: t.pending.Public},
	}, true
}

func (t *rekeyIKE) answered(s *ikeSA, ps []message.Payload) {
	m := s.m
	other := s.successor
	if other != nil && other.state != stateEstablished {
		other = nil
	}
	n, err := t.made(s, ps)
	_, temporary := message.FindNotify(ps, message.TemporaryFailure)
	switch {
	case err == nil:
	case s.state != stateEstablished:
		return
	case other != nil:
		s.succeed(other)
		return
	case temporary:
		s.rekeyAt = m.now.Add(busy + m.jitter(2*busy))
		return
	case t.again(ps):
		s.do(t)
		return
	default:
		m.problem("the IKE SA cannot be replaced: %v", err)
		s.rekeyAt = m.now.Add(refusedRest)
		return
	}
	m.sas = append(m.sas, n)
	m.bound()
	switch {
	case s.state != stateEstablished: // it was terminated meanwhile, and so is what comes of it
		n.remove()
	case other != nil && loses(n.lowest, other.lowest):
		// Section 2.8.2: both ends have replaced it at once, and ours goes.
		s.succeed(other)
		n.do(&deleteIKE{})
	default:
		m.status.IKERekeys++
		if other != nil {
			other.adopted(n)
			other.state, other.replacedAt = stateReplaced, m.now // the peer deletes it
		}
		s.succeed(n)
		s.do(&deleteIKE{})
	}
}

// again reports whether the answer asks for another key exchange that we offer.
func (t *rekeyIKE) again(ps []message.Payload) bool {
	n, ok := message.FindNotify(ps, message.InvalidKEPayload)
	if !ok || t.wanted >= 2 {
		return false
	}
	method, err := n.KeyExchange()
	if err != nil || !offers(t.offer, method) {
		return false
	}
	t.wanted++
	t.method = method
	return true
}

// made is the new SA of an answer.
func (t *rekeyIKE) made(s *ikeSA, ps []message.Payload) (*ikeSA, error) {
	for _, n := range message.All[message.Notify](ps) {
		if n.Notify.Error() {
			return nil, errors.New("the peer refuses: " + n.Notify.String() + s.explain(n, t.offer))
		}
	}
	answer, ok := message.First[message.SA](ps)
	nonce, ok1 := message.First[message.Nonce](ps)
	ke, ok2 := message.First[message.KE](ps)
	if !ok || !ok1 || !ok2 {
		return nil, errors.New("the peer's answer lacks a payload")
	}
	choice, err := suite.Accept(answer, t.offer)
	if err != nil {
		return nil, err
	}
	if ke.Method != choice.KeyExchange || ke.Method != t.method {
		return nil, errKEMethod
	}
	secret, err := t.pending.Finish(ke.Data)
	if err != nil {
		return nil, err
	}
	return s.next(choice, t.spi, true, t.ni, nonce.Data, secret)
}

// next makes the SA that replaces one. spi is ours in it.
func (s *ikeSA) next(c suite.Choice, spi uint64, ours bool, ni, nr, secret []byte) (*ikeSA, error) {
	if len(c.SPI) != 8 || binary.BigEndian.Uint64(c.SPI) == 0 {
		return nil, errors.New("the SA payload has no usable SPI")
	}
	n := &ikeSA{
		m: s.m, initiator: ours, ours: ours, state: stateEstablished, port: s.port, to: s.to, fragments: s.fragments, born: s.m.now,
		choice: c, lowest: lower(ni, nr), noESN: s.noESN, peerAuth: s.peerAuth, peerID: s.peerID,
		outdated: s.outdated, line: s.line,
	}
	n.spii, n.spir = spi, binary.BigEndian.Uint64(c.SPI)
	if !ours {
		n.spii, n.spir = n.spir, n.spii
	}
	var err error
	if n.prf, err = keys.PRFOf(c.PRF); err != nil {
		return nil, err
	}
	seed := keys.NextSeed(s.prf, s.keys.D, ni, nr, secret)
	clear(secret)
	defer clear(seed)
	k, err := keys.Derive(c, seed, ni, nr, n.spii, n.spir)
	if err != nil {
		return nil, err
	}
	if err := n.key(k); err != nil {
		return nil, err
	}
	n.age()
	return n, nil
}

// succeed hands everything over to a successor.
func (s *ikeSA) succeed(n *ikeSA) {
	s.adopted(n)
	s.state, s.replacedAt = stateReplaced, s.m.now
	s.m.say("IKE SA %016x/%016x replaces %016x/%016x, %s", n.spii, n.spir, s.spii, s.spir, n.choice)
	n.proceed()
}

// adopted gives the pairs, and the tasks that are about them, to another SA.
func (s *ikeSA) adopted(n *ikeSA) {
	n.children = append(n.children, s.children...)
	s.children = nil
	var stay []task
	for _, t := range s.queue {
		switch t.(type) {
		case *rekeyChild, *createChild, *deleteChild, *deleteSPI:
			n.queue = append(n.queue, t)
		default:
			stay = append(stay, t)
		}
	}
	s.queue = stay
	n.noESN = n.noESN || s.noESN
	n.childAt, n.childFailures = s.childAt, s.childFailures
}

// rekeyIKERequest answers the peer's wish to replace the IKE SA.
func (s *ikeSA) rekeyIKERequest(h message.Header, ps []message.Payload, ni []byte) {
	m := s.m
	busyWith := false
	switch s.outTask().(type) {
	case *rekeyChild, *createChild, *deleteChild, *deleteSPI, *deleteIKE: // RFC 7296, section 2.25.2
		busyWith = true
	}
	if busyWith || s.state != stateEstablished || s.successor != nil && s.successor.state == stateEstablished {
		s.reply(h, message.Notify{Notify: message.TemporaryFailure})
		return
	}
	offer, _ := message.First[message.SA](ps)
	choice, err := suite.Select(offer, withoutAdditional(m.cfg.IKE))
	if err != nil {
		m.problem("the peer wants to replace the IKE SA: %v", err)
		s.reply(h, message.Notify{Notify: message.NoProposalChosen})
		return
	}
	ke, ok := message.First[message.KE](ps)
	if !ok || ke.Method != choice.KeyExchange {
		s.reply(h, message.WantKE(choice.KeyExchange))
		return
	}
	public, secret, err := keys.Answer(ke.Method, m.cfg.Random, ke.Data)
	if err != nil {
		m.status.Refused++
		s.reply(h, message.Notify{Notify: message.InvalidSyntax})
		return
	}
	spi, nr := m.newSPI(), m.random(nonceLen)
	n, err := s.next(choice, spi, false, ni, nr, secret)
	if err != nil {
		m.problem("the peer wants to replace the IKE SA: %v", err)
		s.reply(h, message.Notify{Notify: message.InvalidSyntax})
		return
	}
	n.predecessor, s.successor = s, n
	m.sas = append(m.sas, n)
	m.bound()
	m.status.IKERekeys++
	s.reply(h, choice.Answer(spi8(spi)), message.Nonce{Data: nr}, message.KE{Method: ke.Method, Data: public})
	if _, crossing := s.outTask().(*rekeyIKE); !crossing {
		s.succeed(n)
	}
}

// crossing reports whether it is open which of two SAs takes the place of the
// one before: this one, made by the peer's request, or the one by ours.
func (s *ikeSA) crossing() bool {
	if s.predecessor == nil || s.predecessor.state != stateEstablished {
		return false
	}
	_, ok := s.predecessor.outTask().(*rekeyIKE)
	return ok
}

// deleteIKE deletes an IKE SA and all that hangs on it.
type deleteIKE struct{}

func (*deleteIKE) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	s.state = stateDeleting
	return message.Informational, []message.Payload{message.Delete{Protocol: message.ProtocolIKE}}, true
}

func (*deleteIKE) answered(s *ikeSA, _ []message.Payload) { s.die(zombieLife) }
