package auth

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// TestWycheproof has the signatures as AUTH payloads: by RFC 7427, and those of
// two numbers side by side by RFC 4754.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	by := func(a algorithm) func(signature []byte) message.Auth {
		return func(signature []byte) message.Auth {
			id, err := a.identifier()
			if err != nil {
				t.Fatal(err)
			}
			return message.Auth{Method: message.AuthSignature, Data: append(append([]byte{byte(len(id))}, id...), signature...)}
		}
	}
	legacy := func(m message.AuthMethod) func(signature []byte) message.Auth {
		return func(signature []byte) message.Auth { return message.Auth{Method: m, Data: signature} }
	}
	for name, auth := range map[string]func(signature []byte) message.Auth{
		"rsa_pss_2048_sha256_mgf1_32":  by(algorithm{schemePSS, message.HashSHA256, 32}),
		"rsa_pss_2048_sha384_mgf1_48":  by(algorithm{schemePSS, message.HashSHA384, 48}),
		"rsa_pss_4096_sha512_mgf1_64":  by(algorithm{schemePSS, message.HashSHA512, 64}),
		"rsa_signature_2048_sha256":    by(algorithm{scheme: schemePKCS1, hash: message.HashSHA256}),
		"ecdsa_secp256r1_sha256":       by(algorithm{scheme: schemeECDSA, hash: message.HashSHA256}),
		"ecdsa_secp384r1_sha384":       by(algorithm{scheme: schemeECDSA, hash: message.HashSHA384}),
		"ecdsa_secp521r1_sha512":       by(algorithm{scheme: schemeECDSA, hash: message.HashSHA512}),
		"ecdsa_secp256r1_sha256_p1363": legacy(message.AuthECDSA256),
		"ecdsa_secp384r1_sha384_p1363": legacy(message.AuthECDSA384),
		"ecdsa_secp521r1_sha512_p1363": legacy(message.AuthECDSA521),
		"ed25519":                      by(algorithm{scheme: schemeEd25519, hash: message.HashIdentity}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			bytes := func(s string) []byte {
				b, err := hex.DecodeString(strings.TrimSuffix(s, "-"))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			var public crypto.PublicKey
			counts := map[string]int{}
			for line := range strings.Lines(string(text)) {
				f := strings.Fields(line)
				switch {
				case f[0] == "#":
					continue
				case f[0] == "key":
					if public, err = x509.ParsePKIXPublicKey(bytes(f[1])); err != nil {
						t.Fatal(err)
					}
					continue
				case len(f) != 4:
					t.Fatalf("%q", line)
				}
				err := Verify(public, auth(bytes(f[3])), bytes(f[2]), Hashes())
				if f[1] == "invalid" && err == nil || f[1] == "valid" && err != nil {
					t.Errorf("%s is %s: %v", f[0], f[1], err)
				}
				counts[f[1]]++
			}
			if counts["valid"] < 4 || counts["invalid"] < 8 {
				t.Errorf("there were %v", counts)
			}
		})
	}
}
