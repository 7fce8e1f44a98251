package bgp

import (
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp/policy"
)

// GoBGP v4.8.0 keeps a session that was lost in Idle for 5 s, a constant
// (pkg/server/fsm.go, holdtimeIdle), and closes what the peer opens meanwhile.
// While a session is established it closes new connections of the peer too
// (RFC 4271, section 6.8), even if the peer was restarted and knows nothing of
// the old one. A peer that is taken out and in again starts in Idle for no time
// at all, then listens and connects. So that is done
const (
	// after a loss: at once, but slower each time it fails early.
	recycleFirst = 250 * time.Millisecond
	recycleMax   = 4 * time.Second // then GoBGP's own 5 s come first
	// a session that lasted this long was good: the next failure is the first again.
	goodSession = 10 * time.Second
	// when a peer knocks twice at an established session. Once is not enough:
	// it may be the other connection of a simultaneous start, or a monitor on
	// the peer that looks whether the port is open. A peer that was restarted
	// tries again within this time. (Mostly its kernel is faster, with an RST.)
	knockAgain = 30 * time.Second
	// and not if the two come this close together.
	knockApart = time.Second
	// when the peer accepts a connection but never gets through the handshake:
	// RFC 4271, section 8.2.2 suggests 4 minutes, in which nothing else works.
	handshakeMax = 15 * time.Second

	// quiet is how long a peer says nothing until it is taken to have told all
	// (a Route Server need not send End-of-RIB: it has no graceful restart).
	quiet = 2 * time.Second
	// convergeMax is when Converged stops waiting for sessions that do not come up.
	convergeMax = 60 * time.Second
	// limitIdle is how long a peer rests that told more than it may.
	limitIdle = 30 * time.Second
	// maxStale bounds how long the routes of a peer that restarts are kept,
	// whatever it asks for.
	maxStale = 120 * time.Second
	// staleWithoutBFD is how long if BFD fails meanwhile: it may be a part of the
	// daemon that restarts (RFC 5882, section 4.3), or the machine is gone.
	staleWithoutBFD = 10 * time.Second
	// ghostTime is how long packets may still come for what was withdrawn from a
	// Route Server: Azure takes up to 39 s to program its network cards
	// (azure.md 1.4).
	ghostTime = 60 * time.Second
	// startRetry is between attempts to start an engine.
	startRetry = time.Second
)

// startAll starts the engines that are not running.
func (s *Speaker) startAll() {
	if s.ended {
		return
	}
	s.retryAt = time.Time{}
	for _, nb := range s.neighbors() {
		if nb.engine != nil {
			continue
		}
		e, err := s.engines.start(s.config(), nb.conf, s.sinkOf(nb))
		if err != nil {
			if s.noteError(nb, err) {
				s.log.Warn("cannot start BGP with a neighbor; trying again every second",
					zap.String("neighbor", nb.conf.Name), zap.Error(err))
			}
			s.retryAt = time.Now().Add(startRetry)
			continue
		}
		s.mu.Lock()
		nb.engine = e
		for p := range s.rib.selected { // it holds nothing yet
			s.rib.dirty[p] = struct{}{}
		}
		s.mu.Unlock()
	}
}

// noteError shows why a neighbor's engine does not start, and reports whether that is news.
func (s *Speaker) noteError(nb *neighbor, err error) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range nb.sessions {
		news = news || sess.lastError != err.Error()
		sess.lastError = err.Error()
	}
	return news
}

func (s *Speaker) neighbors() []*neighbor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*neighbor(nil), s.rib.neighbors...)
}

func (s *Speaker) config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rib.conf
}

// sinkOf delivers an engine's events to the owner until nb.gone is closed.
func (s *Speaker) sinkOf(nb *neighbor) sink {
	gone := nb.gone
	return sink{
		event: func(ev event) {
			ev.from = nb
			select {
			case s.events <- ev:
			case <-gone:
			}
		},
		knock: func(peer netip.Addr) {
			select {
			case s.events <- event{from: nb, peer: peer, knock: true}:
			default: // only a hint: the peer knocks again
			}
		},
		malformed: func(peer netip.Addr) {
			select {
			case s.events <- event{from: nb, peer: peer, malformed: true}:
			default: // one that is not counted among thousands
			}
		},
		stranger: func(addr netip.Addr) { s.onStranger(addr) },
	}
}

// onStranger counts a refused connection, unless it is of a neighbor whose
// server shares the listener with another's.
func (s *Speaker) onStranger(addr netip.Addr) {
	s.mu.Lock()
	known := false
	for _, nb := range s.rib.neighbors {
		known = known || nb.session(addr) != nil
	}
	s.mu.Unlock()
	if !known {
		s.strangers.Add(1)
		s.log.Info("refused a BGP connection of an address that is no neighbor's", zap.Stringer("peer", addr))
	}
}

func (s *Speaker) stopAll() {
	s.ended = true
	for _, nb := range s.neighbors() {
		s.stopNeighbor(nb)
	}
}

// stopNeighbor ends an engine and marks its sessions as down.
func (s *Speaker) stopNeighbor(nb *neighbor) {
	if nb.engine == nil {
		return
	}
	close(nb.gone)
	nb.engine.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	nb.engine = nil
	nb.gone = make(chan struct{})
	clear(nb.announced)
	for _, sess := range nb.sessions {
		s.rib.flush(sess)
		sess.state, sess.since, sess.recycleAt = Idle, time.Now(), time.Time{}
	}
}

func (s *Speaker) restart(nb *neighbor) {
	s.stopNeighbor(nb)
	s.retryAt = time.Now().Add(startRetry)
}

// handle takes one event.
func (s *Speaker) handle(ev event) {
	if ev.from.engine == nil {
		return // a late event of an engine that was stopped
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := ev.from.session(ev.peer)
	if sess == nil {
		return
	}
	now := time.Now()
	switch {
	case ev.state != nil:
		s.onState(ev.from, sess, *ev.state, now)
	case ev.knock:
		s.onKnock(ev.from, sess, now)
	case ev.malformed:
		if sess.malformed++; sess.malformed == 1 {
			s.log.Warn("a peer sends malformed UPDATEs; they are taken as withdrawals (RFC 7606) and counted", zap.String("neighbor", ev.from.conf.Name), zap.Stringer("peer", sess.peer))
		}
	case sess.state != Established:
		// The rest of a session that has ended.
	case ev.eor:
		sess.eor, sess.lastUpdate = true, now
		s.rib.purge(sess)
	default:
		for _, v := range s.rib.update(ev.from, sess, ev.updates, now) {
			s.log.Warn("refused a route", zap.String("neighbor", ev.from.conf.Name), zap.Stringer("peer", sess.peer),
				zap.Stringer("prefix", v.Route.Prefix), zap.String("rule", v.Rule), zap.String("reason", v.Reason))
		}
	}
}

// onState follows a session's state. Called with mu held.
func (s *Speaker) onState(nb *neighbor, sess *session, change stateChange, now time.Time) {
	was, lasted := sess.state, now.Sub(sess.since)
	if was == change.state {
		return
	}
	sess.state, sess.since = change.state, now
	fields := []zap.Field{
		zap.String("neighbor", nb.conf.Name), zap.Stringer("peer", sess.peer), zap.Uint32("asn", nb.conf.ASN),
	}
	if change.state != Idle {
		sess.recycleAt = time.Time{}
	}
	switch {
	case change.state == Established:
		if sess.staleUntil.IsZero() || !change.forwarding {
			s.rib.flush(sess)
		} else {
			sess.staleUntil = now.Add(maxStale) // for all it has to tell
		}
		sess.lastUpdate, sess.restart = now, change.restart
		s.log.Info("BGP session established", fields...)
	case was == Established && nb.conf.MaxPrefixes > 0 && (change.limited || len(sess.received) >= nb.conf.MaxPrefixes):
		sess.lastError = fmt.Sprintf("the peer told more than max_prefixes (%d); it is tried again after %s", nb.conf.MaxPrefixes, limitIdle)
		s.rib.flush(sess)
		s.log.Warn("BGP session ended: "+sess.lastError, fields...)
		sess.limited = now.Add(limitIdle)
	case was == Established && sess.restart > 0 && !change.notified:
		sess.lastError = change.reason
		sess.retain(now)
		s.log.Warn("BGP session lost; the peer may be restarting, its routes are kept", append(fields, zap.String("reason", change.reason), zap.Duration("for", min(sess.restart, maxStale)))...)
	case was == Established:
		sess.lastError = change.reason
		s.rib.flush(sess)
		s.log.Warn("BGP session lost", append(fields, zap.String("reason", change.reason), zap.Duration("after", lasted))...)
	case change.state == Idle && change.reason != "":
		sess.lastError = change.reason
	}
	if was == Established {
		sess.flaps++
	}
	if was == Established || change.state == Established {
		c := SessionChange{Peer: sess.peer, Name: nb.conf.Name, Role: nb.conf.Role, ASN: nb.conf.ASN, From: was, To: change.state}
		if was == Established {
			c.Lasted, c.Reason = lasted, sess.lastError
		}
		s.onSession(c)
	}
	if change.state == Idle {
		if was == Established && lasted >= goodSession {
			sess.failures = 0
		}
		sess.recycleAt = now.Add(min(recycleFirst<<min(sess.failures, 8), recycleMax))
		if sess.limited.After(now) {
			sess.recycleAt = sess.limited
		}
		sess.failures++
	}
}

// onKnock brings a session back whose peer evidently has none. Called with mu held.
func (s *Speaker) onKnock(nb *neighbor, sess *session, now time.Time) {
	switch sess.state {
	case Established:
		switch ago := now.Sub(sess.knocked); {
		case ago < knockApart:
		case ago > knockAgain || sess.knocked.Before(sess.since):
			sess.knocked = now
		default:
			s.onState(nb, sess, stateChange{state: Idle, reason: "the peer keeps opening new connections: it has lost this one"}, now)
			sess.recycleAt = now
		}
	case Idle:
		if now.Sub(sess.recycled) >= knockApart {
			sess.recycleAt = now
		}
	case Connect, Active, OpenSent, OpenConfirm: // on its way
	}
}

// onTick does what is due.
func (s *Speaker) onTick(now time.Time) {
	if s.ended {
		return
	}
	if !s.retryAt.IsZero() && !now.Before(s.retryAt) {
		s.startAll()
	}
	for _, nb := range s.neighbors() {
		if nb.engine == nil {
			continue
		}
		for _, peer := range s.dueForRecycling(nb, now) {
			if err := nb.engine.recycle(peer); err != nil {
				s.log.Error("restarting a neighbor whose session could not be reset", zap.String("neighbor", nb.conf.Name), zap.Error(err))
				s.restart(nb)
				break
			}
		}
	}
	s.noteRefreshes(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled(now, policy.RouteServer) {
		s.rib.settleVNet()
	}
	s.standLocked(now)
	for _, nb := range s.rib.neighbors {
		for _, sess := range nb.sessions {
			if !sess.staleUntil.IsZero() && now.After(sess.staleUntil) {
				s.log.Warn("a peer that restarted has not told all of its routes again; the rest is withdrawn", zap.String("neighbor", nb.conf.Name), zap.Int("routes", len(sess.stale)))
				s.rib.purge(sess)
			}
		}
	}
	s.rib.forgetGhosts(now)
	s.rib.resume(now)
}

func (s *Speaker) dueForRecycling(nb *neighbor, now time.Time) (peers []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range nb.sessions {
		stuck := (sess.state == OpenSent || sess.state == OpenConfirm) && now.Sub(sess.since) > handshakeMax
		planned := sess.state == Idle && !sess.recycleAt.IsZero() && !now.Before(sess.recycleAt)
		if !stuck && !planned {
			continue
		}
		if stuck {
			sess.lastError = "the peer accepted the connection but did not complete the handshake"
		}
		sess.state, sess.since, sess.recycleAt, sess.recycled = Idle, now, time.Time{}, now
		peers = append(peers, sess.peer)
	}
	return peers
}

// settled reports whether every session with neighbors of the role has told
// all it has. Called with mu held.
func (s *Speaker) settled(now time.Time, role policy.Role) bool {
	for _, nb := range s.rib.neighbors {
		for _, sess := range nb.sessions {
			if nb.conf.Role == role && (sess.state != Established || !sess.eor && now.Sub(sess.lastUpdate) < quiet) {
				return false
			}
		}
	}
	return true
}

// Converged reports whether what was learned is complete: every session is up
// and its peer has sent End-of-RIB or nothing for 2 s, or Run began 60 s ago
// (a session that does not come up must not keep stale routes for ever). From
// then on routes that nobody told can be removed from the kernel.
func (s *Speaker) Converged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.started.IsZero() || len(s.rib.dirty) > 0 {
		return false
	}
	return now.Sub(s.started) >= convergeMax || s.settled(now, policy.RouteServer) && s.settled(now, policy.Tunnel)
}
