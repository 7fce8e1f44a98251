package suite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// Proposal is what one end is ready for, best first within each type. It is one
// proposal of an SA payload without its number and SPI.
type Proposal struct {
	Protocol   message.Protocol // ProtocolIKE or ProtocolESP
	Transforms []message.Transform
}

// Parse reads a proposal as strongSwan spells it: words with hyphens between,
// several of one kind being alternatives. As there, "sha256" in a proposal for
// IKE without any prf stands for prfsha256 too, and ESP without "esn" is "noesn".
func Parse(protocol message.Protocol, text string) (Proposal, error) {
	p := Proposal{Protocol: protocol}
	if protocol != message.ProtocolIKE && protocol != message.ProtocolESP {
		return p, fmt.Errorf("a proposal for %s", protocol)
	}
	for word := range strings.SplitSeq(strings.ToLower(strings.TrimSpace(text)), "-") {
		t, err := lookup(protocol, word)
		if err != nil {
			return p, fmt.Errorf("proposal %q: %w", text, err)
		}
		if slices.Contains(p.Transforms, t) {
			return p, fmt.Errorf("proposal %q: %q is there twice", text, word)
		}
		p.Transforms = append(p.Transforms, t)
	}
	if protocol == message.ProtocolIKE && len(p.of(message.TransformPRF)) == 0 {
		p.Transforms = append(p.Transforms, impliedPRFs(p)...)
	}
	if protocol == message.ProtocolESP && len(p.of(message.TransformESN)) == 0 {
		p.Transforms = append(p.Transforms, message.Transform{Type: message.TransformESN, ID: message.ESNNo})
	}
	// One order on the wire and in print, whatever was written.
	slices.SortStableFunc(p.Transforms, func(a, b message.Transform) int { return rank(a.Type) - rank(b.Type) })
	if err := p.check(); err != nil {
		return p, fmt.Errorf("proposal %q: %w", text, err)
	}
	return p, nil
}

// rank is the order in which the types are written: the integrity before the
// prf that it may imply.
func rank(t message.TransformType) int {
	switch t {
	case message.TransformEncryption:
		return 0
	case message.TransformIntegrity:
		return 1
	case message.TransformPRF:
		return 2
	case message.TransformKeyExchange:
		return 3
	case message.TransformESN:
		return 100
	default:
		return int(t)
	}
}

// impliedPRFs are the functions of the hashes of the proposal's integrity.
func impliedPRFs(p Proposal) []message.Transform {
	var out []message.Transform
	for _, t := range p.of(message.TransformIntegrity) {
		// The registries have SHA-256, 384 and 512 in a row, from 12 and from 5.
		out = append(out, message.Transform{Type: message.TransformPRF, ID: t.ID - message.IntegrityHMACSHA256 + message.PRFHMACSHA256})
	}
	return out
}

func (p Proposal) of(t message.TransformType) []message.Transform { return of(p.Transforms, t) }

func of(ts []message.Transform, kind message.TransformType) []message.Transform {
	var out []message.Transform
	for _, t := range ts {
		if t.Type == kind {
			out = append(out, t)
		}
	}
	return out
}

// check says what is missing, or too much.
func (p Proposal) check() error {
	encryption, integrity := p.of(message.TransformEncryption), p.of(message.TransformIntegrity)
	combined := slices.ContainsFunc(encryption, aead)
	switch {
	case len(encryption) == 0:
		return errors.New("no encryption, such as aes256gcm16")
	case combined && slices.ContainsFunc(encryption, func(t message.Transform) bool { return !aead(t) }):
		// RFC 5282, section 8.
		return fmt.Errorf("%s and %s need proposals of their own: one has its integrity within, one beside it", Word(encryption[0]), Word(encryption[len(encryption)-1]))
	case combined && len(integrity) > 0:
		hint := ""
		if p.Protocol == message.ProtocolIKE {
			hint = "; for a pseudorandom function write prf" + Word(integrity[0])
		}
		return fmt.Errorf("%s has its integrity within, %s is too much%s", Word(encryption[0]), Word(integrity[0]), hint)
	case !combined && len(integrity) == 0:
		return fmt.Errorf("%s needs integrity beside it, such as sha256", Word(encryption[0]))
	}
	if p.Protocol == message.ProtocolIKE {
		if len(p.of(message.TransformPRF)) == 0 {
			return errors.New("no pseudorandom function, such as prfsha384")
		}
		if len(p.of(message.TransformKeyExchange)) == 0 {
			return errors.New("no key exchange, such as ecp384 or x25519")
		}
	}
	additional := slices.ContainsFunc(p.Transforms, func(t message.Transform) bool { return t.Type.Additional() })
	if ke := p.of(message.TransformKeyExchange); additional && (len(ke) == 0 || slices.Contains(ke, noKE())) {
		return errors.New("an additional key exchange without a first one, such as ecp384")
	}
	return nil
}

func noKE() message.Transform {
	return message.Transform{Type: message.TransformKeyExchange, ID: uint16(message.KENone)}
}

// ParseList reads several proposals, best first.
func ParseList(protocol message.Protocol, texts []string) ([]Proposal, error) {
	var out []Proposal
	for _, text := range texts {
		p, err := Parse(protocol, text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// DefaultTexts are the proposals of who configures none.
func DefaultTexts(protocol message.Protocol) []string {
	if protocol == message.ProtocolESP {
		return []string{"aes256gcm16-ecp384-esn-noesn", "aes256gcm16-x25519-esn-noesn"}
	}
	return []string{"aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-x25519"}
}

// String spells the proposal so that Parse reads it back.
func (p Proposal) String() string {
	implied := p.Protocol == message.ProtocolIKE && slices.Equal(impliedPRFs(p), p.of(message.TransformPRF))
	return spell(p, implied)
}

func spell(p Proposal, withoutPRF bool) string {
	lone := p.Protocol == message.ProtocolESP && slices.Equal(p.of(message.TransformESN), []message.Transform{{Type: message.TransformESN, ID: message.ESNNo}})
	var out []string
	for _, t := range p.Transforms {
		if withoutPRF && t.Type == message.TransformPRF || lone && t.Type == message.TransformESN {
			continue
		}
		out = append(out, Word(t))
	}
	return strings.Join(out, "-")
}

// WithoutKE leaves the key exchanges out: the first CHILD SA takes its keys from
// those of the IKE SA (RFC 7296, section 1.2).
func (p Proposal) WithoutKE() Proposal {
	return p.without(func(t message.Transform) bool {
		return t.Type == message.TransformKeyExchange || t.Type.Additional()
	})
}

// WithoutESN leaves extended sequence numbers out, for a peer that chooses them
// and then cannot do them.
func (p Proposal) WithoutESN() Proposal {
	q := p.without(func(t message.Transform) bool { return t.Type == message.TransformESN })
	q.Transforms = append(q.Transforms, message.Transform{Type: message.TransformESN, ID: message.ESNNo})
	return q
}

func (p Proposal) without(f func(message.Transform) bool) Proposal {
	p.Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), f)
	return p
}

// KeyExchanges are the methods of the first key exchange, best first.
func (p Proposal) KeyExchanges() []message.KeyExchange {
	var out []message.KeyExchange
	for _, t := range p.of(message.TransformKeyExchange) {
		out = append(out, message.KeyExchange(t.ID))
	}
	return out
}

// Offer is the SA payload of proposals, numbered from 1, with our SPI.
func Offer(ps []Proposal, spi []byte) message.SA {
	var sa message.SA
	for i, p := range ps {
		sa.Proposals = append(sa.Proposals, message.Proposal{Number: uint8(i + 1), Protocol: p.Protocol, SPI: spi, Transforms: p.Transforms})
	}
	return sa
}

// Offered is the peer's proposal, as one end's.
func Offered(p message.Proposal) Proposal {
	ts := slices.Clone(p.Transforms)
	slices.SortStableFunc(ts, func(a, b message.Transform) int { return rank(a.Type) - rank(b.Type) })
	return Proposal{p.Protocol, ts}
}
