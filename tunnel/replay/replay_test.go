package replay

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTake(t *testing.T) {
	var w Window
	for i, c := range []struct {
		counter uint64
		want    Verdict
	}{
		{0, Fresh},
		{0, Replayed},
		{1, Fresh},
		{63, Fresh},
		{62, Fresh},
		{63, Replayed},
		{Size + 62, Fresh},
		{62, Replayed},
		{61, Fresh}, // as far behind as promised
		{8192 + 5, Fresh},
		{5, TooOld},
		{0, TooOld},
		{31, TooOld},
		{32, Fresh},
		{1 << 35, Fresh},
		{1 << 35, Replayed},
		{1<<35 - Size, Fresh},
	} {
		if got := w.Take(c.counter); got != c.want {
			t.Errorf("step %d: %d is %d, want %d", i, c.counter, got, c.want)
		}
	}
}

// model is what the window should do, by remembering everything.
type model struct {
	seen   map[uint64]bool
	newest uint64
}

// allowed reports whether a verdict may be given for a counter.
func (m *model) allowed(c uint64, v Verdict) bool {
	switch {
	case m.seen[c]:
		return v != Fresh
	case v == Fresh:
		return true
	}
	return v == TooOld && m.newest >= Size && c < m.newest-Size
}

func check(t *testing.T, counters func() (uint64, bool)) {
	t.Helper()
	var w Window
	m := model{seen: map[uint64]bool{}}
	for c, more := counters(); more; c, more = counters() {
		v := w.Take(c)
		if !m.allowed(c, v) {
			t.Fatalf("counter %d (newest %d, seen %v): verdict %d", c, m.newest, m.seen[c], v)
		}
		m.seen[c] = true
		m.newest = max(m.newest, c)
	}
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		at, left := uint64(r.IntN(1<<20)), 20000
		check(t, func() (uint64, bool) {
			left--
			switch r.IntN(100) {
			case 0:
				at += uint64(r.IntN(20000)) // a gap
			case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
				return at - min(at, uint64(r.IntN(12000))), left > 0
			default:
				at++
			}
			return at, left > 0
		})
	}
}

func FuzzTake(f *testing.F) {
	f.Add([]byte{0, 0, 1, 255, 255, 3, 0, 0})
	f.Add([]byte{0x80, 0, 0x20, 0, 0x7f, 0xff, 0, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		at := uint64(1 << 30)
		check(t, func() (uint64, bool) {
			if len(steps) < 2 {
				return 0, false
			}
			at += uint64(int64(int16(uint16(steps[0])<<8 | uint16(steps[1]))))
			steps = steps[2:]
			return at, true
		})
	})
}

// Whatever races, each counter is fresh exactly once.
func TestAtOnce(t *testing.T) {
	var w Window
	const n = 100000
	var fresh [n]atomic.Int32
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 2))
			for i := range n {
				c := max(0, i-r.IntN(64))
				if w.Take(uint64(c)) == Fresh {
					fresh[c].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for c := range fresh {
		if k := fresh[c].Load(); k > 1 {
			t.Fatalf("counter %d was fresh %d times", c, k)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	var w Window
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		w.Take(i)
	}
}
