package bfd

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a valid packet with every field in use.
func sample() packet {
	return packet{
		diagnostic: NeighborSignaledDown, state: Init, poll: true, independent: true, multiplier: 5,
		mine: 0x01020304, yours: 0xa0b0c0d0, minTx: time.Second, minRx: 300 * time.Millisecond, minRxForEcho: time.Microsecond,
	}
}

// sampleWire is sample by the drawing in RFC 5880, section 4.1.
const sampleWire = "23 a8 05 18  01020304 a0b0c0d0  000f4240 000493e0 00000001"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeIsTheWireFormat(t *testing.T) {
	t.Parallel()
	var b [packetLen]byte
	sample().encode(&b)
	if diff := cmp.Diff(unhex(t, sampleWire), b[:]); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeReadsWhatEncodeWrote(t *testing.T) {
	t.Parallel()
	for _, edit := range []func(*packet){
		func(*packet) {},
		func(p *packet) { p.state, p.diagnostic = AdminDown, 31 },
		func(p *packet) { p.state, p.poll, p.final, p.demand = Up, false, true, true },
		func(p *packet) { p.minTx, p.minRx, p.multiplier = 0xffffffff*time.Microsecond, 0, 255 },
	} {
		want := sample()
		edit(&want)
		var b [packetLen]byte
		want.encode(&b)
		got, drop := decode(b[:])
		if drop != dropNone || got != want {
			t.Errorf("got %+v (%s), want %+v", got, drop, want)
		}
	}
}

func TestDecodeIgnoresWhatFollows(t *testing.T) {
	t.Parallel()
	got, drop := decode(append(unhex(t, sampleWire), 1, 2, 3))
	if drop != dropNone || got != sample() {
		t.Errorf("got %+v (%s)", got, drop)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	set := func(i int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[i] = v; return b }
	}
	for _, c := range []struct {
		name string
		edit func([]byte) []byte
		want Drop
	}{
		{"nothing", func([]byte) []byte { return nil }, DropShort},
		{"23 bytes", func(b []byte) []byte { return b[:23] }, DropShort},
		{"version 0", set(0, 0x03), DropVersion},
		{"version 2", set(0, 0x43), DropVersion},
		{"length 23", set(3, 23), DropShort},
		{"length 25 of 24", set(3, 25), DropLength},
		{"multiplier 0", set(2, 0), DropMultiplier},
		{"multipoint", set(1, 0xa9), DropMultipoint},
		{"authenticated", set(1, 0xac), DropAuthentication},
		{"my discriminator 0", func(b []byte) []byte { copy(b[4:8], "\x00\x00\x00\x00"); return b }, DropMyDiscriminator},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, got := decode(c.edit(unhex(t, sampleWire))); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestNamesAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for d := range DropReasons {
		if name := d.String(); seen[name] || strings.Contains(name, " ") {
			t.Errorf("drop reason %d is called %q", d, name)
		}
		seen[d.String()] = true
	}
	var states []string
	for s := AdminDown; s <= Up; s++ {
		states = append(states, s.String())
	}
	if got := strings.Join(states, ","); got != "admin-down,down,init,up" {
		t.Errorf("states are %s", got)
	}
	if got := ReverseConcatenatedPathDown.String() + "," + Diagnostic(9).String(); got != "reverse concatenated path down,diagnostic 9" {
		t.Errorf("diagnostics are %s", got)
	}
}

// FuzzDecode: no input is fatal, and what is accepted survives a round trip.
func FuzzDecode(f *testing.F) {
	f.Add(unhex(f, sampleWire))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, drop := decode(b)
		if drop != dropNone {
			return
		}
		if p.mine == 0 || p.multiplier == 0 || p.state > Up || p.diagnostic > 31 {
			t.Errorf("accepted %+v", p)
		}
		var again [packetLen]byte
		p.encode(&again)
		if q, drop := decode(again[:]); drop != dropNone || q != p {
			t.Errorf("%+v became %+v (%s)", p, q, drop)
		}
	})
}
