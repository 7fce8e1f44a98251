package suite

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// Choice is a proposal with one transform of each type, as both ends use it.
type Choice struct {
	Number   uint8 // of the proposal accepted
	Protocol message.Protocol
	SPI      []byte // the SPI in the proposal: the peer's; a copy, for it is kept longer than the message

	Encryption  message.Transform
	PRF         uint16                // IKE only
	Integrity   uint16                // IntegrityNone with an AEAD
	KeyExchange message.KeyExchange   // KENone in ESP without PFS
	Additional  []message.KeyExchange // in the order of their exchanges, without KENone (RFC 9370)
	ESN         bool

	transforms []message.Transform // as they stood in the offer, one of each type
}

// String spells the choice.
func (c Choice) String() string {
	return Proposal{c.Protocol, c.transforms}.String()
}

// Answer is the SA payload that accepts the choice, with our SPI.
func (c Choice) Answer(spi []byte) message.SA {
	return message.SA{Proposals: []message.Proposal{{Number: c.Number, Protocol: c.Protocol, SPI: spi, Transforms: c.transforms}}}
}

// Mismatch is that nothing offered fits what is configured. It says what differs.
type Mismatch struct {
	Theirs, Ours []Proposal
	// Why has a sentence for each of the peer's proposals, about the one of
	// ours that comes closest.
	Why []string
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("no proposal in common: the peer offers %s; here are %s: %s", list(m.Theirs), list(m.Ours), strings.Join(m.Why, "; "))
}

// Bounds of what a Mismatch describes of the peer's offer: proposals, and
// transforms in each.
const (
	maxDescribed = 8
	maxWords     = 32
)

func list(ps []Proposal) string {
	if len(ps) == 0 {
		return "none"
	}
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

// Select chooses for the responder: the first of ours for which the peer has an
// equal, and in it the first of our transforms of each type. The order is ours,
// not the peer's. The error is a *Mismatch.
func Select(offered message.SA, ours []Proposal) (Choice, error) {
	for _, our := range ours {
		for _, o := range offered.Proposals {
			if c, missing := match(o, our); len(missing) == 0 {
				return c, nil
			}
		}
	}
	// What comes to no agreement may come from anybody, and can be long: the
	// beginning of it is described.
	m := &Mismatch{Ours: ours}
	for _, o := range offered.Proposals[:min(len(offered.Proposals), maxDescribed)] {
		o.Transforms = o.Transforms[:min(len(o.Transforms), maxWords)]
		theirs := Offered(o)
		m.Theirs = append(m.Theirs, theirs)
		var closest []string
		for i, our := range ours {
			if _, missing := match(o, our); i == 0 || len(missing) < len(closest) {
				closest = missing
			}
		}
		m.Why = append(m.Why, fmt.Sprintf("in %s %s", theirs, strings.Join(closest, " and ")))
	}
	return Choice{}, m
}

// Accept checks the responder's answer against what was offered: one proposal
// with one transform of each type, all of them from the offer (RFC 7296,
// section 3.3.6).
func Accept(answer message.SA, offer []Proposal) (Choice, error) {
	if len(answer.Proposals) != 1 {
		return Choice{}, fmt.Errorf("the answer has %d proposals, not one", len(answer.Proposals))
	}
	a := answer.Proposals[0]
	if a.Number == 0 || int(a.Number) > len(offer) {
		return Choice{}, fmt.Errorf("the answer accepts proposal %d, of %d offered", a.Number, len(offer))
	}
	seen := map[message.TransformType]bool{}
	for _, t := range a.Transforms {
		if seen[t.Type] {
			return Choice{}, fmt.Errorf("the answer chooses twice the %s: %s", t.Type, Offered(a))
		}
		seen[t.Type] = true
	}
	c, missing := match(a, offer[a.Number-1])
	if len(missing) > 0 {
		return Choice{}, fmt.Errorf("the answer, %s, is not what was offered, %s: %s", Offered(a), offer[a.Number-1], strings.Join(missing, " and "))
	}
	return c, nil
}

// match chooses from both what is in both. missing says in words what is not:
// one part of a sentence for each type.
func match(theirs message.Proposal, ours Proposal) (c Choice, missing []string) {
	if theirs.Protocol != ours.Protocol {
		return c, []string{fmt.Sprintf("the protocol is %s, here %s", theirs.Protocol, ours.Protocol)}
	}
	c = Choice{Number: theirs.Number, Protocol: theirs.Protocol, SPI: bytes.Clone(theirs.SPI)}
	for _, kind := range kinds(theirs.Transforms, ours.Transforms) {
		t, omit, ok := choose(kind, of(theirs.Transforms, kind), ours.of(kind))
		switch {
		case !ok:
			missing = append(missing, differ(kind, of(theirs.Transforms, kind), ours.of(kind)))
		case !omit:
			c.take(t)
		}
	}
	return c, missing
}

// kinds lists the types that are in either, in the order of printing.
func kinds(a, b []message.Transform) []message.TransformType {
	var out []message.TransformType
	for _, t := range slices.Concat(a, b) {
		if !slices.Contains(out, t.Type) {
			out = append(out, t.Type)
		}
	}
	slices.SortFunc(out, func(x, y message.TransformType) int { return rank(x) - rank(y) })
	return out
}

// choose picks one transform of a type. No transform and a transform NONE are
// the same where the type may be missing (RFC 7296, section 3.3.3); then omit
// says that the answer has none.
func choose(kind message.TransformType, theirs, ours []message.Transform) (t message.Transform, omit, ok bool) {
	for _, o := range ours {
		if slices.Contains(theirs, o) {
			return o, false, true
		}
	}
	absent := message.Transform{Type: kind}
	switch {
	case kind == message.TransformESN:
		// A peer may leave it out when it knows no extended sequence numbers.
		return absent, true, len(theirs) == 0 && slices.Contains(ours, absent)
	case kind != message.TransformIntegrity && kind != message.TransformKeyExchange && !kind.Additional():
		return t, false, false
	case len(theirs) == 0 && slices.Contains(ours, absent):
		return absent, true, true
	case len(ours) == 0 && slices.Contains(theirs, absent):
		return absent, false, true
	}
	return t, false, false
}

func (c *Choice) take(t message.Transform) {
	c.transforms = append(c.transforms, t)
	switch {
	case t.Type == message.TransformEncryption:
		c.Encryption = t
	case t.Type == message.TransformPRF:
		c.PRF = t.ID
	case t.Type == message.TransformIntegrity:
		c.Integrity = t.ID
	case t.Type == message.TransformKeyExchange:
		c.KeyExchange = message.KeyExchange(t.ID)
	case t.Type == message.TransformESN:
		c.ESN = t.ID == message.ESNYes
	case t.Type.Additional() && t.ID != uint16(message.KENone):
		c.Additional = append(c.Additional, message.KeyExchange(t.ID))
	}
}

func differ(kind message.TransformType, theirs, ours []message.Transform) string {
	say := func(ts []message.Transform) string {
		var out []string
		for _, t := range ts {
			out = append(out, Word(t))
		}
		if len(out) == 0 {
			return "none"
		}
		return strings.Join(out, " or ")
	}
	return fmt.Sprintf("the %s is %s, here %s", kind, say(theirs), say(ours))
}
