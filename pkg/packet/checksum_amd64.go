package packet

import (
	"math/bits"

	"golang.org/x/sys/cpu"
)

// block is how many bytes a turn of the assembly's loop takes.
const block = 128

// sumAVX2 adds the 32-bit words of n bytes, as they lie in memory; n is a
// positive multiple of block.
//
//go:noescape
func sumAVX2(p *byte, n int) uint64

// copySumAVX2 is sumAVX2 that also copies.
//
//go:noescape
func copySumAVX2(dst, src *byte, n int) uint64

// sumBlocks sums as much of b as it can do fast, and returns how many bytes that was.
func sumBlocks(b []byte) (sum uint64, n int) {
	if n = len(b) &^ (block - 1); n == 0 || !cpu.X86.HasAVX2 {
		return 0, 0
	}
	return bigEndian(sumAVX2(&b[0], n)), n
}

// copyBlocks is sumBlocks that also copies.
func copyBlocks(dst, src []byte) (sum uint64, n int) {
	if n = len(src) &^ (block - 1); n == 0 || !cpu.X86.HasAVX2 {
		return 0, 0
	}
	_ = dst[n-1]
	return bigEndian(copySumAVX2(&dst[0], &src[0], n)), n
}

// bigEndian turns a sum of little-endian words: swapping the bytes of the sum
// is the same as swapping those of every word (RFC 1071, section 2 B).
func bigEndian(sum uint64) uint64 { return uint64(bits.ReverseBytes16(Fold(sum))) }
