package bgp

import (
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

// refreshStanding looks how the siblings are doing, and reports how often our
// own ASN is prepended because of it. If that changed, every export is due anew.
func (r *rib) refreshStanding(now time.Time) (prepend int, changed bool) {
	var siblings []policy.Standing
	for _, nb := range r.neighbors {
		if nb.conf.Role == policy.Sibling {
			for _, sess := range nb.sessions {
				r.look(sess, now)
				siblings = append(siblings, sess.standing)
			}
		}
	}
	prepend = policy.Prepend(r.conf.Priority, siblings, r.stance != Carry)
	if prepend == r.env.Prepend {
		return prepend, false
	}
	r.env.Prepend = prepend
	r.redoExports()
	return prepend, true
}

// look finds out whether a sibling forwards: it has told all it has, and there
// are routes to other sites among it. One that is back but has no tunnel yet
// is not waited for.
func (r *rib) look(sess *session, now time.Time) {
	sess.standing.Alive = false
	if sess.state != Established {
		return
	}
	// Once is enough: later updates do not make it less alive.
	sess.told = sess.told || sess.eor || now.Sub(sess.lastUpdate) >= quiet
	if !sess.told {
		return
	}
	for _, rx := range sess.received {
		if priority, ok := policy.PriorityOf(rx.route, r.conf.ASN); ok && rx.verdict.Accept {
			sess.standing = policy.Standing{Priority: priority, Alive: true, Seen: true}
			return
		}
	}
}

// siblingNames lists the siblings that forward.
func (r *rib) siblingNames() (alive []string) {
	for _, nb := range r.neighbors {
		for _, sess := range nb.sessions {
			if sess.standing.Alive {
				alive = append(alive, nb.conf.Name)
			}
		}
	}
	return alive
}
