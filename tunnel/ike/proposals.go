package ike

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

var (
	errKEMethod       = errors.New("the key exchange is not by the method that was chosen")
	errNoIntermediate = errors.New("an additional key exchange was chosen without IKE_INTERMEDIATE (RFC 9370, section 2.2.1)")
)

// hasAdditional reports whether a proposal has key exchanges of RFC 9370.
func hasAdditional(ps []suite.Proposal) bool {
	return slices.ContainsFunc(ps, func(p suite.Proposal) bool {
		return slices.ContainsFunc(p.Transforms, func(t message.Transform) bool { return t.Type.Additional() })
	})
}

// withoutAdditional leaves the additional key exchanges out: for a peer that
// cannot do them, and for rekeying, where the strength of the first keys is
// inherited by SK_d.
func withoutAdditional(ps []suite.Proposal) []suite.Proposal {
	var out []suite.Proposal
	for _, p := range ps {
		p.Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), func(t message.Transform) bool { return t.Type.Additional() })
		out = append(out, p)
	}
	return out
}

// optional are the proposals of which a peer without IKE_INTERMEDIATE may choose:
// those that do not insist on additional key exchanges.
func optional(ps []suite.Proposal) []suite.Proposal {
	return slices.DeleteFunc(slices.Clone(ps), func(p suite.Proposal) bool {
		needs := map[message.TransformType]bool{}
		for _, t := range p.Transforms {
			if t.Type.Additional() {
				needs[t.Type] = needs[t.Type] || t.ID == uint16(message.KENone)
			}
		}
		for _, none := range needs {
			if !none {
				return true
			}
		}
		return false
	})
}

// offers reports whether a method is among the first key exchanges of proposals.
func offers(ps []suite.Proposal, method message.KeyExchange) bool {
	return slices.ContainsFunc(ps, func(p suite.Proposal) bool { return slices.Contains(p.KeyExchanges(), method) })
}

// spell writes proposals as they are configured.
func spell(ps []suite.Proposal) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

// explain says what a refusal of ours by the peer is about.
func (s *ikeSA) explain(n message.Notify, offered []suite.Proposal) string {
	c := &s.m.cfg
	switch n.Notify {
	case message.NoProposalChosen:
		return fmt.Sprintf(": it takes none of ours, %s; its own log or configuration says which it would take", spell(offered))
	case message.InvalidKEPayload:
		if method, err := n.KeyExchange(); err == nil {
			return fmt.Sprintf(": it wants the key exchange %s, and ours are %s", method, spell(offered))
		}
	case message.UnexpectedNATDetected:
		return ": it carries ESP without UDP, and sees a NAT on the path, or that we want UDP" + mendRaw
	case message.TSUnacceptable:
		return fmt.Sprintf(": it takes none of our traffic selectors, local %s and remote %s", spellTS(c.LocalTS), spellTS(c.RemoteTS))
	case message.AuthenticationFailed:
		how := "the preshared key differs"
		if len(c.PSK) == 0 {
			how = "it does not take our certificate (authority, dates, names)"
			if v := validityOf(c.Certificates[0], auth.FirstToEnd(c.Certificates)); v.ended(s.m.now) {
				how = fmt.Sprintf("%s ended at %s", v.of(c.LocalID.String()), v.until.UTC().Format(time.DateTime))
			}
		}
		if c.PPK == nil && s.m.status.PeerPPK {
			how = "it has a postquantum preshared key and here is no ppk_file, or " + how
		}
		return fmt.Sprintf(": %s, or its remote_id is not %s (local_id here), or its local_id is not %s (remote_id here)", how, c.LocalID, c.RemoteID)
	default: // the others say all by their names
	}
	return ""
}

func spellTS(list []message.Selector) string {
	var out []string
	for _, t := range list {
		out = append(out, t.String())
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
