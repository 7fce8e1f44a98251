package hops

import "testing"

func TestParse(t *testing.T) {
	t.Parallel()
	v4 := append([]byte{0x45, 0, 0, 60, 0, 0, 0, 0, 1, protocol4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}, request(false, 7, 9, 42)...)
	options := append(append([]byte{0x46}, v4[1:20]...), append([]byte{1, 1, 1, 1}, v4[20:]...)...)
	v6 := append(append([]byte{0x60, 0, 0, 0, 0, 40, protocol6, 1}, make([]byte, 32)...), request(true, 7, 9, 42)...)
	about := func(typ, code byte, ip []byte) []byte { return append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, ip...) }
	replied := func(typ byte, v6 bool) []byte {
		b := request(v6, 7, 9, 42)
		b[0] = typ
		return b
	}
	for _, test := range []struct {
		name string
		b    []byte
		v6   bool
		want Kind
		ok   bool
	}{
		{"reply", replied(reply4, false), false, Reached, true},
		{"reply, IPv6", replied(reply6, true), true, Reached, true},
		{"our own request", request(false, 7, 9, 42), false, Silence, false},
		{"somebody else's reply", append([]byte{reply4, 0, 0, 0, 0, 7, 0, 9}, make([]byte, 8)...), false, Reached, false},
		{"exceeded", about(exceeded4, 0, v4[:28]), false, Exceeded, true},
		{"exceeded, with IP options", about(exceeded4, 0, options), false, Exceeded, true},
		{"exceeded, IPv6", about(exceeded6, 0, v6), true, Exceeded, true},
		{"unreachable", about(unreachable4, 13, v4), false, Unreachable, true},
		{"quotes too little", about(exceeded4, 0, v4[:27]), false, Exceeded, false},
		{"quotes nothing", about(exceeded4, 0, nil), false, Exceeded, false},
		{"quotes a header of 0 bytes", about(exceeded4, 0, append([]byte{0x40}, v4[1:]...)), false, Exceeded, false},
		{"about UDP", about(exceeded4, 0, append(append([]byte{}, v4[:9]...), append([]byte{17}, v4[10:]...)...)), false, Exceeded, false},
		{"empty", nil, false, Silence, false},
	} {
		a, ok := parse(test.b, test.v6, 7, 42)
		if ok != test.ok || ok && (a.kind != test.want || a.seq != 9) {
			t.Errorf("%s: %+v, %v", test.name, a, ok)
		}
		if _, ok := parse(test.b, test.v6, 8, 42); ok {
			t.Errorf("%s: another identifier is accepted", test.name)
		}
	}
	if checksum(request(false, 7, 9, 42)) != 0 {
		t.Error("wrong checksum")
	}
}

// What comes back was written by anybody.
func FuzzParse(f *testing.F) {
	f.Add([]byte{exceeded4, 0, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 1, protocol4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 8, 0, 0, 0, 0, 7, 0, 9}, false)
	f.Add(request(true, 7, 9, 42), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if a, ok := parse(b, v6, 7, 42); ok && a.kind == Silence {
			t.Error("an answer that means nothing")
		}
	})
}
