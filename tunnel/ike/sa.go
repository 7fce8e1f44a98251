package ike

import (
	"bytes"
	"errors"
	"fmt"
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
	ours        bool   // we began that exchange
	successor   *ikeSA // made by the peer's request, while ours may be on its way
	predecessor *ikeSA // whose successor it is
	peerAuth    string
	peerID      string
	certUntil   time.Time // when the peer's certificate ends
	supersede   bool      // takes the place of all others: the configuration is another one
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
	next      time.Time
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
	r.next = s.m.now.Add(firstWait)
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
		s.initial.sealed(s, h, first, plain)
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
		if s.out.tried >= tries {
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
	switch {
	case !now.Before(s.expireAt):
		s.m.problem("the IKE SA is too old and could not be replaced: it is deleted")
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
	if s.m.cfg.Initiate && !now.Before(s.childAt) && s.m.best() == nil && !s.crossing() {
		s.do(&createChild{})
	}
	if d := s.m.cfg.DPDDelay; d > 0 && now.Sub(s.heard) >= d && s.out == nil {
		s.do(&probe{})
	}
}

// timedOut gives the peer up.
func (s *ikeSA) timedOut() {
	m, was, what := s.m, s.state, s.out.exchange
	s.die(0)
	switch was {
	case stateInit:
		m.status.Unanswered++
		m.beginAt = m.now
	case stateAuth, stateEstablished:
		m.status.TimedOut++
		m.problem("the peer did not answer %s: the IKE SA is given up", what)
		m.beginAt = m.now
	case stateReplaced, stateDeleting, stateDead:
	}
}

// remove deletes the SA with all its pairs, and tells the peer.
func (s *ikeSA) remove() {
	s.dropChildren()
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
	s.forget = s.m.now.Add(after)
	if after == 0 || s.m.count(func(o *ikeSA) bool { return o.state == stateDead }) > maxZombies {
		s.m.sas = slices.DeleteFunc(s.m.sas, func(o *ikeSA) bool { return o == s })
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
	s.heard = s.m.now
	s.m.status.LastHeard = s.m.now
	if h.Response() {
		s.response(o)
		return
	}
	s.port, s.to = port, from // where it is asked from is where answers, and later requests, go
	s.requested(o)
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
	ps, err := message.DecodePayloads(first, plain)
	if err != nil {
		s.m.status.Refused++
		s.m.problem("the peer's answer to %s cannot be read (%v): the IKE SA is given up", r.exchange, err)
		s.die(0)
		s.m.retry()
		return
	}
	if o.Exchange == message.IKEIntermediate {
		s.initial.opened(s, o.Header, first, plain)
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
func (s *ikeSA) requested(o keys.Opened) {
	switch {
	case o.ID+1 == s.recvID && s.answer != nil:
		if o.Total == 0 || o.Number == 1 { // RFC 7383, section 2.6.1
			s.send(s.answer)
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
		s.initial.opened(s, o.Header, first, plain)
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

// lower is the lower of two nonces (RFC 7296, section 2.8.1).
func lower(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return a
	}
	return b
}

// loses reports whether the one of two crossing exchanges with nonce a gives way
// to the one with b: it has the lowest of the four.
func loses(a, b []byte) bool { return bytes.Compare(a, b) < 0 }

func (m *Machine) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.status.Problem, m.status.ProblemAt = text, m.now
	if at, ok := m.problems[text]; ok && m.now.Sub(at) < time.Minute {
		return
	}
	if len(m.problems) >= 64 {
		clear(m.problems) // a peer cannot make it grow
	}
	m.problems[text] = m.now
	m.e.Log(Event{Problem: true, Text: text})
}

func (m *Machine) say(format string, args ...any) {
	m.e.Log(Event{Text: fmt.Sprintf(format, args...)})
}
