package suite

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/transitd/transitd/tunnel/ike/message"
)

const (
	ike = message.ProtocolIKE
	esp = message.ProtocolESP
)

func parse(t testing.TB, p message.Protocol, texts ...string) []Proposal {
	t.Helper()
	out, err := ParseList(p, texts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		protocol   message.Protocol
		text, want string // want "" is text
	}{
		{ike, "aes256gcm16-prfsha384-ecp384", ""},
		{ike, "aes256-sha256-modp2048", ""},
		{ike, "aes256-sha256-prfsha256-modp2048", "aes256-sha256-modp2048"},
		{ike, "aes256-sha256-prfsha512-modp2048", ""},
		{ike, "aes256-aes128-sha512-sha256-modp4096-modp3072", ""},
		{ike, "chacha20poly1305-prfsha256-x25519", ""},
		{ike, " ChaCha20Poly1305-PRFSHA256-Curve25519 ", "chacha20poly1305-prfsha256-x25519"},
		{ike, "x25519-ecp384-prfsha256-aes128gcm", "aes128gcm16-prfsha256-x25519-ecp384"},
		{ike, "aes256gcm16-prfsha384-ecp384-ke1_mlkem768", ""},
		{ike, "aes256gcm16-prfsha384-ecp384-ke2_x25519-ke2_none-ke1_mlkem768", "aes256gcm16-prfsha384-ecp384-ke1_mlkem768-ke2_x25519-ke2_none"},
		{esp, "aes256gcm16", ""},
		{esp, "aes256gcm128-noesn", "aes256gcm16"},
		{esp, "aes256gcm16-ecp384-esn-noesn", ""},
		{esp, "aes256gcm16-esn", ""},
		{esp, "aes256-sha256", ""},
		{esp, "aes-sha2_256-ecp384-none", "aes128-sha256-ecp384-none"},
		{esp, "aes192gcm16-ecp521-ke1_mlkem768-esn", ""},
	}
	for _, tt := range tests {
		p, err := Parse(tt.protocol, tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		want := tt.want
		if want == "" {
			want = tt.text
		}
		if p.String() != want {
			t.Errorf("%s is written %s", tt.text, p)
		}
		if again, err := Parse(tt.protocol, p.String()); err != nil || !cmp.Equal(p, again) {
			t.Errorf("%s is read back as %s (%v)", p, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		protocol   message.Protocol
		text, want string
	}{
		{ike, "", `"" is no algorithm`},
		{ike, "aes256gcm16", "no pseudorandom function"},
		{ike, "aes256gcm16-prfsha384", "no key exchange"},
		{ike, "prfsha384-ecp384", "no encryption"},
		{ike, "aes256-ecp384", "aes256 needs integrity beside it"},
		{ike, "aes256gcm16-sha384-ecp384", "write prfsha384"},
		{ike, "aes256gcm16-aes256-sha256-ecp384", "proposals of their own"},
		{ike, "aes256gcm16-prfsha384-ecp384-ecp384", `"ecp384" is there twice`},
		{ike, "aes256gcm16-prfsha384-none", "IKE needs a key exchange"},
		{ike, "aes256gcm16-prfsha384-ecp384-esn", `"esn" is for ESP`},
		{ike, "aes256gcm16-prfsha384-mlkem768", "ke1_mlkem768 after ecp384"},
		{ike, "aes256gcm16-prfsha384-ecp384-ke8_mlkem768", "ke1_ to ke7_"},
		{ike, "aes256gcm16-prfsha384-ecp384-ke1_sha256", "sha256 is no key exchange"},
		{ike, "3des-sha256-modp2048", "does not protect"},
		{ike, "aes256-sha1-modp2048", "weak"},
		{ike, "aes256-sha256-modp1024", "the group is weak"},
		{ike, "aes257gcm16-prfsha384-ecp384", "did you mean aes256gcm16?"},
		{ike, "twofish-prfsha384-ecp384", "there are aes256gcm16, "},
		{ike, "aes256gcm16-prfsha384-ec384", "did you mean ecp384?"},
		{ike, "aes256gmc16-prfsha384-ecp384", "did you mean aes256gcm16?"},
		{ike, "aes256-gcm16-prfsha384-ecp384", "aes256gcm16, in one word?"},
		{ike, "aes256gcm16-prfsha384-ecp384!", "did you mean ecp384 "},
		{ike, "aes256gcm16/prfsha384/ecp384", "did you mean aes256gcm16-prfsha384-ecp384?"},
		{ike, "aes256gcm16, prfsha384,ecp384", "did you mean aes256gcm16-prfsha384-ecp384?"},
		{ike, "aes256gcm16-prfsha384-ecp384,", "did you mean ecp384?"},
		{ike, "aes256gcm16-prfsha384-ecp384, aes128gcm16-prfsha256-ecp256", `"ecp384, aes128gcm16" is no algorithm; did you mean several proposals, one list element each?`},
		{esp, "aes256gcm16,chacha20poly1305", "did you mean several proposals, one list element each?"},
		{ike, "aes256gcm16-prfsha384-dhgroup24", "there are "},
		{ike, "aes256gcm16-prfsha384-dhgroup20", "did you mean ecp384?"},
		{esp, "gcmaes256", "did you mean aes256gcm16?"},
		{esp, "aes256gcm16-pfs2048", "did you mean modp2048?"},
		{esp, "aes256gcm16-prfsha384", `"prfsha384" is for IKE`},
		{esp, "aes256gcm16-ke1_mlkem768", "without a first one"},
		{esp, "aes256gcm16-none-ke1_mlkem768", "without a first one"},
		{esp, "aes256gcm16-sha256", "sha256 is too much"},
		{message.ProtocolAH, "sha256", "a proposal for AH"},
	}
	for _, tt := range tests {
		if _, err := ParseList(tt.protocol, []string{tt.text}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, without %q", tt.text, err, tt.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for p, want := range map[message.Protocol]string{
		ike: "aes256gcm16-prfsha384-ecp384, aes256gcm16-prfsha384-x25519",
		esp: "aes256gcm16-ecp384-esn-noesn, aes256gcm16-x25519-esn-noesn",
	} {
		if got := list(parse(t, p, DefaultTexts(p)...)); got != want {
			t.Errorf("%s: %s", p, got)
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		protocol     message.Protocol
		theirs, ours []string
		want         string
		number       uint8
	}{
		"equal":              {ike, []string{"aes256gcm16-prfsha384-ecp384"}, []string{"aes256gcm16-prfsha384-ecp384"}, "aes256gcm16-prfsha384-ecp384", 1},
		"our order":          {ike, []string{"aes128gcm16-prfsha256-ecp256", "aes256gcm16-prfsha384-ecp384"}, []string{"aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-ecp256"}, "aes256gcm16-prfsha384-ecp384", 2},
		"within":             {ike, []string{"aes128gcm16-aes256gcm16-prfsha256-prfsha384-x25519-ecp384"}, []string{"aes256gcm16-aes128gcm16-prfsha384-ecp384-x25519"}, "aes256gcm16-prfsha384-ecp384", 1},
		"cbc":                {ike, []string{"aes256-aes128-sha256-sha512-modp2048"}, []string{"aes128-sha512-modp2048"}, "aes128-sha512-modp2048", 1},
		"esn":                {esp, []string{"aes256gcm16-esn-noesn"}, []string{"aes256gcm16-esn-noesn"}, "aes256gcm16-esn", 1},
		"no esn":             {esp, []string{"aes256gcm16"}, []string{"aes256gcm16-esn-noesn"}, "aes256gcm16", 1},
		"optional pfs":       {esp, []string{"aes256gcm16"}, []string{"aes256gcm16-ecp384-none"}, "aes256gcm16", 1},
		"pfs":                {esp, []string{"aes256gcm16-ecp384"}, []string{"aes256gcm16-ecp384-none"}, "aes256gcm16-ecp384", 1},
		"additional":         {ike, []string{"aes256gcm16-prfsha384-ecp384-ke1_mlkem768"}, []string{"aes256gcm16-prfsha384-ecp384-ke1_mlkem768"}, "aes256gcm16-prfsha384-ecp384-ke1_mlkem768", 1},
		"additional, theirs": {ike, []string{"aes256gcm16-prfsha384-ecp384-ke1_mlkem768-ke1_none"}, []string{"aes256gcm16-prfsha384-ecp384"}, "aes256gcm16-prfsha384-ecp384-ke1_none", 1},
		"additional, ours":   {ike, []string{"aes256gcm16-prfsha384-ecp384"}, []string{"aes256gcm16-prfsha384-ecp384-ke1_mlkem768-ke1_none"}, "aes256gcm16-prfsha384-ecp384", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			theirs, ours := parse(t, tt.protocol, tt.theirs...), parse(t, tt.protocol, tt.ours...)
			c, err := Select(Offer(theirs, []byte("1234")), ours)
			if err != nil {
				t.Fatal(err)
			}
			if c.String() != tt.want || c.Number != tt.number || string(c.SPI) != "1234" {
				t.Errorf("chose %d, %s, SPI %q", c.Number, c, c.SPI)
			}
			back, err := Accept(c.Answer([]byte("5678")), theirs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c, back, cmpopts.IgnoreUnexported(Choice{}), cmpopts.IgnoreFields(Choice{}, "SPI")); diff != "" {
				t.Errorf("the ends differ:\n%s", diff)
			}
		})
	}
}

func TestMismatch(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		protocol     message.Protocol
		theirs, ours []string
		want         string
	}{
		"encryption": {
			ike,
			[]string{"aes128gcm16-prfsha384-ecp384"},
			[]string{"aes256gcm16-prfsha384-ecp384"},
			"no proposal in common: the peer offers aes128gcm16-prfsha384-ecp384; here are aes256gcm16-prfsha384-ecp384: " +
				"in aes128gcm16-prfsha384-ecp384 the encryption is aes128gcm16, here aes256gcm16",
		},
		"the closest": {
			ike,
			[]string{"aes256-sha256-modp2048-modp3072"},
			[]string{"aes256gcm16-prfsha384-ecp384", "aes256-sha256-ecp256"},
			"in aes256-sha256-modp2048-modp3072 the key exchange is modp2048 or modp3072, here ecp256",
		},
		"pfs":        {esp, []string{"aes256gcm16"}, []string{"aes256gcm16-ecp384"}, "the key exchange is none, here ecp384"},
		"esn":        {esp, []string{"aes256gcm16"}, []string{"aes256gcm16-esn"}, "the extended sequence numbers is noesn, here esn"},
		"additional": {ike, []string{"aes256gcm16-prfsha384-ecp384"}, []string{"aes256gcm16-prfsha384-ecp384-ke1_mlkem768"}, "the additional key exchange 1 is none, here ke1_mlkem768"},
		"nothing":    {ike, nil, []string{"aes256gcm16-prfsha384-ecp384"}, "the peer offers none"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Select(Offer(parse(t, tt.protocol, tt.theirs...), nil), parse(t, tt.protocol, tt.ours...))
			var m *Mismatch
			if !errors.As(err, &m) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, without %q", err, tt.want)
			}
		})
	}
}

// TestForeignOffers has what only others send.
func TestForeignOffers(t *testing.T) {
	t.Parallel()
	gcm := message.Transform{Type: message.TransformEncryption, ID: message.EncryptionAESGCM16, KeyBits: 256}
	none := message.Transform{Type: message.TransformIntegrity}
	sha1 := message.Transform{Type: message.TransformIntegrity, ID: message.IntegrityHMACSHA196}
	esn := message.Transform{Type: message.TransformESN, ID: message.ESNYes}
	strange := gcm
	strange.Strange = true
	tests := map[string]struct {
		ts   []message.Transform
		ours string
		want string // or a part of the error after "!"
	}{
		"integrity NONE with an AEAD":   {[]message.Transform{gcm, none, esn}, "aes256gcm16-esn", "aes256gcm16-noauth-esn"},
		"no ESN transform":              {[]message.Transform{gcm}, "aes256gcm16-esn-noesn", "aes256gcm16"},
		"no ESN transform, we want it":  {[]message.Transform{gcm}, "aes256gcm16-esn", "!numbers is none, here esn"},
		"integrity beside an AEAD":      {[]message.Transform{gcm, sha1, esn}, "aes256gcm16-esn", "!the integrity is sha1, here none"},
		"an unknown attribute":          {[]message.Transform{strange, esn}, "aes256gcm16-esn", "!is aes256gcm16(unknown attribute), here aes256gcm16"},
		"an unknown type":               {[]message.Transform{gcm, esn, {Type: 77, ID: 1}}, "aes256gcm16-esn", "!the 77 is type77id1, here none"},
		"encryption without a name":     {[]message.Transform{{Type: 1, ID: 99, KeyBits: 64}, esn}, "aes256gcm16-esn", "!encr99(64)"},
		"pfs with a group without name": {[]message.Transform{gcm, {Type: 4, ID: 24}, esn}, "aes256gcm16-ecp384-esn", "!is group24, here ecp384"},
		"pseudorandom in ESP":           {[]message.Transform{gcm, {Type: 2, ID: 8}, esn}, "aes256gcm16-esn", "!prfaescmac"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			offer := message.SA{Proposals: []message.Proposal{{Number: 1, Protocol: esp, Transforms: tt.ts}}}
			c, err := Select(offer, parse(t, esp, tt.ours))
			want, wrong := strings.CutPrefix(tt.want, "!")
			switch {
			case wrong && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("chose %s, error %v, without %q", c, err, want)
			case !wrong && (err != nil || c.String() != want):
				t.Errorf("chose %s (%v), not %s", c, err, want)
			}
		})
	}
	offer := Offer(parse(t, ike, "aes256gcm16-prfsha384-ecp384"), nil)
	if _, err := Select(offer, parse(t, esp, "aes256gcm16")); err == nil || !strings.Contains(err.Error(), "the protocol is IKE, here ESP") {
		t.Errorf("another protocol: %v", err)
	}
}

func TestAcceptRefuses(t *testing.T) {
	t.Parallel()
	offer := parse(t, esp, "aes256gcm16-ecp384-esn-noesn", "aes128gcm16-esn")
	answer := func(change func(p *message.Proposal)) message.SA {
		c, err := Select(Offer(offer, nil), offer)
		if err != nil {
			t.Fatal(err)
		}
		sa := c.Answer(nil)
		change(&sa.Proposals[0])
		return sa
	}
	tests := map[string]struct {
		answer message.SA
		want   string
	}{
		"none":       {message.SA{}, "0 proposals"},
		"number 0":   {answer(func(p *message.Proposal) { p.Number = 0 }), "proposal 0, of 2"},
		"number 3":   {answer(func(p *message.Proposal) { p.Number = 3 }), "proposal 3, of 2"},
		"the second": {answer(func(p *message.Proposal) { p.Number = 2 }), "is not what was offered"},
		"protocol":   {answer(func(p *message.Proposal) { p.Protocol = ike }), "the protocol is IKE"},
		"twice": {answer(func(p *message.Proposal) {
			p.Transforms = append(p.Transforms, message.Transform{Type: message.TransformESN})
		}), "chooses twice"},
		"no group":      {answer(func(p *message.Proposal) { p.Transforms = Offered(*p).WithoutKE().Transforms }), "the key exchange is none"},
		"no encryption": {answer(func(p *message.Proposal) { p.Transforms = p.Transforms[1:] }), "the encryption is none"},
		"weaker":        {answer(func(p *message.Proposal) { p.Transforms[0].KeyBits = 128 }), "the encryption is aes128gcm16, here aes256gcm16"},
	}
	for name, tt := range tests {
		if _, err := Accept(tt.answer, offer); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, without %q", name, err, tt.want)
		}
	}
}

func TestWithout(t *testing.T) {
	t.Parallel()
	p := parse(t, esp, "aes256gcm16-ecp384-x25519-ke1_mlkem768-esn-noesn")[0]
	if got := p.WithoutKE().String(); got != "aes256gcm16-esn-noesn" {
		t.Errorf("without key exchange: %s", got)
	}
	if got := p.WithoutESN().String(); got != "aes256gcm16-ecp384-x25519-ke1_mlkem768" {
		t.Errorf("without ESN: %s", got)
	}
	if got := p.String(); got != "aes256gcm16-ecp384-x25519-ke1_mlkem768-esn-noesn" {
		t.Errorf("the proposal itself became %s", got)
	}
	if got := p.KeyExchanges(); !cmp.Equal(got, []message.KeyExchange{message.KEEcp384, message.KEX25519}) {
		t.Errorf("key exchanges %v", got)
	}
}

// FuzzParse: what is read is written so that it is read as the same, and an end
// agrees with itself.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"aes256gcm16-prfsha384-ecp384", "aes256-sha256-modp2048", "aes-sha2_512-none-esn", "chacha20poly1305-prfsha256-x25519-ke1_mlkem768-ke7_none", "ke_-ke1-__"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, isIKE bool) {
		protocol := esp
		if isIKE {
			protocol = ike
		}
		p, err := Parse(protocol, text)
		if err != nil {
			return
		}
		again, err := Parse(protocol, p.String())
		if err != nil || !cmp.Equal(p, again) {
			t.Fatalf("%q: %s is read back as %s (%v)", text, p, again, err)
		}
		c, err := Select(Offer([]Proposal{p}, nil), []Proposal{p})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Accept(c.Answer(nil), []Proposal{p}); err != nil {
			t.Fatal(err)
		}
	})
}
