package traffic

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// headerLen is what a payload needs to be known again:
//
//	0  run    4 bytes, random: a straggler of an earlier run is not counted
//	4  flow   2
//	6  check  2, of the other fields: a changed header is not a packet of another run
//	8  seq    8, from 0 in each flow
const headerLen = 16

// header is what a payload begins with.
type header struct {
	run  uint32
	flow uint16
	seq  uint64
}

// check mixes all fields, so that a change of any bit is seen but for one in 65,536.
func (h header) check() uint16 {
	return uint16((h.seq ^ uint64(h.run)<<32 ^ uint64(h.flow)<<16) * 0x9e3779b97f4a7c15 >> 48)
}

func (h header) put(b []byte) {
	binary.BigEndian.PutUint64(b, uint64(h.run)<<32|uint64(h.flow)<<16|uint64(h.check()))
	binary.BigEndian.PutUint64(b[8:], h.seq)
}

// readHeader returns false for what no generator has written.
func readHeader(b []byte) (header, bool) {
	if len(b) < headerLen {
		return header{}, false
	}
	w := binary.BigEndian.Uint64(b)
	h := header{uint32(w >> 32), uint16(w >> 16), binary.BigEndian.Uint64(b[8:])}
	return h, uint16(w) == h.check()
}

// newPattern is what every payload is made of behind its header: the same in
// all, so that writing a packet is writing its header, and without a
// period, so that a piece that moved is seen.
func newPattern(length int) []byte {
	b := make([]byte, length)
	src := rand.NewPCG(1, 2)
	for i := range b {
		b[i] = byte(src.Uint64())
	}
	return b
}

// intact reports whether the payload has the length and what follows its header the content that was sent.
func intact(payload, pattern []byte, length int) bool {
	return len(payload) == length && bytes.Equal(payload[headerLen:], pattern[headerLen:length])
}
