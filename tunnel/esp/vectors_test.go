package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"testing"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/sa"
)

// gcmPackets are the packets of draft-mcgrew-gcm-test-01, section 4, that are
// AES-GCM with 128 or 256 bits. A sequence number of 16 digits is an extended one.
func gcmPackets() []struct{ name, key, salt, seq, packet, plain string } {
	const (
		k256 = "abbccddef00112233445566778899aababbccddef00112233445566778899aab"
		k3de = "3de09874b388e6491988d0c3607eae1f"
	)
	return []struct{ name, key, salt, seq, packet, plain string }{
		{
			"DNS, ESN", "4c80cdefbb5d10da906ac73c3613a634", "2e443b68", "8765432100000000",
			"00004321000000004956ed7e3b244cfefecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
			"45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b000021000101020201",
		},
		{
			"DNS", "feffe9928665731c6d6a8f9467308308", "cafebabe", "0000000a",
			"0000a5f80000000afacedbaddecaf888deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
			"4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b00000100010001",
		},
		{
			"TCP, 256 bits", k256, "11223344", "00000002",
			"4a2cbfe3000000020102030405060708ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c4915956c96",
			"4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
		},
		{
			"SPI 0", "00000000000000000000000000000000", "00000000", "00000001",
			"000000000000000100000000000000004688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3f821d496eeb096e98ad2b69e4799c71d",
			"4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
		},
		{
			"ICMP, ESN", k3de, "57690e43", "1010101010101010",
			"42f67e3f101010104e280000a2fca1a3fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c35791765acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320ae0d731cc978ecafaeae88f00e80d6e48",
			"4500003c99c300008001cb7c40679318010101010800085c020043006162636465666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
		},
		{
			"router solicitation, ESN", k3de, "57690e43", "1010101010101010",
			"42f67e3f101010104e280000a2fca1a3fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed369f071f35e034be95f112e4e7d05d35",
			"4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
		},
		{
			"padding, ESN", "abbccddef00112233445566778899aab", "decaf888", "0000000000000001",
			"0000010000000001cafedebaceface7418a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7472b79da345e0e780191f0d2f0e0f496c226f2127b27db35724e7845d68651f57e65f354f75ff17015769623436",
			"4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d500004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec959b6266c04722b14923010101",
		},
		{
			"TOS, 256 bits, ESN", k256, "73616c74", "156f3126dd0db99b",
			"17405e67dd0db99b616e640169766563f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e451626c2415771e3b7eebca614c89b35",
			"45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
		},
		{
			"another padding, ESN", k3de, "57690e43", "1010101010101010",
			"42f67e3f101010104e280000a2fca1a3fba2cad12fc1f9f00d3cebf305410db83d7784b607323d220f24b0a97d54182800cadb0f68d99ef0e0c0c89ae9bea8884e52d65bc1afd0740f742444747b5b39ab533163aad4550ee5160975cdb608c5769189609763b8e18caa81e2",
			"45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b000001e0001e8c18d65759d52284a0352c71475c8880391c764d6e5ee0496b325ae270c03899493915010101",
		},
		{
			"no packet inside, 256 bits, ESN", k256, "73616c74", "156f3126dd0db99b",
			"17405e67dd0db99b616e640169766563d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18d0a6df10e5487df074113e14c641024e3e6773d91a62ee429b043a10e3efe6b012a49363412364f8c0cac587f249e56b11e24f30e44ccc76",
			"636973636f0172756c657301746865016e6574776501646566696e6501746865746563686e6f6c6f67696573017468617477696c6c01646566696e65746f6d6f72726f7701020201",
		},
		{
			"the last number, nothing inside", "7d773d00c144c525ac619d18c84a3f47", "d9664267", "ffffffff",
			"335467aeffffffff43457e9182443bc6437f866bcb3f699fe9b0822bac961c4504bef270",
			"01020201",
		},
		{
			"few bytes, ESN", "abbccddef00112233445566778899aab", "decaf888", "0000000000000001",
			"0000010000000001cafedebaceface7429c9fc69a197d038ccdd14e2ddfcaa0543332164412503524303ed3c6c5f283843af8c3e",
			"746f016265016f72016e6f7401746f0162650001",
		},
		{
			"the last extended number, 256 bits", "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961", "7475726e", "ffffffffffffffff",
			"796b6963ffffffff333021696765746df97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937ba2945f669368661a329fb4c053",
			"45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
		},
	}
}

// TestGCMPackets has whole packets of a draft that was made for that. They carry
// what is no tunnel mode, so the clear text is what is compared. Two have SPIs
// and numbers that nobody here would agree to or send.
func TestGCMPackets(t *testing.T) {
	t.Parallel()
	for _, v := range gcmPackets() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			d, key := unhex(t, v.packet), unhex(t, v.key+v.salt)
			cipher := sa.AES128GCM16
			if len(v.key) == 64 {
				cipher = sa.AES256GCM16
			}
			sequence, err := strconv.ParseUint(v.seq, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			esn := len(v.seq) == 16
			made := func() (*Codec, *pair) {
				p, err := newPair(sa.Pair{In: sa.Direction{SPI: 256, Key: key}, Out: sa.Direction{SPI: 257, Key: key}, Cipher: cipher, ESN: esn})
				if err != nil {
					t.Fatal(err)
				}
				p.in, p.most = binary.BigEndian.Uint32(d), 1<<64-1
				p.newest.Store(sequence - 1)
				for n := sequence % (32 << 8); n < sequence%(32<<32); n += 1 << 34 { // to where the packet is the next one
					p.window.Take(n)
				}
				return New(), p
			}
			c, p := made()
			plain, r := c.decrypt(p, bytes.Clone(d))
			if r != tunnel.DropNone || hex.EncodeToString(plain) != v.plain {
				t.Fatalf("%s, %x", r, plain)
			}
			if _, r := c.decrypt(p, bytes.Clone(d)); r != tunnel.DropReplayed {
				t.Errorf("once more: %s", r)
			}
			aad := associate(make([]byte, aadLen), esn, p.in, sequence)
			sealed := p.seal.Seal(nil, append(unhex(t, v.salt), d[8:headerLen]...), unhex(t, v.plain), aad)
			if !bytes.Equal(sealed, d[headerLen:]) {
				t.Errorf("sealed: %x", sealed)
			}
			for bit := range 8 * len(d) {
				c, p := made()
				other := bytes.Clone(d)
				other[bit/8] ^= 1 << (bit % 8)
				if bit < 32 {
					continue // the SPI finds the pair: another one is another pair's
				}
				if _, r := c.decrypt(p, other); r != tunnel.DropAuthFailed {
					t.Fatalf("with bit %d flipped: %s", bit, r)
				}
			}
		})
	}
}

// What comes is bounded like what goes: a peer that does not replace a pair in
// time is not heard by it any more.
func TestInboundLimit(t *testing.T) {
	t.Parallel()
	a, b := keyed(t, sa.AES256GCM16, true)
	b.find(0x55667788).most = 5
	for i := range 8 {
		want := tunnel.DropNone
		if i >= 5 {
			want = tunnel.DropExpired
		}
		if _, _, _, r := b.Open(seal(t, a, ip4(100))); r != want {
			t.Errorf("packet %d: %s, want %s", i+1, r, want)
		}
	}
}
