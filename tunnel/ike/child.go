package ike

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
	"github.com/transitd/transitd/tunnel/sa"
)

// maxChildren bounds the pairs of an IKE SA: one is used, two while it is
// replaced, and a few for what may cross.
const maxChildren = 6

// childState is how far a pair of CHILD SAs is.
type childState uint8

const (
	childInstalled childState = iota
	childReplaced             // the peer has made a successor, and will delete it
	childDeleting             // we delete it
	childGone
)

func (s childState) String() string {
	return [...]string{"installed", "replaced", "deleting", "gone"}[s]
}

// child is a pair of CHILD SAs.
type child struct {
	pair          sa.Pair
	choice        suite.Choice
	local, remote []message.Selector
	state         childState
	ours          bool   // we began the exchange that made it
	ready         bool   // the peer has it too
	lowest        []byte // the lower nonce of that exchange

	born, rekeyAt, expireAt time.Time
	overdueAt               time.Time // it should have been replaced by then
	replacedAt              time.Time
	removeAt                time.Time // of one that is gone
	rested                  time.Time // no rekeying before
	peerNew                 *child    // its successor by the peer's request, while ours may be on its way
	came                    uint64    // packets, when it was last looked
}

func spi4(spi uint32) []byte { return binary.BigEndian.AppendUint32(nil, spi) }
func spi8(spi uint64) []byte { return binary.BigEndian.AppendUint64(nil, spi) }

// childOffer is what we offer, and take, for a CHILD SA. The first one has no
// key exchange of its own.
func (s *ikeSA) childOffer(first bool) []suite.Proposal {
	out := slices.Clone(s.m.cfg.ESP)
	for i := range out {
		if first {
			out[i] = out[i].WithoutKE()
		}
		if s.noESN {
			out[i] = out[i].WithoutESN()
		}
	}
	return out
}

// childExchange is what an exchange that makes a CHILD SA knows.
type childExchange struct {
	spi    uint32 // ours
	offer  []suite.Proposal
	ni, nr []byte
	secret []byte // of a key exchange; nil without
	first  bool   // in IKE_AUTH
	old    *child // that it replaces
	ours   bool
}

// newChild makes a pair of what was agreed on, and installs it.
func (s *ikeSA) newChild(choice suite.Choice, x childExchange, local, remote []message.Selector, use bool) (*child, error) {
	m := s.m
	cipher := cipherOf(choice.Encryption)
	if cipher == 0 || len(choice.SPI) != 4 || binary.BigEndian.Uint32(choice.SPI) < 256 {
		return nil, errors.New("the SA payload has no usable SPI")
	}
	var secrets [][]byte
	if x.secret != nil {
		secrets = append(secrets, x.secret)
	}
	k, err := keys.DeriveChild(s.prf, s.keys.D, choice, x.ni, x.nr, secrets...)
	clear(x.secret)
	if err != nil {
		return nil, err
	}
	c := &child{choice: choice, local: local, remote: remote, ours: x.ours, ready: x.ours, lowest: lower(x.ni, x.nr), born: m.now}
	in, out := k.Er, k.Ei
	if !x.ours {
		in, out = out, in
	}
	c.pair = sa.Pair{
		In: sa.Direction{SPI: x.spi, Key: in}, Out: sa.Direction{SPI: binary.BigEndian.Uint32(choice.SPI), Key: out},
		Cipher: cipher, ESN: choice.ESN, Limits: m.limits(choice.ESN), Local: forData(local), Remote: forData(remote),
	}
	life := m.cfg.ChildLifetime
	c.rekeyAt = m.now.Add(life - m.jitter(life/10))
	c.expireAt = m.now.Add(life + grace(life))
	c.overdueAt = overdue(c.expireAt, life)
	if err := m.e.Install(c.pair, use); err != nil {
		k.Wipe()
		return nil, fmt.Errorf("install the SA: %w", err)
	}
	s.children = append(s.children, c)
	m.pairs = append(m.pairs, c)
	s.say("CHILD SA %08x/%08x, %s, local %s, remote %s", c.pair.In.SPI, c.pair.Out.SPI, c.choice, spellTS(local), spellTS(remote))
	return c, nil
}

// limits of a pair. Without extended sequence numbers it is the format that ends;
// with them it is the cipher's margin: far more than an hour carries. The
// configuration may have less. A pair is replaced at four fifths of them.
func (m *Machine) limits(esn bool) sa.Limits {
	packets, bytes := uint64(1)<<32-1, m.cfg.ChildBytes
	if esn {
		packets = 1 << 40
	}
	if n := m.cfg.ChildPackets; n > 0 {
		packets = min(packets, n)
	}
	return sa.Limits{SoftPackets: packets - packets/5, HardPackets: packets, SoftBytes: bytes - bytes/5, HardBytes: bytes}
}

// childAsked is the responder's part of an exchange that makes a CHILD SA: what
// it answers, and the pair, or a notification why not and nil.
func (s *ikeSA) childAsked(ps []message.Payload, x childExchange) ([]message.Payload, *child) {
	m := s.m
	refuse := func(t message.NotifyType) ([]message.Payload, *child) {
		return []message.Payload{message.Notify{Notify: t}}, nil
	}
	offer, ok := message.First[message.SA](ps)
	tsi, ok1 := message.FindTS(ps, message.TypeTSi)
	tsr, ok2 := message.FindTS(ps, message.TypeTSr)
	switch {
	case x.first && !ok && !ok1 && !ok2:
		return nil, nil // without a CHILD SA (RFC 6023)
	case !ok || !ok1 || !ok2:
		m.status.Refused++
		return refuse(message.InvalidSyntax)
	case len(s.children) >= maxChildren:
		return refuse(message.NoAdditionalSAs)
	}
	choice, err := suite.Select(offer, s.childOffer(x.first))
	if err != nil {
		m.found(CauseProposals, "CHILD SA asked for by the peer, ESP proposals: %v", s.childMismatch(offer, x.first, err))
		return refuse(message.NoProposalChosen)
	}
	remote, local := narrow(tsi.Selectors, m.cfg.RemoteTS), narrow(tsr.Selectors, m.cfg.LocalTS)
	if len(remote) == 0 || len(local) == 0 {
		m.found(CauseSelectors, "CHILD SA asked for by the peer, traffic selectors: the peer has %s on its side and %s on ours; here remote_ts is %s and local_ts %s, and nothing is in both",
			spellTS(tsi.Selectors), spellTS(tsr.Selectors), spellTS(m.cfg.RemoteTS), spellTS(m.cfg.LocalTS))
		return refuse(message.TSUnacceptable)
	}
	x.spi = m.newChildSPI()
	out := []message.Payload{choice.Answer(spi4(x.spi))}
	if !x.first {
		out = append(out, message.Nonce{Data: x.nr})
	}
	if choice.KeyExchange != message.KENone {
		ke, ok := message.First[message.KE](ps)
		if !ok || ke.Method != choice.KeyExchange {
			return []message.Payload{message.WantKE(choice.KeyExchange)}, nil
		}
		public, secret, err := keys.Answer(ke.Method, m.cfg.Random, ke.Data)
		if err != nil {
			m.status.Refused++
			return refuse(message.InvalidSyntax)
		}
		x.secret = secret
		out = append(out, message.KE{Method: ke.Method, Data: public})
	}
	// Until the peer has our answer it cannot take packets by the new pair: the old
	// one goes on, if there is one.
	c, err := s.newChild(choice, x, local, remote, m.best() == nil)
	if err != nil {
		m.problem("CHILD SA asked for by the peer: %v", err)
		return refuse(message.NoProposalChosen)
	}
	return append(out, message.TS{Of: message.TypeTSi, Selectors: remote}, message.TS{Of: message.TypeTSr, Selectors: local}), c
}

// childMade is what follows on the responder's side once the answer has gone.
func (s *ikeSA) childMade(c, old *child) {
	if c == nil {
		return
	}
	s.childFailures, s.childAt = 0, time.Time{}
	if s.proclaimed {
		s.m.mended()
	}
	if old == nil {
		return
	}
	s.m.status.ChildRekeys++
	old.peerNew = c
	if t, ok := s.outTask().(*rekeyChild); !ok || t.old != old {
		s.replaced(old)
	}
}

// replaced marks a pair that the peer has replaced and will delete.
func (s *ikeSA) replaced(c *child) {
	if c.state == childInstalled {
		c.state, c.replacedAt = childReplaced, s.m.now
	}
}

func (s *ikeSA) outTask() task {
	if s.out == nil {
		return nil
	}
	return s.out.task
}

// childAnswered is the initiator's part: the pair, or nil after it has noted why
// there is none. Errors that have rules of their own are the caller's before.
func (s *ikeSA) childAnswered(ps []message.Payload, pending *keys.Pending, x childExchange) *child {
	x.ours = true
	answer, ok := message.First[message.SA](ps)
	if !ok {
		for _, n := range message.All[message.Notify](ps) {
			if n.Notify.Error() {
				s.childRefused(n, x)
				return nil
			}
		}
		s.childFailed("the peer's answer has no CHILD SA")
		return nil
	}
	if p := answer.Proposals[0]; len(p.SPI) == 4 && slices.Contains(s.early, binary.BigEndian.Uint32(p.SPI)) {
		s.childFailed("the peer has made a CHILD SA and deleted it at once")
		return nil
	}
	c, err := s.childAgreed(answer, ps, pending, x)
	if err != nil {
		s.childFailed("CHILD SA: %v", err)
		s.do(&deleteSPI{x.spi}) // the peer has made it, and would send by it
		return nil
	}
	s.childFailures, s.childAt = 0, time.Time{}
	s.m.mended()
	return c
}

// childAgreed makes the pair of an answer, if it is one to what was asked.
func (s *ikeSA) childAgreed(answer message.SA, ps []message.Payload, pending *keys.Pending, x childExchange) (*child, error) {
	m := s.m
	tsi, ok1 := message.FindTS(ps, message.TypeTSi)
	tsr, ok2 := message.FindTS(ps, message.TypeTSr)
	choice, err := suite.Accept(answer, x.offer)
	switch {
	case err != nil:
		return nil, err
	case !ok1 || !ok2 || !subset(tsi.Selectors, m.cfg.LocalTS) || !subset(tsr.Selectors, m.cfg.RemoteTS):
		return nil, fmt.Errorf("the peer's traffic selectors, %s and %s, are more than was offered, %s and %s",
			spellTS(tsi.Selectors), spellTS(tsr.Selectors), spellTS(m.cfg.LocalTS), spellTS(m.cfg.RemoteTS))
	}
	if choice.KeyExchange != message.KENone {
		ke, ok := message.First[message.KE](ps)
		if !ok || pending == nil || ke.Method != choice.KeyExchange || ke.Method != pending.Method {
			return nil, errKEMethod
		}
		if x.secret, err = pending.Finish(ke.Data); err != nil {
			return nil, err
		}
	}
	use := x.old == nil || x.old.peerNew == nil // else it is open which of two wins
	return s.newChild(choice, x, tsi.Selectors, tsr.Selectors, use)
}

// childRefused takes the peer's refusal of a CHILD SA.
func (s *ikeSA) childRefused(n message.Notify, x childExchange) {
	if n.Notify == message.NoProposalChosen && !s.noESN && offersESN(x.offer) {
		// strongSwan without the kernel chooses extended sequence numbers, cannot do
		// them, and says this: once more without.
		s.noESN = true
		s.childAt = s.m.now
		if s.childFailures == 0 { // else it has been said
			s.m.say("the peer refuses the CHILD SA (%s): once more without extended sequence numbers", n.Notify)
		}
		return
	}
	s.m.refused("the peer refuses the CHILD SA: %s%s", n.Notify, s.explain(n, s.offered(x.offer)))
	if n.Notify == message.NoProposalChosen {
		s.noESN = false // it was not that
	}
	s.childLater()
}

// offersESN reports whether extended sequence numbers are among proposals.
func offersESN(ps []suite.Proposal) bool {
	return slices.ContainsFunc(ps, func(p suite.Proposal) bool {
		return slices.Contains(p.Transforms, message.Transform{Type: message.TransformESN, ID: message.ESNYes})
	})
}

// offered are proposals as they are configured, for a person: what was left out
// of them after a refusal is not what differs.
func (s *ikeSA) offered(tried []suite.Proposal) []suite.Proposal {
	if s.noESN {
		return s.m.cfg.ESP
	}
	return tried
}

// childMismatch is why a pair was refused, with the proposals that are configured.
func (s *ikeSA) childMismatch(offer message.SA, first bool, err error) error {
	if !s.noESN {
		return err
	}
	ours := slices.Clone(s.m.cfg.ESP)
	for i := range ours {
		if first {
			ours[i] = ours[i].WithoutKE()
		}
	}
	if _, full := suite.Select(offer, ours); full != nil {
		return full
	}
	return err
}

// childFailed notes why there is no pair, and has it tried again later.
func (s *ikeSA) childFailed(format string, args ...any) {
	s.m.problem(format, args...)
	s.childLater()
}

// childLater has a pair tried again later.
func (s *ikeSA) childLater() {
	s.childFailures++
	wait := min(again<<min(s.childFailures, 10), 4*mostAgain)
	s.childAt = s.m.now.Add(wait + s.m.jitter(wait/4))
}

// look asks the data plane what came by a pair: that says that the peer is there, and has it.
func (c *child) look(s *ikeSA) (u sa.Usage) {
	m := s.m
	u, _ = m.e.Usage(c.pair.In.SPI)
	if u.InPackets != c.came {
		c.came, c.ready = u.InPackets, true
		s.proclaim()
		s.heard, m.status.LastHeard = m.now, m.now
	}
	// It has it too if it has had the time to ask for our answer again.
	c.ready = c.ready || m.now.Sub(c.born) >= halfOpenLife
	return u
}

// aged begins what a pair's age, or what it carried, asks for.
func (c *child) aged(s *ikeSA) {
	m := s.m
	u := c.look(s)
	switch {
	case c.state == childReplaced && m.now.Sub(c.replacedAt) >= replacedLife:
		s.deleteChild(c)
	case c.state != childInstalled:
	case !m.now.Before(c.expireAt): // also if the last refusal was a moment ago
		m.problem("CHILD SA %08x is too old and could not be replaced: it is deleted", c.pair.In.SPI)
		m.status.Expired++
		s.deleteChild(c)
	case m.now.Before(c.rested):
	case !m.now.Before(c.rekeyAt) || u.Spent:
		s.do(&rekeyChild{old: c})
	}
}

// best is the pair that packets should go by: the newest of those that stay,
// and before all one that the peer is known to have.
func (m *Machine) best() (best *child) {
	for _, s := range m.sas {
		if s.state != stateEstablished && s.state != stateReplaced {
			continue
		}
		for _, c := range s.children {
			if c.state != childInstalled {
				continue
			}
			if best == nil || best.before(c) {
				best = c
			}
		}
	}
	return best
}

func (c *child) before(d *child) bool {
	switch {
	case c.ready != d.ready:
		return d.ready
	case !c.born.Equal(d.born):
		return c.born.Before(d.born)
	}
	return loses(c.lowest, d.lowest)
}

// confirmed notes that the peer has all pairs that it asked for: it sends another
// request, and had to have our answer before (RFC 7296, section 2.3: the window is 1).
func (s *ikeSA) confirmed() {
	for _, c := range s.children {
		c.ready = true
	}
}

// retire takes a pair out of use. What was on its way is still taken, if there
// is another one to go by.
func (s *ikeSA) retire(c *child) {
	m := s.m
	s.children = slices.DeleteFunc(s.children, func(o *child) bool { return o == c })
	c.state = childGone
	b := m.best()
	if b == nil {
		m.forgetPair(c)
		return
	}
	other := slices.ContainsFunc(m.pairs, func(o *child) bool { return o != b && o.state != childGone })
	if b.ready || !other { // else one that is on its way out goes on until the peer has this one
		m.e.Use(b.pair.In.SPI)
	}
	c.removeAt = m.now.Add(linger)
}

// endChildren takes an IKE SA's pairs out of use. If there is another one, what
// comes by them is still taken until the peer knows: its packets may be on their
// way for as long as it has not answered our DELETE.
func (s *ikeSA) endChildren() {
	for _, c := range s.children {
		c.state = childDeleting
	}
	switch b := s.m.best(); {
	case b == nil:
		s.dropChildren()
	case b.ready:
		s.m.e.Use(b.pair.In.SPI)
	}
}

func (s *ikeSA) dropChildren() {
	for _, c := range s.children {
		c.state = childGone // none of them is the best of those that stay
	}
	for _, c := range slices.Clone(s.children) {
		s.retire(c)
	}
}

func (m *Machine) forgetPair(c *child) {
	m.e.Remove(c.pair.In.SPI)
	clear(c.pair.In.Key)
	clear(c.pair.Out.Key)
	m.pairs = slices.DeleteFunc(m.pairs, func(o *child) bool { return o == c })
}

// sweepPairs forgets pairs that have lingered, and at once those after which nothing is left.
func (m *Machine) sweepPairs() {
	b := m.best()
	for _, c := range slices.Clone(m.pairs) {
		if c.state == childGone && (b == nil || !m.now.Before(c.removeAt)) {
			m.forgetPair(c)
		}
	}
}
