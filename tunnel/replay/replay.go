// Package replay is an anti-replay window that any number of goroutines use at
// once without a lock: what an encrypted tunnel asks after a packet has been
// authenticated (WireGuard; RFC 4303, section 3.4.3; compare RFC 6479).
package replay

import "sync/atomic"

// Size is how far behind the newest a counter is accepted at least.
const Size = (blocks - 1) * 32

const blocks = 256

// Verdict says what a counter is.
type Verdict uint8

// The verdicts.
const (
	Fresh    Verdict = iota // and remembered now
	Replayed                // seen before
	TooOld                  // older than what is remembered
)

// Window remembers counters. The zero value has seen none.
//
// Counters are in blocks of 32, and each word remembers one block: its number in
// the upper half, a bit for each counter in the lower half. A word is taken over
// by a newer block as a whole, so a single compare-and-swap is all there is, and
// nothing has to be cleared in between. Numbers are compared as serial numbers
// (RFC 1982): a counter may be up to 2^35 ahead of the one that it replaces.
type Window struct{ words [blocks]atomic.Uint64 }

// Take judges an authenticated counter and remembers it.
func (w *Window) Take(counter uint64) Verdict {
	block, bit := uint32(counter/32), uint64(1)<<(counter%32)
	word := &w.words[block%blocks]
	for {
		old := word.Load()
		next := old | bit
		switch ahead := int32(block - uint32(old>>32)); {
		case ahead < 0:
			return TooOld
		case ahead > 0:
			next = uint64(block)<<32 | bit
		case old&bit != 0:
			return Replayed
		}
		if word.CompareAndSwap(old, next) {
			return Fresh
		}
	}
}
