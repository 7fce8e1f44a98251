package auth_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

const captures = "../testdata/strongswan/"

// TestStrongSwan walks through whole conversations of two strongSwans: from the
// secrets of their key exchanges it derives every key that they logged, opens
// every message, and verifies both ends' AUTH. tshark, with our key log, sees
// the same payloads.
func TestStrongSwan(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ ike, esp string }{
		"gcm": {"aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384"},
		"cbc": {"aes256-sha256-modp2048", "aes256-sha256"},
		"cha": {"chacha20poly1305-prfsha512-x25519", "chacha20poly1305"},
		"rsa": {"aes128gcm16-prfsha256-ecp256", "aes128gcm16"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &conversation{t: t, name: name, secrets: readSecrets(t, name), sas: map[uint64]*sa{}}
			c.ike, c.esp = proposal(t, message.ProtocolIKE, tt.ike), proposal(t, message.ProtocolESP, tt.esp)
			for i, d := range readCapture(t, name) {
				c.datagram(i+1, d)
			}
			if len(c.secrets) != 0 {
				t.Errorf("logged and not derived: %v", c.secrets)
			}
			if c.verified != 2 {
				t.Errorf("%d of 2 AUTH payloads seen", c.verified)
			}
			if len(c.log) > 0 {
				if diff := cmp.Diff(tshark(t, name, c.log), c.seen); diff != "" {
					t.Errorf("payloads (-tshark +here):\n%s", diff)
				}
			} else if name != "cha" {
				t.Error("no key log")
			}
		})
	}
}

func proposal(t testing.TB, p message.Protocol, text string) suite.Proposal {
	t.Helper()
	out, err := suite.Parse(p, text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type secret struct {
	name  string
	value []byte
}

func readSecrets(t *testing.T, name string) []secret {
	t.Helper()
	text, err := os.ReadFile(captures + name + ".secrets")
	if err != nil {
		t.Fatal(err)
	}
	var out []secret
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		b, err := hex.DecodeString(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, secret{k, b})
	}
	return out
}

// readCapture returns the IKE messages of a capture.
func readCapture(t testing.TB, name string) [][]byte {
	t.Helper()
	f, err := os.Open(captures + name + ".pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			return out
		}
		udp, ok := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			t.Fatalf("packet %d is no UDP", len(out)+1)
		}
		d := udp.Payload
		if udp.DstPort == 4500 {
			d = d[4:]
		}
		out = append(out, d)
	}
}

// sa is an IKE SA of a conversation.
type sa struct {
	choice suite.Choice
	prf    keys.PRF
	keys   *keys.IKE
	i, r   *keys.Cipher
}

type conversation struct {
	t        *testing.T
	name     string
	ike, esp suite.Proposal
	secrets  []secret
	sas      map[uint64]*sa // by the initiator's SPI
	init     [2][]byte      // the IKE_SA_INIT messages
	nonces   [2][]byte
	request  []message.Payload // the last one
	parts    map[bool]*message.Reassembly
	verified int
	log      []string
	seen     []string
}

// want takes the next logged value, which must be the one derived here.
func (c *conversation) want(name string, got []byte) {
	c.t.Helper()
	if len(got) == 0 {
		return // an AEAD has no keys for integrity, and none are logged
	}
	if len(c.secrets) == 0 || c.secrets[0].name != name {
		c.t.Fatalf("%s: the log goes on with %v", name, c.secrets)
	}
	if !bytes.Equal(got, c.secrets[0].value) {
		c.t.Fatalf("%s is %x, strongSwan has %x", name, got, c.secrets[0].value)
	}
	c.secrets = c.secrets[1:]
}

func (c *conversation) take(name string) []byte {
	c.t.Helper()
	if len(c.secrets) == 0 || c.secrets[0].name != name {
		c.t.Fatalf("%s: the log goes on with %v", name, c.secrets)
	}
	b := c.secrets[0].value
	c.secrets = c.secrets[1:]
	return b
}

func (c *conversation) datagram(n int, d []byte) {
	c.t.Helper()
	m, err := message.Decode(d)
	if err != nil {
		c.t.Fatalf("message %d: %v", n, err)
	}
	again, err := m.Encode()
	if err != nil || !bytes.Equal(again, d) {
		c.t.Errorf("message %d: encoded again it is another one, %v", n, err)
	}
	if m.Exchange == message.IKESAInit {
		c.note(n, m.Payloads)
		c.saInit(m, d)
		return
	}
	s := c.sas[m.InitiatorSPI]
	if s == nil {
		c.t.Fatalf("message %d: %s, of no known SA", n, m.Header)
	}
	dir := s.r
	if m.FromInitiator() {
		dir = s.i
	}
	o, err := dir.Open(d)
	if err != nil {
		c.t.Fatalf("message %d, %s: %v", n, m.Header, err)
	}
	first, plain := o.First, o.Plain
	if o.Total != 0 {
		if c.parts == nil {
			c.parts = map[bool]*message.Reassembly{false: {}, true: {}}
		}
		r := c.parts[m.Response()]
		done, err := r.Add(o.Number, o.Total, o.First, o.Plain)
		if err != nil {
			c.t.Fatal(err)
		}
		if !done {
			return
		}
		first, plain = r.Plain()
		*r = message.Reassembly{}
	}
	ps, err := message.DecodePayloads(first, plain)
	if err != nil {
		c.t.Fatalf("message %d, %s: %v", n, m.Header, err)
	}
	if _, b, err := message.EncodePayloads(ps); err != nil || !bytes.Equal(b, plain) {
		c.t.Errorf("message %d: its payloads encoded again are others, %v", n, err)
	}
	// tshark names the other chunks of a message differently in each version: whole messages only.
	if o.Total == 0 {
		c.note(n, ps)
	}
	c.payloads(m.Header, s, ps)
}

// note keeps what tshark's fields say too: the types of the payloads and of the notifications.
func (c *conversation) note(n int, ps []message.Payload) {
	var types, notifies []string
	for _, p := range ps {
		types = append(types, fmt.Sprint(uint8(p.Type())))
		if v, ok := p.(message.Notify); ok {
			notifies = append(notifies, fmt.Sprint(uint16(v.Notify)))
		}
	}
	c.seen = append(c.seen, fmt.Sprintf("%d: %s; %s", n, strings.Join(types, ","), strings.Join(notifies, ",")))
}

func (c *conversation) saInit(m message.Message, d []byte) {
	c.t.Helper()
	nonce, _ := message.First[message.Nonce](m.Payloads)
	offer, _ := message.First[message.SA](m.Payloads)
	if !m.Response() {
		c.init[0], c.nonces[0], c.request = d, nonce.Data, m.Payloads
		return
	}
	c.init[1], c.nonces[1] = d, nonce.Data
	choice, err := suite.Accept(offer, []suite.Proposal{c.ike})
	if err != nil {
		c.t.Fatal(err)
	}
	asked, _ := message.First[message.SA](c.request)
	if same, err := suite.Select(asked, []suite.Proposal{c.ike}); err != nil || same.String() != choice.String() {
		c.t.Errorf("we would have chosen %s (%v), strongSwan chose %s", same, err, choice)
	}
	s := &sa{choice: choice}
	if s.prf, err = keys.PRFOf(choice.PRF); err != nil {
		c.t.Fatal(err)
	}
	seed := keys.Seed(s.prf, c.nonces[0], c.nonces[1], c.take("secret"))
	c.start(s, seed, c.nonces[0], c.nonces[1], m.InitiatorSPI, m.ResponderSPI)
}

func (c *conversation) start(s *sa, seed, ni, nr []byte, spii, spir uint64) {
	c.t.Helper()
	c.want("seed", seed)
	k, err := keys.Derive(s.choice, seed, ni, nr, spii, spir)
	if err != nil {
		c.t.Fatal(err)
	}
	s.keys = k
	for _, v := range []secret{{"d", k.D}, {"ai", k.Ai}, {"ar", k.Ar}, {"ei", k.Ei}, {"er", k.Er}, {"pi", k.Pi}, {"pr", k.Pr}} {
		c.want(v.name, v.value)
	}
	if s.i, err = keys.NewCipher(s.choice, k.Ei, k.Ai); err != nil {
		c.t.Fatal(err)
	}
	if s.r, err = keys.NewCipher(s.choice, k.Er, k.Ar); err != nil {
		c.t.Fatal(err)
	}
	c.sas[spii] = s
	if line, ok := keys.LogLine(spii, spir, s.choice, k); ok {
		c.log = append(c.log, line)
	}
}

func (c *conversation) payloads(h message.Header, s *sa, ps []message.Payload) {
	c.t.Helper()
	if h.Exchange == message.IKEAuth {
		c.auth(h, s, ps)
	}
	if !h.Response() {
		c.request = ps
		return
	}
	answer, ok := message.First[message.SA](ps)
	if !ok {
		return
	}
	ni, _ := message.First[message.Nonce](c.request)
	nr, _ := message.First[message.Nonce](ps)
	switch {
	case h.Exchange == message.IKEAuth:
		c.child(s, answer, c.esp.WithoutKE(), c.nonces[0], c.nonces[1])
	case answer.Proposals[0].Protocol == message.ProtocolESP:
		c.child(s, answer, c.esp, ni.Data, nr.Data)
	default:
		next := &sa{prf: s.prf}
		var err error
		if next.choice, err = suite.Accept(answer, []suite.Proposal{c.ike}); err != nil {
			c.t.Fatal(err)
		}
		seed := keys.NextSeed(s.prf, s.keys.D, ni.Data, nr.Data, c.take("secret"))
		asked, _ := message.First[message.SA](c.request)
		c.start(next, seed, ni.Data, nr.Data, spi64(asked.Proposals[0].SPI), spi64(next.choice.SPI))
	}
}

func spi64(b []byte) (n uint64) {
	for _, v := range b {
		n = n<<8 | uint64(v)
	}
	return n
}

func (c *conversation) child(s *sa, answer message.SA, ours suite.Proposal, ni, nr []byte) {
	c.t.Helper()
	choice, err := suite.Accept(answer, []suite.Proposal{ours})
	if err != nil {
		c.t.Fatal(err)
	}
	var secrets [][]byte
	if choice.KeyExchange != message.KENone {
		secrets = append(secrets, c.take("child-secret"))
	}
	k, err := keys.DeriveChild(s.prf, s.keys.D, choice, ni, nr, secrets...)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, v := range []secret{{"child-ei", k.Ei}, {"child-er", k.Er}, {"child-ai", k.Ai}, {"child-ar", k.Ar}} {
		c.want(v.name, v.value)
	}
	for _, of := range []message.PayloadType{message.TypeTSi, message.TypeTSr} {
		if ts, _ := message.FindTS(c.request, of); fmt.Sprint(ts.Selectors) != "[0.0.0.0/0 ::/0]" {
			c.t.Errorf("%s: %v", of, ts.Selectors)
		}
	}
}

func (c *conversation) auth(h message.Header, s *sa, ps []message.Payload) {
	c.t.Helper()
	me, of, p, want := 0, message.TypeIDi, s.keys.Pi, "a.example.com"
	if h.Response() {
		me, of, p, want = 1, message.TypeIDr, s.keys.Pr, "b.example.com"
	}
	idPayload, _ := message.FindID(ps, of)
	id, err := auth.IdentityOf(idPayload)
	if err != nil || id.String() != want {
		c.t.Fatalf("the identity is %s, not %s (%v)", id, want, err)
	}
	octets := auth.Octets(s.prf, c.init[me], c.nonces[1-me], p, idPayload, nil)
	a, _ := message.First[message.Auth](ps)
	if c.name == "gcm" || c.name == "cbc" {
		if !auth.VerifyPSK(s.prf, []byte("a shared secret of test"), octets, a) {
			c.t.Errorf("%s: the PSK does not verify", id)
		}
		if auth.VerifyPSK(s.prf, []byte("another"), octets, a) {
			c.t.Errorf("%s: another PSK verifies", id)
		}
		c.verified++
		return
	}
	chain, err := auth.ParseChain(message.All[message.Cert](ps))
	if err != nil {
		c.t.Fatal(err)
	}
	ca := readPEM(c.t, captures+c.name+".ca.pem")
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if _, err := auth.VerifyChain(chain, []*x509.Certificate{ca}, id, now); err != nil {
		c.t.Error(err)
	}
	if err := auth.Verify(chain[0].PublicKey, a, octets, auth.Hashes()); err != nil {
		c.t.Error(err)
	}
	octets[len(octets)-1] ^= 1
	if err := auth.Verify(chain[0].PublicKey, a, octets, auth.Hashes()); err == nil {
		c.t.Error("a signature of other octets verifies")
	}
	if r, ok := message.First[message.CertReq](ps); ok && !bytes.Equal(r.Authorities, auth.Request([]*x509.Certificate{ca}).Authorities) {
		c.t.Errorf("CERTREQ is %x", r.Authorities)
	}
	c.verified++
}

func readPEM(t testing.TB, file string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tshark decrypts a capture with our key log and names the payloads of whole messages.
func tshark(t *testing.T, name string, log []string) []string {
	t.Helper()
	args := []string{
		"-r", filepath.Join(captures, name+".pcap"), "-Y", "!isakmp.frag.number", "-T", "fields", "-E", "separator=|",
		"-e", "frame.number", "-e", "isakmp.typepayload", "-e", "isakmp.notify.msgtype",
	}
	for _, line := range log {
		args = append(args, "-o", "uat:ikev2_decryption_table:"+line)
	}
	out, err := exec.CommandContext(t.Context(), "tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		if len(f) != 3 {
			t.Fatalf("tshark says %q", line)
		}
		types := slices.DeleteFunc(strings.Split(f[1], ","), func(s string) bool {
			return s == "2" || s == "3" || s == "46" // proposals, transforms, and the encrypted payload itself
		})
		lines = append(lines, fmt.Sprintf("%s: %s; %s", f[0], strings.Join(types, ","), f[2]))
	}
	return lines
}
