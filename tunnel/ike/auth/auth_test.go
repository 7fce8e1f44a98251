package auth

import (
	"bytes"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // a peer may send one
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

func TestParseIdentity(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		kind message.IDKind
		says string // as written; of an error, a part
	}{
		{"10.1.2.4", message.IDIPv4, "10.1.2.4"},
		{"2001:db8::1", message.IDIPv6, "2001:db8::1"},
		{"nva.example", message.IDFQDN, "nva.example"},
		{"@10.1.2.4", message.IDFQDN, "10.1.2.4"},
		{"admin@nva.example", message.IDEmail, "admin@nva.example"},
		{"@#0aff", message.IDKeyID, "@#0aff"},
		{"C=DE, O=Example, CN=nva 1", message.IDDN, "C=DE, O=Example, CN=nva 1"},
		{"CN=a, DC=example, DC=org", message.IDDN, "CN=a, DC=example, DC=org"},
		{"", 0, "it is empty"},
		{"@", 0, "it is empty"},
		{"@#0", 0, "hexadecimal"},
		{"a b", 0, "no letter of a name"},
		{"XX=1", 0, "XX"},
		{"CN=", 0, `"CN="`},
		{strings.Repeat("a", 1025), 0, "1024 are allowed"},
	} {
		id, err := ParseIdentity(tc.text)
		switch {
		case tc.kind == 0:
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%.40q: %v, %v", tc.text, id, err)
			}
		case err != nil:
			t.Errorf("%q: %v", tc.text, err)
		case id.Kind != tc.kind || id.String() != tc.says || !id.Equal(id):
			t.Errorf("%q: %s %q", tc.text, id.Kind, id)
		default:
			back, err := IdentityOf(id.Payload(message.TypeIDi))
			if err != nil || !back.Equal(id) {
				t.Errorf("%q: back as %v, %v", tc.text, back, err)
			}
		}
	}
	equal := func(a, b string, want bool) {
		x, err1 := ParseIdentity(a)
		y, err2 := ParseIdentity(b)
		if err1 != nil || err2 != nil || x.Equal(y) != want {
			t.Errorf("%q and %q: not %v (%v, %v)", a, b, want, err1, err2)
		}
	}
	equal("NVA.example", "nva.EXAMPLE", true)
	equal("CN=A B", "CN=a b", true)
	equal("C=DE, CN=a", "CN=a, C=DE", false)
	equal("10.0.0.1", "@10.0.0.1", false)
	equal("@#00", "@#01", false)
	for _, p := range []message.ID{{Kind: 77, Data: []byte("x")}, {Kind: message.IDIPv4, Data: []byte("abc")}, {Kind: message.IDDN, Data: []byte("abc")}, {Kind: message.IDFQDN, Data: []byte("a\x00b")}, {Kind: message.IDFQDN}} {
		if id, err := IdentityOf(p); err == nil {
			t.Errorf("%+v is %s", p, id)
		}
	}
}

func key(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "rsa2048":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p224":
		k, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "p256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSignatures: what we sign we take, with every hash that both know, and
// nothing else.
func TestSignatures(t *testing.T) {
	t.Parallel()
	octets := []byte("what is signed")
	hashes := [][]message.Hash{nil, {message.HashSHA256}, {message.HashSHA384}, {message.HashSHA512}, Hashes()}
	kinds := []string{"rsa2048", "p256", "p384", "p521", "ed25519"}
	var keys []crypto.Signer
	for _, kind := range kinds {
		keys = append(keys, key(t, kind))
	}
	for i, k := range keys {
		for _, theirs := range hashes {
			a, err := Sign(k, octets, theirs, rand.Reader)
			if kinds[i] == "ed25519" && !slices.Contains(theirs, message.HashIdentity) {
				if err == nil {
					t.Error("Ed25519 for a peer that does not know it")
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s, %v: %v", kinds[i], theirs, err)
			}
			if err := Verify(k.Public(), a, octets, Hashes()); err != nil {
				t.Errorf("%s, %v: %v", kinds[i], theirs, err)
			}
			if err := Verify(k.Public(), a, []byte("something else"), Hashes()); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %v, of something else: %v", kinds[i], theirs, err)
			}
			for j, other := range keys {
				if err := Verify(other.Public(), a, octets, Hashes()); i != j && err == nil {
					t.Errorf("the signature by %s is one by %s", kinds[i], kinds[j])
				}
			}
			for n := range a.Data { // every byte counts
				if kinds[i] == "rsa2048" && (n%16 != 0 || n > 0 && n < len(a.Data)-256) {
					continue // of the identifier of RSA-PSS, some bytes only frame others
				}
				b := message.Auth{Method: a.Method, Data: bytes.Clone(a.Data)}
				b.Data[n] ^= 1
				if err := Verify(k.Public(), b, octets, Hashes()); err == nil {
					t.Errorf("%s, %v: with byte %d of %d flipped it is taken", kinds[i], theirs, n, len(a.Data))
				}
				b.Data = a.Data[:n]
				if err := Verify(k.Public(), b, octets, Hashes()); err == nil {
					t.Errorf("%s, %v: cut to %d bytes it is taken", kinds[i], theirs, n)
				}
			}
			if len(theirs) == 1 {
				others := slices.DeleteFunc(Hashes(), func(h message.Hash) bool { return h == theirs[0] })
				if err := Verify(k.Public(), a, octets, others); err == nil {
					t.Errorf("%s: a hash that was not announced", kinds[i])
				}
			}
		}
	}
	if _, err := Sign(key(t, "p256"), octets, []message.Hash{99}, rand.Reader); err == nil {
		t.Error("signed with a hash that nobody knows")
	}
	for _, m := range []message.AuthMethod{message.AuthPSK, 99} {
		if err := Verify(keys[1].Public(), message.Auth{Method: m, Data: octets}, octets, Hashes()); err == nil {
			t.Errorf("%s is taken for a signature", m)
		}
	}
	// RSA PKCS #1 v1.5 by RFC 7427, which strongSwan sends unless told otherwise.
	k := keys[0].(*rsa.PrivateKey)
	s, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest(message.HashSHA256, octets))
	if err != nil {
		t.Fatal(err)
	}
	id, err := algorithm{scheme: schemePKCS1, hash: message.HashSHA256}.identifier()
	if err != nil {
		t.Fatal(err)
	}
	a := message.Auth{Method: message.AuthSignature, Data: append(append([]byte{byte(len(id))}, id...), s...)}
	if err := Verify(k.Public(), a, octets, Hashes()); err != nil {
		t.Error(err)
	}
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]crypto.PublicKey{
		"a short RSA key": &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537},
		"a long RSA key":  &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 16384), E: 65537},
		"P-224":           key(t, "p224").Public(),
		"half an Ed25519": ed25519.PublicKey{1, 2, 3},
		"DSA":             &dsa.PublicKey{},
		"none":            nil,
	} {
		if err := CheckKey(k); err == nil {
			t.Errorf("%s may sign", name)
		}
		if err := Verify(k, message.Auth{Method: message.AuthSignature}, nil, Hashes()); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	if _, err := Sign(key(t, "p224"), nil, Hashes(), rand.Reader); err == nil {
		t.Error("P-224 signs")
	}
}

// issuer makes certificates.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
}

func (i *issuer) issue(c *x509.Certificate, k crypto.Signer) *x509.Certificate {
	i.t.Helper()
	c.SerialNumber = big.NewInt(7)
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = clock().Add(-time.Hour), clock().Add(time.Hour)
	}
	parent, by := i.cert, i.key
	if parent == nil {
		parent, by = c, k
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, k.Public(), by)
	if err != nil {
		i.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return out
}

func clock() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

func TestChains(t *testing.T) {
	t.Parallel()
	root := &issuer{t: t, key: key(t, "p256")}
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	root.cert = root.issue(ca("root"), root.key)
	middle := &issuer{t: t, key: key(t, "p384")}
	middle.cert = root.issue(ca("middle"), middle.key)
	k := key(t, "p256")
	leaf := func(change func(c *x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{
			Subject: pkix.Name{CommonName: "nva.example", Organization: []string{"Example"}}, DNSNames: []string{"other.example", "nva.example"},
			EmailAddresses: []string{"nva@example.org"}, IPAddresses: []net.IP{net.IPv4(10, 1, 2, 4), net.ParseIP("2001:db8::1")},
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
		change(c)
		return middle.issue(c, k)
	}
	good := leaf(func(*x509.Certificate) {})
	same := func(*x509.Certificate) {}
	for _, tc := range []struct {
		name, id string
		change   func(c *x509.Certificate)
		without  bool // the one between
		says     string
	}{
		{"by name", "nva.example", same, false, ""},
		{"by another case", "NVA.Example", same, false, ""},
		{"by address", "10.1.2.4", same, false, ""},
		{"by IPv6", "2001:db8::1", same, false, ""},
		{"by email", "nva@example.org", same, false, ""},
		{"by DN", "O=Example, CN=nva.example", same, false, ""},
		{"another name", "nva2.example", same, false, "the certificate is for other.example, nva.example, not for nva2.example"},
		{"another address", "10.1.2.5", same, false, "10.1.2.4"},
		{"another DN", "CN=other", same, false, "not for CN=other"},
		{"the common name does not count", "nva.example", func(c *x509.Certificate) { c.DNSNames = nil }, false, "no name of type"},
		{"a wildcard names nobody", "nva.example", func(c *x509.Certificate) { c.DNSNames = []string{"*.example"} }, false, "not for nva.example"},
		{"a key ID", "@#00", same, false, "cannot stand in a certificate"},
		{"too early", "nva.example", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = clock().Add(time.Hour), clock().Add(2*time.Hour) }, false, "valid only from"},
		{"too late", "nva.example", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = clock().Add(-2*time.Hour), clock().Add(-time.Hour)
		}, false, "expired at 2026-06-01 11:00:00 UTC"},
		{"not for signatures", "nva.example", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, false, "key usage"},
		{"a link is missing", "nva.example", same, true, "unknown authority"},
	} {
		id, err := ParseIdentity(tc.id)
		if err != nil {
			t.Fatal(err)
		}
		chain := []*x509.Certificate{leaf(tc.change), middle.cert}
		if tc.without {
			chain = chain[:1]
		}
		var ps []message.Cert
		for _, p := range CertPayloads(chain) {
			ps = append(ps, p, message.Cert{Encoding: 7, Data: []byte("a list of revoked ones")})
		}
		chain, err = ParseChain(ps)
		if err == nil {
			_, err = VerifyChain(chain, []*x509.Certificate{root.cert}, id, clock())
		}
		if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	id, _ := ParseIdentity("nva.example")
	if _, err := VerifyChain(nil, []*x509.Certificate{root.cert}, id, clock()); err == nil {
		t.Error("nothing is a chain")
	}
	if _, err := VerifyChain([]*x509.Certificate{good, middle.cert}, nil, id, clock()); err == nil {
		t.Error("nobody is an authority")
	}
	weak := middle.issue(&x509.Certificate{DNSNames: []string{"nva.example"}}, key(t, "p224"))
	if _, err := VerifyChain([]*x509.Certificate{weak, middle.cert}, []*x509.Certificate{root.cert}, id, clock()); err == nil || !strings.Contains(err.Error(), "P-224") {
		t.Errorf("a weak key: %v", err)
	}
	// A certificate that anybody of the authority has is none that signs others.
	end := &issuer{t: t, cert: good, key: k}
	if _, err := VerifyChain([]*x509.Certificate{end.issue(&x509.Certificate{DNSNames: []string{"nva.example"}}, key(t, "p256")), good, middle.cert}, []*x509.Certificate{root.cert}, id, clock()); err == nil {
		t.Error("an end's certificate is an authority's")
	}
	if r := Request([]*x509.Certificate{root.cert, middle.cert}); len(r.Authorities) != 40 {
		t.Errorf("%+v", r)
	}
	if s := SubjectOf(good).String(); s != "O=Example, CN=nva.example" {
		t.Errorf("the subject is %q", s)
	}
}

// TestFirstToEnd: of a way to an authority one certificate ends first, and of two ways the longer lasting counts.
func TestFirstToEnd(t *testing.T) {
	t.Parallel()
	id, _ := ParseIdentity("nva.example")
	until := func(c *x509.Certificate, hours int) *x509.Certificate {
		c.NotBefore, c.NotAfter = clock().Add(-time.Hour), clock().Add(time.Duration(hours)*time.Hour)
		return c
	}
	ca := func(name string, hours int) *x509.Certificate {
		return until(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, hours)
	}
	root, middle, k := &issuer{t: t, key: key(t, "p256")}, &issuer{t: t, key: key(t, "p256")}, key(t, "p256")
	for _, tc := range []struct {
		name              string
		root, middle, end int // hours
		again             int // of another one between, for the same key; 0: none
		want              string
	}{
		{"the end's own", 30, 20, 10, 0, ""},
		{"at the same time", 10, 10, 10, 0, ""},
		{"the one between", 30, 10, 20, 0, "CN=middle"},
		{"the authority", 10, 30, 20, 0, "CN=root"},
		{"one between, and another one that lasts longer", 30, 10, 20, 15, "CN=middle"},
		{"one between, and another one that outlasts all", 30, 10, 20, 25, ""},
	} {
		root.cert = nil
		root.cert = root.issue(ca("root", tc.root), root.key)
		middle.cert = root.issue(ca("middle", tc.middle), middle.key)
		own := middle.issue(until(&x509.Certificate{DNSNames: []string{"nva.example"}}, tc.end), k)
		chain, want := []*x509.Certificate{own, middle.cert}, min(tc.root, tc.middle, tc.end)
		if tc.again > 0 {
			chain = append(chain, root.issue(ca("middle", tc.again), middle.key))
			want = min(tc.root, tc.again, tc.end)
		}
		first, err := VerifyChain(chain, []*x509.Certificate{root.cert}, id, clock())
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		name := SubjectOf(first).String()
		if first.Equal(own) {
			name = ""
		}
		if name != tc.want || !first.NotAfter.Equal(clock().Add(time.Duration(want)*time.Hour)) {
			t.Errorf("%s: %q ends at %s", tc.name, name, first.NotAfter)
		}
	}
}

func TestParseChainRefuses(t *testing.T) {
	t.Parallel()
	root := &issuer{t: t, key: key(t, "p256")}
	c := root.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "a"}}, root.key)
	one := message.Cert{Encoding: message.CertX509, Data: c.Raw}
	for name, ps := range map[string][]message.Cert{
		"none":     nil,
		"nonsense": {{Encoding: message.CertX509, Data: []byte("nonsense")}},
		"too long": {{Encoding: message.CertX509, Data: make([]byte, maxCertificate+1)}},
		"too many": slices.Repeat([]message.Cert{one}, maxCertificates+1),
		"others":   {{Encoding: 12, Data: []byte("http://example.org")}},
	} {
		if got, err := ParseChain(ps); err == nil {
			t.Errorf("%s: %d certificates", name, len(got))
		}
	}
}

// FuzzIdentity: what a peer may call itself, and what an operator may write.
func FuzzIdentity(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "::1", "a.example", "a@b", "@#00", `CN=a\, b, O="c d", DC=x`, "CN=a+CN=b", "2.5.4.3=x"} {
		f.Add(s, uint8(0))
		if id, err := ParseIdentity(s); err == nil {
			f.Add(id.Data, uint8(id.Kind))
		}
	}
	f.Fuzz(func(t *testing.T, s string, kind uint8) {
		id, err := IdentityOf(message.ID{Kind: message.IDKind(kind), Data: []byte(s)})
		if kind == 0 {
			id, err = ParseIdentity(s)
		}
		if err != nil {
			return
		}
		if !id.Equal(id) {
			t.Fatalf("%q is not itself", s)
		}
		for _, r := range id.String() {
			if r < ' ' || r == 0x7f {
				t.Fatalf("%q is printed with %q", s, r)
			}
		}
		if back, err := IdentityOf(id.Payload(message.TypeIDr)); err != nil || !back.Equal(id) {
			t.Fatalf("%q comes back as %q, %v", id, back, err)
		}
	})
}

// FuzzCertificate: certificates with absurd contents.
func FuzzCertificate(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"a.example"}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)},
		NotBefore: clock().Add(-time.Hour), NotAfter: clock().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		f.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, []byte{0})
	f.Add(der, []byte{12, 0x30, 10, 6, 8, 42, 134, 72, 206, 61, 4, 3, 2, 48, 6, 2, 1, 1, 2, 1, 1})
	ids := []Identity{{message.IDFQDN, "b.example"}, {message.IDIPv4, "\x01\x02\x03\x05"}, {message.IDDN, string(root.RawIssuer) + " "}, {message.IDEmail, "b@example"}}
	f.Fuzz(func(t *testing.T, der, signature []byte) {
		chain, err := ParseChain([]message.Cert{{Encoding: message.CertX509, Data: der}})
		if err != nil {
			return
		}
		for _, id := range ids {
			if _, err := VerifyChain(chain, []*x509.Certificate{root}, id, clock()); err == nil {
				t.Fatalf("a certificate for %s out of nothing", id)
			}
		}
		_ = SubjectOf(chain[0]).String()
		for _, m := range []message.AuthMethod{message.AuthSignature, message.AuthRSA, message.AuthECDSA256} {
			if Verify(chain[0].PublicKey, message.Auth{Method: m, Data: signature}, []byte("octets"), Hashes()) == nil {
				t.Fatal("a signature out of nothing")
			}
		}
	})
}
