package ike

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/transitd/transitd/tunnel/ike/auth"
)

const (
	// askBefore is how long before its certificates end a peer is asked to prove itself
	// anew. It may come with the same ones, or not at all: then it is asked again after
	// half of what is left, as long as that is askLeast or more.
	askBefore = time.Hour
	askLeast  = 30 * time.Second
)

// validity is until when certificates prove who an end is.
type validity struct {
	until  time.Time // zero: they do not
	issuer string    // which of the chain ends then, if it is not the end's own
	askAt  time.Time // when the peer is asked to prove itself anew; zero: not any more
}

// validityOf is that of an end's certificate which rests on others, of which one ends first.
func validityOf(own, first *x509.Certificate) validity {
	v := validity{until: first.NotAfter}
	if !first.Equal(own) {
		v.issuer = plain(auth.SubjectOf(first).String())
	}
	return v
}

// askNext sets when the peer is asked next. The certificates of both ends may end on
// the same day: who did not make the SA waits longer, for two new SAs at once, of
// which one would have to go again, help nobody.
func (s *ikeSA) askNext() {
	v := &s.line.peer
	left := v.until.Sub(s.m.now)
	if v.until.IsZero() || left < 2*askLeast {
		v.askAt = time.Time{}
		return
	}
	span := min(left/2, askBefore)
	v.askAt = v.until.Add(s.m.jitter(span/8) - span)
	if !s.ours {
		v.askAt = v.askAt.Add(span / 4)
	}
}

func (v *validity) ended(now time.Time) bool { return !v.until.IsZero() && !now.Before(v.until) }

// of names what ends, whose certificate it is.
func (v *validity) of(who string) string {
	if v.issuer == "" {
		return fmt.Sprintf("the certificate of %s", who)
	}
	return fmt.Sprintf("%s, which the certificate of %s rests on,", v.issuer, who)
}

// authenticated are the IKE SAs that serve, the one that lasts longest first: by
// certificates an SA does so only until they end.
func (m *Machine) authenticated() (all []*ikeSA) {
	for _, s := range m.sas {
		if s.state == stateEstablished {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b *ikeSA) int {
		x, y := a.line.peer.until, b.line.peer.until
		if x.IsZero() != y.IsZero() { // a preshared key does not end
			x, y = y, x
		}
		return y.Compare(x)
	})
	return all
}

// outlive ends what a peer's certificates have authenticated when they end, and has
// the peer prove itself anew before: by a new IKE SA beside the old one (RFC 7296,
// section 2.8.3). Which end began the old one does not matter, nor does initiate: there
// is a tunnel, and the peer may know no better than to go on with it.
func (m *Machine) outlive() {
	all := m.authenticated()
	if len(all) == 0 {
		return
	}
	last := all[0]
	v := last.line.peer
	if v.ended(m.now) {
		m.found(CauseCertificate, "%s ended at %s, and the peer has not proved itself by another one: the IKE SA is deleted", v.of(last.peerID), v.until.UTC().Format(time.DateTime))
		m.beginAt = m.now
	}
	for _, s := range all {
		if s.line.peer.ended(m.now) {
			s.remove()
		}
	}
	asking := slices.ContainsFunc(m.sas, func(s *ikeSA) bool { return s.initiator && s.state < stateEstablished })
	if asking || v.ended(m.now) || v.askAt.IsZero() || m.now.Before(v.askAt) {
		return
	}
	m.say("%s ends at %s: the peer has to prove itself anew", v.of(last.peerID), v.until.UTC().Format(time.DateTime))
	for _, s := range all {
		s.askNext()
	}
	m.attempt()
}

// renewAt is when an SA is replaced, or the peer is asked to prove itself anew, whichever is first.
func (s *ikeSA) renewAt() time.Time {
	if at := s.line.peer.askAt; !at.IsZero() && at.Before(s.rekeyAt) {
		return at
	}
	return s.rekeyAt
}

// certificates describes when ours and the peer's end. Ours rests on what our file
// has; which authority the peer takes it by, only the peer knows.
func (s *Status) certificates(c *Config, peer validity) {
	if len(c.Certificates) == 0 {
		return
	}
	for _, x := range c.Certificates {
		if x.NotBefore.After(s.CertificateStarts) {
			s.CertificateStarts = x.NotBefore
		}
	}
	ours := validityOf(c.Certificates[0], auth.FirstToEnd(c.Certificates))
	s.CertificateExpires, s.CertificateIssuer = ours.until, ours.issuer
	s.PeerCertificateExpires, s.PeerCertificateIssuer = peer.until, peer.issuer
}
