package ike

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"
)

// authorityUntil is an authority whose certificate ends then; by another one, or by itself.
func authorityUntil(t testing.TB, by *authority, name string, end time.Time) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t, "ecdsa")}
	if by == nil {
		by = a
	}
	a.cert = by.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: end,
	}, a.key.Public())
	return a
}

// until lets an end prove itself by a certificate, which it has by others, until a time.
func (a *authority) until(c *Config, name string, end time.Time, by ...*x509.Certificate) {
	c.PSK = nil
	if c.Key == nil {
		c.Key = newKey(a.t, "ecdsa")
	}
	own := a.sign(&x509.Certificate{DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: time.Unix(0, 0), NotAfter: end}, c.Key.Public())
	c.Certificates = append([]*x509.Certificate{own}, by...)
}

// TestFirstToEnd: status has when the first certificate of each way to the authority ends, and which that is.
func TestFirstToEnd(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC) }
	type ending struct {
		day    int
		issuer string
	}
	for _, tc := range []struct {
		name            string
		a, middle, root int // days; b's own ends on the 20th
		ours, theirs    ending
		atB             ending // a's, as b has it
	}{
		{"the ends' own", 10, 50, 60, ending{10, ""}, ending{20, ""}, ending{10, ""}},
		{"the one between", 40, 15, 60, ending{15, "CN=middle"}, ending{20, ""}, ending{15, "CN=middle"}},
		{"the authority", 40, 50, 5, ending{40, ""}, ending{5, "CN=root"}, ending{5, "CN=root"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := authorityUntil(t, nil, "root", day(tc.root))
			middle := authorityUntil(t, root, "middle", day(tc.middle))
			w := newWorld(t, 31, func(a, b *Config) {
				middle.until(a, "a.example", day(tc.a), middle.cert)
				root.until(b, "b.example", day(20))
				a.Authorities, b.Authorities = []*x509.Certificate{root.cert}, []*x509.Certificate{root.cert}
			})
			a, b := w.up()
			for _, x := range []struct {
				name   string
				want   ending
				at     time.Time
				issuer string
			}{
				{"ours", tc.ours, a.CertificateExpires, a.CertificateIssuer},
				{"the peer's", tc.theirs, a.PeerCertificateExpires, a.PeerCertificateIssuer},
				{"ours at the peer", tc.atB, b.PeerCertificateExpires, b.PeerCertificateIssuer},
			} {
				if !x.at.Equal(day(x.want.day)) || x.issuer != x.want.issuer {
					t.Errorf("%s ends at %s by %q, want %+v", x.name, x.at, x.issuer, x.want)
				}
			}
		})
	}
}
