package ike

import (
	"encoding/binary"
	"time"

	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// refusedRest is when a rekeying that the peer refused is tried again.
const refusedRest = 30 * time.Second

// childRequest is what CREATE_CHILD_SA requests for CHILD SAs have in common.
type childRequest struct {
	x       childExchange
	method  message.KeyExchange // that the peer wants; KENone: the first of ours
	pending *keys.Pending
	wanted  int // how often INVALID_KE_PAYLOAD came
}

// payloads makes the request.
func (r *childRequest) payloads(s *ikeSA) ([]message.Payload, error) {
	m := s.m
	r.x.offer = s.childOffer(false)
	r.x.spi, r.x.ni, r.pending = m.newChildSPI(), m.random(nonceLen), nil
	ps := []message.Payload{suite.Offer(r.x.offer, spi4(r.x.spi)), message.Nonce{Data: r.x.ni}}
	method := r.method
	for _, p := range r.x.offer {
		if ke := p.KeyExchanges(); method == message.KENone && len(ke) > 0 {
			method = ke[0]
		}
	}
	if method != message.KENone {
		var err error
		if r.pending, err = keys.Begin(method, m.cfg.Random); err != nil {
			return nil, err
		}
		ps = append(ps, message.KE{Method: method, Data: r.pending.Public})
	}
	return append(ps, message.TS{Of: message.TypeTSi, Selectors: m.cfg.LocalTS}, message.TS{Of: message.TypeTSr, Selectors: m.cfg.RemoteTS}), nil
}

// again reports whether the answer asks for another key exchange that we offer.
func (r *childRequest) again(ps []message.Payload) bool {
	n, ok := message.FindNotify(ps, message.InvalidKEPayload)
	if !ok || r.wanted >= 2 {
		return false
	}
	method, err := n.KeyExchange()
	if err != nil || !offers(r.x.offer, method) {
		return false
	}
	r.wanted++
	r.method = method
	return true
}

// result is the pair of an answer.
func (r *childRequest) result(s *ikeSA, ps []message.Payload) *child {
	nonce, ok := message.First[message.Nonce](ps)
	if ok {
		r.x.nr = nonce.Data
	} else if _, agreed := message.First[message.SA](ps); agreed {
		s.childFailed("the peer's CREATE_CHILD_SA has no nonce")
		s.do(&deleteSPI{r.x.spi})
		return nil
	}
	return s.childAnswered(ps, r.pending, r.x)
}

// createChild makes a pair where one is missing.
type createChild struct{ childRequest }

func (t *createChild) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	if s.state != stateEstablished || !s.bare() {
		return 0, nil, false
	}
	ps, err := t.payloads(s)
	if err != nil {
		s.childFailed("CHILD SA: %v", err)
		return 0, nil, false
	}
	return message.CreateChildSA, ps, true
}

func (t *createChild) answered(s *ikeSA, ps []message.Payload) {
	_, temporary := message.FindNotify(ps, message.TemporaryFailure)
	switch {
	case s.state != stateEstablished:
	case temporary:
		s.childAt = s.m.now.Add(busy + s.m.jitter(busy))
	case t.again(ps):
		s.do(t)
	default:
		t.result(s, ps)
	}
}

// rekeyChild replaces a pair (RFC 7296, section 1.3.3).
type rekeyChild struct {
	childRequest
	old *child
}

func (t *rekeyChild) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	if s.state != stateEstablished || t.old.state != childInstalled || !t.old.ready {
		return 0, nil, false
	}
	if t.method == message.KENone {
		t.method = t.old.choice.KeyExchange
	}
	ps, err := t.payloads(s)
	if err != nil {
		s.m.problem("CHILD SA: %v", err)
		return 0, nil, false
	}
	t.x.old = t.old
	rekey := message.Notify{Protocol: message.ProtocolESP, SPI: spi4(t.old.pair.In.SPI), Notify: message.RekeySA}
	return message.CreateChildSA, append([]message.Payload{rekey}, ps...), true
}

func (t *rekeyChild) answered(s *ikeSA, ps []message.Payload) {
	m, old := s.m, t.old
	_, temporary := message.FindNotify(ps, message.TemporaryFailure)
	_, unknown := message.FindNotify(ps, message.ChildSANotFound)
	other := old.peerNew
	if other != nil && other.state == childGone {
		other = nil // the peer has given it up: ours wins
	}
	switch {
	case s.state != stateEstablished:
		return
	case temporary && other == nil:
		old.rested = m.now.Add(busy + m.jitter(2*busy))
		return
	case unknown && other == nil && old.state == childInstalled:
		// RFC 7296, section 2.25.1: the peer has lost it.
		m.problem("the peer does not know CHILD SA %08x any more: a new one is made", old.pair.In.SPI)
		s.retire(old)
		s.do(&createChild{})
		return
	case t.again(ps):
		s.do(t)
		return
	}
	c := t.result(s, ps)
	switch {
	case c == nil && other != nil:
		s.replaced(old)
	case c == nil:
		old.rested = m.now.Add(refusedRest)
		if s.noESN && offersESN(t.x.offer) {
			old.rested = m.now // at once without
		}
	case other != nil && loses(c.lowest, other.lowest):
		// Both ends have replaced it at once; of the two new pairs ours goes (section 2.8.1).
		c.state = childDeleting
		s.do(&deleteChild{c})
		s.replaced(old)
	default:
		m.status.ChildRekeys++
		m.e.Use(c.pair.In.SPI)
		if other != nil {
			// The peer deletes it. Until then it is not one of two that would have to be settled.
			s.replaced(other)
		}
		if old.state != childGone {
			s.deleteChild(old)
		}
	}
}

// deleteChild deletes a pair (RFC 7296, section 1.4.1).
type deleteChild struct{ child *child }

func (s *ikeSA) deleteChild(c *child) {
	if c.state == childDeleting || c.state == childGone {
		return
	}
	c.state = childDeleting
	if b := s.m.best(); b != nil {
		s.m.e.Use(b.pair.In.SPI)
	}
	s.do(&deleteChild{c})
}

func (t *deleteChild) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	if t.child.state == childGone || s.state > stateReplaced {
		return 0, nil, false
	}
	return message.Informational, []message.Payload{message.Delete{Protocol: message.ProtocolESP, SPIs: [][]byte{spi4(t.child.pair.In.SPI)}}}, true
}

func (t *deleteChild) answered(s *ikeSA, _ []message.Payload) {
	if t.child.state != childGone {
		s.retire(t.child)
	}
}

// deleteSPI deletes a pair of which there is only the SPI that we chose: the peer
// has made it, and we have not.
type deleteSPI struct{ spi uint32 }

func (t *deleteSPI) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	return message.Informational, []message.Payload{message.Delete{Protocol: message.ProtocolESP, SPIs: [][]byte{spi4(t.spi)}}}, s.state == stateEstablished
}

func (*deleteSPI) answered(*ikeSA, []message.Payload) {}

// createChildRequest answers CREATE_CHILD_SA.
func (s *ikeSA) createChildRequest(h message.Header, ps []message.Payload) {
	offer, ok := message.First[message.SA](ps)
	nonce, ok1 := message.First[message.Nonce](ps)
	if !ok || !ok1 || len(offer.Proposals) == 0 {
		s.m.status.Refused++
		s.reply(h, message.Notify{Notify: message.InvalidSyntax})
		return
	}
	if offer.Proposals[0].Protocol == message.ProtocolIKE {
		s.rekeyIKERequest(h, ps, nonce.Data)
		return
	}
	var old *child
	if n, ok := message.FindNotify(ps, message.RekeySA); ok {
		for _, c := range s.children {
			if n.Protocol == message.ProtocolESP && len(n.SPI) == 4 && c.pair.Out.SPI == binary.BigEndian.Uint32(n.SPI) {
				old = c
			}
		}
		if old == nil {
			s.reply(h, message.Notify{Protocol: n.Protocol, SPI: n.SPI, Notify: message.ChildSANotFound})
			return
		}
	}
	// RFC 7296, sections 2.25.1 and 2.25.2.
	_, rekeying := s.outTask().(*rekeyIKE)
	if rekeying || s.state != stateEstablished || old != nil && (old.state != childInstalled || old.peerNew != nil) {
		s.reply(h, message.Notify{Notify: message.TemporaryFailure})
		return
	}
	before := s.installed()
	out, c := s.childAsked(ps, childExchange{ni: nonce.Data, nr: s.m.random(nonceLen), old: old})
	s.reply(h, out...)
	s.childMade(c, old)
	if c != nil && old == nil {
		// The peer makes a new one instead of replacing: it may have lost the one before.
		for _, b := range before {
			if s.m.now.Sub(b.born) >= settleWindow {
				s.replaced(b)
			}
		}
	}
}

// installed are the pairs that carry packets.
func (s *ikeSA) installed() (out []*child) {
	for _, c := range s.children {
		if c.state == childInstalled {
			out = append(out, c)
		}
	}
	return out
}
