package wireguard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Made by "wg genkey" and "wg pubkey"; the last one is just any 32 bytes.
func TestPublic(t *testing.T) {
	dir := t.TempDir()
	for private, public := range map[string]string{
		"OP2tz8REJzR1oyFrxNDqVObUljOvKuDTyrvLA1kZuXQ=": "JiApSlykOZc/8KW0XPRlHCGU/NukpYWacw6IJWrwa2U=",
		"QCyVvihNqfCSQcNID1/yaGWtnZvMOYBAOxyZWhvTZ34=": "cx+cWDNjYfgTg3S+9c/88XFlWZmbxh4t+8xts76KBRA=",
		"IOFY8jXvrRVLQWagtpA+oMZuerv8jo6T2ByXHreE6E0=": "HsrsuyOMfSWONOPzPEtfxli0s07C9BElgyGbxD3QrGQ=",
		"BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY=": "B7jFQkh2hqeDAYVfy20/aoqRHNfxmDqbRNydzSKDnSM=",
	} {
		file := filepath.Join(dir, "key")
		if err := os.WriteFile(file, []byte(private), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := ReadPrivateKey(file)
		if err != nil || k.Public().String() != public {
			t.Errorf("%s: %s, %v; wg says %s", private, k.Public(), err, public)
		}
	}
}

// No way of printing tells a secret.
func TestSecretsAreHidden(t *testing.T) {
	k, psk := testKey(t), PresharedKey{1, 2, 3}
	type nested struct {
		K PrivateKey
		P *PresharedKey
	}
	n := nested{k, &psk}
	text, err := json.Marshal(n)
	if err != nil || string(text) != `{"K":"(hidden)","P":"(hidden)"}` {
		t.Errorf("%s, %v", text, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o"} {
		for _, s := range []string{fmt.Sprintf(verb, k), fmt.Sprintf(verb, psk), fmt.Sprintf(verb, &k)} {
			if s != hidden {
				t.Errorf("%s: %s", verb, s)
			}
		}
		if s := fmt.Sprintf(verb, nested{K: k}); strings.Contains(s, fmt.Sprintf("%d", k[5:8])) || !strings.Contains(s, hidden) {
			t.Errorf("%s: %s", verb, s)
		}
	}
	if k.String() != hidden || psk.String() != hidden {
		t.Error("String tells")
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	k := testKey(t)
	secret := k.Base64()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string // "": it is read
	}{
		"good":           {secret + "\n", 0o600, ""},
		"without a line": {secret, 0o400, ""},
		"windows":        {secret + "\r\n", 0o600, ""},
		"group":          {secret, 0o640, "mode 0640: others than its owner may read or change it"},
		"world":          {secret, 0o604, "mode 0604"},
		"empty":          {"", 0o600, "holds no key: 32 bytes in base64, 44 characters, are wanted"},
		"short":          {secret[:40], 0o600, "holds no key"},
		"long":           {secret + secret, 0o600, "holds no key"},
		"two lines":      {secret + "\n" + secret + "\n", 0o600, "holds no key"},
		"hexadecimal":    {fmt.Sprintf("%x", k.Public()), 0o600, "holds no key"},
		"loose bits":     {secret[:42] + "B=", 0o600, "holds no key"},
		"zero":           {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0o600, "all zero"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, c.mode); err != nil { // whatever the umask
				t.Fatal(err)
			}
			got, err := ReadPrivateKey(file)
			switch {
			case c.want == "" && (err != nil || got != k):
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file)):
				t.Errorf("%v, want %s: %s", err, file, c.want)
			case err != nil && strings.Contains(err.Error(), secret[:20]):
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
	if _, err := ReadPrivateKey(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("no file: %v", err)
	}
	if _, err := ReadPresharedKey(dir); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a folder: %v", err)
	}
}

// Any 32 bytes are a key, and are kept as X25519 takes them, so that equal keys are equal bytes.
func TestClamp(t *testing.T) {
	for _, b := range [][]byte{bytes.Repeat([]byte{0}, keyLen), bytes.Repeat([]byte{255}, keyLen)} {
		k, err := NewPrivateKey(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		loose := PrivateKey(b)
		if k[0]&7 != 0 || k[31]&0xc0 != 0x40 || k.Public() != loose.Public() {
			t.Errorf("% x became another key", b)
		}
	}
	if _, err := NewPrivateKey(strings.NewReader("too short")); err == nil {
		t.Error("a key of 9 bytes")
	}
}
