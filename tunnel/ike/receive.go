package ike

import (
	"errors"
	"net/netip"
	"time"

	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
)

// message takes a message that has the SA's SPIs.
func (s *ikeSA) message(port Port, from netip.AddrPort, h message.Header, datagram []byte) {
	if h.Exchange == message.IKESAInit {
		if s.state != stateInit || !h.Response() {
			s.m.status.Refused++
			return
		}
		s.initAnswer(datagram)
		return
	}
	if s.open == nil {
		s.m.status.Refused++
		return
	}
	o, err := s.open.Open(datagram)
	var critical *message.CriticalError
	if err != nil {
		s.m.status.Refused++
		if !errors.As(err, &critical) {
			s.hint(h, datagram)
		}
		return
	}
	if h.Response() {
		s.response(o)
		return
	}
	s.requested(port, from, o)
}

// alive notes that the peer has said something that it has not said before: a
// message that comes once more may come from anybody who has seen it.
func (s *ikeSA) alive() {
	s.heard = s.m.now
	s.m.status.LastHeard = s.m.now
}

// hint is an answer without protection: the peer may have lost the SA. It is
// asked at once (RFC 7296, section 2.21.4), but nothing more is believed.
func (s *ikeSA) hint(h message.Header, datagram []byte) {
	if !h.Response() || s.state != stateEstablished || s.m.now.Sub(s.m.hinted) < 10*time.Second {
		return
	}
	msg, err := message.Decode(datagram)
	if err != nil {
		return
	}
	if _, ok := message.FindNotify(msg.Payloads, message.InvalidIKESPI); ok {
		s.m.hinted = s.m.now
		s.do(&probe{})
	}
}

// response takes a protected answer.
func (s *ikeSA) response(o keys.Opened) {
	r := s.out
	if r == nil || o.ID != r.id || o.Exchange != r.exchange {
		return // late
	}
	first, plain, ok := s.assemble(&s.outPieces, o)
	if !ok {
		return
	}
	s.alive()
	ps, err := message.DecodePayloads(first, plain)
	if err != nil {
		s.m.status.Refused++
		s.m.problem("the peer's answer to %s cannot be read (%v): the IKE SA is given up", r.exchange, err)
		s.die(0)
		s.m.retry()
		return
	}
	if o.Exchange == message.IKEIntermediate {
		s.initial.chain(s, o.Header, first, plain)
	}
	s.out, s.outPieces = nil, nil
	s.sendID++
	r.task.answered(s, ps)
	s.proceed()
}

// assemble puts fragments together; ok is false while some are missing.
func (s *ikeSA) assemble(pieces **message.Reassembly, o keys.Opened) (first message.PayloadType, plain []byte, ok bool) {
	if o.Total == 0 {
		return o.First, o.Plain, true
	}
	if *pieces == nil {
		*pieces = &message.Reassembly{}
	}
	complete, err := (*pieces).Add(o.Number, o.Total, o.First, o.Plain)
	if err != nil {
		s.m.status.Refused++
		return 0, nil, false
	}
	if !complete {
		return 0, nil, false
	}
	first, plain = (*pieces).Plain()
	*pieces = nil
	return first, plain, true
}

// requested takes a protected request.
func (s *ikeSA) requested(port Port, from netip.AddrPort, o keys.Opened) {
	switch {
	case o.ID+1 == s.recvID && s.answer != nil:
		if o.Total == 0 || o.Number == 1 { // RFC 7383, section 2.6.1
			for _, d := range s.answer {
				s.m.e.Send(port, from, d)
			}
		}
		return
	case o.ID != s.recvID || s.state == stateDead:
		s.m.status.Refused++
		return
	case s.initiator && s.state < stateEstablished:
		return // the peer is ahead: its last answer is still on its way. It will ask again.
	}
	first, plain, ok := s.assemble(&s.inPieces, o)
	if !ok {
		return
	}
	s.alive()
	s.port, s.to = port, from // where it is asked from is where answers, and later requests, go
	ps, err := message.DecodePayloads(first, plain)
	var critical *message.CriticalError
	switch {
	case errors.As(err, &critical):
		s.m.status.Refused++
		s.reply(o.Header, message.Notify{Notify: message.UnsupportedCriticalPayload, Data: []byte{byte(critical.Payload)}})
		return
	case err != nil:
		// RFC 7296, section 2.21: a peer that makes such a message cannot be talked to.
		s.m.status.Refused++
		s.m.problem("the peer's %s request cannot be read (%v): the IKE SA is given up", o.Exchange, err)
		s.reply(o.Header, message.Notify{Notify: message.InvalidSyntax})
		s.end()
		return
	}
	s.confirmed()
	if o.Exchange == message.IKEIntermediate && s.initial != nil {
		s.initial.chain(s, o.Header, first, plain)
	}
	switch {
	case o.Exchange == message.IKEIntermediate && s.state == stateAuth && !s.initiator:
		s.intermediateRequest(o.Header, ps)
	case o.Exchange == message.IKEAuth && s.state == stateAuth && !s.initiator:
		s.authRequest(o.Header, ps)
	case o.Exchange == message.CreateChildSA && s.state >= stateEstablished && s.crossing():
		s.reply(o.Header, message.Notify{Notify: message.TemporaryFailure})
	case o.Exchange == message.CreateChildSA && s.state >= stateEstablished:
		s.createChildRequest(o.Header, ps)
	case o.Exchange == message.Informational && s.state >= stateEstablished:
		s.informationalRequest(o.Header, ps)
	case o.Exchange == message.Informational && s.state == stateAuth && !s.initiator:
		s.reply(o.Header) // an initiator that does not like us: RFC 7296, section 2.21.2
		s.die(zombieLife)
	default:
		s.m.status.Refused++
		s.reply(o.Header, message.Notify{Notify: message.InvalidSyntax})
	}
	if s.state == stateEstablished && o.Exchange != message.IKEAuth { // it had our answer to that
		s.proclaim()
	}
}

// end forgets an SA that came to a bad end, and tries again.
func (s *ikeSA) end() {
	if s.lives() {
		s.m.retry()
	}
	s.die(zombieLife)
}

// reply answers the request that is being served, and keeps the answer.
func (s *ikeSA) reply(h message.Header, ps ...message.Payload) {
	datagrams, err := s.protect(s.header(h.Exchange, h.ID, message.FlagResponse), ps)
	if err != nil {
		s.m.problem("an answer cannot be made: %v", err)
		return
	}
	s.recvID, s.answer, s.inPieces = h.ID+1, datagrams, nil
	s.send(datagrams)
}
