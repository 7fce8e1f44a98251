package keys

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

func random(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func methods() []message.KeyExchange {
	return []message.KeyExchange{
		message.KEModp2048, message.KEModp3072, message.KEModp4096, message.KEEcp256, message.KEEcp384, message.KEEcp521,
		message.KEX25519, message.KEMLKEM768,
	}
}

// TestPrimes computes the primes from pi, by the formulas of RFC 3526.
func TestPrimes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method      message.KeyExchange
		bits        uint
		piBits      uint
		distinction int64
	}{
		{message.KEModp2048, 2048, 1918, 124476},
		{message.KEModp3072, 3072, 2942, 1690314},
		{message.KEModp4096, 4096, 3966, 240904},
	}
	for _, tt := range tests {
		one := big.NewInt(1)
		power := func(n uint) *big.Int { return new(big.Int).Lsh(one, n) }
		want := new(big.Int).Sub(power(tt.bits), power(tt.bits-64))
		want.Sub(want, one)
		middle := new(big.Int).Add(pi(tt.piBits), big.NewInt(tt.distinction))
		want.Add(want, middle.Lsh(middle, 64))
		g, ok := groupOf(tt.method)
		if !ok || g.prime.Cmp(want) != 0 || g.len != int(tt.bits/8) {
			t.Errorf("%s: %x", tt.method, g.prime)
		}
	}
}

// pi is 2^n times pi, rounded down, by Machin's formula.
func pi(n uint) *big.Int {
	const guard = 64
	arctan := func(x int64) *big.Int {
		term := new(big.Int).Lsh(big.NewInt(1), n+guard)
		term.Quo(term, big.NewInt(x))
		sum, square := new(big.Int).Set(term), big.NewInt(x*x)
		for k := int64(3); term.Sign() != 0; k += 2 {
			term.Neg(term.Quo(term, square))
			sum.Add(sum, new(big.Int).Quo(term, big.NewInt(k)))
		}
		return sum
	}
	p := new(big.Int).Mul(big.NewInt(16), arctan(5))
	p.Sub(p, new(big.Int).Mul(big.NewInt(4), arctan(239)))
	return p.Rsh(p, guard)
}

// TestECPVectors has the examples of RFC 5903, section 8.
func TestECPVectors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method                   message.KeyExchange
		i, gix, giy, r, grx, gry string
		girx                     string
	}{
		{
			message.KEEcp256,
			"C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
			"DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180", "5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3",
			"C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
			"D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63", "56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB",
			"D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
		},
		{
			message.KEEcp384,
			"099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194",
			"667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6DE3AC808ACB4BDB4C88732AEE95F41AA",
			"9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38EEB9FCFF3C2C947DAE69B4C634573A81C",
			"41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC",
			"E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D0D1AC43A0336DEF96FDA41D0774A3571",
			"DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FFF83FA40142209DFF5EAAD96DB9E6386C",
			"11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746",
		},
		{
			message.KEEcp521,
			"0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A095AA85A30FE1C2952C6771D937BA9777F5957B2639BAB072462F68C27A57382D4A52",
			"0015417E84DBF28C0AD3C278713349DC7DF153C897A1891BD98BAB4357C9ECBEE1E3BF42E00B8E380AEAE57C2D107564941885942AF5A7F4601723C4195D176CED3E",
			"017CAE20B6641D2EEB695786D8C946146239D099E18E1D5A514C739D7CB4A10AD8A788015AC405D7799DC75E7B7D5B6CF2261A6A7F1507438BF01BEB6CA3926F9582",
			"0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E9C677D600B343757A3BDBF2A3163E4C2F869CCA7458AA4A4EFFC311F5CB151685EB9",
			"00D0B3975AC4B799F5BEA16D5E13E9AF971D5E9B984C9F39728B5E5739735A219B97C356436ADC6E95BB0352F6BE64A6C2912D4EF2D0433CED2B6171640012D9460F",
			"015C68226383956E3BD066E797B623C27CE0EAC2F551A10C2C724D9852077B87220B6536C5C408A1D2AEBB8E86D678AE49CB57091F4732296579AB44FCD17F0FC56A",
			"01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04D1427E73CA4BAA240A34786859810C06B3C715A3A8CC3151F2BEE417996D19F3DDEA",
		},
	}
	for _, tt := range tests {
		t.Run(tt.method.String(), func(t *testing.T) {
			t.Parallel()
			// The private keys are the randomness.
			p, err := Begin(tt.method, bytes.NewReader(unhex(t, tt.i)))
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, tt.gix+tt.giy); !bytes.Equal(p.Public, want) {
				t.Errorf("g^i is %x", p.Public)
			}
			public, secret, err := Answer(tt.method, bytes.NewReader(unhex(t, tt.r)), p.Public)
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, tt.grx+tt.gry); !bytes.Equal(public, want) {
				t.Errorf("g^r is %x", public)
			}
			mine, err := p.Finish(public)
			if want := unhex(t, tt.girx); err != nil || !bytes.Equal(mine, want) || !bytes.Equal(secret, want) {
				t.Errorf("g^ir is %x and %x (%v)", mine, secret, err)
			}
		})
	}
}

func TestExchanges(t *testing.T) {
	t.Parallel()
	for _, m := range methods() {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			p, err := Begin(m, random(1))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Begin(m, random(1)); err != nil || !bytes.Equal(again.Public, p.Public) {
				t.Errorf("the same randomness gives another value (%v)", err)
			}
			public, secret, err := Answer(m, random(2), p.Public)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a second answer is as good as the first
				if got, err := p.Finish(public); err != nil || !bytes.Equal(got, secret) || len(secret) < 32 {
					t.Fatalf("%x and %x, %v", got, secret, err)
				}
			}
			for name, bad := range map[string][]byte{"none": nil, "short": public[:len(public)-1], "long": append([]byte{0}, public...)} {
				if _, err := p.Finish(bad); err == nil {
					t.Errorf("%s: taken as an answer", name)
				}
				if bad != nil {
					bad = append(bad, bytes.Repeat([]byte{1}, 2000)...)
				}
				if _, _, err := Answer(m, random(3), bad); err == nil {
					t.Errorf("%s: answered", name)
				}
			}
			if _, err := Begin(m, bytes.NewReader(make([]byte, 10))); err == nil {
				t.Error("begun with 10 bytes of randomness")
			}
		})
	}
	if _, err := Begin(24, random(1)); err == nil || !strings.Contains(err.Error(), "24") {
		t.Errorf("group 24: %v", err)
	}
	if _, err := Begin(message.KEEcp256, bytes.NewReader(make([]byte, 100*32))); err == nil {
		t.Error("a private key of zeros")
	}
}

// TestPublicValues has values that would tell something about the secret, or fix it.
func TestPublicValues(t *testing.T) {
	t.Parallel()
	g, _ := groupOf(message.KEModp2048)
	fill := func(n *big.Int) []byte { return n.FillBytes(make([]byte, g.len)) }
	add := func(n int64) []byte { return fill(new(big.Int).Add(g.prime, big.NewInt(n))) }
	curve, _ := ecdh.P256().NewPrivateKey(append(make([]byte, 31), 2))
	offCurve := curve.PublicKey().Bytes()[1:]
	offCurve[63] ^= 1
	tests := map[string]struct {
		method message.KeyExchange
		value  []byte
	}{
		"0":          {message.KEModp2048, fill(big.NewInt(0))},
		"1":          {message.KEModp2048, fill(big.NewInt(1))},
		"p-1":        {message.KEModp2048, add(-1)},
		"p":          {message.KEModp2048, add(0)},
		"p+1":        {message.KEModp2048, add(1)},
		"off curve":  {message.KEEcp256, offCurve},
		"infinity":   {message.KEEcp256, make([]byte, 64)},
		"compressed": {message.KEEcp256, curve.PublicKey().Bytes()[1:33]},
		"zero":       {message.KEX25519, make([]byte, 32)},
		"order 8":    {message.KEX25519, unhex(t, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")},
		"not mod q":  {message.KEMLKEM768, bytes.Repeat([]byte{0xff}, 1184)},
	}
	for name, tt := range tests {
		if _, _, err := Answer(tt.method, random(1), tt.value); !errors.Is(err, errPublic) {
			t.Errorf("%s of %s: %v", name, tt.method, err)
		}
	}
	if _, _, err := Answer(message.KEModp2048, random(1), fill(big.NewInt(2))); err != nil {
		t.Errorf("2 is a public value: %v", err)
	}
}

func TestPRFPlus(t *testing.T) {
	t.Parallel()
	for _, id := range []uint16{message.PRFHMACSHA256, message.PRFHMACSHA384, message.PRFHMACSHA512} {
		p, err := PRFOf(id)
		if err != nil {
			t.Fatal(err)
		}
		key, seed := []byte("key"), []byte("seed")
		t1 := p.Sum(key, seed, []byte{1})
		t2 := p.Sum(key, t1, seed, []byte{2})
		got, err := p.Plus(key, seed, p.Size()+5)
		if err != nil || !bytes.Equal(got, concat(t1, t2[:5])) {
			t.Errorf("prf %d: %x, %v", id, got, err)
		}
		if all, err := p.Plus(key, seed, 255*p.Size()); err != nil || len(all) != 255*p.Size() {
			t.Errorf("prf %d: the longest has %d bytes, %v", id, len(all), err)
		}
		for _, n := range []int{-1, 255*p.Size() + 1} {
			if _, err := p.Plus(key, seed, n); err == nil {
				t.Errorf("prf %d: %d bytes", id, n)
			}
		}
	}
	if _, err := PRFOf(message.PRFHMACSHA1); err == nil {
		t.Error("SHA-1 is a pseudorandom function here")
	}
}

// TestOrder checks the places of further secrets (RFC 9370) against the formulas.
func TestOrder(t *testing.T) {
	t.Parallel()
	p, _ := PRFOf(message.PRFHMACSHA256)
	d, ni, nr := []byte("d"), []byte("ni"), []byte("nr")
	if got := NextSeed(p, d, ni, nr, []byte("s0"), []byte("s1"), []byte("s2")); !bytes.Equal(got, p.Sum(d, []byte("s0ninrs1s2"))) {
		t.Errorf("seed %x", got)
	}
	c := choice(t, message.ProtocolESP, "aes128-sha256")
	k, err := DeriveChild(p, d, c, ni, nr, []byte("s0"), []byte("s1"))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := p.Plus(d, []byte("s0ninrs1"), 96)
	if got := concat(k.Ei, k.Ai, k.Er, k.Ar); !bytes.Equal(got, want) || len(k.Ei) != 16 || len(k.Ai) != 32 {
		t.Errorf("keys %x", got)
	}
	k.Wipe()
	if !bytes.Equal(concat(k.Ei, k.Ai, k.Er, k.Ar), make([]byte, 96)) {
		t.Error("something is left")
	}
}

func choice(t testing.TB, p message.Protocol, text string) suite.Choice {
	t.Helper()
	ours, err := suite.Parse(p, text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := suite.Select(suite.Offer([]suite.Proposal{ours}, nil), []suite.Proposal{ours})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func suites() []string {
	return []string{
		"aes256gcm16-prfsha384-ecp384", "aes192gcm16-prfsha256-ecp256", "aes128gcm16-prfsha256-ecp256", "chacha20poly1305-prfsha512-x25519",
		"aes256-sha256-modp2048", "aes192-sha384-modp2048", "aes128-sha512-modp2048",
	}
}

func derive(t testing.TB, text string) (suite.Choice, *IKE) {
	t.Helper()
	c := choice(t, message.ProtocolIKE, text)
	k, err := Derive(c, []byte("seed"), []byte("ni"), []byte("nr"), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	return c, k
}

func TestPPK(t *testing.T) {
	t.Parallel()
	_, k := derive(t, "aes256gcm16-prfsha384-ecp384")
	p, _ := PRFOf(message.PRFHMACSHA384)
	before := k.Clone()
	if err := k.AddPPK(p, []byte("post-quantum")); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string][2][]byte{"d": {before.D, k.D}, "pi": {before.Pi, k.Pi}, "pr": {before.Pr, k.Pr}} {
		want := p.Sum([]byte("post-quantum"), v[0], []byte{1}) // as long as the function's output: prf+ has one round
		if !bytes.Equal(v[1], want) {
			t.Errorf("%s is %x, not %x", name, v[1], want)
		}
	}
	if !bytes.Equal(before.Ei, k.Ei) || !bytes.Equal(before.Er, k.Er) {
		t.Error("the messages' keys changed")
	}
	if err := k.AddPPK(p, nil); err == nil {
		t.Error("an empty PPK is mixed in")
	}
	k.Wipe()
	if !bytes.Equal(k.D, make([]byte, 48)) || bytes.Equal(before.D, make([]byte, 48)) {
		t.Error("wiped too little or too much")
	}
}

func TestNoKeysInLogs(t *testing.T) {
	t.Parallel()
	_, k := derive(t, suites()[0])
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(f+f, k, &Child{Ei: k.Ei}); s != "keyskeys" {
			t.Errorf("%s prints %s", f, s)
		}
	}
}

func header(id uint32) message.Header {
	return message.Header{InitiatorSPI: 1, ResponderSPI: 2, Exchange: message.IKEAuth, Flags: message.FlagInitiator, ID: id}
}

func pair(t testing.TB, text string) (seal, open *Cipher) {
	t.Helper()
	c, k := derive(t, text)
	seal, err := NewCipher(c, k.Ei, k.Ai)
	if err != nil {
		t.Fatal(err)
	}
	if open, err = NewCipher(c, k.Ei, k.Ai); err != nil {
		t.Fatal(err)
	}
	return seal, open
}

// TestSeal seals what is of every length around a block, whole and in
// fragments, and finds that no bit of it can be changed.
func TestSeal(t *testing.T) {
	t.Parallel()
	for _, text := range suites() {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			seal, open := pair(t, text)
			ivs := map[string]bool{}
			for n := range 40 {
				ps := []message.Payload{message.Vendor{Data: make([]byte, n)}}
				b, err := seal.Seal(header(uint32(n)), ps)
				if err != nil {
					t.Fatal(err)
				}
				before := bytes.Clone(b)
				o, err := open.Open(b)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b, before) {
					t.Fatal("the datagram was changed")
				}
				got, err := message.DecodePayloads(o.First, o.Plain)
				if err != nil || o.Header != header(uint32(n)) || o.Total != 0 || !cmp.Equal(got, ps) {
					t.Fatalf("%d bytes: %v, %v", n, o, err)
				}
				ivs[string(b[32:40])+string(b[40:48])[:8*(1-len(seal.salt)/4)]] = true
			}
			if len(ivs) != 40 {
				t.Errorf("%d different IVs of 40", len(ivs))
			}
			b, err := seal.Seal(header(1), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range b {
				for bit := range 8 {
					bad := bytes.Clone(b)
					bad[i] ^= 1 << bit
					// The bits that the format has ignored are covered too.
					if _, err := open.Open(bad); err == nil {
						t.Errorf("byte %d, bit %d: changed and taken", i, bit)
					}
				}
			}
			other, _ := pair(t, text)
			other.salt = nil // of the other direction everything differs
			c, k := derive(t, text)
			if other, err = NewCipher(c, k.Er, k.Ar); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Open(b); !errors.Is(err, ErrIntegrity) {
				t.Errorf("opened by the other direction: %v", err)
			}
		})
	}
}

func TestFragments(t *testing.T) {
	t.Parallel()
	ps := []message.Payload{message.Vendor{Data: bytes.Repeat([]byte("0123456789"), 150)}, message.Nonce{Data: make([]byte, 32)}}
	for _, text := range suites() {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{130, 131, 137, 576, 1280, 1500, 1639} {
				seal, open := pair(t, text)
				out, err := seal.SealFragments(header(1), ps, size)
				if err != nil {
					t.Fatal(err)
				}
				var r message.Reassembly
				longest := 0
				for i, b := range out {
					longest = max(longest, len(b))
					o, err := open.Open(b)
					if err != nil {
						t.Fatal(err)
					}
					if len(out) == 1 {
						o.Number, o.Total = 1, 1
					}
					done, err := r.Add(o.Number, o.Total, o.First, o.Plain)
					if err != nil || done != (i == len(out)-1) {
						t.Fatalf("size %d, piece %d: complete %v, %v", size, i, done, err)
					}
				}
				if longest > size || longest < size-32 && len(out) > 1 {
					t.Errorf("the longest is %d of %d bytes", longest, size)
				}
				got, err := message.DecodePayloads(r.Plain())
				if err != nil || !cmp.Equal(got, ps) {
					t.Errorf("size %d: %v", size, err)
				}
			}
			seal, _ := pair(t, text)
			for _, size := range []int{0, 60, 80, 100} {
				if out, err := seal.SealFragments(header(1), []message.Payload{message.Vendor{Data: make([]byte, 9000)}}, size); err == nil {
					t.Errorf("%d fragments of %d bytes", len(out), size)
				}
			}
		})
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	seal, open := pair(t, suites()[0])
	if _, err := seal.Seal(header(1), []message.Payload{message.Vendor{Data: make([]byte, message.MaxLen-40)}}); err == nil {
		t.Error("a message longer than a datagram")
	}
	if _, err := seal.Seal(header(1), []message.Payload{message.SA{}}); err == nil {
		t.Error("a payload that cannot be sent")
	}
	plain, _ := message.Message{Header: header(1), Payloads: []message.Payload{message.Vendor{}}}.Encode()
	nothing, _ := message.Message{Header: header(1)}.Encode()
	for _, b := range [][]byte{nil, nothing, plain} {
		if _, err := open.Open(b); err == nil {
			t.Errorf("opened %x", b)
		}
	}
	seal.counter = 1<<64 - 1
	if _, err := seal.Seal(header(1), nil); !errors.Is(err, errCounter) {
		t.Errorf("the last counter: %v", err)
	}
	for name, c := range map[string]suite.Choice{
		"encryption": {Encryption: message.Transform{ID: 3}, PRF: message.PRFHMACSHA256},
		"key length": {Encryption: message.Transform{ID: message.EncryptionAESGCM16, KeyBits: 40}, PRF: message.PRFHMACSHA256},
		"ChaCha":     {Encryption: message.Transform{ID: message.EncryptionChaCha20Poly1305, KeyBits: 256}, PRF: message.PRFHMACSHA256},
		"integrity":  {Encryption: message.Transform{ID: message.EncryptionAESCBC, KeyBits: 256}, PRF: message.PRFHMACSHA256},
		"prf":        {Encryption: message.Transform{ID: message.EncryptionAESGCM16, KeyBits: 256}},
	} {
		if _, err := Derive(c, nil, nil, nil, 1, 2); err == nil {
			t.Errorf("keys of an unknown %s", name)
		}
		if _, err := NewCipher(c, nil, nil); err == nil {
			t.Errorf("a cipher of an unknown %s", name)
		}
		if _, err := DeriveChild(PRF{}, nil, c, nil, nil); err == nil && name != "prf" {
			t.Errorf("a child of an unknown %s", name)
		}
		if _, ok := LogLine(1, 2, c, &IKE{}); ok && name != "prf" && name != "key length" {
			t.Errorf("a key log of an unknown %s", name)
		}
	}
	if p, _ := PRFOf(message.PRFHMACSHA256); p.Size() != 32 {
		t.Errorf("SHA-256 has %d bytes", p.Size())
	}
}

// TestHostilePadding has what only a peer with the keys can send.
func TestHostilePadding(t *testing.T) {
	t.Parallel()
	for _, text := range suites() {
		seal, open := pair(t, text)
		b, err := seal.Seal(header(1), []message.Payload{message.Vendor{Data: make([]byte, 11)}}) // 15 bytes and the padding's length: one block
		if err != nil {
			t.Fatal(err)
		}
		// Sealed by hand, with a padding longer than all there is.
		plain := bytes.Repeat([]byte{200}, 16)
		if seal.aead != nil {
			b = seal.aead.Seal(b[:40], concat(seal.salt, b[32:40]), plain, b[:32])
		} else {
			iv := b[32:48]
			for i := range plain {
				plain[i] ^= iv[i]
			}
			seal.block.Encrypt(b[48:64], plain)
			b = append(b[:64], seal.icv(b[:64])...)
		}
		if _, err := open.Open(b); err == nil || !strings.Contains(err.Error(), "200 bytes of padding in 16 bytes") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzOpen opens anything, by every kind of cipher: with the fuzzer's bytes as
// a datagram, and sealed as clear text by a peer that has the keys.
func FuzzOpen(f *testing.F) {
	var seals, opens []*Cipher
	for _, text := range suites() {
		s, o := pair(f, text)
		b, err := s.Seal(header(1), []message.Payload{message.Nonce{Data: make([]byte, 32)}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(1280))
		seals, opens = append(seals, s), append(opens, o)
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		for i, c := range opens {
			_, _ = c.Open(b)
			out, err := seals[i].SealPlain(header(2), message.TypeSA, b, int(size))
			if err != nil {
				continue
			}
			var plain []byte
			for _, d := range out {
				o, err := c.Open(d)
				if err != nil {
					t.Fatal(err)
				}
				plain = append(plain, o.Plain...)
			}
			if !bytes.Equal(plain, b) {
				t.Fatalf("%x became %x", b, plain)
			}
		}
	})
}
