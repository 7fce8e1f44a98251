package keys

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"testing"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// TestNIST has samples of NIST's validation of IKEv2's key derivation (SP
// 800-135): SKEYSEED, the first 132 bytes of keys, and SKEYSEED at a rekeying
// with SK_d from them.
func TestNIST(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ suite, gir, ni, nr, spii, spir, skeyseed, dkm, girNew, rekeyed string }{
		{
			"aes256gcm16-prfsha256-ecp256",
			"0f4d257d7a58fc4545c7d7a88119eee5d5c9690c5b4c989171d3abbfd99d1d29",
			"3f302be1abcb28e1", "8c332ee006064c9b", "40dac39e1e1a8640", "8619a1cf9a6e4c07",
			"5f00d1bd2c58ec224b1e6b71fa0f19a1faa7a193952c444411b47c1a9d8ba6fe",
			"0b137d669b0947d7d026d593f0305ad401ff0c471357d695778a9c7f4b4869ece98aca531" +
				"188d16041b3bb936d2dbb3b4993a6e768a809160de45d0283f273a6cdf6854379e31be72b" +
				"8d3d1fa990cf9c5b015ca9f918a7df6253c958114a09d4e1c19bdcd4db14b29d98db1a74a" +
				"d405c588662c14a04d0d36aa4ab55e90f8986d12d4aad",
			"25f3b12d6f282739256e39bf54eda53b60ffcf379bb7bcc90c27b4c4c578616c",
			"2d63f6debc92048b4fef3889c4c99ca67d6496e0fac14a2bca9a2d6566ff2398",
		},
		{
			"aes256gcm16-prfsha384-ecp384",
			"d3288cd87565101e88fe3bad918f31939d8dd26ff1071f8b2d7f447524e58d7c",
			"fd1b572a8e735591", "6013b0ef88dacd3d", "2116ad07ce61f749", "24880e55f11a65b7",
			"69fe7a1ac94adaeb711295f5fe004b1a8d6a0b65d05692758ce8ad2f7a45f59d7d0b596f51f7dfcf3330061888f6a94f",
			"4f904c2025c90c817ea5ff9b662a6fdb445a73b57cdf09eacd379b95e1f03cacb04cd6dee" +
				"da4f952191dd9bc1f7a9502471a648d74dc06d38112de48a42501f6b1a3ad55c2099cd9a6" +
				"48e5f17e5bf3e34bf9b5953decb768a34f875fe2b78dca0c2fcca81ec1a412006dfaed38f" +
				"a06882e61f4c148105fb8e231fdb33c4d484c001721d4",
			"3358f620539473aee8d07e779764c4c6a9aabddc79a28e136b3bac021dbde44a",
			"e0548c1682e13bce454026b3b1bdf42985b24e4e7408095a7c529de38c3d1fcb04c9fe6868042a34c9614c6c99e3fcea",
		},
		{
			"aes256-sha512-modp2048",
			"276255c3eaace5c6db32b609aa86c0ef07bba4bf2dc4c262995efd95ca607c3f",
			"97c41a9b0a03e74c", "a659fd06e1746600", "ff43c5c689b95481", "e2ba607f30079bb7",
			"d6e74966b75fd2afab48be319d63d97c8a5d2ffe2e320763a462c664b36c3a944067d867c3a55fd8a7e5cca64b22e24415987e15549f09a81b455adaa5303df8",
			"22259105314717dc73c210919ee9cb3ded774dc087e866aa3960404c0ed7b8e78e79b9938" +
				"88388e2e5cb238d4bfcb4cdee9da074a26e329d6c2f2f660cc9c711c941a2fb3d85a2e5d0" +
				"1e579c8f2c9d00fa6fabe76a137b00c7ff1b291899906588c26f073d819063238c4c844f0" +
				"f8d221b65b76dbc9ed6f6368e5dba86b3e81b60eb44a1",
			"bb4015f7727b35532021336a9e4a6370ac8729b01fbb8f15d52236820fac4709",
			"ecdaf3ccb990abc898a453b03fd56f9975275f150e1e571b0560b3cb2ee67289e82b899cdc2129fd821fe8aebea796f190765c25798f5883f923526551f16a4b",
		},
	} {
		t.Run(v.suite, func(t *testing.T) {
			t.Parallel()
			spi := func(s string) uint64 {
				n, err := strconv.ParseUint(s, 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			c := choice(t, message.ProtocolIKE, v.suite)
			p, err := PRFOf(c.PRF)
			if err != nil {
				t.Fatal(err)
			}
			ni, nr := unhex(t, v.ni), unhex(t, v.nr)
			seed := Seed(p, ni, nr, unhex(t, v.gir))
			if got := hex.EncodeToString(seed); got != v.skeyseed {
				t.Errorf("SKEYSEED %s", got)
			}
			k, err := Derive(c, seed, ni, nr, spi(v.spii), spi(v.spir))
			if err != nil {
				t.Fatal(err)
			}
			if all := concat(k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr); !bytes.HasPrefix(all, unhex(t, v.dkm)) {
				t.Errorf("keys %x", all)
			}
			if got := hex.EncodeToString(NextSeed(p, k.D, ni, nr, unhex(t, v.girNew))); got != v.rekeyed {
				t.Errorf("SKEYSEED at a rekeying %s", got)
			}
		})
	}
}
