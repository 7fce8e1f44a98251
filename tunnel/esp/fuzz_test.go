package esp

import (
	"bytes"
	"testing"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/sa"
)

func FuzzOpen(f *testing.F) {
	a, _ := keyed(f, sa.AES128GCM16, true)
	f.Add(seal(f, a, ip4(64)), false)
	f.Add(seal(f, a, ip6(64)), false)
	f.Add([]byte{0, 0, 0, 0, 1}, false)
	f.Add([]byte{0xff}, false)
	f.Add(append(ip4(60), 0, 4), true)
	f.Add(append(ip4(60), 1, 2, 2, 4), true)
	f.Add([]byte{0, 59}, true)
	f.Add([]byte{255, 4}, true)
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		from, to := keyed(t, sa.AES128GCM16, true)
		d := bytes.Clone(b)
		if inside {
			if len(b) < trailerLen || len(b) > 65000 {
				return
			}
			d = inner(t, from, b)
		}
		got, info, kind, r := to.Open(d)
		switch {
		case r != tunnel.DropNone && got != nil:
			t.Fatalf("dropped as %s, and %d bytes come out", r, len(got))
		case r == tunnel.DropNone && kind == tunnel.Packet && (info.Len != len(got) || inside && !bytes.HasPrefix(b, got)):
			t.Fatalf("%d bytes come out of %x", len(got), b)
		}
	})
}
