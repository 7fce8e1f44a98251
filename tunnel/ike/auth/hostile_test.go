package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"strings"
	"testing"
	"time"
)

// TestHostileChains has authorities and ends that do what they may not.
func TestHostileChains(t *testing.T) {
	t.Parallel()
	id, err := ParseIdentity("nva.example")
	if err != nil {
		t.Fatal(err)
	}
	root := &issuer{t: t, key: key(t, "p256")}
	authority := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	root.cert = root.issue(authority("root"), root.key)
	between := func(change func(c *x509.Certificate)) *issuer {
		i := &issuer{t: t, key: key(t, "p256")}
		c := authority("middle")
		change(c)
		i.cert = root.issue(c, i.key)
		return i
	}
	end := func(change func(c *x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{DNSNames: []string{"nva.example"}, KeyUsage: x509.KeyUsageDigitalSignature}
		change(c)
		return c
	}
	same := func(*x509.Certificate) {}
	k := key(t, "p256")
	for _, tc := range []struct {
		name   string
		middle func(c *x509.Certificate)
		end    func(c *x509.Certificate)
		says   string // nothing: it is taken
	}{
		{"a good one", same, same, ""},
		{"an expired one between", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = clock().Add(-2*time.Hour), clock().Add(-time.Hour)
		}, same, "CN=middle, between it and the authority"},
		{"one between that is no authority", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }, same, "cannot sign"},
		{"one between that may not sign certificates", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, same, "certificate"},
		{"names that the one between may not give", func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"elsewhere.example"}
		}, same, "not permitted"},
		{"names that it may", func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"nva.example"}
		}, same, ""},
		{"addresses that it may not", func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.ExcludedIPRanges = true, []*net.IPNet{{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}}
		}, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 1, 2, 3)} }, "excluded"},
		{"an extension that nobody knows, and critical", same, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}, "unhandled critical extension"},
		{"the same, not critical", same, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}}
		}, ""},
		{"for a web server, as authorities in use give them", same, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, ""},
		{"a name with a zero byte", same, func(c *x509.Certificate) { c.DNSNames = []string{"nva.example\x00.evil.example"} }, "not for nva.example"},
		{"a thousand names", same, func(c *x509.Certificate) {
			c.DNSNames = nil
			for range 300 {
				c.DNSNames = append(c.DNSNames, "other.example")
			}
		}, "not for nva.example"},
	} {
		middle := between(tc.middle)
		chain := []*x509.Certificate{middle.issue(end(tc.end), k), middle.cert}
		_, err := VerifyChain(chain, []*x509.Certificate{root.cert}, id, clock())
		if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: %d bytes of reason", tc.name, len(err.Error()))
		}
	}
	// Fewer links than the authority allows, and two that vouch for each other.
	short := &issuer{t: t, key: key(t, "p256")}
	c := authority("short")
	c.MaxPathLenZero = true
	short.cert = root.issue(c, short.key)
	more := &issuer{t: t, key: key(t, "p256")}
	more.cert = short.issue(authority("more"), more.key)
	if _, err := VerifyChain([]*x509.Certificate{more.issue(end(same), k), more.cert, short.cert}, []*x509.Certificate{root.cert}, id, clock()); err == nil {
		t.Error("a chain is longer than it may be")
	}
	a, b := &issuer{t: t, key: key(t, "p256")}, &issuer{t: t, key: key(t, "p256")}
	a.cert = a.issue(authority("a"), a.key)
	b.cert = a.issue(authority("b"), b.key)
	again := b.issue(authority("a"), a.key)
	began := time.Now()
	if _, err := VerifyChain([]*x509.Certificate{a.issue(end(same), k), b.cert, again, a.cert, b.cert, again, a.cert, b.cert}, []*x509.Certificate{root.cert}, id, clock()); err == nil {
		t.Error("two strangers vouch for each other")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("that took %v", took)
	}
}
