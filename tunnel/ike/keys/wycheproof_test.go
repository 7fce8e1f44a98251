package keys

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// TestWycheproof has the key exchanges as the public values stand in messages.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	for name, method := range map[string]message.KeyExchange{
		"x25519": message.KEX25519, "ecdh_secp256r1": message.KEEcp256, "ecdh_secp384r1": message.KEEcp384, "ecdh_secp521r1": message.KEEcp521,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := curveOf(method)
			if err != nil {
				t.Fatal(err)
			}
			counts := map[string]int{}
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "#") {
					continue
				}
				f := strings.Fields(line)
				for i := range f {
					if f[i] == "-" {
						f[i] = ""
					}
				}
				if len(f) != 5 {
					t.Fatalf("%q", line)
				}
				key, err := c.NewPrivateKey(unhex(t, f[3]))
				if err != nil {
					t.Fatalf("%s: %v", f[0], err)
				}
				got, err := c.secret(key, unhex(t, f[2]))
				same := bytes.Equal(got, unhex(t, f[4]))
				switch {
				case f[1] == "invalid" && err == nil:
					t.Errorf("%s is taken", f[0])
				case f[1] == "valid" && (err != nil || !same), f[1] == "either" && err == nil && !same:
					t.Errorf("%s: %x, %v", f[0], got, err)
				}
				counts[f[1]]++
			}
			if counts["valid"] < 50 || counts["invalid"]+counts["either"] < 4 {
				t.Errorf("there were %v", counts)
			}
		})
	}
}

// TestSealedByChaCha is the message of RFC 7634, appendix B: an INFORMATIONAL
// request with SET_WINDOW_SIZE.
func TestSealedByChaCha(t *testing.T) {
	t.Parallel()
	datagram := unhex(t, "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029"+"1011121314151617"+"610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2")
	c, err := NewCipher(choice(t, message.ProtocolIKE, "chacha20poly1305-prfsha256-x25519"),
		unhex(t, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.Open(datagram)
	if err != nil || o.ID != 9 || o.Exchange != message.Informational {
		t.Fatalf("%+v, %v", o, err)
	}
	ps, err := message.DecodePayloads(o.First, o.Plain)
	if n, ok := message.FindNotify(ps, message.SetWindowSize); err != nil || !ok || !bytes.Equal(n.Data, []byte{0, 0, 0, 10}) {
		t.Fatalf("%+v, %v", ps, err)
	}
	c.counter = 0x1011121314151617
	h := message.Header{InitiatorSPI: 0xc0c1c2c3c4c5c6c7, ResponderSPI: 0xd0d1d2d3d4d5d6d7, Exchange: message.Informational, Flags: o.Flags, ID: 9}
	if got, err := c.Seal(h, ps); err != nil || !bytes.Equal(got, datagram) {
		t.Errorf("sealed: %x, %v", got, err)
	}
}
