package message

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// same compares messages; an empty slice is none.
func same() cmp.Options {
	return cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})}
}

func header() Header {
	return Header{InitiatorSPI: 0x0102030405060708, ResponderSPI: 0x1112131415161718, Exchange: CreateChildSA, Flags: FlagInitiator, ID: 7}
}

// everyPayload is one of each type, the encrypted ones aside.
func everyPayload() []Payload {
	return []Payload{
		SA{[]Proposal{
			{1, ProtocolIKE, []byte("12345678"), []Transform{{Type: TransformEncryption, ID: EncryptionAESGCM16, KeyBits: 256}, {Type: TransformPRF, ID: PRFHMACSHA384}, {Type: TransformKeyExchange, ID: uint16(KEEcp384)}, {Type: TransformAdditional1, ID: uint16(KEMLKEM768)}}},
			{2, ProtocolESP, []byte("1234"), []Transform{{Type: TransformESN, ID: ESNYes}}},
			{3, ProtocolAH, nil, nil},
		}},
		KE{KEEcp384, bytes.Repeat([]byte{5}, 96)},
		ID{TypeIDi, IDFQDN, []byte("a.example.com")},
		ID{TypeIDr, IDIPv4, []byte{192, 0, 2, 1}},
		Cert{CertX509, []byte("certificate")},
		CertReq{CertX509, bytes.Repeat([]byte{6}, 40)},
		CertReq{CertX509, nil},
		Auth{AuthSignature, []byte("signature")},
		Nonce{bytes.Repeat([]byte{7}, 32)},
		Notify{ProtocolESP, []byte("1234"), RekeySA, nil},
		Notify{ProtocolNone, nil, Cookie, []byte("cookie")},
		Delete{ProtocolESP, [][]byte{[]byte("1234"), []byte("5678")}},
		Delete{ProtocolIKE, nil},
		Vendor{[]byte("vendor")},
		TS{TypeTSi, []Selector{SelectorOf(netip.MustParsePrefix("0.0.0.0/0")), SelectorOf(netip.MustParsePrefix("::/0"))}},
		TS{TypeTSr, []Selector{{6, 443, 443, netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.9")}, {17, 65535, 0, netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("2001:db8::1")}}},
		Opaque{TypeConfiguration, []byte{1, 0, 0, 0}},
		Opaque{TypeEAP, []byte{1, 2, 0, 4}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	tests := map[string][]Payload{
		"nothing":   nil,
		"all":       everyPayload(),
		"encrypted": {Notify{Notify: Cookie, Data: []byte("c")}, Encrypted{TypeSA, []byte("cipher text")}},
		"empty":     {Encrypted{TypeNone, []byte("cipher text")}},
		"fragment":  {EncryptedFragment{TypeIDi, 1, 3, []byte("cipher text")}},
		"later":     {EncryptedFragment{TypeNone, 3, 3, []byte("cipher text")}},
	}
	for name, ps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := Message{header(), ps}
			b, err := want.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, same()...); diff != "" {
				t.Errorf("(-sent +received):\n%s", diff)
			}
			if h, err := DecodeHeader(b); err != nil || h != want.Header {
				t.Errorf("header %v, %v", h, err)
			}
		})
	}
}

// TestEveryTruncation cuts and lengthens a message of all payloads at every
// byte, with lengths in the header that fit: none of it is read as a message.
func TestEveryTruncation(t *testing.T) {
	t.Parallel()
	whole, err := Message{header(), everyPayload()}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		b := append([]byte{}, whole[:n]...)
		if n >= HeaderLen {
			b[26], b[27] = byte(n>>8), byte(n)
		}
		if m, err := Decode(b); err == nil {
			t.Errorf("cut to %d bytes it is %v", n, m)
		}
	}
	long := append(append([]byte{}, whole...), 0)
	long[26], long[27] = byte(len(long)>>8), byte(len(long))
	if _, err := Decode(long); err == nil {
		t.Error("a byte too much is read")
	}
}

// raw is a message with one payload of the bytes given in hex.
func raw(t testing.TB, typ PayloadType, text string) []byte {
	t.Helper()
	body, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	n := HeaderLen + 4 + len(body)
	b := header().Append(nil, typ, n)
	b = append(b, 0, 0, byte((n-HeaderLen)>>8), byte(n-HeaderLen))
	return append(b, body...)
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		typ  PayloadType
		body string
		want string
	}{
		"KE without data":              {TypeKE, "0014 0000", "too short"},
		"ID cut off":                   {TypeIDi, "02 0000", "too short"},
		"certificate without data":     {TypeCert, "04", "too short"},
		"short nonce":                  {TypeNonce, "0102", "2 bytes, not 16 to 256"},
		"long nonce":                   {TypeNonce, strings.Repeat("00", 257), "257 bytes"},
		"notify with a long SPI":       {TypeNotify, "01 ff 4000 0000", "too short"},
		"delete that counts wrongly":   {TypeDelete, "03 04 0002 01020304", "2 SPIs of 4 bytes in 4 bytes"},
		"delete of nothing, often":     {TypeDelete, "03 00 ffff", "65535 SPIs of 0 bytes"},
		"delete of too many":           {TypeDelete, "03 01 0201" + strings.Repeat("00", 513), "513 SPIs"},
		"SA without a proposal":        {TypeSA, "", "too short"},
		"proposal longer than the SA":  {TypeSA, "00 00 0009 01 01 00 00", "a length of 9, 8 bytes are left"},
		"proposal shorter than itself": {TypeSA, "00 00 0004 01 01 00 00", "a length of 4"},
		"proposal and its SPI":         {TypeSA, "00 00 0008 01 01 08 00", "a length of 8"},
		"proposal that goes on":        {TypeSA, "02 00 0008 01 01 00 00", "too short"},
		"proposal that is 1":           {TypeSA, "01 00 0008 01 01 00 00", "neither the last"},
		"something after it":           {TypeSA, "00 00 0008 01 01 00 00 00", "after the last proposal"},
		"too many transforms":          {TypeSA, "00 00 0008 01 01 00 ff", "255 transforms"},
		"transform that is not there":  {TypeSA, "00 00 0008 01 01 00 01", "transform 1 of 1"},
		"transform too long":           {TypeSA, "00 00 0010 01 01 00 01 00 00 0009 01 00 0014", "a length of 9"},
		"transform too short":          {TypeSA, "00 00 0010 01 01 00 01 00 00 0007 01 00 0014", "a length of 7"},
		"transform that is not last":   {TypeSA, "00 00 0010 01 01 00 01 03 00 0008 01 00 0014", "says 3"},
		"attribute cut off":            {TypeSA, "00 00 0012 01 01 00 01 00 00 000a 01 00 0014 800e", "too short"},
		"attribute too long":           {TypeSA, "00 00 0014 01 01 00 01 00 00 000c 01 00 0014 0001 0001", "an attribute of 1 bytes"},
		"something after transforms":   {TypeSA, "00 00 0009 01 01 00 00 00", "1 bytes after 0 transforms"},
		"selectors cut off":            {TypeTSi, "01", "too short"},
		"selector that is not there":   {TypeTSi, "01 000000", "selector 1 of 1"},
		"selector of a wrong length":   {TypeTSi, "01 000000 07 00 0010 0000 ffff 00000000 ffffff", "a length of 16"},
		"IPv6 as long as IPv4":         {TypeTSi, "01 000000 08 00 0010 0000 ffff 00000000 ffffffff", "type 8"},
		"range that goes backwards":    {TypeTSi, "01 000000 07 00 0010 0000 ffff 02000000 01000000", "2.0.0.0 to 1.0.0.0"},
		"ports that go backwards":      {TypeTSi, "01 000000 07 00 0010 0002 0001 00000000 01000000", "ports 2 to 1"},
		"something after selectors":    {TypeTSi, "00 000000 07", "after 0 selectors"},
		"fragment without numbers":     {TypeEncryptedFragment, "0001", "too short"},
		"fragment 0":                   {TypeEncryptedFragment, "0000 0001", "fragment 0 of 1"},
		"fragment after the last":      {TypeEncryptedFragment, "0002 0001", "fragment 2 of 1"},
		"auth cut off":                 {TypeAuth, "02 00", "too short"},
		"certificate request of none":  {TypeCertReq, "", "too short"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Decode(raw(t, tt.typ, tt.body))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, without %q", err, tt.want)
			}
		})
	}
}

func TestHeaderRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"short":       {func(b []byte) []byte { return b[:27] }, "too short"},
		"length":      {func(b []byte) []byte { b[27]++; return b }, "the header says 29 bytes"},
		"huge length": {func(b []byte) []byte { b[24] = 0xff; return b }, "the datagram has 28"},
		"no SPI":      {func(b []byte) []byte { clear(b[:8]); return b }, "SPI is 0"},
		"version 1":   {func(b []byte) []byte { b[17] = 0x10; return b }, "IKE version 1.0"},
		"payload":     {func(b []byte) []byte { b[16] = 33; return b }, "0 bytes are left for its header"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := Message{Header: header()}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Decode(tt.change(b)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, without %q", err, tt.want)
			}
		})
	}
	b, _ := Message{Header: header()}.Encode()
	b[17] = 0x21 // a higher minor version is read (RFC 7296, section 2.5)
	if _, err := Decode(b); err != nil {
		t.Error(err)
	}
	b[17] = 0x30
	var version *VersionError
	if h, err := DecodeHeader(b); !errors.As(err, &version) || version.Major != 3 || h != header() {
		t.Errorf("header %v with %v", h, err)
	}
}

func TestUnknownPayloads(t *testing.T) {
	t.Parallel()
	b := raw(t, 200, "0102")
	m, err := Decode(b)
	if err != nil || len(m.Payloads) != 0 {
		t.Errorf("not critical: %v, %v", m.Payloads, err)
	}
	b[HeaderLen+1] = 0x80
	var critical *CriticalError
	if m, err := Decode(b); !errors.As(err, &critical) || critical.Payload != 200 || m.Header != header() {
		t.Errorf("critical: %v", err)
	}
	known := raw(t, TypeVendor, "0102") // the bit means nothing on a known one (RFC 7296, section 3.2)
	known[HeaderLen+1] = 0xff
	if _, err := Decode(known); err != nil {
		t.Error(err)
	}
	many := header().Append(nil, 200, HeaderLen+4*(MaxPayloads+1))
	for n := range MaxPayloads + 1 {
		next := byte(200)
		if n == MaxPayloads {
			next = 0
		}
		many = append(many, next, 0, 0, 4)
	}
	if _, err := Decode(many); err == nil || !strings.Contains(err.Error(), "more than 64 payloads") {
		t.Errorf("payload after payload: %v", err)
	}
}

func TestEncryptedIsLast(t *testing.T) {
	t.Parallel()
	b := raw(t, TypeEncrypted, "0102")
	b = append(b, 0, 0, 0, 4)
	b[27] += 4
	if _, err := Decode(b); err == nil {
		t.Error("a payload behind the encrypted one is read")
	}
	for _, p := range []Payload{Encrypted{Body: []byte("x")}, EncryptedFragment{Number: 1, Total: 1, Body: []byte("x")}} {
		if _, err := (Message{header(), []Payload{p, Vendor{}}}).Encode(); err == nil {
			t.Errorf("%s before another payload is sent", p.Type())
		}
		first, inner, err := EncodePayloads([]Payload{p})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodePayloads(first, inner); err == nil {
			t.Errorf("%s inside of an encrypted payload is read", p.Type())
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr("192.0.2.1")
	tests := map[string]Payload{
		"no proposals":      SA{},
		"proposals":         SA{make([]Proposal, MaxProposals+1)},
		"long SPI":          SA{[]Proposal{{SPI: make([]byte, 256)}}},
		"transforms":        SA{[]Proposal{{Transforms: make([]Transform, MaxTransforms+1)}}},
		"strange transform": SA{[]Proposal{{Transforms: []Transform{{Strange: true}}}}},
		"KE":                KE{KEEcp256, nil},
		"certificate":       Cert{CertX509, nil},
		"ID of none":        ID{Kind: IDFQDN},
		"TS of none":        TS{},
		"selectors":         TS{TypeTSi, make([]Selector, 256)},
		"no range":          TS{TypeTSi, []Selector{{}}},
		"mixed range":       TS{TypeTSi, []Selector{{Start: ip, End: netip.IPv6Unspecified()}}},
		"short nonce":       Nonce{make([]byte, 15)},
		"notify":            Notify{SPI: make([]byte, 256)},
		"unequal SPIs":      Delete{ProtocolESP, [][]byte{{1}, {1, 2}}},
		"empty SPIs":        Delete{ProtocolESP, [][]byte{{}}},
		"fragment":          EncryptedFragment{Number: 2, Total: 1},
		"opaque":            Opaque{TypeSA, nil},
		"too long":          Vendor{make([]byte, MaxLen)},
		"longer together":   Vendor{make([]byte, MaxLen-8)},
	}
	for name, p := range tests {
		if _, err := (Message{header(), []Payload{p}}).Encode(); err == nil {
			t.Errorf("%s is sent", name)
		}
	}
	if _, err := (Message{header(), make([]Payload, MaxPayloads+1)}).Encode(); err == nil {
		t.Error("too many payloads are sent")
	}
}

func TestStrangeTransforms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		attributes string
		want       Transform
	}{
		"key length":        {"800e 0100", Transform{Type: 1, ID: 20, KeyBits: 256}},
		"twice":             {"800e 0100 800e 0080", Transform{Type: 1, ID: 20, KeyBits: 256, Strange: true}},
		"of 0":              {"800e 0000", Transform{Type: 1, ID: 20, Strange: true}},
		"not fixed":         {"000e 0002 0100", Transform{Type: 1, ID: 20, Strange: true}},
		"unknown":           {"8001 0100", Transform{Type: 1, ID: 20, Strange: true}},
		"unknown, variable": {"0001 0003 010203 800e 0080", Transform{Type: 1, ID: 20, KeyBits: 128, Strange: true}},
	}
	for name, tt := range tests {
		a, _ := hex.DecodeString(strings.ReplaceAll(tt.attributes, " ", ""))
		body := append([]byte{0, 0, 0, byte(16 + len(a)), 1, 1, 0, 1, 0, 0, 0, byte(8 + len(a)), 1, 0, 0, 20}, a...)
		m, err := Decode(raw(t, TypeSA, hex.EncodeToString(body)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sa, _ := First[SA](m.Payloads)
		if got := sa.Proposals[0].Transforms[0]; got != tt.want {
			t.Errorf("%s: %+v, not %+v", name, got, tt.want)
		}
	}
}

func TestUnknownSelectorsAreLeftOut(t *testing.T) {
	t.Parallel()
	m, err := Decode(raw(t, TypeTSr, "02 000000 09 00 0008 00000000 07 00 0010 0000 ffff c0000200 c00002ff"))
	if err != nil {
		t.Fatal(err)
	}
	ts, _ := FindTS(m.Payloads, TypeTSr)
	if diff := cmp.Diff([]Selector{SelectorOf(netip.MustParsePrefix("192.0.2.0/24"))}, ts.Selectors, same()...); diff != "" {
		t.Error(diff)
	}
}

func TestSelectorString(t *testing.T) {
	t.Parallel()
	a := netip.MustParseAddr
	tests := map[string]Selector{
		"0.0.0.0/0":                             SelectorOf(netip.MustParsePrefix("0.0.0.0/0")),
		"::/0":                                  SelectorOf(netip.MustParsePrefix("::/0")),
		"192.0.2.0/25":                          SelectorOf(netip.MustParsePrefix("192.0.2.77/25")),
		"2001:db8::/57":                         SelectorOf(netip.MustParsePrefix("2001:db8::/57")),
		"192.0.2.1/32 port 4500":                {0, 4500, 4500, a("192.0.2.1"), a("192.0.2.1")},
		"192.0.2.1-192.0.2.2 protocol 17":       {17, 0, 65535, a("192.0.2.1"), a("192.0.2.2")},
		"192.0.2.0/31 protocol 6 ports 1-9":     {6, 1, 9, a("192.0.2.0"), a("192.0.2.1")},
		"192.0.2.0/32 protocol 50 opaque ports": {50, 65535, 0, a("192.0.2.0"), a("192.0.2.0")},
	}
	for want, s := range tests {
		if s.String() != want {
			t.Errorf("%s, not %s", s, want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	ps := everyPayload()
	if n, ok := FindNotify(ps, Cookie); !ok || string(n.Data) != "cookie" {
		t.Errorf("cookie: %v", n)
	}
	if _, ok := FindNotify(ps, UsePPK); ok {
		t.Error("found what is not there")
	}
	if id, ok := FindID(ps, TypeIDr); !ok || id.Kind != IDIPv4 {
		t.Errorf("IDr: %v", id)
	}
	if ts, ok := FindTS(ps, TypeTSr); !ok || ts.Selectors[0].Protocol != 6 {
		t.Errorf("TSr: %v", ts)
	}
	if all := All[Delete](ps); len(all) != 2 {
		t.Errorf("deletes: %v", all)
	}
	_, id := FindID(nil, TypeIDi)
	_, ts := FindTS(nil, TypeTSi)
	if _, ok := First[SA](nil); ok || id || ts {
		t.Error("found something in nothing")
	}
}

func TestNotifyData(t *testing.T) {
	t.Parallel()
	n := Notify{Notify: SignatureHashAlgorithms, Data: HashesData([]Hash{HashSHA256, HashIdentity})}
	if got, err := n.Hashes(); err != nil || len(got) != 2 || got[1] != HashIdentity {
		t.Errorf("hashes %v, %v", got, err)
	}
	for _, size := range []int{1, 130} {
		if _, err := (Notify{Data: make([]byte, size)}).Hashes(); err == nil {
			t.Errorf("hashes in %d bytes", size)
		}
	}
	if k, err := WantKE(KEX25519).KeyExchange(); err != nil || k != KEX25519 {
		t.Errorf("wants %s, %v", k, err)
	}
	if _, err := (Notify{Notify: InvalidKEPayload}).KeyExchange(); err == nil {
		t.Error("wants nothing, and says what")
	}
	if !TemporaryFailure.Error() || !NotifyType(9000).Error() || Cookie.Error() {
		t.Error("errors are not told from others")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	tests := []struct{ got, want string }{
		{header().String(), "CREATE_CHILD_SA request 7 (SPIs 0102030405060708, 1112131415161718)"},
		{Header{Flags: FlagResponse, Exchange: 99}.String(), "99 response 0 (SPIs 0000000000000000, 0000000000000000)"},
		{TSUnacceptable.String(), "TS_UNACCEPTABLE"},
		{NotifyType(40000).String(), "40000"},
		{TypeEncryptedFragment.String(), "SKF"},
		{ProtocolESP.String(), "ESP"},
		{TransformPRF.String(), "pseudorandom function"},
		{(TransformAdditional1 + 1).String(), "additional key exchange 2"},
		{KEMLKEM768.String(), "mlkem768"},
		{IDDN.String(), "ID_DER_ASN1_DN"},
		{AuthPSK.String(), "pre-shared key"},
		{HashSHA512.String(), "SHA-512"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%q, not %q", tt.got, tt.want)
		}
	}
}

func TestReassembly(t *testing.T) {
	t.Parallel()
	type piece struct {
		number, total uint16
		text          string
		done, wrong   bool
	}
	tests := map[string]struct {
		pieces []piece
		want   string
	}{
		"in order":      {[]piece{{1, 3, "a", false, false}, {2, 3, "b", false, false}, {3, 3, "c", true, false}}, "abc"},
		"out of order":  {[]piece{{3, 3, "c", false, false}, {1, 3, "a", false, false}, {2, 3, "b", true, false}}, "abc"},
		"twice":         {[]piece{{1, 2, "a", false, false}, {1, 2, "x", false, false}, {2, 2, "b", true, false}, {2, 2, "y", true, false}}, "ab"},
		"empty":         {[]piece{{1, 2, "", false, false}, {1, 2, "x", false, false}, {2, 2, "b", true, false}}, "b"},
		"smaller anew":  {[]piece{{1, 2, "ab", false, false}, {2, 3, "b", false, false}, {1, 3, "a", false, false}, {3, 3, "c", true, false}}, "abc"},
		"late":          {[]piece{{1, 3, "a", false, false}, {1, 2, "ab", false, true}, {2, 3, "b", false, false}, {3, 3, "c", true, false}}, "abc"},
		"number 0":      {[]piece{{0, 3, "a", false, true}, {1, 1, "a", true, false}}, "a"},
		"too many":      {[]piece{{1, MaxFragments + 1, "a", false, true}, {1, 1, "a", true, false}}, "a"},
		"too much":      {[]piece{{1, 2, strings.Repeat("a", 60000), false, false}, {2, 2, strings.Repeat("b", 60000), false, true}, {2, 2, "b", true, false}}, strings.Repeat("a", 60000) + "b"},
		"after the end": {[]piece{{3, 2, "a", false, true}, {1, 1, "a", true, false}}, "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r Reassembly
			for i, p := range tt.pieces {
				first := TypeNone
				if p.number == 1 {
					first = TypeIDi
				}
				done, err := r.Add(p.number, p.total, first, []byte(p.text))
				if done != p.done || (err != nil) != p.wrong {
					t.Fatalf("piece %d: complete %v, %v", i, done, err)
				}
			}
			if first, plain := r.Plain(); first != TypeIDi || string(plain) != tt.want {
				t.Errorf("%s, %d bytes", first, len(plain))
			}
		})
	}
}
