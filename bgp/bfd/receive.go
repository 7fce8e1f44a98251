package bfd

import (
	"net/netip"
	"time"
)

// datagram is one UDP payload with what its headers said.
type datagram struct {
	payload []byte
	from    netip.Addr // without zone
	ttl     int        // TTL or hop limit; negative if the kernel did not tell
}

// receive takes one datagram in. What it returns to send is a Final, due at
// once (RFC 5880, section 6.8.7).
func (m *machine) receive(now time.Time, d datagram) output {
	p, drop := m.accept(d)
	if drop != dropNone {
		m.dropped[drop]++
		return output{}
	}
	m.rx++
	m.peer = peer{
		state: p.state, diagnostic: p.diagnostic, discriminator: p.mine, multiplier: p.multiplier,
		minTx: p.minTx, minRx: p.minRx, demand: p.demand,
	}
	if p.final {
		m.polling = false
	}
	m.heard, m.detect, m.grace = now, true, 0

	out := m.step(now, p.state)
	if p.poll {
		// Neither the timer nor mayTransmit is asked, and lastTx stays: if an
		// answer counted as a periodic packet, a peer that polls faster than our
		// interval would postpone those for ever.
		out.packet, out.send = m.current(), true
		// The answer carries all news there are, except that of a Poll Sequence
		// of ours: Poll and Final exclude each other (section 6.5).
		if m.spoke && !m.polling {
			m.sent = out.packet
		}
		out.packet.final = true
	}
	return out
}

// accept decodes a datagram and finds out whether it is for this session (RFC
// 5880, section 6.8.6; RFC 5881, sections 3 and 5).
func (m *machine) accept(d datagram) (packet, Drop) {
	if d.from != m.addr {
		return packet{}, DropPeer
	}
	if d.ttl < int(m.minTTL) {
		return packet{}, DropTTL
	}
	p, drop := decode(d.payload)
	switch {
	case drop != dropNone:
		return packet{}, drop
	case p.yours == 0 && p.state != Down && p.state != AdminDown:
		return packet{}, DropNoSession
	case p.yours != 0 && p.yours != m.mine:
		return packet{}, DropUnknownSession
	case m.state == AdminDown:
		return packet{}, DropAdminDown
	}
	return p, dropNone
}

// step is the state machine of RFC 5880, sections 6.2 and 6.8.6.
func (m *machine) step(now time.Time, remote State) (out output) {
	next, diagnostic := m.state, m.diagnostic
	switch m.state {
	case Down:
		if remote == Down {
			next = Init
		}
		if remote == Init {
			next, diagnostic = Up, NoDiagnostic
		}
	case Init:
		if remote == Init || remote == Up {
			next, diagnostic = Up, NoDiagnostic
		}
		if remote == AdminDown {
			next, diagnostic = Down, NeighborSignaledDown
		}
	case Up:
		if remote == Down || remote == AdminDown {
			next, diagnostic = Down, NeighborSignaledDown
		}
	case AdminDown: // accept has dropped the packet
	}
	if next != m.state {
		out.change, out.changed = m.to(now, next, diagnostic), true
	}
	return out
}
