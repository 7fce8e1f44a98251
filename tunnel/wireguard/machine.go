package wireguard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"
)

// How long a session is used: after RekeyAfter there is a new one, after
// RejectAfter it is forgotten (paper, section 6.1).
const (
	RekeyAfter  = 120 * time.Second
	RejectAfter = 180 * time.Second
)

// The other timers.
const (
	rekeyAfterMessages = 1 << 60
	rekeyTimeout       = 5 * time.Second
	keepaliveTimeout   = 10 * time.Second
	// rekeyJitter is added to rekeyTimeout, so that two ends do not meet for ever.
	rekeyJitter = 334 * time.Millisecond
	// preferAgain is after how long better keys are tried again that were not answered.
	preferAgain = time.Minute
	// initiationGap is the least time between two initiations of the peer's that we
	// answer, and breath between two of ours: others have the same limit.
	initiationGap = 20 * time.Millisecond
	breath        = 50 * time.Millisecond
	// cookiesPerSecond bounds what a flood makes us send.
	cookiesPerSecond = 1000
)

// machine decides. It has no clock and no socket: time, randomness and messages
// come in, messages go out. One goroutine uses it; what the loops share is in table.
type machine struct {
	table  *table
	random io.Reader
	log    io.Writer // of keys; nil: none

	ours   []identity  // the next one first
	theirs []PublicKey // the next one first
	psk    PresharedKey
	mtu    int
	keep   time.Duration // persistent keepalive, 0: none
	source []byte        // the peer's address, for cookies
	macs   map[PublicKey]*macs

	sessions  []*session // the newest last
	slot      uint32
	pending   *initiation
	initiated time.Time                        // when we last sent one
	stamped   time.Time                        // what it said of the time
	retry     time.Time                        // of pending, or of the next handshake
	failed    map[pair]time.Time               // not answered then
	stamps    map[PublicKey][timestampLen]byte // the newest of each peer's key
	answered  time.Time                        // when we last answered an initiation
	lastSent  time.Time
	lastHeard time.Time
	// waiting is since when data went out and nothing came back; owed, since when
	// data came and nothing went.
	waiting, owed time.Time
	cookies       int // of cookieSecond
	cookieSecond  int64

	status Status
}

func newMachine(c Config, t *table, now time.Time) *machine {
	m := &machine{
		table: t, random: c.Random, log: c.KeyLog, failed: map[pair]time.Time{}, stamps: map[PublicKey][timestampLen]byte{},
		macs: map[PublicKey]*macs{}, source: c.Remote.AsSlice(), retry: now,
	}
	m.status.Since = now
	m.configure(c, now)
	return m
}

// configure takes other keys. Sessions of keys that stay are not touched.
func (m *machine) configure(c Config, now time.Time) {
	m.ours, m.theirs = m.ours[:0], m.theirs[:0]
	for _, k := range []PrivateKey{c.NextPrivateKey, c.PrivateKey} {
		if k != (PrivateKey{}) {
			m.ours = append(m.ours, identity{k, k.Public()})
		}
	}
	for _, k := range []PublicKey{c.NextPeerPublicKey, c.PeerPublicKey} {
		if k != (PublicKey{}) {
			m.theirs = append(m.theirs, k)
		}
	}
	m.psk, m.mtu, m.keep = c.PresharedKey, c.MTU, c.PersistentKeepalive
	for _, id := range m.ours {
		if m.macs[id.public] == nil {
			m.macs[id.public] = newMACs(id.public)
		}
	}
	for _, k := range m.theirs {
		if m.macs[k] == nil {
			m.macs[k] = newMACs(k)
		}
	}
	m.drop(func(s *session) bool { return !slices.Contains(m.pairs(), s.keys) })
	clear(m.failed)
	m.pending, m.retry = nil, m.soon(now)
}

// soon is when the next initiation may go out that has nothing to wait for.
func (m *machine) soon(now time.Time) time.Time {
	if at := m.initiated.Add(breath); at.After(now) {
		return at
	}
	return now
}

// pairs are all that may be used, the preferred one first.
func (m *machine) pairs() (list []pair) {
	for _, o := range m.ours {
		for _, t := range m.theirs {
			list = append(list, pair{o.public, t})
		}
	}
	return list
}

// next is the pair to try: the best that did not go unanswered of late, else the
// one that did longest ago.
func (m *machine) next(now time.Time) pair {
	var oldest pair
	for i, p := range m.pairs() {
		at, bad := m.failed[p]
		if !bad || now.Sub(at) >= preferAgain {
			return p
		}
		if i == 0 || at.Before(m.failed[oldest]) {
			oldest = p
		}
	}
	return oldest
}

func (m *machine) identity(k PublicKey) identity {
	return m.ours[slices.IndexFunc(m.ours, func(id identity) bool { return id.public == k })]
}

// tick does what is due and says when there will be something again. It also
// has to be called when packets may have come or gone: each second.
func (m *machine) tick(now time.Time, send func([]byte)) (next time.Time) {
	m.confirm(now)
	m.expire(now)
	m.look(now)
	m.keepalive(now, send)
	if m.due(now) {
		m.initiate(now, send)
	}
	next = now.Add(time.Second)
	if m.retry.After(now) && m.retry.Before(next) {
		next = m.retry
	}
	for _, s := range m.sessions {
		if end := s.born.Add(RejectAfter); end.Before(next) {
			next = end
		}
	}
	return next
}

// expire forgets sessions that are too old.
func (m *machine) expire(now time.Time) {
	m.drop(func(s *session) bool { return now.Sub(s.born) >= RejectAfter })
	// A loop may have made one the current session while it was forgotten, or have used it up.
	if c := m.table.current.Load(); c == nil || !slices.Contains(m.sessions, c) {
		m.table.current.CompareAndSwap(c, m.newest())
	}
}

// drop forgets sessions.
func (m *machine) drop(gone func(*session) bool) {
	var kept, old []*session
	for _, s := range m.sessions {
		if gone(s) {
			old = append(old, s)
		} else {
			kept = append(kept, s)
		}
	}
	m.sessions = kept
	for _, s := range old {
		m.table.slots[s.local%slots].CompareAndSwap(s, nil)
		m.table.current.CompareAndSwap(s, m.newest()) // in one step: a packet may be on its way
	}
}

// newest is the newest session that may send; nil if there is none.
func (m *machine) newest() *session {
	for _, s := range slices.Backward(m.sessions) {
		if s.heard.Load() && s.counter.Load() < rejectAfterMessages {
			return s
		}
	}
	return nil
}

// confirm takes notice of sessions that the peer began to use: only now is the
// handshake that it began finished.
func (m *machine) confirm(now time.Time) {
	for _, s := range m.sessions {
		if !s.counted && s.heard.Load() {
			m.count(s, now)
		}
	}
}

func (m *machine) count(s *session, now time.Time) {
	s.counted = true
	m.waiting = time.Time{}
	delete(m.failed, s.keys)
	m.status.Handshakes++
	m.status.Unconfirmed = 0
	m.status.LastHandshake, m.status.Keys = now, s.keys
}

// look takes notice of what the loops did.
func (m *machine) look(now time.Time) {
	for _, s := range m.sessions {
		if s.fresh.take() {
			m.lastHeard, m.waiting = now, time.Time{}
		}
		// Which of the two was first is not known. To owe what is not due costs a
		// keepalive; to owe nothing, a handshake that the peer begins.
		if s.used.take() {
			m.lastSent, m.owed = now, time.Time{}
		}
		if s.freshData.take() && m.owed.IsZero() {
			m.owed = now
		}
		if s.usedData.take() && m.waiting.IsZero() && m.lastHeard != now {
			m.waiting = now
		}
	}
}

// keepalive answers data with nothing, if there is nothing else to answer
// (paper, section 6.5), and does so now and then if it is wanted.
func (m *machine) keepalive(now time.Time, send func([]byte)) {
	s := m.table.current.Load()
	if s == nil {
		return
	}
	owes := !m.owed.IsZero() && now.Sub(m.owed) >= keepaliveTimeout
	if owes || m.keep > 0 && now.Sub(m.lastSent) >= m.keep {
		m.empty(s, now, send)
	}
}

// empty sends a message without a packet in it.
func (m *machine) empty(s *session, now time.Time, send func([]byte)) {
	var b [headerLen + tagLen]byte
	if start, end := s.seal(b[:], headerLen, 0, m.mtu); start >= 0 {
		s.used.take()
		m.lastSent, m.owed = now, time.Time{}
		send(b[start:end])
	}
}

// due reports whether a handshake has to begin, or to be tried again.
func (m *machine) due(now time.Time) bool {
	if now.Before(m.retry) {
		return false
	}
	if m.pending != nil {
		return true
	}
	s := m.table.current.Load()
	return s == nil || m.stale(s, now) || m.better(m.next(now), s.keys)
}

// stale reports whether a session has to be replaced: it is old (the responder
// leaves it to the initiator for a while), used up, or the peer, which may have
// been restarted, does not answer.
func (m *machine) stale(s *session, now time.Time) bool {
	age := now.Sub(s.born)
	return s.initiator && age >= RekeyAfter || age >= RejectAfter-keepaliveTimeout-rekeyTimeout-s.early ||
		s.counter.Load() >= rekeyAfterMessages ||
		!m.waiting.IsZero() && now.Sub(m.waiting) >= keepaliveTimeout+rekeyTimeout
}

// better reports whether a pair is preferred to another.
func (m *machine) better(a, b pair) bool {
	list := m.pairs()
	return slices.Index(list, a) < slices.Index(list, b)
}

// initiate begins a handshake. One that was not answered is given up.
func (m *machine) initiate(now time.Time, send func([]byte)) {
	if p := m.pending; p != nil {
		m.pending = nil
		c := m.table.current.Load()
		needed := c == nil || m.stale(c, now)
		if needed || m.better(p.keys, c.keys) { // else the peer's own initiation was quicker
			m.failed[p.keys] = now
			m.status.Unanswered++
		}
		// Better keys are a wish: with a session there is no hurry to use others than its own.
		if !needed {
			m.retry = now
			return
		}
	}
	keys := m.next(now)
	local := m.index()
	hs, b, err := newInitiation(m.random, m.stamp(now), m.identity(keys.ours), keys.theirs, m.psk, local)
	m.initiated, m.retry = now, now.Add(rekeyTimeout+time.Duration(m.draw())*rekeyJitter/(1<<32))
	if err != nil {
		m.status.Problem = err.Error()
		return
	}
	m.pending = hs
	m.macs[keys.theirs].sign(b)
	m.logKeys(hs.state.LocalEphemeral().Private != nil, func() error {
		return keyLog(m.log, hs.state, m.identity(keys.ours), keys.theirs, m.psk)
	})
	m.status.Initiations++
	m.lastSent = now
	send(b)
}

func (m *machine) logKeys(known bool, write func() error) {
	if m.log == nil || !known {
		return
	}
	if err := write(); err != nil {
		m.status.Problem = err.Error()
	}
}

// stamp is the time for an initiation: later than all before, whatever the
// clock does, because the peer takes an earlier one for a replay.
func (m *machine) stamp(now time.Time) time.Time {
	if least := m.stamped.Add(stampGrain); now.Round(0).Before(least) {
		now = least
	}
	m.stamped = now.Round(0) // without the monotonic reading, which does not go back
	return now
}

// draw is a random number.
func (m *machine) draw() uint32 {
	var b [4]byte
	_, _ = io.ReadFull(m.random, b[:]) // zeros would do
	return binary.LittleEndian.Uint32(b[:])
}

// index is that of a new session: random, in a slot that is free.
func (m *machine) index() uint32 {
	for range slots {
		m.slot = (m.slot + 1) % slots
		if m.table.slots[m.slot].Load() == nil && (m.pending == nil || m.pending.local%slots != m.slot) {
			break
		}
	}
	return m.draw()&^(slots-1) | m.slot
}

// message handles one of the peer's handshake. loaded says that there are more
// than we can handle: then only who has a cookie is answered.
func (m *machine) message(now time.Time, b []byte, loaded bool, send func([]byte)) {
	m.confirm(now)
	var err error
	switch binary.LittleEndian.Uint32(b) {
	case typeInitiation:
		err = m.initiation(now, b, loaded, send)
	case typeResponse:
		err = m.response(now, b, loaded, send)
	case typeCookie:
		err = m.cookie(b)
	}
	if err != nil {
		m.status.Refused++
	}
	if err != nil && !errors.Is(err, errLate) {
		m.status.Problem, m.status.ProblemAt = err.Error(), now
	}
}

// errLate is of a message that belongs to nothing any more. It explains nothing.
var errLate = errors.New("an answer to no message that we know of")

// admit checks the MACs of a message for one of our keys.
func (m *machine) admit(now time.Time, b []byte, loaded bool, send func([]byte)) (identity, error) {
	for _, id := range m.ours {
		mac := m.macs[id.public]
		if !mac.check1(b) {
			continue
		}
		if !loaded || mac.check2(b, m.source) {
			return id, nil
		}
		m.status.Loaded = now
		if now.Unix() != m.cookieSecond {
			m.cookieSecond, m.cookies = now.Unix(), 0
		}
		if m.cookies++; m.cookies <= cookiesPerSecond {
			if reply, err := mac.reply(b, m.source); err == nil {
				m.status.CookiesSent++
				send(reply)
			}
		}
		return id, errors.New("too many handshakes at once: the peer was sent a cookie")
	}
	return identity{}, errors.New("a message of a handshake was made for another public key than ours: the peer's configuration has a wrong one")
}

// spent reports whether this second's cookies have been given away.
func (m *machine) spent(now time.Time) bool {
	return m.cookieSecond == now.Unix() && m.cookies >= cookiesPerSecond
}

func (m *machine) initiation(now time.Time, b []byte, loaded bool, send func([]byte)) error {
	id, err := m.admit(now, b, loaded, send)
	if err != nil {
		return err
	}
	r, err := readInitiation(m.random, b, id, m.psk)
	if err != nil {
		return fmt.Errorf("an initiation: %w", err)
	}
	if !slices.Contains(m.theirs, r.theirs) {
		m.status.Stranger = r.theirs
		return fmt.Errorf("the peer has the public key %s, which is not the one that is configured", r.theirs)
	}
	if last := m.stamps[r.theirs]; bytes.Compare(r.timestamp[:], last[:]) <= 0 {
		return fmt.Errorf("an initiation came a second time, or the peer's clock went back: it says %s, and said %s before",
			stampTime(r.timestamp).UTC().Format(time.RFC3339), stampTime(last).UTC().Format(time.RFC3339))
	}
	if now.Sub(m.answered) < initiationGap {
		return errors.New("initiations follow each other too quickly")
	}
	s, reply, err := r.respond(id, m.index())
	if err != nil {
		return err
	}
	m.stamps[r.theirs], m.answered = r.timestamp, now
	m.macs[r.theirs].sign(reply)
	m.logKeys(true, func() error { return keyLog(m.log, r.state, id, r.theirs, m.psk) })
	m.add(s, now)
	m.status.Responses++
	m.status.Unconfirmed++
	m.lastSent = now
	send(reply)
	return nil
}

func (m *machine) response(now time.Time, b []byte, loaded bool, send func([]byte)) error {
	p := m.pending
	if p == nil || p.local != binary.LittleEndian.Uint32(b[responseReceiver:]) {
		return errLate
	}
	if _, err := m.admit(now, b, loaded, send); err != nil {
		return err
	}
	s, err := p.finish(b)
	if err != nil {
		return errors.New("the peer's response does not decrypt: the preshared keys differ, or it is forged")
	}
	m.pending, m.retry = nil, m.soon(now)
	m.add(s, now)
	m.count(s, now)
	m.table.current.Store(s)
	m.empty(s, now, send) // confirms the keys: the peer may not send before
	return nil
}

// add begins to receive by a session. Those before go on receiving, because
// packets are on their way, but for one that the peer never used: it has begun
// anew, and whoever can replay its initiations must not push out the others.
func (m *machine) add(s *session, now time.Time) {
	s.born = now
	s.early = time.Duration(m.draw()) * rekeyTimeout / (1 << 32)
	if !s.initiator {
		m.drop(func(x *session) bool { return !x.heard.Load() })
	}
	if current := m.table.current.Load(); len(m.sessions) >= maxSessions {
		oldest := m.sessions[slices.IndexFunc(m.sessions, func(x *session) bool { return x != current })]
		m.drop(func(x *session) bool { return x == oldest })
	}
	m.table.slots[s.local%slots].Store(s)
	m.sessions = append(m.sessions, s)
}

// cookie is an answer to the last initiation or response.
func (m *machine) cookie(b []byte) error {
	index := binary.LittleEndian.Uint32(b[cookieReceiver:])
	var theirs PublicKey
	if p, s := m.pending, m.table.find(index); p != nil && p.local == index {
		theirs = p.keys.theirs
	} else if s != nil && !s.heard.Load() {
		theirs = s.keys.theirs
	} else {
		return errLate
	}
	if !m.macs[theirs].take(b) {
		return errors.New("a cookie that does not decrypt")
	}
	m.status.CookiesTaken++
	return nil
}

// Config is one tunnel's keys and peer.
type Config struct {
	MTU    int        // of the tunnel, in bytes: padding does not go beyond
	Remote netip.Addr // the peer's, which cookies are bound to

	PrivateKey    PrivateKey
	PeerPublicKey PublicKey
	PresharedKey  PresharedKey // zero: none
	// NextPrivateKey and NextPeerPublicKey are those that will replace the others;
	// zero: none. All are good until they are taken away.
	NextPrivateKey    PrivateKey
	NextPeerPublicKey PublicKey

	PersistentKeepalive time.Duration // 0: none

	Random io.Reader // nil: crypto/rand
	KeyLog io.Writer // nil: none; gets every handshake's secrets
}
