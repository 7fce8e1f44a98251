package ipsec

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/transitd/transitd/tunnel/ike"
	ikemessage "github.com/transitd/transitd/tunnel/ike/message"
)

// strangers is how many messages a second may come that belong to no IKE SA, of
// each of two kinds: more are a flood, and the loops drop them.
const strangers = 500

// gate keeps a flood away from the goroutine that speaks IKE. Messages of SAs
// that there are always pass: nobody knows their SPIs who does not see the path.
type gate struct {
	spis atomic.Pointer[[]uint64] // ours
	bare budget                   // requests to begin, without a cookie
	rest budget                   // with one, and what is of no SA
}

// know says which SPIs are ours.
func (g *gate) know(spis []uint64) {
	if old := g.spis.Load(); old == nil || !slices.Equal(*old, spis) {
		g.spis.Store(&spis)
	}
}

// admits reports whether a message may pass. It is called by several loops at once.
func (g *gate) admits(b []byte, now time.Time) bool {
	if len(b) < ikemessage.HeaderLen {
		return false
	}
	// The receiver's SPI is the second one of what the original initiator sends.
	ours := binary.BigEndian.Uint64(b)
	if b[19]&byte(ikemessage.FlagInitiator) != 0 {
		ours = binary.BigEndian.Uint64(b[8:])
	}
	if spis := g.spis.Load(); spis != nil && ours != 0 && slices.Contains(*spis, ours) {
		return true
	}
	if ike.Bare(b) {
		return g.bare.take(now)
	}
	return g.rest.take(now)
}

// budget counts in one word: the second, and how many there were in it.
type budget struct{ v atomic.Uint64 }

func (b *budget) take(now time.Time) bool {
	second := uint64(now.Unix()) << 32
	for {
		old := b.v.Load()
		next := old + 1
		if old>>32 != second>>32 {
			next = second + 1
		}
		if uint32(next) > strangers {
			return false
		}
		if b.v.CompareAndSwap(old, next) {
			return true
		}
	}
}
