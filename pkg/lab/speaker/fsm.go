package speaker

import (
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// handle is the state machine of one connection for received messages (RFC
// 4271, section 8.2.2). A *MessageError ends the connection with a
// NOTIFICATION, any other error without.
func (p *peer) handle(c *conn, msg Message) error {
	if n, ok := msg.(*Notification); ok {
		return fmt.Errorf("received %v", n)
	}
	switch c.state {
	case OpenSent:
		if m, ok := msg.(*Open); ok {
			return p.opened(c, m)
		}
		return unexpected(fsmOpenSent, msg)
	case OpenConfirm:
		if _, ok := msg.(*Keepalive); ok {
			p.establish(c)
			return nil
		}
		return unexpected(fsmOpenConfirm, msg)
	case Idle, Connect, Active, Established:
	}
	switch m := msg.(type) {
	case *Keepalive:
		c.resetHold()
		return nil
	case *Update:
		c.resetHold()
		return p.learn(c, m)
	case *RouteRefresh:
		if m.AFI == afiIPv4 && m.SAFI == safiUnicast && m.Subtype == 0 {
			p.s.rib.readvertise(p.cfg.Name)
		}
		return nil
	}
	return unexpected(fsmEstablished, msg)
}

func unexpected(subcode uint8, msg Message) error {
	return newMessageError(codeFSM, subcode, nil, "message of type %d", msg.Type())
}

// opened answers the neighbour's OPEN (RFC 4271, section 6.2).
func (p *peer) opened(c *conn, o *Open) error {
	if o.ASN() != p.cfg.ASN {
		return newMessageError(codeOpen, openPeerAS, nil, "neighbour is AS %d (%d)", o.ASN(), p.cfg.ASN)
	}
	if !o.hasIPv4() {
		return newMessageError(codeOpen, openCapability, []byte{capMultiprotocol, 4, 0, 1, 0, 1}, "neighbour does not speak IPv4 unicast")
	}
	c.open = o
	c.box.as4 = o.has(capFourOctetAS)
	if err := p.resolveCollision(c); err != nil {
		return err
	}
	p.stats.opened(o)
	c.hold = min(p.s.cfg.HoldTime, time.Duration(o.HoldTime)*time.Second)
	c.state = OpenConfirm
	c.holdTimer.Stop()
	c.resetHold()
	if c.hold > 0 {
		c.keepTimer.Reset(c.hold / 3)
	}
	return c.send(&Keepalive{})
}

// resolveCollision ends one of two connections once both ends' OPENs are known
// on both: that which the speaker with the lower BGP identifier made (RFC 4271,
// section 6.8; RFC 6286, section 2.3 for equal ones). The error is c's own end.
func (p *peer) resolveCollision(c *conn) error {
	other := p.in
	if !c.outgoing {
		other = p.out
	}
	if other == nil || other.state == OpenSent {
		return nil
	}
	lost := newMessageError(codeCease, ceaseCollision, nil, "the other connection stays")
	if other.state == Established {
		return lost
	}
	weAreHigher := higher(p.s.cfg.RouterID, p.s.cfg.ASN, c.open.RouterID, p.cfg.ASN)
	if c.outgoing != weAreHigher {
		return lost
	}
	p.fail(other, lost)
	return nil
}

// higher compares BGP identifiers, and AS numbers if those are equal.
func higher(id netip.Addr, asn uint32, otherID netip.Addr, otherASN uint32) bool {
	if c := id.Compare(otherID); c != 0 {
		return c > 0
	}
	return asn > otherASN
}

// establish begins the exchange of routes on c.
func (p *peer) establish(c *conn) {
	for _, other := range []*conn{p.in, p.out} {
		if other != nil && other != c {
			p.fail(other, newMessageError(codeCease, ceaseCollision, nil, "the other connection is established"))
		}
	}
	c.state = Established
	c.resetHold()
	p.retry.Stop()
	p.stats.established(time.Now(), c.hold)
	p.log.Info("session established", zap.Duration("hold", c.hold), zap.Bool("outgoing", c.outgoing))
	p.s.rib.up(p.cfg.Name, c.box, c.local)
}

// resetHold starts the hold timer again (RFC 4271, section 4.4), if the session has one.
func (c *conn) resetHold() {
	if c.hold > 0 {
		c.holdTimer.Reset(c.hold)
	}
}

// holdExpired ends a connection on which nothing came for too long.
func (p *peer) holdExpired(c *conn) {
	silence := c.hold
	if c.state == OpenSent {
		silence = openWait
	}
	p.fail(c, newMessageError(codeHoldTimer, subcodeNone, nil, "nothing received for %v in %v", silence, c.state))
}

// keepalive sends a KEEPALIVE. One that finds the queue full is not missed: UPDATEs are on their way.
func (p *peer) keepalive(c *conn) {
	_ = c.send(&Keepalive{})
	c.keepTimer.Reset(c.hold / 3)
}
