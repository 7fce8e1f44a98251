package ike

import (
	"bytes"
	"slices"
	"time"
)

const (
	// settleOurs is when the end that began a superfluous SA deletes it; the other
	// end does so after settleTheirs, if it did not.
	settleOurs   = time.Second
	settleTheirs = 12 * time.Second
	// settleWindow is how far apart in time two SAs may be made and still have been
	// made at once.
	settleWindow = 10 * time.Second
)

// settle leaves one IKE SA and one pair, where both ends have made one each. The
// rule is that of RFC 7296, section 2.8.1: the one with the lowest nonce goes,
// and whoever began it deletes it. If they were not made at once the newer stays:
// who makes another one may have lost the one before, and not have said so.
//
// The one that stays may have no pair, because the peer, whose configuration is
// still another one, has refused it. Until it has, the one before carries.
func (m *Machine) settle() {
	all := m.rivals()
	for _, s := range all {
		s.settleChildren()
	}
	if len(all) < 2 {
		return
	}
	keep := kept(all)
	if m.now.Sub(keep.established) < settleOurs || !keep.ready() {
		return
	}
	for _, s := range all {
		if s == keep || len(s.installed()) > 0 && !keep.carries() {
			continue
		}
		if s.outdated && !keep.outdated || m.now.Sub(s.established) >= m.patience(s.ours) {
			s.remove()
		}
	}
}

// rivals are the IKE SAs of which one stays; none while a rekeying leaves open which.
func (m *Machine) rivals() (all []*ikeSA) {
	for _, s := range m.sas {
		if s.state != stateEstablished {
			continue
		}
		if _, open := s.outTask().(*rekeyIKE); open {
			return nil
		}
		all = append(all, s)
	}
	return all
}

// kept is the one of several IKE SAs that stays.
func kept(all []*ikeSA) *ikeSA {
	newest := all[0]
	for _, s := range all[1:] {
		if newest.outdated && !s.outdated || newest.outdated == s.outdated && newest.line.at.Before(s.line.at) {
			newest = s
		}
	}
	keep := newest
	for _, s := range all {
		if s.outdated == newest.outdated && newest.line.at.Sub(s.line.at) < settleWindow && keep.yields(s) {
			keep = s
		}
	}
	return keep
}

// yields reports whether of two IKE SAs that were made at once this one goes.
func (s *ikeSA) yields(o *ikeSA) bool {
	if n := bytes.Compare(s.line.lowest, o.line.lowest); n != 0 {
		return n < 0
	}
	return loses(s.lowest, o.lowest)
}

// ready reports whether the peer is known to have the SA as well.
func (s *ikeSA) ready() bool {
	return s.ours || s.m.now.Sub(s.established) >= halfOpenLife || slices.ContainsFunc(s.children, func(c *child) bool { return c.ready })
}

// carries reports whether the SA has a pair that the peer is known to have as well.
func (s *ikeSA) carries() bool {
	return slices.ContainsFunc(s.installed(), func(c *child) bool { return c.ready })
}

// bare reports whether a pair is missing: there is none at all, or the SA is the
// one that stays, and what carries packets belongs to one that goes.
func (s *ikeSA) bare() bool {
	if s.m.best() == nil {
		return true
	}
	all := s.m.rivals()
	return len(s.installed()) == 0 && len(all) > 0 && kept(all) == s
}

func (m *Machine) patience(ours bool) time.Duration {
	if ours {
		return settleOurs
	}
	return settleTheirs
}

// settleChildren leaves one of the pairs.
func (s *ikeSA) settleChildren() {
	all := s.installed()
	switch s.outTask().(type) {
	case *rekeyChild, *createChild:
		return
	}
	if len(all) < 2 {
		return
	}
	keep := all[0]
	for _, c := range all[1:] {
		if loses(keep.lowest, c.lowest) {
			keep = c
		}
	}
	if s.m.now.Sub(keep.born) < settleOurs || !keep.ready {
		return
	}
	for _, c := range all {
		if c != keep && s.m.now.Sub(c.born) >= s.m.patience(c.ours) {
			s.deleteChild(c)
		}
	}
}

// bound keeps a peer from making IKE SAs without end: the oldest goes.
func (m *Machine) bound() {
	var all []*ikeSA
	for _, s := range m.sas {
		if s.state >= stateEstablished && s.state != stateDead {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b *ikeSA) int { return a.established.Compare(b.established) })
	for len(all) > maxEstablished {
		all[0].die(0)
		all = all[1:]
	}
}
