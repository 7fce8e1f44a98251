package traffic

import (
	"math/rand/v2"
	"testing"
)

func TestTrackerTellsOrderAndDuplicates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                           string
		seqs                           []uint64
		inOrder, reordered, duplicated int
	}{
		{"in order", []uint64{0, 1, 2, 3}, 4, 0, 0},
		{"with a gap", []uint64{0, 5, 6}, 3, 0, 0},
		{"two swapped", []uint64{0, 2, 1, 3}, 3, 1, 0},
		{"the first late", []uint64{1, 0}, 1, 1, 0},
		{"twice", []uint64{0, 0, 1, 1, 1}, 2, 0, 3},
		{"late and twice", []uint64{0, 2, 1, 1}, 2, 1, 1},
		{"at the window's far end", []uint64{window, 1, 1}, 1, 1, 1},
		{"behind the window", []uint64{0, window, 0}, 2, 1, 0},
		{"over the window", []uint64{0, 3, 10 * window, 10*window - 1, 9*window + 3}, 3, 2, 0},
	} {
		var tr tracker
		var got [3]int
		for _, s := range c.seqs {
			got[tr.add(s)]++
		}
		if got != [3]int{c.inOrder, c.reordered, c.duplicated} {
			t.Errorf("%s: in order, reordered, duplicate %v, want %v", c.name, got, [3]int{c.inOrder, c.reordered, c.duplicated})
		}
	}
}

// TestTrackerIsWhatAMapWouldBe compares with the obvious way.
func TestTrackerIsWhatAMapWouldBe(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	var tr tracker
	seen := map[uint64]bool{}
	next := uint64(0)
	for range 300_000 {
		var seq uint64
		switch r.IntN(4) {
		case 0:
			seq = next + r.Uint64N(200) // forwards
		case 1:
			seq = next - min(next, r.Uint64N(200)) // backwards
		case 2:
			seq = next - min(next, r.Uint64N(window+1))
		default:
			seq = next
		}
		want := inOrder
		if seq < next {
			want = reordered
			if seen[seq] {
				want = duplicate
			}
		}
		if got := tr.add(seq); got != want {
			t.Fatalf("%d after a highest of %d: %d, want %d", seq, int64(next)-1, got, want)
		}
		seen[seq] = true
		next = max(next, seq+1)
	}
}
