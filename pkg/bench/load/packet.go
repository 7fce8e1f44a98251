package load

import (
	"encoding/binary"
	"time"
)

const (
	magic       = 0x74647462 // "tdtb"
	headerLen   = 24
	ipUDP       = 28 // bytes of IPv4 and UDP headers
	smallestIP  = ipUDP + headerLen
	largestIP   = 9000
	batchSize   = 64
	socketBytes = 32 << 20
)

// Size is a share of packets of one length.
type Size struct {
	Bytes  int // of the IPv4 packet, 52 to 9,000
	Weight int // how many of them there are in a round
}

// Fixed is all packets of one length in bytes.
func Fixed(bytes int) []Size { return []Size{{bytes, 1}} }

// IMIX is the usual mix of packet lengths; the largest is what fits a tunnel
// with an MTU of 1,400.
func IMIX() []Size { return []Size{{64, 28}, {570, 16}, {1400, 4}} }

// lengths spreads the sizes of a round, so that no two long ones follow each other where there is a choice.
func lengths(sizes []Size) (round []int) {
	total := 0
	for _, s := range sizes {
		total += s.Weight
	}
	credit := make([]int, len(sizes))
	for range total {
		best := 0
		for i, s := range sizes {
			credit[i] += s.Weight
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		round = append(round, min(max(sizes[best].Bytes, smallestIP), largestIP)-ipUDP)
	}
	return round
}

// stamp is what a payload says of itself.
type stamp struct {
	flow uint16
	seq  uint64
	at   time.Duration // since the start of the measurement
}

func (s stamp) put(b []byte) {
	binary.BigEndian.PutUint32(b, magic)
	binary.BigEndian.PutUint16(b[4:], s.flow)
	binary.BigEndian.PutUint64(b[8:], s.seq)
	binary.BigEndian.PutUint64(b[16:], uint64(s.at))
}

func readStamp(b []byte) (s stamp, ok bool) {
	if len(b) < headerLen || binary.BigEndian.Uint32(b) != magic {
		return s, false
	}
	return stamp{binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint64(b[8:]), time.Duration(binary.BigEndian.Uint64(b[16:]))}, true
}
