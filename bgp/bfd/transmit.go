package bfd

import "time"

// minTx is our desired transmit interval (RFC 5880, section 6.8.3).
func (m *machine) minTx() time.Duration {
	if m.state == Up {
		return m.interval
	}
	return max(m.interval, slowInterval)
}

// txInterval is the interval both ends agree on, before jitter (RFC 5880, section 6.8.2).
func (m *machine) txInterval() time.Duration { return max(m.minTx(), m.peer.minRx) }

// mayTransmit reports whether periodic packets are allowed (RFC 5880, section
// 6.8.7): not to a peer that wants none, nor to one in demand mode that knows
// us up, unless we have a question. We never ask for demand mode ourselves.
func (m *machine) mayTransmit() bool {
	if m.peer.minRx == 0 {
		return false
	}
	return !m.peer.demand || m.state != Up || m.peer.state != Up || m.polling
}

// nextTx is when the next periodic packet is due. It is reckoned from the last
// one, so a change of the interval counts at once: a session that has just
// come up must not wait for the end of a slow interval, while its peer's
// detection time is short already.
func (m *machine) nextTx() time.Time {
	if !m.spoke || m.current() != m.sent {
		return m.lastTx // news are for now (section 6.8.7), whatever the timer says
	}
	return m.lastTx.Add(time.Duration(m.wait * float64(m.txInterval())))
}

// transmit returns the periodic packet if it is due, and starts the timer anew.
func (m *machine) transmit(now time.Time) (p packet, ok bool) {
	if !m.mayTransmit() || now.Before(m.nextTx()) {
		return packet{}, false
	}
	p = m.current()
	m.sent, m.spoke, m.lastTx = p, true, now
	p.poll = m.polling
	// Every packet has its own jitter, so that sessions do not fall into step:
	// 75 to 100 % of the interval, but never more than 90 % if the peer waits for
	// a single packet only (section 6.8.7).
	spread := 0.25
	if m.multiplier == 1 {
		spread = 0.15
	}
	m.wait = 0.75 + spread*m.random.Float64()
	return p, true
}

// current is the packet that describes us now, without Poll and Final.
func (m *machine) current() packet {
	return packet{
		diagnostic: m.diagnostic, state: m.state, multiplier: m.multiplier,
		mine: m.mine, yours: m.peer.discriminator,
		minTx: m.minTx(), minRx: m.interval,
	}
}
