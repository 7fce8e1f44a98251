package message

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sendable reports whether what was received can be sent: transforms with
// attributes that are not known cannot.
func sendable(ps []Payload) bool {
	for _, sa := range All[SA](ps) {
		for _, p := range sa.Proposals {
			for _, t := range p.Transforms {
				if t.Strange {
					return false
				}
			}
		}
	}
	return true
}

// FuzzDecode: whatever is read can be sent, is read as the same again, and
// encoded once more gives the same bytes.
func FuzzDecode(f *testing.F) {
	whole, err := Message{header(), everyPayload()}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, err := Decode(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the datagram was changed")
		}
		if err != nil || !sendable(m.Payloads) {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("%v cannot be sent: %v", m, err)
		}
		if len(again) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(again))
		}
		m2, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, m2, same()...); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
		if b3, err := m2.Encode(); err != nil || !bytes.Equal(again, b3) {
			t.Fatalf("not canonical: %x, %x, %v", again, b3, err)
		}
	})
}

// FuzzDecodePayloads is the same for what an encrypted payload holds.
func FuzzDecodePayloads(f *testing.F) {
	first, plain, err := EncodePayloads(everyPayload())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(first), plain)
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		ps, err := DecodePayloads(PayloadType(first), b)
		if err != nil || !sendable(ps) {
			return
		}
		for _, n := range All[Notify](ps) {
			_, _ = n.Hashes()
			_, _ = n.KeyExchange()
		}
		f2, again, err := EncodePayloads(ps)
		if err != nil {
			t.Fatalf("%v cannot be sent: %v", ps, err)
		}
		ps2, err := DecodePayloads(f2, again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ps, ps2, same()...); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}

// FuzzReassembly: no order of fragments takes more memory than a message.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{1, 2, 10, 2, 2, 10})
	f.Add([]byte{2, 3, 9, 1, 3, 9, 1, 4, 255, 3, 4, 255, 2, 4, 0, 4, 4, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Reassembly
		for ; len(b) >= 3; b = b[3:] {
			done, err := r.Add(uint16(b[0]), uint16(b[1]), TypeSA, make([]byte, 64*int(b[2])))
			if r.size > MaxReassembled || len(r.pieces) > MaxFragments {
				t.Fatalf("%d bytes in %d pieces", r.size, len(r.pieces))
			}
			if done && err == nil {
				if _, plain := r.Plain(); len(plain) != r.size {
					t.Fatalf("%d bytes of %d", len(plain), r.size)
				}
			}
		}
	})
}
