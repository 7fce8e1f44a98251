package esp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/sa"
)

// scapyCase is one packet for testdata/judge.py, which opens ours and makes one of its own.
type scapyCase struct {
	Name     string `json:"name"`
	Cipher   string `json:"cipher"`
	SPI      uint32 `json:"spi"`
	Key      string `json:"key"` // salt included
	ESN      bool   `json:"esn"`
	Sequence uint64 `json:"sequence"`
	Sealed   string `json:"sealed"` // ours
	Inner    string `json:"inner"`
}

type scapyAnswer struct {
	Name   string `json:"name"`
	Opened string `json:"opened"` // what it found in ours
	Sealed string `json:"sealed"` // its own of the same
}

// TestScapy has scapy open what we seal, and we open what scapy seals: with all
// ciphers, with and without extended sequence numbers, also above 2^32, which
// tshark cannot judge.
func TestScapy(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3" // Debian's, which has Debian's scapy
	if _, err := os.Stat("/usr/lib/python3/dist-packages/scapy"); err != nil {
		if testing.Short() {
			t.Skip("there is no scapy: left out by -short")
		}
		t.Fatal("there is no scapy: apt-get install python3-scapy python3-cryptography")
	}
	var cases []scapyCase
	var packets [][]byte
	var pairs []sa.Pair
	for _, c := range []sa.Cipher{sa.AES128GCM16, sa.AES256GCM16, sa.ChaCha20Poly1305} {
		for _, esn := range []bool{false, true} {
			for _, first := range []uint64{0, 1 << 31, 5<<32 | 77} {
				if !esn && first > 1<<32-2 {
					continue
				}
				for _, n := range []int{28, 61, 1400} {
					key := bytes.Repeat([]byte{byte(len(cases) + 1)}, c.KeyLen())
					p := sa.Pair{In: sa.Direction{SPI: 0x1000, Key: key}, Out: sa.Direction{SPI: 0x2000 + uint32(len(cases)), Key: key}, Cipher: c, ESN: esn}
					codec := New()
					if err := codec.Install(p, true); err != nil {
						t.Fatal(err)
					}
					codec.out.Load().counter.Store(first)
					pkt := ip4(n)
					buf := make([]byte, codec.Overhead()+n+codec.Trailer())
					copy(buf[codec.Overhead():], pkt)
					start, end, r := codec.Seal(buf, codec.Overhead(), n)
					if r != tunnel.DropNone {
						t.Fatal(r)
					}
					cases = append(cases, scapyCase{
						Name: t.Name() + "/" + c.String(), Cipher: map[bool]string{true: "CHACHA20-POLY1305", false: "AES-GCM"}[c == sa.ChaCha20Poly1305],
						SPI: p.Out.SPI, Key: hex.EncodeToString(key), ESN: esn, Sequence: first + 1, Sealed: hex.EncodeToString(buf[start:end]), Inner: hex.EncodeToString(pkt),
					})
					packets, pairs = append(packets, pkt), append(pairs, p)
				}
			}
		}
	}
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/judge.py")
	cmd.Stdin = bytes.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scapy: %v\n%s", err, errs.Bytes())
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); n++ {
		var a scapyAnswer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
		c := cases[n]
		if a.Opened != c.Inner {
			t.Errorf("%s, sequence number %d: scapy finds %s, and not %s", c.Name, c.Sequence, a.Opened, c.Inner)
		}
		sealed, err := hex.DecodeString(a.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		p := pairs[n]
		p.In.SPI, p.Out.SPI = p.Out.SPI, p.In.SPI
		codec := New()
		if err := codec.Install(p, true); err != nil {
			t.Fatal(err)
		}
		codec.find(p.In.SPI).newest.Store(c.Sequence - 1)
		got, _, _, r := codec.Open(sealed)
		if r != tunnel.DropNone || !bytes.Equal(got, packets[n]) {
			t.Errorf("%s, sequence number %d: of scapy's packet we find %x, %v", c.Name, c.Sequence, got, r)
		}
	}
	if n != len(cases) {
		t.Fatalf("scapy answered %d of %d", n, len(cases))
	}
	t.Logf("%d packets each way", n)
}
