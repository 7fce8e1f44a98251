package ike

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// state is how far an IKE SA is.
type state uint8

const (
	stateInit        state = iota // our IKE_SA_INIT is on its way
	stateAuth                     // keys are there, nobody is authenticated
	stateEstablished              //
	stateReplaced                 // a successor is there; whoever made that deletes this one
	stateDeleting                 // our DELETE is on its way
	stateDead                     // only repeats its last answer
)

func (s state) String() string {
	return [...]string{"connecting", "authenticating", "established", "replaced", "deleting", "dead"}[s]
}

// fragmentSize is the longest IKE message that is sent whole, and the size of
// fragments: IPv6's least MTU of 1,280 bytes without IP, UDP and the marker.
const fragmentSize = 1280 - 40 - 8 - 4

// ikeSA is an IKE SA.
type ikeSA struct {
	m          *Machine
	initiator  bool // we are its original initiator
	spii, spir uint64
	state      state
	port       Port
	to         netip.AddrPort

	choice     suite.Choice
	prf        keys.PRF
	keys       *keys.IKE
	seal, open *keys.Cipher
	fragments  bool     // the peer takes them
	initial    *initial // until it is established
	ni, nr     []byte

	born        time.Time
	established time.Time
	rekeyAt     time.Time
	expireAt    time.Time
	overdueAt   time.Time // it should have been replaced by then
	replacedAt  time.Time
	heard       time.Time
	forget      time.Time // of one that is dead

	sendID, recvID uint32 // of the next request each way
	out            *request
	queue          []task
	answer         [][]byte // to the request before recvID
	inPieces       *message.Reassembly
	outPieces      *message.Reassembly

	children      []*child
	childFailures int
	childAt       time.Time // when a CHILD SA may be tried again
	early         []uint32  // SPIs of the peer's last DELETE: one may be of a pair that is yet to be answered
	noESN         bool      // the peer chooses extended sequence numbers and cannot do them

	lowest      []byte // the lower nonce of the exchange that made it
	line        line   // where it comes from
	ours        bool   // we began that exchange
	successor   *ikeSA // made by the peer's request, while ours may be on its way
	predecessor *ikeSA // whose successor it is
	peerAuth    string
	peerID      string
	outdated    bool // of another configuration: one that is not takes its place

	proclaimed bool     // see say
	untold     []string // until then
}

// line is the IKE SA that was authenticated, of those that have replaced one
// another since. It does not change while both ends come to see which is the last.
type line struct {
	lowest []byte
	at     time.Time
	peer   validity // of what it was authenticated by
}

// lives reports whether an IKE SA serves, or will serve, to key the tunnel.
func (s *ikeSA) lives() bool {
	return s.state == stateEstablished || s.initiator && s.state < stateEstablished
}

// task is a request of ours, from the wish to the answer.
type task interface {
	// begin makes the request; false if it is no longer needed.
	begin(s *ikeSA) (message.Exchange, []message.Payload, bool)
	// answered takes the answer.
	answered(s *ikeSA, ps []message.Payload)
}

// request is a request that is on its way.
type request struct {
	task      task
	exchange  message.Exchange
	id        uint32
	datagrams [][]byte
	tried     int
	first     time.Time // when it was sent first
	next      time.Time
	doubted   bool // answered, by what may be forged: see doubt
}

// do queues a task, or begins it. Tasks with equal purpose are not queued twice;
// see same.
func (s *ikeSA) do(t task) {
	if s.out != nil && same(s.out.task, t) || slices.ContainsFunc(s.queue, func(q task) bool { return same(q, t) }) {
		return
	}
	s.queue = append(s.queue, t)
	s.proceed()
}

// same reports whether two tasks are for the same.
func same(a, b task) bool {
	switch x := a.(type) {
	case *rekeyChild:
		y, ok := b.(*rekeyChild)
		return ok && x.old == y.old
	case *deleteChild:
		y, ok := b.(*deleteChild)
		return ok && x.child == y.child
	case *createChild:
		_, ok := b.(*createChild)
		return ok
	case *rekeyIKE:
		_, ok := b.(*rekeyIKE)
		return ok
	case *deleteIKE:
		_, ok := b.(*deleteIKE)
		return ok
	case *probe:
		_, ok := b.(*probe)
		return ok
	}
	return false
}

// proceed begins the next task, if none is on its way: our window is 1.
func (s *ikeSA) proceed() {
	for s.out == nil && len(s.queue) > 0 && s.state != stateDead {
		t := s.queue[0]
		s.queue = s.queue[1:]
		exchange, ps, ok := t.begin(s)
		if !ok {
			continue
		}
		datagrams, err := s.protect(s.header(exchange, s.sendID, 0), ps)
		if err != nil {
			s.m.problem("a request cannot be made: %v", err)
			continue
		}
		s.request(&request{task: t, exchange: exchange, id: s.sendID, datagrams: datagrams})
	}
}

// request sends a request for the first time.
func (s *ikeSA) request(r *request) {
	s.out, s.outPieces = r, nil
	r.first, r.next = s.m.now, s.m.now.Add(firstWait)
	r.tried = 1
	s.send(r.datagrams)
}

func (s *ikeSA) send(datagrams [][]byte) {
	for _, d := range datagrams {
		s.m.e.Send(s.port, s.to, d)
	}
}

// header is the header of a message of ours.
func (s *ikeSA) header(x message.Exchange, id uint32, f message.Flags) message.Header {
	if s.initiator {
		f |= message.FlagInitiator
	}
	return message.Header{InitiatorSPI: s.spii, ResponderSPI: s.spir, Exchange: x, Flags: f, ID: id}
}

// protect makes a message that is encrypted, in fragments if it is long and the peer takes them.
func (s *ikeSA) protect(h message.Header, ps []message.Payload) ([][]byte, error) {
	first, plain, err := message.EncodePayloads(ps)
	if err != nil {
		return nil, err
	}
	if h.Exchange == message.IKEIntermediate {
		s.initial.chain(s, h, first, plain)
	}
	size := message.MaxLen
	if s.fragments {
		size = fragmentSize
	}
	return s.seal.SealPlain(h, first, plain, size)
}

// tick sends again what was not answered, and does what is due by age.
func (s *ikeSA) tick() {
	now := s.m.now
	if s.state == stateDead {
		return
	}
	if s.out != nil && !now.Before(s.out.next) {
		if s.out.tried >= tries || s.out.doubted {
			s.timedOut()
			return
		}
		wait := min(firstWait<<s.out.tried, mostWait)
		s.out.tried++
		s.out.next = now.Add(wait)
		s.m.status.Retransmits++
		s.send(s.out.datagrams)
	}
	switch s.state {
	case stateAuth:
		if !s.initiator && now.Sub(s.born) >= halfOpenLife {
			s.die(0)
		}
	case stateReplaced:
		if now.Sub(s.replacedAt) >= replacedLife {
			s.do(&deleteIKE{})
		}
	case stateEstablished:
		s.aged()
	case stateInit, stateDeleting, stateDead:
	}
}

// aged begins what an established SA's age asks for.
func (s *ikeSA) aged() {
	now := s.m.now
	if now.Sub(s.established) >= proclaimAfter {
		s.proclaim()
	}
	switch {
	case !now.Before(s.expireAt):
		s.m.problem("the IKE SA is too old and could not be replaced: it is deleted")
		s.m.status.Expired++
		s.remove()
		s.m.beginAt = now
		return
	case !now.Before(s.rekeyAt):
		s.rekeyAt = now.Add(again + s.m.jitter(again)) // if this one comes to nothing
		s.do(&rekeyIKE{})
	}
	for _, c := range slices.Clone(s.children) {
		c.aged(s)
	}
	// Who does not initiate waits for the peer to make one; but it may not know that there is none.
	may := s.m.cfg.Initiate || !s.m.bareSince.IsZero() && now.Sub(s.m.bareSince) >= halfOpenLife
	if may && !now.Before(s.childAt) && s.bare() && !s.crossing() {
		s.do(&createChild{})
	}
	if d := s.m.cfg.DPDDelay; d > 0 && now.Sub(s.heard) >= d && s.out == nil {
		s.do(&probe{})
	}
}

// timedOut gives the peer up.
func (s *ikeSA) timedOut() {
	m, was, r := s.m, s.state, s.out
	if n := s.successor; was == stateEstablished && n != nil && n.state == stateEstablished {
		s.succeed(n) // the peer has replaced it, and our own request to do so is void
		s.die(0)
		return
	}
	s.die(0)
	switch was {
	case stateInit:
		if !r.doubted {
			m.status.Unanswered++
		}
		m.beginAt = m.now
	case stateAuth, stateEstablished:
		m.status.TimedOut++
		m.found(CauseSilence, "the peer did not answer %s, %d times in %s: the IKE SA is given up", r.exchange, tries, m.now.Sub(r.first).Round(time.Second/2))
		m.beginAt = m.now
	case stateReplaced, stateDeleting, stateDead:
	}
}

// remove deletes the SA with all its pairs, and tells the peer.
func (s *ikeSA) remove() {
	s.endChildren()
	s.queue = nil
	if s.out != nil {
		// Its answer has no use any more; but the window is 1, so the DELETE waits
		// until the peer has answered. One datagram of it goes first, unless the
		// peer would have to keep it: it has the next message ID.
		s.state = stateDeleting
		s.queue = []task{&deleteIKE{}}
		return
	}
	s.do(&deleteIKE{})
}

// die forgets the SA; for a while it repeats its last answer.
func (s *ikeSA) die(after time.Duration) {
	s.dropChildren()
	s.state, s.out, s.queue, s.initial = stateDead, nil, nil, nil
	s.unlink()
	if s.keys != nil {
		s.keys.Wipe() // what it still repeats is encrypted already
	}
	s.forget = s.m.now.Add(after)
	if after == 0 || s.m.count(func(o *ikeSA) bool { return o.state == stateDead }) > maxZombies {
		s.m.sas = slices.DeleteFunc(s.m.sas, func(o *ikeSA) bool { return o == s })
	}
}

// unlink takes an SA out of the row of those that have replaced one another: else
// the one that lives would hold on to all before it.
func (s *ikeSA) unlink() {
	s.predecessor, s.successor = nil, nil
	for _, o := range s.m.sas {
		if o.predecessor == s {
			o.predecessor = nil
		}
		if o.successor == s {
			o.successor = nil
		}
	}
}

func (m *Machine) count(which func(*ikeSA) bool) (n int) {
	for _, s := range m.sas {
		if which(s) {
			n++
		}
	}
	return n
}

// key makes the ciphers of keys.
func (s *ikeSA) key(k *keys.IKE) error {
	i, err := keys.NewCipher(s.choice, k.Ei, k.Ai)
	if err != nil {
		return err
	}
	r, err := keys.NewCipher(s.choice, k.Er, k.Ar)
	if err != nil {
		return err
	}
	if s.keys != nil {
		s.keys.Wipe()
	}
	s.keys, s.seal, s.open = k, r, i
	if s.initiator {
		s.seal, s.open = i, r
	}
	if s.m.cfg.KeyLog != nil {
		if line, ok := keys.LogLine(s.spii, s.spir, s.choice, k); ok {
			s.m.cfg.KeyLog(line)
		}
	}
	return nil
}

// lower is the lower of two nonces (RFC 7296, section 2.8.1): a copy, for one of
// them is a part of the peer's message, which may be long.
func lower(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return bytes.Clone(a)
	}
	return bytes.Clone(b)
}

// loses reports whether the one of two crossing exchanges with nonce a gives way
// to the one with b: it has the lowest of the four.
func loses(a, b []byte) bool { return bytes.Compare(a, b) < 0 }
