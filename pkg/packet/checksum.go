package packet

import (
	"encoding/binary"
	"math/bits"
)

// fastFrom is half the length from which setting up the vector unit pays (BenchmarkChecksum).
const fastFrom = 128

// CopySum copies src to dst, which is at least as long, and is Sum of it.
func CopySum(dst, src []byte, sum uint64) uint64 {
	part, n := copyBlocks(dst, src)
	var carry uint64
	sum, carry = bits.Add64(sum, part, 0)
	copy(dst[n:], src[n:])
	return Sum(src[n:], sum+carry)
}

// Sum adds b, as big-endian 16-bit words, to a ones' complement sum that is
// not folded yet (RFC 1071). An odd last byte counts as the high byte of a word.
func Sum(b []byte, sum uint64) uint64 {
	var carry uint64
	if len(b) >= 2*fastFrom {
		part, n := sumBlocks(b)
		sum, carry = bits.Add64(sum, part, 0)
		sum += carry
		b = b[n:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	var tail uint64
	for i, c := range b {
		tail |= uint64(c) << (56 - 8*i)
	}
	sum, carry = bits.Add64(sum, tail, 0)
	return sum + carry
}

// Fold brings a sum to 16 bits, without the complement.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Checksum is the internet checksum of b, continuing from sum.
func Checksum(b []byte, sum uint64) uint16 { return ^Fold(Sum(b, sum)) }

// PseudoSum is the sum of the pseudo-header of a transport of the given
// protocol and length over the IP packet's addresses (RFC 9293, section 3.1;
// RFC 8200, section 8.1). The packet's header must be whole.
func PseudoSum(ip []byte, proto uint8, length int) uint64 {
	sum := uint64(proto) + uint64(length)
	if ip[0]>>4 == 4 {
		return Sum(ip[12:20], sum)
	}
	return Sum(ip[8:40], sum)
}

// adjust changes the checksum at b[at:] for a 16-bit word that went from old
// to new (RFC 1624, section 3, equation 3).
func adjust(b []byte, at int, old, new uint16) {
	c := binary.BigEndian.Uint16(b[at:])
	binary.BigEndian.PutUint16(b[at:], ^Fold(uint64(^c)+uint64(^old)+uint64(new)))
}
