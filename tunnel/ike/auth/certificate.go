package auth

import (
	"crypto/sha1" // RFC 7296, section 3.7, names authorities by it; nothing rests on that
	"crypto/x509"
	"errors"
	"fmt"
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
// time given. The system's authorities do not count.
func VerifyChain(chain, authorities []*x509.Certificate, id Identity, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	leaf := chain[0]
	if err := verifyChain(chain, authorities, id, now); err != nil {
		return fmt.Errorf("certificate of %s, by %s: %w", SubjectOf(leaf), Identity{message.IDDN, string(leaf.RawIssuer)}, err)
	}
	return nil
}

func verifyChain(chain, authorities []*x509.Certificate, id Identity, now time.Time) error {
	for _, c := range chain {
		if err := CheckKey(c.PublicKey); err != nil {
			return err
		}
	}
	leaf := chain[0]
	const form = "2006-01-02 15:04:05 MST"
	switch clock := now.UTC().Format(form); {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("it is valid only from %s on, and here it is %s: wait, or set the clock", leaf.NotBefore.UTC().Format(form), clock)
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it expired at %s, and here it is %s", leaf.NotAfter.UTC().Format(form), clock)
	}
	// RFC 4945, section 5.1.3.2: if there is the extension, one of these two is in it.
	if u := leaf.KeyUsage; u != 0 && u&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return errors.New("its key usage does not allow signatures")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range authorities {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		// RFC 4945, section 5.1.3.12, would have one for IPsec; authorities in use give others.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Cert != nil && !invalid.Cert.Equal(leaf):
		return fmt.Errorf("%s, between it and the authority: %w", SubjectOf(invalid.Cert), err)
	case err != nil:
		return err
	}
	return id.Names(leaf)
}
