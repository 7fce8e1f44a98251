package ike

import (
	"encoding/binary"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// probe asks whether the peer is there (RFC 7296, section 2.4).
type probe struct{}

func (*probe) begin(s *ikeSA) (message.Exchange, []message.Payload, bool) {
	return message.Informational, nil, s.state == stateEstablished
}

func (*probe) answered(*ikeSA, []message.Payload) {}

// informationalRequest answers INFORMATIONAL.
func (s *ikeSA) informationalRequest(h message.Header, ps []message.Payload) {
	var out []message.Payload
	for _, d := range message.All[message.Delete](ps) {
		switch d.Protocol {
		case message.ProtocolIKE:
			s.reply(h)
			s.deleted("the peer has deleted the IKE SA")
			return
		case message.ProtocolESP:
			if s.crossing() { // the peer goes on with this one
				s.predecessor.adopted(s)
			}
			if spis := s.childrenDeleted(d); len(spis) > 0 {
				out = append(out, message.Delete{Protocol: message.ProtocolESP, SPIs: spis})
			}
		case message.ProtocolNone, message.ProtocolAH:
		}
	}
	if _, ok := message.FindNotify(ps, message.AuthenticationFailed); ok {
		s.reply(h)
		s.m.problem("the peer refuses us: AUTHENTICATION_FAILED%s", s.explain(message.Notify{Notify: message.AuthenticationFailed}, nil))
		s.end()
		return
	}
	s.reply(h, out...)
}

// childrenDeleted takes a DELETE of pairs, and returns what is deleted in turn:
// nothing for a pair that we are deleting ourselves (RFC 7296, section 1.4.1).
func (s *ikeSA) childrenDeleted(d message.Delete) (out [][]byte) {
	s.early = s.early[:0]
	for _, spi := range d.SPIs {
		if len(spi) != 4 {
			continue
		}
		s.early = append(s.early, binary.BigEndian.Uint32(spi))
		for _, c := range s.children {
			if c.pair.Out.SPI != binary.BigEndian.Uint32(spi) {
				continue
			}
			if t, ok := s.outTask().(*deleteChild); !ok || t.child != c {
				out = append(out, spi4(c.pair.In.SPI))
			}
			if c.state == childInstalled {
				s.m.say("the peer has deleted CHILD SA %08x", c.pair.In.SPI)
				s.childAt = s.m.now.Add(again) // it may make another one
			}
			for _, o := range s.children {
				if o.peerNew == c && o.state == childReplaced {
					o.state, o.peerNew = childInstalled, nil // the peer could not take what was to replace it
				}
			}
			s.retire(c)
			break
		}
	}
	return out
}

// deleted takes the peer's DELETE of the IKE SA.
func (s *ikeSA) deleted(why string) {
	m := s.m
	if s.crossing() { // it is the one that gives way
		s.adopted(s.predecessor)
	}
	if n := s.successor; n != nil && n.state == stateEstablished && s.state == stateEstablished {
		s.succeed(n) // our own request to replace it is void
	}
	if s.state == stateEstablished {
		m.say("%s", why)
		if m.beginAt.Before(m.now.Add(again)) {
			m.beginAt = m.now.Add(again + m.jitter(again))
		}
	}
	s.die(zombieLife)
}
