package packet

import (
	"math/rand/v2"
	"testing"
)

// The worked example of RFC 1071, section 3: the sum is 2ddf0, folded ddf2.
func TestChecksumOfRFC1071Example(t *testing.T) {
	b := unhex(t, "0001 f203 f4f5 f6f7")
	if got := Fold(Sum(b, 0)); got != 0xddf2 {
		t.Errorf("sum %04x, want ddf2", got)
	}
	if got := Checksum(b, 0); got != 0x220d {
		t.Errorf("checksum %04x, want 220d", got)
	}
}

func TestChecksumOfRealHeader(t *testing.T) {
	b := unhex(t, "4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7")
	if got := Checksum(b, 0); got != 0xb861 {
		t.Errorf("checksum %04x, want b861", got)
	}
}

// Zero has two forms in ones' complement; only zero bytes sum up to the positive one.
func TestFoldKeepsBothZeros(t *testing.T) {
	for _, c := range []struct {
		sum  uint64
		want uint16
	}{{0, 0}, {0xffff, 0xffff}, {0xffffffff, 0xffff}, {1<<64 - 1, 0xffff}, {0x10000, 1}, {1 << 63, 0x8000}, {0xffff0000ffff0001, 1}} {
		if got := Fold(c.sum); got != c.want {
			t.Errorf("Fold(%x) = %04x, want %04x", c.sum, got, c.want)
		}
	}
}

func TestSumEqualsNaiveReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 70)
	for n := range len(buf) {
		for range 50 {
			b := buf[:n]
			for i := range b {
				b[i] = byte(r.Uint32())
				if r.IntN(3) == 0 { // carries want many ones
					b[i] = 0xff
				}
			}
			if got, want := Fold(Sum(b, 0)), naiveSum(b); got != want {
				t.Fatalf("%d bytes % x: %04x, want %04x", n, b, got, want)
			}
			at := r.IntN(n+1) &^ 1 // a sum continues at an even place
			if got, want := Fold(Sum(b[at:], Sum(b[:at], 0))), naiveSum(b); got != want {
				t.Fatalf("% x, in two parts at %d: %04x, want %04x", b, at, got, want)
			}
		}
	}
}

// The accumulator itself overflows: an end-around carry must not be lost.
func TestSumCarriesAround(t *testing.T) {
	for _, b := range [][]byte{unhex(t, "ffff ffff ffff ffff 0000 0000 0000 0001"), unhex(t, "01"), unhex(t, "ffff ffff ffff ff")} {
		if got, want := Fold(Sum(b, 1<<64-1)), naiveSum(append([]byte{0xff, 0xff}, b...)); got != want {
			t.Errorf("% x: %04x, want %04x", b, got, want)
		}
	}
}

func TestPseudoSum(t *testing.T) {
	v4 := unhex(t, "4500 0014 0000 0000 4011 0000 c000 0201 c633 6402")
	if got, want := Fold(PseudoSum(v4, UDP, 0x1234)), naiveSum(unhex(t, "c000 0201 c633 6402 0011 1234")); got != want {
		t.Errorf("v4: %04x, want %04x", got, want)
	}
	v6 := unhex(t, "6000 0000 0000 3a40  2001 0db8 0000 0000 0000 0000 0000 0001  2001 0db8 0000 0000 0000 0000 0000 0002")
	want := naiveSum(unhex(t, "2001 0db8 0000 0000 0000 0000 0000 0001  2001 0db8 0000 0000 0000 0000 0000 0002  0001 0002 0000 003a"))
	if got := Fold(PseudoSum(v6, ICMPv6, 0x10002)); got != want {
		t.Errorf("v6: %04x, want %04x", got, want)
	}
}

func TestAdjustEqualsRecomputation(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		b := make([]byte, 12) // the checksum is at 2, the word that changes at 6
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[2], b[3] = 0, 0
		sum := Checksum(b, 0)
		b[2], b[3] = byte(sum>>8), byte(sum)
		old, word := uint16(b[6])<<8|uint16(b[7]), uint16(r.Uint32())
		if r.IntN(4) == 0 {
			word = 0 // RFC 1624 is about this case
		}
		b[6], b[7] = byte(word>>8), byte(word)
		adjust(b, 2, old, word)
		if naiveSum(b) != 0xffff {
			t.Fatalf("% x is not valid after %04x became %04x", b, old, word)
		}
	}
}

func TestChecksumDoesNotAllocate(t *testing.T) {
	b := make([]byte, 1500)
	noAllocs(t, "Checksum", func() { Checksum(b, 1) })
}

func BenchmarkChecksum1500(b *testing.B) {
	buf := make([]byte, 1500)
	b.SetBytes(1500)
	for b.Loop() {
		Checksum(buf, 0)
	}
}
