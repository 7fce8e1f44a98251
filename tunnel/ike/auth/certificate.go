package auth

import (
	"crypto/sha1" // RFC 7296, section 3.7, names authorities by it; nothing rests on that
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// Bounds of what a peer may send us to read.
const (
	maxCertificates = 8
	maxCertificate  = 16 << 10 // bytes
)

// ParseChain reads the certificates that a peer sent, its own first. Other
// encodings (lists of revoked ones, URLs) are passed over.
func ParseChain(ps []message.Cert) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, p := range ps {
		if p.Encoding != message.CertX509 {
			continue
		}
		if len(out) == maxCertificates {
			return nil, fmt.Errorf("the peer sent more than %d certificates", maxCertificates)
		}
		if len(p.Data) > maxCertificate {
			return nil, fmt.Errorf("the peer sent a certificate of %d bytes, %d are allowed", len(p.Data), maxCertificate)
		}
		c, err := x509.ParseCertificate(p.Data)
		if err != nil {
			return nil, fmt.Errorf("reading the peer's certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("the peer sent no certificate")
	}
	return out, nil
}

// CertPayloads are the CERT payloads of a chain, the end's own first.
func CertPayloads(chain []*x509.Certificate) []message.Cert {
	var out []message.Cert
	for _, c := range chain {
		out = append(out, message.Cert{Encoding: message.CertX509, Data: c.Raw})
	}
	return out
}

// Request is the CERTREQ payload that names the authorities we trust.
func Request(authorities []*x509.Certificate) message.CertReq {
	r := message.CertReq{Encoding: message.CertX509}
	for _, c := range authorities {
		sum := sha1.Sum(c.RawSubjectPublicKeyInfo)
		r.Authorities = append(r.Authorities, sum[:]...)
	}
	return r
}

// VerifyChain checks that the first certificate is for the identity, may sign,
// and leads to one of the authorities by the others, all of them valid at the
// time given. The system's authorities do not count. It returns which certificate
// of the way there, the authority's included, ends first: until then it leads there.
func VerifyChain(chain, authorities []*x509.Certificate, id Identity, now time.Time) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	leaf := chain[0]
	first, err := verifyChain(chain, authorities, id, now)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s, by %s: %w", SubjectOf(leaf), Identity{message.IDDN, string(leaf.RawIssuer)}, err)
	}
	return first, nil
}

// FirstToEnd is which of certificates ends first; of several at the same time the first in the list.
func FirstToEnd(chain []*x509.Certificate) *x509.Certificate {
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
}

func verifyChain(chain, authorities []*x509.Certificate, id Identity, now time.Time) (*x509.Certificate, error) {
	for _, c := range chain {
		if err := CheckKey(c.PublicKey); err != nil {
			return nil, err
		}
	}
	leaf := chain[0]
	const form = "2006-01-02 15:04:05 MST"
	switch {
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("it is valid only from %s on, in %s by the clock here: wait, or set the clock", leaf.NotBefore.UTC().Format(form), roughly(leaf.NotBefore.Sub(now)))
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("it expired at %s, %s ago by the clock here", leaf.NotAfter.UTC().Format(form), roughly(now.Sub(leaf.NotAfter)))
	}
	// RFC 4945, section 5.1.3.2: if there is the extension, one of these two is in it.
	if u := leaf.KeyUsage; u != 0 && u&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return nil, errors.New("its key usage does not allow signatures")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range authorities {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	ways, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		// RFC 4945, section 5.1.3.12, would have one for IPsec; authorities in use give others.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Cert != nil && !invalid.Cert.Equal(leaf):
		return nil, fmt.Errorf("%s, between it and the authority: %w", SubjectOf(invalid.Cert), err)
	case err != nil:
		return nil, err
	}
	var ends []*x509.Certificate
	for _, way := range ways {
		ends = append(ends, FirstToEnd(way))
	}
	// While one way leads to an authority, it does not matter which.
	last := slices.MaxFunc(ends, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return last, id.Names(leaf)
}

// roughly is a span of time for a person. It does not change with each attempt,
// so that the log does not say the same every few seconds.
func roughly(d time.Duration) string {
	const day, step = 24 * time.Hour, 10 * time.Minute
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= step:
		return fmt.Sprintf("%d minutes", d/step*(step/time.Minute))
	}
	return fmt.Sprintf("less than %d minutes", step/time.Minute)
}
