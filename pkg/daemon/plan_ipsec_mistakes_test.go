package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/config"
)

// ipsecFiles makes secrets and certificates, of which ours is valid for a year around a time.
func ipsecFiles(t *testing.T, around time.Time) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("psk", "a secret of the tests, long enough\n", 0o600)
	write("psk2", "another secret of the tests, long enough\n", 0o600)
	write("loose", "a secret of the tests, long enough\n", 0o644)
	write("short", "short\n", 0o600)
	chain := ""
	for _, name := range []string{"other", "ours"} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".example"}, NotBefore: around.AddDate(0, -6, 0), NotAfter: around.AddDate(0, 6, 0)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		chain += text
		write(name+".pem", text, 0o644)
		write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), 0o600)
	}
	write("chain.pem", chain, 0o644)
	write("chain.key", chain, 0o600)
	write("pkcs8.key", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("sealed")})), 0o600)
	sealed := &pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("sealed")}
	write("pem.key", string(pem.EncodeToMemory(sealed)), 0o600)
	return dir
}

// ipsecPlan plans a tunnel with keys, in which DIR is a folder.
func ipsecPlan(t *testing.T, dir, keys string) (*Plan, error) {
	t.Helper()
	file := filepath.Join(dir, "n.yaml")
	text := fmt.Sprintf(`node: {name: hub-nva, asn: 64512, site: hub}
underlay: {interface: eth0}
tunnels:
  - name: tr0
    remote: 198.51.100.4
    address: 169.254.77.1/30
    peer_address: 169.254.77.2
    encapsulation: ipsec
    ipsec: {%s}
    bgp: {asn: 64513}
`, strings.ReplaceAll(keys, "DIR", dir))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return NewPlan(file, c, cardFacts())
}

// TestIPsecMistakes: each is told with its place, and what would be right.
func TestIPsecMistakes(t *testing.T) {
	t.Parallel()
	dir := ipsecFiles(t, time.Now())
	const certificates = "cert_file: DIR/ours.pem, key_file: DIR/ours.key, ca_file: DIR/other.pem"
	for _, tc := range []struct{ keys, want string }{
		{"psk_file: DIR/psk, ike_proposals: [aes256gcm16-prfsha384-ecp384, aes256gcm16-prfsha384-ec384]", `ipsec.ike_proposals[1]: proposal "aes256gcm16-prfsha384-ec384": "ec384" is no algorithm; did you mean ecp384?`},
		{"psk_file: DIR/psk, ike_proposals: [aes256gcm16-sha384-ecp384]", "for a pseudorandom function write prfsha384\n  hint: as strongSwan spells them: aes256gcm16-prfsha384-ecp384"},
		{"psk_file: DIR/psk, ike_proposals: [aes256-sha1-modp1024]", `"sha1" is not offered: it is weak`},
		{"psk_file: DIR/psk, esp_proposals: [aes256-sha256]", "ipsec.esp_proposals[0]: ESP proposal aes256-sha256: aes256 is not carried here: use aes256gcm16"},
		{"psk_file: DIR/psk, local_id: 'X=1'", `ipsec.local_id: identity "X=1"`},
		{"psk_file: DIR/psk, remote_id: 192.0.2.4", "ipsec.remote_id: both ends would be 192.0.2.4\n  hint: local_id names this NVA, "},
		{"psk_file: DIR/psk, local_id: 'CN=a, O=b', remote_id: 'CN=A,O=b'", "ipsec.remote_id: both ends would be CN=A, O=b"},
		{"psk_file: DIR/psk, local_id: '@a.example', remote_id: a.example", "ipsec.remote_id: both ends would be a.example"},
		{"psk_file: DIR/loose", "ipsec.psk_file: DIR/loose has mode 0644: others than its owner may read or change it\n  hint: chmod 0600 DIR/loose"},
		{"psk_file: DIR/none", "no such file or directory\n  hint: transitctl keygen --preshared DIR/none"},
		{"psk_file: DIR/short", "ipsec.psk_file: DIR/short: the first line has 5 bytes, 16 are the least"},
		{"psk_file: DIR/ours.key", "ipsec.psk_file: DIR/ours.key is in PEM: its first line is in every such file, and no secret\n  hint: name another file"},
		{"psk_file: DIR/psk, ppk_id: x, ppk_file: DIR/ours.key", "ipsec.ppk_file: DIR/ours.key is in PEM"},
		{certificates, "ipsec.local_id: the certificate has no name of type ID_IPV4_ADDR, so not 192.0.2.4\n  hint: the peer will refuse it; local_id: ours.example would fit"},
		{"psk_file: DIR/psk, remote_id: '%any'", "ipsec.remote_id: identity \"%any\": it names nobody, and an end is one name\n  hint: an IP address, a host name, "},
		{"local_id: ours.example, cert_file: DIR/chain.pem, key_file: DIR/ours.key, ca_file: DIR/other.pem", "ipsec.cert_file: the certificate of DIR/ours.key is number 2 in DIR/chain.pem\n  hint: ours has to be first"},
		{"local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/pem.key, ca_file: DIR/other.pem", "ipsec.key_file: DIR/pem.key: the private key has a passphrase"},
		{"local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/pkcs8.key, ca_file: DIR/other.pem", "ipsec.key_file: DIR/pkcs8.key: the private key has a passphrase"},
		{"local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/chain.key, ca_file: DIR/other.pem", "ipsec.key_file: DIR/chain.key begins with CERTIFICATE, not with a private key"},
		{"local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/other.key, ca_file: DIR/other.pem", "ipsec.key_file: DIR/other.key is not the key of the certificate in DIR/ours.pem"},
		{"local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/ours.key, ca_file: DIR/none.pem", "ipsec.ca_file: read certificates: stat DIR/none.pem: no such file or directory"},
		{"local_id: ours.example, cert_file: DIR/ours.key, key_file: DIR/ours.key, ca_file: DIR/other.pem", "ipsec.cert_file: DIR/ours.key has no certificate"},
	} {
		_, err := ipsecPlan(t, dir, tc.keys)
		if want := strings.ReplaceAll(tc.want, "DIR", dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nsays not %s", tc.keys, err, want)
			continue
		}
		if at := "n.yaml:9:"; !strings.Contains(err.Error(), at) {
			t.Errorf("%s:\n%v\nhas no place %s", tc.keys, err, at)
		}
	}
}

// TestLongKey: a key's file may be as long as that of RSA with 8,192 bits, which takes many seconds to make.
func TestLongKey(t *testing.T) {
	t.Parallel()
	dir := ipsecFiles(t, time.Now())
	key, err := os.ReadFile(filepath.Join(dir, "ours.key"))
	if err != nil {
		t.Fatal(err)
	}
	long := append([]byte(strings.Repeat("of ours\n", 800)), key...) // text before it is allowed
	if err := os.WriteFile(filepath.Join(dir, "ours.key"), long, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ipsecPlan(t, dir, "local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/ours.key, ca_file: DIR/other.pem"); err != nil {
		t.Error(err)
	}
}

// TestCertificateNotes: a certificate that is not valid is a note of the check; the daemon starts.
func TestCertificateNotes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	dir := ipsecFiles(t, now)
	p, err := ipsecPlan(t, dir, "local_id: ours.example, cert_file: DIR/ours.pem, key_file: DIR/ours.key, ca_file: DIR/other.pem")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		months, days int
		want         []string
	}{
		{0, 0, nil},
		{6, -7, []string{"tunnel tr0: cert_file: CN=ours ends at ", "tunnel tr0: ca_file: CN=other ends at "}},
		{7, 0, []string{"tunnel tr0: cert_file: CN=ours ended at ", "tunnel tr0: ca_file: CN=other ended at "}},
		{-7, 0, []string{"tunnel tr0: cert_file: CN=ours is valid only from ", "tunnel tr0: ca_file: CN=other is valid only from "}},
	} {
		got := certificateNotes(p, now.AddDate(0, tc.months, tc.days))
		if len(got) != len(tc.want) {
			t.Errorf("after %d months: %q", tc.months, got)
			continue
		}
		for i, want := range tc.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("after %d months: %q, want %q", tc.months, got[i], want)
			}
		}
	}
}
