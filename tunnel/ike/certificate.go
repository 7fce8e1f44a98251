package ike

import (
	"crypto/x509"
	"time"

	"github.com/transitd/transitd/tunnel/ike/auth"
)

// validity is until when certificates prove who an end is.
type validity struct {
	until  time.Time // zero: they do not
	issuer string    // which of the chain ends then, if it is not the end's own
}

// validityOf is that of an end's certificate which rests on others, of which one ends first.
func validityOf(own, first *x509.Certificate) validity {
	v := validity{until: first.NotAfter}
	if !first.Equal(own) {
		v.issuer = plain(auth.SubjectOf(first).String())
	}
	return v
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
