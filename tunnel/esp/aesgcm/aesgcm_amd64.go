package aesgcm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/bits"

	"golang.org/x/sys/cpu"
)

const (
	blockSize = 16
	nonceSize = 12
	tagSize   = 16
	longest   = 1 << 30 // of what the assembly gets; the standard library knows the format's own limit
)

const (
	slots  = 15 // for round keys: AES-128 leaves the second to the fifth free, which the assembly skips
	powers = 98 // additional data, a group of 96 blocks, the lengths
)

// key is what the assembly reads; it knows the offsets. Without pointers in it
// the allocator aligns it, and so the powers of a whole group, to 64 bytes.
type key struct {
	rounds [slots][blockSize]byte
	long   uint64 // 1: AES-256
	_      [40]byte
	powers [powers][blockSize]byte // of H, the highest first; see twisted
	_      [32]byte                // may be read along with the last powers, and multiplied by zero
}

// fast is the AEAD with the assembly.
type fast struct {
	key *key
	std cipher.AEAD // for what is rare
}

// errOpen does not say more, so that it is no oracle.
var errOpen = errors.New("message authentication failed")

// crypt encrypts (seal = ^0) or decrypts (seal = 0) buf in place and writes the
// tag. aad is at most one block.
//
//go:noescape
func crypt(k *key, nonce *[nonceSize]byte, aad, buf []byte, tag *[tagSize]byte, seal uint64)

// subWord is the S-box for each byte of a word (FIPS 197, section 5.2). A table
// would tell the key by the cache lines that it touches.
//
//go:noescape
func subWord(w uint32) uint32

// capable reports whether the processor and the kernel have all that crypt needs.
func capable() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ &&
		x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ && x.HasBMI2
}

func newFast(secret []byte, block cipher.Block, std cipher.AEAD) cipher.AEAD {
	k := &key{}
	k.expand(secret)
	var zero [blockSize]byte
	block.Encrypt(zero[:], zero[:])
	h := element{binary.BigEndian.Uint64(zero[:8]), binary.BigEndian.Uint64(zero[8:])}
	power := h
	for i := powers - 1; i >= 0; i-- {
		k.powers[i] = power.twisted()
		power = power.times(h)
	}
	return &fast{key: k, std: std}
}

// expand makes the round keys (FIPS 197, section 5.2), in words as they lie in memory.
func (k *key) expand(secret []byte) {
	var w [4 * slots]uint32
	n := len(secret) / 4
	for i := range n {
		w[i] = binary.LittleEndian.Uint32(secret[4*i:])
	}
	rounds := n + 7
	rcon := uint32(1)
	for i := n; i < 4*rounds; i++ {
		t := w[i-1]
		switch {
		case i%n == 0:
			t = subWord(bits.RotateLeft32(t, -8)) ^ rcon
			rcon = rcon<<1 ^ rcon>>7*0x11b
		case n > 6 && i%n == 4:
			t = subWord(t)
		}
		w[i] = w[i-n] ^ t
	}
	if rounds == slots {
		k.long = 1
	}
	for i := range 4 * rounds {
		slot := i / 4
		if slot > 0 {
			slot += slots - rounds
		}
		binary.LittleEndian.PutUint32(k.rounds[slot][i%4*4:], w[i])
	}
}

// element is one of GF(2^128) in GCM's order: the coefficient of x^0 is the
// highest bit of hi.
type element struct{ hi, lo uint64 }

// times is the product (SP 800-38D, algorithm 1), in constant time.
func (a element) times(b element) element {
	var z element
	for i := range 128 {
		bit := a.lo >> (127 - i)
		if i < 64 {
			bit = a.hi >> (63 - i)
		}
		m := -(bit & 1)
		z.hi ^= b.hi & m
		z.lo ^= b.lo & m
		m = -(b.lo & 1)
		b.hi, b.lo = b.hi>>1^m&(0xe1<<56), b.hi<<63|b.lo>>1
	}
	return z
}

// twisted is the element divided by x, lowest byte first. The product of two bit
// strings in reverse order comes out one bit short; what is lost in the product
// is put into the factor once ("Intel Carry-Less Multiplication Instruction and
// its Usage for Computing the GCM Mode", Gueron and Kounavis, 2014).
func (a element) twisted() (out [blockSize]byte) {
	m := -(a.hi >> 63)
	binary.LittleEndian.PutUint64(out[:8], a.lo<<1^m&1)
	binary.LittleEndian.PutUint64(out[8:], (a.hi<<1|a.lo>>63)^m&(0xc2<<56))
	return out
}

// NonceSize is that of cipher.AEAD.
func (f *fast) NonceSize() int { return nonceSize }

// Overhead is that of cipher.AEAD.
func (f *fast) Overhead() int { return tagSize }

// Seal is that of cipher.AEAD.
func (f *fast) Seal(dst, nonce, plaintext, additional []byte) []byte {
	n := len(plaintext)
	if len(nonce) != nonceSize || len(additional) > blockSize || n > longest {
		return f.std.Seal(dst, nonce, plaintext, additional)
	}
	dst, out := grow(dst, n+tagSize)
	copy(out, plaintext) // nothing if it is in place already
	crypt(f.key, (*[nonceSize]byte)(nonce), additional, out[:n], (*[tagSize]byte)(out[n:]), ^uint64(0))
	return dst
}

// Open is that of cipher.AEAD. What is not authentic is cleared.
func (f *fast) Open(dst, nonce, ciphertext, additional []byte) ([]byte, error) {
	n := len(ciphertext) - tagSize
	if len(nonce) != nonceSize || len(additional) > blockSize || n < 0 || n > longest {
		return f.std.Open(dst, nonce, ciphertext, additional)
	}
	sent := [tagSize]byte(ciphertext[n:])
	dst, out := grow(dst, n)
	copy(out, ciphertext)
	var tag [tagSize]byte
	crypt(f.key, (*[nonceSize]byte)(nonce), additional, out, &tag, 0)
	if subtle.ConstantTimeCompare(tag[:], sent[:]) != 1 {
		clear(out)
		return nil, errOpen
	}
	return dst, nil
}

// grow makes b longer by n bytes, which it also returns.
func grow(b []byte, n int) (all, end []byte) {
	at := len(b)
	if cap(b)-at >= n {
		all = b[:at+n]
	} else {
		all = make([]byte, at+n)
		copy(all, b)
	}
	return all, all[at:]
}
