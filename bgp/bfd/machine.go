package bfd

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// slowInterval is the least desired transmit interval of a session that is not
// up (RFC 5880, section 6.8.3): a peer that is away is not worth more.
const slowInterval = time.Second

// peer is what the last packets said about the other end: the variables of RFC
// 5880, section 6.8.1, that begin with "bfd.Remote".
type peer struct {
	state         State
	diagnostic    Diagnostic
	discriminator uint32 // 0: not known
	multiplier    uint8  // 0: nothing received
	minTx, minRx  time.Duration
	demand        bool
}

// strange is a peer that nothing is known of. The least minRx, not 0, which
// would forbid us to speak first.
func strange() peer { return peer{state: Down, minRx: time.Microsecond} }

// machine is one session of RFC 5880, section 6.8, without sockets and clock.
// Its caller passes every packet to receive, calls tick whenever deadline is
// reached and after each receive, and sends what they return. The time passed
// in never goes backwards.
type machine struct {
	// These stay as they are.
	addr       netip.Addr // the peer's, without zone
	interval   time.Duration
	multiplier uint8
	minTTL     uint8
	mine       uint32 // our discriminator, not 0
	random     *rand.Rand

	state      State
	diagnostic Diagnostic
	since      time.Time // of state
	peer       peer
	polling    bool // a Poll Sequence runs (section 6.5)

	sent   packet    // the last one, Poll and Final aside: when it would differ now, it is time to send
	lastTx time.Time // of the last periodic packet, at first that of the start
	wait   float64   // how much of the interval to wait after lastTx, 0.75 to 1
	spoke  bool      // there was a periodic packet

	heard  time.Time // the last valid packet or the last moment of grace counts from
	detect bool      // the detection time runs
	grace  time.Duration
	flaps  uint64
	graces uint64

	rx      uint64
	dropped [DropReasons]uint64
}

// output is what a step of the machine asks for.
type output struct {
	packet  packet
	send    bool
	change  Change
	changed bool
}

// newMachine makes a session that is down and has something to send. The
// discriminator is random and not 0 (RFC 5880, section 10).
func newMachine(c Config, discriminator uint32, random *rand.Rand, now time.Time) *machine {
	m := &machine{
		addr: c.Peer.WithZone(""), interval: c.Interval, multiplier: c.Multiplier, minTTL: 255,
		mine: discriminator, random: random,
		state: Down, since: now, peer: strange(), lastTx: now,
	}
	if c.Multihop {
		m.minTTL = 254
	}
	return m
}

// rxInterval is the time in which one packet of the peer's is due at the latest.
func (m *machine) rxInterval() time.Duration { return max(m.interval, m.peer.minTx) }

// detectionTime is the silence after which the peer counts as lost (RFC 5880,
// section 6.8.4); 0 as long as nothing was heard.
func (m *machine) detectionTime() time.Duration {
	return time.Duration(m.peer.multiplier) * m.rxInterval()
}

// detectAt is when the detection time expires, for a session whose detect is set.
func (m *machine) detectAt() time.Time { return m.heard.Add(m.detectionTime() + m.grace) }

// deadline is when tick is needed; ok is false if only a packet can change anything.
func (m *machine) deadline() (t time.Time, ok bool) {
	if m.mayTransmit() {
		t, ok = m.nextTx(), true
	}
	if m.detect && (!ok || m.detectAt().Before(t)) {
		t, ok = m.detectAt(), true
	}
	return t, ok
}

// tick does what is due: it declares the peer lost, and it sends. Packets that
// wait in the socket must have been passed to receive before.
func (m *machine) tick(now time.Time) (out output) {
	if m.detect && !now.Before(m.detectAt()) {
		m.detect = false
		// Section 6.8.1 lets only the discriminator expire. A peer that is
		// gone must not silence us with its last minimum or its demand mode.
		m.peer = strange()
		if m.state == Init || m.state == Up {
			out.change, out.changed = m.to(now, Down, DetectionTimeExpired), true
		}
	}
	out.packet, out.send = m.transmit(now)
	return out
}

// late tells the machine that its process did not run for this long when it
// should have, ending now. It is to be called after what arrived meanwhile was
// received.
//
// Silence is only evidence if somebody listened. A process without CPU still
// finds the peer's packets in its socket, but a virtual machine that was
// frozen or moved to another host has lost them, and would declare a healthy
// peer dead the moment it wakes up. So it gets the time in which the next
// packet is due, with a quarter for the way. Only once per silence: a process
// that is starved again and again must not take a dead peer for alive.
func (m *machine) late(now time.Time, by time.Duration) {
	if !m.detect || m.grace > 0 || by <= m.rxInterval() {
		return
	}
	due := m.rxInterval() + m.rxInterval()/4
	if left := m.detectAt().Sub(now); left < due {
		m.grace = due - left
		m.graces++
	}
}

// shutdown takes the session down on purpose (RFC 5880, section 6.8.16); the next tick says so to the peer.
func (m *machine) shutdown(now time.Time) (out output) {
	if m.state != AdminDown {
		out.change, out.changed = m.to(now, AdminDown, AdministrativelyDown), true
	}
	return out
}

// to changes the state.
func (m *machine) to(now time.Time, s State, d Diagnostic) Change {
	c := Change{From: m.state, To: s, Diagnostic: d, At: now, PeerAdminDown: s == Down && m.peer.state == AdminDown}
	m.state, m.diagnostic, m.since = s, d, now
	if c.Failure() {
		m.flaps++
	}
	// Up is where our desired transmit interval falls from a second to what was
	// configured, and only in Up must a change wait for the peer's consent, so
	// only there a Poll Sequence is needed. On the way down the slower interval
	// stands in every packet anyway (RFC 5880, section 6.8.3).
	m.polling = s == Up && m.interval < slowInterval
	return c
}
