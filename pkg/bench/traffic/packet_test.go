package traffic

import "testing"

func TestHeaderComesBack(t *testing.T) {
	t.Parallel()
	b := make([]byte, headerLen)
	want := header{run: 0xdeadbeef, flow: 1023, seq: 1 << 40}
	want.put(b)
	if got, ok := readHeader(b); !ok || got != want {
		t.Errorf("read %+v, %t, want %+v", got, ok, want)
	}
	for bit := range headerLen * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if got, ok := readHeader(b); ok {
			t.Errorf("bit %d changed: accepted as %+v", bit, got)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	if _, ok := readHeader(b[:headerLen-1]); ok {
		t.Error("a short header is accepted")
	}
}

// TestSinkTellsWhatItGot gives a sink crafted payloads, one after the other.
func TestSinkTellsWhatItGot(t *testing.T) {
	t.Parallel()
	l := documentation()
	l.Flows, l.Sizes = 2, []Size{{64, 1}, {100, 1}}
	s := newSink(-1, l, 7)
	round := l.round()
	craft := func(h header, change func([]byte) []byte) {
		p := newPattern(round[h.seq%2])
		h.put(p)
		if change != nil {
			p = change(p)
		}
		s.packet(p)
	}
	craft(header{7, 0, 0}, nil)
	craft(header{7, 1, 1}, nil)
	craft(header{7, 1, 0}, nil) // late
	craft(header{7, 0, 0}, nil) // once more
	craft(header{8, 0, 1}, nil) // of another run
	craft(header{7, 2, 0}, nil) // of a flow that is not
	craft(header{7, 0, 1}, func(p []byte) []byte { p[20] ^= 1; return p })
	craft(header{7, 0, 1}, func(p []byte) []byte { p[3] ^= 1; return p })
	craft(header{7, 0, 1}, func(p []byte) []byte { return p[:len(p)-1] })
	craft(header{7, 0, 1}, func(p []byte) []byte { return append(p, 0) })
	craft(header{7, 0, 1}, func([]byte) []byte { return nil })
	got := [...]uint64{s.received, s.reordered, s.duplicated, s.foreign, s.bad, s.bytes}
	want := [...]uint64{3, 1, 1, 1, 6, 64 + 64 + 100}
	if got != want {
		t.Errorf("received, reordered, duplicated, foreign, bad, bytes: %v, want %v", got, want)
	}
}
