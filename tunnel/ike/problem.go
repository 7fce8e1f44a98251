package ike

import (
	"errors"
	"fmt"
	"time"
)

// Cause is what kind of a problem keeps a tunnel down: which settings to look at.
type Cause string

// The causes.
const (
	CauseOther       Cause = ""
	CauseSilence     Cause = "silence"     // the peer does not answer
	CauseRefused     Cause = "refused"     // the peer refuses, and only it knows why
	CausePassive     Cause = "passive"     // the peer has to begin, and has not
	CauseSecret      Cause = "secret"      // the preshared keys differ
	CauseMethod      Cause = "method"      // a preshared key at one end, certificates at the other
	CausePPK         Cause = "ppk"         // the postquantum preshared key
	CauseIdentity    Cause = "identity"    // local_id, remote_id
	CauseCertificate Cause = "certificate" // of the peer
	CauseProposals   Cause = "proposals"
	CauseSelectors   Cause = "selectors"
)

const (
	// repeated is when the log says the same again, and pause how soon it says
	// something else of the same kind: what is wrong may stay so for a night.
	repeated = 10 * time.Minute
	pause    = 5 * time.Second
	// proclaimAfter is when an SA of which the peer is not known to have it is proclaimed all the same.
	proclaimAfter = 5 * time.Second
	// patience is how long a tunnel may be down without a word before the log has one:
	// longer than a restart of the peer takes.
	patience = 20 * time.Second
)

// reason is an error with its cause.
type reason struct {
	cause Cause
	err   error
}

func (r *reason) Error() string { return r.err.Error() }
func (r *reason) Unwrap() error { return r.err }

func because(c Cause, format string, args ...any) error {
	return &reason{c, fmt.Errorf(format, args...)}
}

func causeOf(err error) Cause {
	var r *reason
	if errors.As(err, &r) {
		return r.cause
	}
	return CauseOther
}

// problem notes what this end has found.
func (m *Machine) problem(format string, args ...any) { m.found(CauseOther, format, args...) }

// found notes what this end has found, with its cause.
func (m *Machine) found(c Cause, format string, args ...any) {
	text := plain(fmt.Sprintf(format, args...))
	m.status.Problem, m.status.ProblemAt, m.status.Cause = text, m.now, c
	m.complain(c, text)
}

// refused notes that the peer has refused something. It is kept apart from what
// this end has found: both ends may begin, and the one that refuses knows more.
func (m *Machine) refused(format string, args ...any) {
	text := plain(fmt.Sprintf(format, args...))
	m.status.PeerSays, m.status.PeerSaidAt = text, m.now
	if m.status.Cause == CauseSilence { // it is over
		m.status.Problem, m.status.Cause = "", CauseOther
	}
	m.complain(CauseRefused, text)
}

func (m *Machine) complain(c Cause, text string) {
	said, kind := m.journal.said, "kind "+string(c)
	if at, ok := said[text]; ok && m.now.Sub(at) < repeated {
		return
	}
	if at, ok := said[kind]; ok && m.now.Sub(at) < pause && c != CauseOther {
		return
	}
	if said == nil || len(said) >= maxProblems-1 { // a peer cannot make it grow
		said = map[string]time.Time{}
		m.journal.said = said
	}
	said[text], said[kind] = m.now, m.now
	m.log(true, text)
}

// lament logs, now and then, that nothing comes of it while no message says so: of silence.
func (m *Machine) lament() {
	if m.best() != nil {
		m.downAt, m.lamented = time.Time{}, time.Time{}
		return
	}
	if m.downAt.IsZero() {
		m.downAt = m.now
	}
	if m.now.Sub(m.downAt) < patience || !m.lamented.IsZero() && m.now.Sub(m.lamented) < repeated {
		return
	}
	s := m.Status()
	if c := s.CauseNow(m.now); c != CauseSilence && s.Refusal(m.now) != "" {
		return // it has been said
	}
	m.lamented = m.now
	m.log(true, s.Why(m.now))
}

// maxProblems bounds what is known to have been said.
const maxProblems = 64

// mended forgets what was wrong: it is told anew if it comes again.
func (m *Machine) mended() {
	m.status.Problem, m.status.PeerSays, m.status.Cause = "", "", CauseOther
	clear(m.journal.said)
}

func (m *Machine) say(format string, args ...any) {
	m.log(false, fmt.Sprintf(format, args...))
}

// say tells of an SA. A responder's is told once the peer has used it: a peer that
// refuses us says so only after it has our answer, and it will try again for a night.
func (s *ikeSA) say(format string, args ...any) {
	if s.proclaimed {
		s.m.say(format, args...)
		return
	}
	s.untold = append(s.untold, fmt.Sprintf(format, args...))
}

// proclaim tells what waited for the peer. It is there, so what was wrong is mended,
// but for a CHILD SA that is still missing.
func (s *ikeSA) proclaim() {
	if s.proclaimed {
		return
	}
	s.proclaimed = true
	if !s.bare() {
		s.m.mended()
	}
	for _, text := range s.untold {
		s.m.say("%s", text)
	}
	s.untold = nil
}
