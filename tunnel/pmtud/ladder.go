package pmtud

import "slices"

// rungs is how many sizes are probed at once.
const rungs = 16

// ladder searches the largest size that gets through by probing many at once:
// each round leaves a sixteenth of the sizes. It is for somebody who waits, and
// not for RFC 8899's search, which sends one probe at a time (section 5.2).
type ladder struct {
	low, high int   // low gets through, high does not; sizes in bytes
	likely    []int // sizes that paths are likely to have
}

// done reports whether low is the answer.
func (l *ladder) done() bool { return l.high-l.low <= 1 }

// round lists sizes to probe, in order: the largest, likely ones and what is one
// byte longer, and as many evenly spread ones as there is room for.
func (l *ladder) round() []int {
	var sizes []int
	add := func(n int) {
		if n > l.low && n < l.high && len(sizes) < rungs && !slices.Contains(sizes, n) {
			sizes = append(sizes, n)
		}
	}
	add(l.high - 1)
	for _, n := range l.likely {
		add(n)
		add(n + 1)
	}
	free := rungs - len(sizes) + 1
	for i := 1; i < free; i++ {
		add(l.low + i*(l.high-l.low)/free)
	}
	slices.Sort(sizes)
	return sizes
}

// judge takes a round's result: what got through. All else of the round did not.
func (l *ladder) judge(round []int, through map[int]bool) {
	for _, n := range round {
		if through[n] {
			l.low = max(l.low, n)
		}
	}
	for _, n := range round {
		if !through[n] && n > l.low {
			l.high = min(l.high, n)
		}
	}
}
