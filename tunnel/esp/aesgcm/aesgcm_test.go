package aesgcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	tagLen  = 16
	padding = 80 // more than the assembly writes at once
	canary  = 0xa5
)

func standard(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newAEAD(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	a, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// source is the same stream of random bytes in each run.
func source(t testing.TB) func(n int) []byte {
	t.Helper()
	r := rand.NewChaCha8([32]byte{1})
	return func(n int) []byte {
		b := make([]byte, n)
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// fenced is b with room for a tag, between canaries.
func fenced(b []byte) (all, text []byte) {
	all = bytes.Repeat([]byte{canary}, padding+len(b)+tagLen+padding)
	return all, append(all[padding:padding], b...)
}

// intact checks that nothing before from or at to and behind it was written.
func intact(t *testing.T, all []byte, from, to int) {
	t.Helper()
	for i, c := range all {
		if (i < from || i >= to) && c != canary {
			t.Fatalf("byte %d was written, outside of [%d, %d)", i, from, to)
		}
	}
}

func lengths() []int {
	out := []int{1400, 1420, 1520, 1521, 1535, 1536, 1537, 1552, 1600, 3071, 3072, 3073, 4096, 8999, 65000} // a group has 1536
	for n := range 601 {
		out = append(out, n)
	}
	return out
}

func TestSameAsStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{128, 256} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			t.Parallel()
			random := source(t)
			key := random(bits / 8)
			a, std := newAEAD(t, key), standard(t, key)
			t.Logf("%T", a)
			for _, n := range lengths() {
				for _, aadLen := range []int{0, 8, 12, 16, 20} {
					plain, nonce, aad := random(n), random(12), random(aadLen)
					sealed := std.Seal(nil, nonce, plain, aad)
					compare(t, a, nonce, plain, sealed, aad)
				}
			}
		})
	}
}

// compare seals and opens, in place and elsewhere, with canaries around.
func compare(t *testing.T, a cipher.AEAD, nonce, plain, sealed, aad []byte) {
	t.Helper()
	check := func(what string, got, want []byte, err error) {
		t.Helper()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s, %d bytes with %d of additional data: %v, or not the same", what, len(plain), len(aad), err)
		}
	}
	all, text := fenced(plain)
	check("Seal in place", a.Seal(text[:0], nonce, text, aad), sealed, nil)
	intact(t, all, padding, padding+len(sealed))
	check("Seal in place wrote", all[padding:padding+len(sealed)], sealed, nil)

	all, text = fenced(sealed)
	got, err := a.Open(text[:0], nonce, text, aad)
	check("Open in place", got, plain, err)
	intact(t, all, padding, padding+len(sealed))
	check("Open in place left the tag", all[padding+len(plain):padding+len(sealed)], sealed[len(plain):], nil)

	src := bytes.Clone(plain)
	all, text = fenced([]byte("before"))
	got = a.Seal(make([]byte, 0, len(sealed)), nonce, src, aad)
	check("Seal elsewhere", got, sealed, nil)
	check("Seal elsewhere left its input", src, plain, nil)
	check("Seal allocates", a.Seal(text[:6:6], nonce, src, aad)[6:], sealed, nil)
	intact(t, all, padding, padding+6)

	src = bytes.Clone(sealed)
	all = bytes.Repeat([]byte{canary}, padding+len(plain)+padding)
	got, err = a.Open(all[padding:padding], nonce, src, aad)
	check("Open elsewhere", got, plain, err)
	check("Open elsewhere left its input", src, sealed, nil)
	intact(t, all, padding, padding+len(plain))
	got, err = a.Open([]byte("before"), nonce, src, aad)
	check("Open appends", got, append([]byte("before"), plain...), err)
}

// TestReadsNothingBehindItsInput has all of it end where memory ends: a fault would end the test.
func TestReadsNothingBehindItsInput(t *testing.T) {
	t.Parallel()
	page := unix.Getpagesize()
	edge := func(b []byte) []byte {
		m, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(m) }) //nolint:errcheck // the process ends soon
		if err := unix.Mprotect(m[page:], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		return append(m[page-len(b):page-len(b)], b...)
	}
	random := source(t)
	a := newAEAD(t, random(32))
	for _, n := range []int{0, 1, 15, 16, 63, 65, 255, 256, 257, 320, 1535, 1537, 2000} {
		plain := random(n)
		nonce, aad, sealed := edge(random(12)), edge(random(8)), edge(make([]byte, n+tagLen))
		a.Seal(sealed[:0], nonce, plain, aad)
		if got, err := a.Open(edge(make([]byte, n))[:0], nonce, sealed, aad); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %v, or not the same", n, err)
		}
	}
}

// TestVectors has those of "The Galois/Counter Mode of Operation (GCM)", McGrew
// and Viega, appendix B, that have a nonce of 96 bits.
func TestVectors(t *testing.T) {
	t.Parallel()
	const (
		zero  = "00000000000000000000000000000000"
		key   = "feffe9928665731c6d6a8f9467308308"
		nonce = "cafebabefacedbaddecaf888"
		plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
		aad   = "feedfacedeadbeeffeedfacedeadbeefabaddad2" // longer than a block
		c128  = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
		c256  = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
	)
	for _, v := range []struct{ name, key, nonce, plain, aad, cipher, tag string }{
		{"1", zero, zero[:24], "", "", "", "58e2fccefa7e3061367f1d57a4e7455a"},
		{"2", zero, zero[:24], zero, "", "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf"},
		{"3", key, nonce, plain, "", c128, "4d5c2af327cd64a62cf35abd2ba6fab4"},
		{"4", key, nonce, plain[:120], aad, c128[:120], "5bc94fbc3221a5db94fae95ae7121a47"},
		{"13", zero + zero, zero[:24], "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"14", zero + zero, zero[:24], zero, "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
		{"15", key + key, nonce, plain, "", c256, "b094dac5d93471bdec1a502270e3cc6c"},
		{"16", key + key, nonce, plain[:120], aad, c256[:120], "76fc6ece0f4e1768cddf8853bb2d551b"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			read := func(s string) []byte {
				b, err := hex.DecodeString(s)
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			compare(t, newAEAD(t, read(v.key)), read(v.nonce), read(v.plain), read(v.cipher+v.tag), read(v.aad))
		})
	}
}

func TestAnyFlippedBitIsRefused(t *testing.T) {
	t.Parallel()
	random := source(t)
	for _, bits := range []int{128, 256} {
		for _, n := range []int{0, 1, 37, 64, 300} {
			a := newAEAD(t, random(bits/8))
			nonce, aad, plain := random(12), random(12), random(n)
			sealed := a.Seal(nil, nonce, plain, aad)
			for _, part := range []*[]byte{&sealed, &aad, &nonce} {
				for bit := range 8 * len(*part) {
					refused(t, a, part, bit, nonce, &sealed, aad)
				}
			}
			for short := range min(len(sealed), tagLen+1) {
				if _, err := a.Open(nil, nonce, sealed[:short], aad); err == nil {
					t.Fatalf("%d of %d bytes were accepted", short, len(sealed))
				}
			}
		}
	}
}

// refused flips one bit of a part and opens, in place and elsewhere.
func refused(t *testing.T, a cipher.AEAD, part *[]byte, bit int, nonce []byte, sealed *[]byte, aad []byte) {
	t.Helper()
	(*part)[bit/8] ^= 1 << (bit % 8)
	defer func() { (*part)[bit/8] ^= 1 << (bit % 8) }()
	n := len(*sealed) - tagLen
	for _, inPlace := range []bool{true, false} {
		all, text := fenced(*sealed)
		out := text[:0]
		if !inPlace {
			all = bytes.Repeat([]byte{canary}, padding+n+padding)
			out = all[padding:padding]
		}
		got, err := a.Open(out, nonce, text, aad)
		if err == nil || got != nil {
			t.Fatalf("bit %d of %d bytes was flipped, and it was accepted", bit, n)
		}
		if left := bytes.Trim(out[:n], "\x00"); len(left) > 0 {
			t.Fatalf("%d bytes of what was not authentic are left", len(left))
		}
		intact(t, all, padding, padding+len(*sealed)-boolInt(!inPlace)*tagLen)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for n := range 40 {
		if _, err := New(make([]byte, n)); (err == nil) != (n == 16 || n == 32) {
			t.Errorf("key of %d bytes: %v", n, err)
		}
	}
	random := source(t)
	for i := range 200 { // each with its own H and round keys
		key := random(16 + 16*(i%2))
		nonce, plain, aad := random(12), random(333), random(8)
		compare(t, newAEAD(t, key), nonce, plain, standard(t, key).Seal(nil, nonce, plain, aad), aad)
	}
}

func TestNonceOfOtherLengthPanics(t *testing.T) {
	t.Parallel()
	a := newAEAD(t, make([]byte, 16))
	if a.NonceSize() != 12 || a.Overhead() != tagLen {
		t.Errorf("nonce of %d bytes, tag of %d", a.NonceSize(), a.Overhead())
	}
	for name, f := range map[string]func(nonce []byte){
		"Seal": func(nonce []byte) { a.Seal(nil, nonce, nil, nil) },
		"Open": func(nonce []byte) { a.Open(nil, nonce, make([]byte, 16), nil) }, //nolint:errcheck // it panics
	} {
		for _, n := range []int{0, 8, 11, 13, 16} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s took a nonce of %d bytes", name, n)
					}
				}()
				f(make([]byte, n))
			}()
		}
	}
}

func TestDoesNotAllocate(t *testing.T) {
	for _, n := range []int{0, 64, 1400, 8900} {
		a := newAEAD(t, make([]byte, 16))
		buf, nonce, aad := make([]byte, n, n+tagLen), make([]byte, 12), make([]byte, 8)
		other := make([]byte, n+tagLen)
		if got := testing.AllocsPerRun(100, func() {
			a.Seal(other[:0], nonce, buf, aad)
			sealed := a.Seal(buf[:0], nonce, buf, aad)
			if _, err := a.Open(buf[:0], nonce, sealed, aad); err != nil {
				t.Fatal(err)
			}
			sealed[0]++
			if _, err := a.Open(buf[:0], nonce, sealed, aad); err == nil {
				t.Fatal("accepted")
			}
		}); got != 0 {
			t.Errorf("%d bytes: %v allocations", n, got)
		}
	}
}

func FuzzSealOpen(f *testing.F) {
	f.Add(make([]byte, 16), make([]byte, 12), []byte("inner packet"), make([]byte, 8), uint16(3))
	f.Add(make([]byte, 32), bytes.Repeat([]byte{0xff}, 12), make([]byte, 300), make([]byte, 12), uint16(2000))
	f.Add(make([]byte, 32), make([]byte, 12), []byte{}, []byte{}, uint16(0))
	f.Add(make([]byte, 16), make([]byte, 12), make([]byte, 255), make([]byte, 17), uint16(1))
	f.Fuzz(func(t *testing.T, key, nonce, plain, aad []byte, flip uint16) {
		if len(key) < 32 {
			key = append(key, make([]byte, 16)...)[:16]
		}
		key = key[:len(key)/16*16]
		key = key[:min(len(key), 32)]
		nonce = append(bytes.Clone(nonce), make([]byte, 12)...)[:12]
		a, sealed := newAEAD(t, key), standard(t, key).Seal(nil, nonce, plain, aad)
		compare(t, a, nonce, plain, sealed, aad)
		sealed[int(flip)/8%len(sealed)] ^= 1 << (flip % 8)
		if _, err := a.Open(sealed[:0], nonce, sealed, aad); err == nil {
			t.Fatal("accepted with a bit flipped")
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		newAEAD(b, make([]byte, 16))
	}
}

// each runs a benchmark for both keys, some sizes, and the standard library too.
func each(b *testing.B, f func(b *testing.B, a cipher.AEAD, n int)) {
	b.Helper()
	for _, bits := range []int{128, 256} {
		key := make([]byte, bits/8)
		for _, n := range []int{64, 1400, 8900} {
			for _, v := range []struct {
				name string
				aead cipher.AEAD
			}{{"fast", newAEAD(b, key)}, {"std", standard(b, key)}} {
				b.Run(fmt.Sprintf("%d/%d/%s", bits, n, v.name), func(b *testing.B) {
					b.SetBytes(int64(n))
					b.ReportAllocs()
					f(b, v.aead, n)
				})
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	each(b, func(b *testing.B, a cipher.AEAD, n int) {
		buf, nonce, aad := make([]byte, n, n+tagLen), make([]byte, 12), make([]byte, 8)
		for b.Loop() {
			a.Seal(buf[:0], nonce, buf, aad)
		}
	})
}

// BenchmarkOpen opens into another buffer: in place there would be nothing to
// open a second time. Sealing as well would measure both.
func BenchmarkOpen(b *testing.B) {
	each(b, func(b *testing.B, a cipher.AEAD, n int) {
		nonce, aad, out := make([]byte, 12), make([]byte, 8), make([]byte, n)
		sealed := a.Seal(nil, nonce, make([]byte, n), aad)
		for b.Loop() {
			if _, err := a.Open(out[:0], nonce, sealed, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
}
