package ike

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// Times that need no configuration.
const (
	// Requests are sent again after firstWait, then after twice as long each time
	// up to mostWait; after tries without an answer the peer is taken for dead:
	// 23.5 s (RFC 7296, section 2.4, leaves them open).
	firstWait = 500 * time.Millisecond
	mostWait  = 4 * time.Second
	tries     = 8

	// halfOpenLife is how long a responder waits for IKE_AUTH.
	halfOpenLife = 30 * time.Second
	// zombieLife is how long answers to a peer's last requests are kept.
	zombieLife = 30 * time.Second
	// linger is how long packets are taken by a pair that has been deleted: they
	// may have been on their way.
	linger = 5 * time.Second
	// replacedLife is when we delete an IKE SA that the peer has replaced and not deleted.
	replacedLife = 45 * time.Second

	// again is the wait after a failure, doubled up to mostAgain.
	again     = time.Second
	mostAgain = 15 * time.Second
	// busy is the wait after TEMPORARY_FAILURE, more up to twice that at random.
	busy = time.Second

	sweep = time.Second // of Tick, at the latest
)

const (
	maxHalfOpen    = 32
	cookiesFrom    = 4 // half-open SAs
	maxZombies     = 16
	maxEstablished = 8 // IKE SAs; a peer that makes more does not behave
)

// Machine is one end of a tunnel's key exchange. It is not safe for use by
// several goroutines at once.
type Machine struct {
	cfg    Config
	e      Effects
	now    time.Time // of the call that is being served
	sas    []*ikeSA
	jar    cookieJar
	closed bool

	beginAt   time.Time // when the next attempt is due; zero: not by time
	failures  int       // attempts, one after the other
	hinted    time.Time // when a hint that the peer has lost us was last followed
	refusedAt time.Time // when a stranger was last answered

	peer validity // what the peer proved itself by last, also while it is away

	bareSince time.Time // when the last pair went; zero: there is one

	begun      int // requests to begin, since:
	begunSince time.Time

	downAt   time.Time // since when no pair carries packets; zero: one does
	lamented time.Time

	status  Status
	journal journal
	pairs   []*child // of all IKE SAs, and those that linger
}

// New makes a machine. The first Tick begins.
func New(c Config, e Effects, now time.Time) (*Machine, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	m := &Machine{cfg: c, e: e, now: now, beginAt: now}
	m.status.Since = now
	return m, nil
}

// random is n random bytes. There is no going on without randomness;
// crypto/rand's own reader ends the program as well.
func (m *Machine) random(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(m.cfg.Random, b); err != nil {
		panic("ike: no randomness: " + err.Error())
	}
	return b
}

// jitter is a random part of a time span.
func (m *Machine) jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint64(m.random(8)) % uint64(most))
}

// newSPI is an SPI of an IKE SA.
func (m *Machine) newSPI() uint64 {
	for {
		spi := binary.BigEndian.Uint64(m.random(8))
		if spi != 0 && !slices.ContainsFunc(m.sas, func(s *ikeSA) bool { return s.spii == spi || s.spir == spi }) {
			return spi
		}
	}
}

// newChildSPI is an SPI for what comes by a CHILD SA (RFC 4303, section 2.1: 1 to 255 are reserved).
func (m *Machine) newChildSPI() uint32 {
	for {
		spi := binary.BigEndian.Uint32(m.random(4))
		if spi >= 256 && !slices.ContainsFunc(m.pairs, func(c *child) bool { return c.pair.In.SPI == spi }) {
			return spi
		}
	}
}

// Message takes an IKE message from the peer's address, without the non-ESP marker.
func (m *Machine) Message(now time.Time, port Port, from netip.AddrPort, datagram []byte) {
	m.now = now
	if m.closed {
		return
	}
	h, err := message.DecodeHeader(datagram)
	var version *message.VersionError
	switch {
	case errors.As(err, &version):
		m.status.Refused++
		if !h.Response() {
			m.stranger(port, from, h, message.Notify{Notify: message.InvalidMajorVersion})
		}
		return
	case err != nil:
		m.status.Refused++
		return
	}
	if h.Exchange == message.IKESAInit && !h.Response() {
		m.initRequest(port, from, h, datagram)
		return
	}
	s := m.find(h)
	if s == nil {
		m.status.Refused++
		if !h.Response() {
			m.stranger(port, from, h, message.Notify{Notify: message.InvalidIKESPI})
		}
		return
	}
	s.message(port, from, h, datagram)
}

// find is the IKE SA that a message belongs to.
func (m *Machine) find(h message.Header) *ikeSA {
	for _, s := range m.sas {
		if s.initiator == h.FromInitiator() || s.spii != h.InitiatorSPI {
			continue
		}
		if s.spir == h.ResponderSPI || s.state == stateInit && h.Exchange == message.IKESAInit {
			return s
		}
	}
	return nil
}

// stranger answers a request that no keys protect (RFC 7296, section 2.21.4), at
// most once a second: it may be a flood.
func (m *Machine) stranger(port Port, to netip.AddrPort, h message.Header, n message.Notify) {
	if m.now.Sub(m.refusedAt) < time.Second {
		return
	}
	m.refusedAt = m.now
	m.sendPlain(port, to, answerHeader(h), n)
}

// answerHeader is the header of an answer to a request.
func answerHeader(h message.Header) message.Header {
	h.Flags = message.FlagResponse | (^h.Flags & message.FlagInitiator)
	return h
}

func (m *Machine) sendPlain(port Port, to netip.AddrPort, h message.Header, ps ...message.Payload) {
	b, err := message.Message{Header: h, Payloads: ps}.Encode()
	if err != nil {
		m.problem("an answer cannot be made: %v", err)
		return
	}
	m.e.Send(port, to, b)
}

// Tick does what is due, and says when it wants to be called again.
func (m *Machine) Tick(now time.Time) (next time.Time) {
	m.now = now
	if m.closed {
		return now.Add(time.Hour)
	}
	switch {
	case m.best() != nil:
		m.bareSince = time.Time{}
	case m.bareSince.IsZero():
		m.bareSince = now
	}
	m.outlive()
	for _, s := range slices.Clone(m.sas) {
		s.tick()
	}
	m.sas = slices.DeleteFunc(m.sas, func(s *ikeSA) bool { return s.state == stateDead && !now.Before(s.forget) })
	m.sweepPairs()
	m.settle()
	m.begin()
	m.lament()
	next = now.Add(sweep)
	for _, s := range m.sas {
		if s.out != nil && s.out.next.Before(next) {
			next = s.out.next
		}
		if until := s.line.peer.until; s.state == stateEstablished && !until.IsZero() && until.Before(next) {
			next = until
		}
	}
	return next
}

// begin makes an attempt if one is due.
func (m *Machine) begin() {
	serves := func(s *ikeSA) bool { return s.lives() && !s.outdated }
	if !m.cfg.Initiate || m.now.Before(m.beginAt) || slices.ContainsFunc(m.sas, serves) {
		return
	}
	m.attempt()
}

// retry has an attempt made after a failure: soon, then less soon.
func (m *Machine) retry() {
	wait := min(again<<min(m.failures, 10), mostAgain)
	m.failures++
	m.beginAt = m.now.Add(wait + m.jitter(wait/4))
}

// Reconfigure takes another configuration. If what was agreed on no longer fits,
// the SAs are made anew, and the old ones carry packets until then, however long
// it takes until the peer has its configuration too.
func (m *Machine) Reconfigure(now time.Time, c Config) error {
	m.now = now
	if err := c.Check(); err != nil {
		return err
	}
	anew := m.cfg.Differs(&c)
	m.cfg = c
	if !anew {
		return nil
	}
	for _, s := range m.sas {
		s.outdated = true
	}
	if c.Initiate {
		m.drop(func(s *ikeSA) bool { return s.state < stateEstablished })
		m.failures = 0
		m.attempt()
	}
	return nil
}

// RekeyChild replaces the pair of CHILD SAs now. The error says why that cannot be.
func (m *Machine) RekeyChild(now time.Time) error {
	m.now = now
	for _, s := range m.sas {
		for _, c := range s.children {
			if s.state != stateEstablished || c.state != childInstalled {
				continue
			}
			c.rekeyAt = now
			if c.look(s); c.ready { // else the peer has begun it a moment ago: as soon as it is known to have it
				s.do(&rekeyChild{old: c})
			}
			return nil
		}
	}
	return errors.New("there is no CHILD SA")
}

// RekeyIKE replaces the IKE SA now.
func (m *Machine) RekeyIKE(now time.Time) error {
	m.now = now
	for _, s := range m.sas {
		if s.state == stateEstablished {
			s.do(&rekeyIKE{})
			return nil
		}
	}
	return errors.New("there is no IKE SA")
}

// Terminate deletes all SAs and tells the peer. If we initiate, the tunnel comes
// up again.
func (m *Machine) Terminate(now time.Time) {
	m.now = now
	m.drop(func(s *ikeSA) bool { return s.state < stateEstablished })
	for _, s := range slices.Clone(m.sas) {
		if s.lives() {
			s.remove()
		}
	}
	m.failures = 0
	m.beginAt = now.Add(again)
}

// Close tells the peer, as far as one datagram does, and removes all pairs.
func (m *Machine) Close(now time.Time) {
	m.Terminate(now)
	m.drop(func(*ikeSA) bool { return true })
	for _, c := range slices.Clone(m.pairs) {
		m.forgetPair(c)
	}
	m.sas, m.closed = nil, true
}

// drop forgets IKE SAs.
func (m *Machine) drop(which func(*ikeSA) bool) {
	for _, s := range slices.Clone(m.sas) {
		if which(s) {
			s.die(0)
		}
	}
}

// SPIs are ours of all IKE SAs: messages that do not carry one of them are of none.
func (m *Machine) SPIs() (out []uint64) {
	for _, s := range m.sas {
		if s.initiator {
			out = append(out, s.spii)
		} else {
			out = append(out, s.spir)
		}
	}
	return out
}
