package esp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transitd/transitd/tunnel/sa"
)

// wycheproof are the lines of a file of testdata/wycheproof, as fields.
func wycheproof(t *testing.T, name string) (out [][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.Fields(line))
		}
	}
	return out
}

// TestWycheproof has the ciphers as packets are sealed and opened by them.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	for name, cipher := range map[string]func(keyLen int) sa.Cipher{
		"aes_gcm": func(n int) sa.Cipher {
			if n == 16 {
				return sa.AES128GCM16
			}
			return sa.AES256GCM16
		},
		"chacha20_poly1305": func(int) sa.Cipher { return sa.ChaCha20Poly1305 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			counts := map[string]int{}
			for _, f := range wycheproof(t, name) {
				for i := range f {
					if f[i] == "-" {
						f[i] = ""
					}
				}
				if len(f) != 8 {
					t.Fatalf("%q", f)
				}
				key, nonce, aad, plain, sealed := unhex(t, f[2]), unhex(t, f[3]), unhex(t, f[4]), unhex(t, f[5]), unhex(t, f[6]+f[7])
				a, err := newAEAD(cipher(len(key)), key)
				if err != nil {
					t.Fatal(err)
				}
				got, err := a.Open(nil, nonce, sealed, aad)
				switch {
				case f[1] == "invalid" && err == nil:
					t.Errorf("%s is taken", f[0])
				case f[1] == "valid" && (err != nil || !bytes.Equal(got, plain)):
					t.Errorf("%s: %x, %v", f[0], got, err)
				case f[1] == "valid" && !bytes.Equal(a.Seal(nil, nonce, plain, aad), sealed):
					t.Errorf("%s is sealed otherwise", f[0])
				}
				counts[f[1]]++
			}
			if counts["valid"] < 20 || counts["invalid"] < 10 {
				t.Errorf("there were %v", counts)
			}
		})
	}
}
