package pmtud

import (
	"math/rand/v2"
	"testing"
	"time"
)

// world is a path in a time of its own.
type world struct {
	m     *machine
	now   time.Time
	fits  int     // what the path carries; 0: nothing
	loss  float64 // of probes that would fit
	rng   *rand.Rand
	sent  int
	worst int // the smallest MTU that was ever used
}

func newWorld(most, fits int) *world {
	start := time.Unix(1_000_000, 0)
	return &world{m: newMachine(most, []int{1350, 1450, 3850, 8950}, start), now: start, fits: fits, rng: rand.New(rand.NewPCG(1, 2)), worst: most}
}

const worldRTT = 3 * time.Millisecond

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); ; {
		size, again := w.m.tick(w.now)
		switch {
		case size > 0:
			w.sent++
			if size <= w.fits && w.rng.Float64() >= w.loss {
				w.now = w.now.Add(worldRTT)
				w.m.answered(size, w.now)
				w.worst = min(w.worst, w.m.now)
				continue
			}
		}
		if again.After(end) {
			w.now = end
			return
		}
		if again.After(w.now) {
			w.now = again
		}
	}
}

func TestMachineFindsThePath(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ most, fits, want int }{
		{1400, 1500, 1400},
		{1400, 1400, 1400},
		{1400, 1350, 1350},
		{1400, 1351, 1351},
		{1400, 1399, 1399},
		{1400, 1280, 1280},
		{1400, 1281, 1281},
		{1400, 1200, 1200},
		{1400, 900, 900},
		{1400, 576, 576},
		{8950, 1450, 1450},
		{8950, 3850, 3850},
		{8950, 8950, 8950},
		{8950, 5000, 5000},
		{1280, 1250, 1250},
		{1200, 1000, 1000},
		{576, 600, 576},
	} {
		w := newWorld(test.most, test.fits)
		w.run(2 * time.Minute)
		if w.m.now != test.want || w.m.stands() != Complete {
			t.Errorf("most %d, path %d: %d (%s), want %d", test.most, test.fits, w.m.now, w.m.stands(), test.want)
		}
	}
}

// What nobody answers is used as it is configured.
func TestMachineBelievesNoSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(1400, 0)
	w.run(time.Hour)
	if w.m.now != 1400 || w.m.stands() != Unconfirmed {
		t.Errorf("%d (%s)", w.m.now, w.m.stands())
	}
	if most := 3600/2 + 200; w.sent > most {
		t.Errorf("%d probes in an hour, want at most %d", w.sent, most)
	}
}

func TestMachineFollowsThePath(t *testing.T) {
	t.Parallel()
	w := newWorld(1400, 1500)
	w.run(30 * time.Second)
	if sent := w.sent; sent > 16 {
		t.Errorf("%d probes in 30 s of a good path", sent)
	}
	w.fits = 1350
	w.run(confirmTimer + maxProbes*probeTimer + time.Second)
	if w.m.now > 1350 {
		t.Errorf("a black hole is not noticed: %d (%s)", w.m.now, w.m.stands())
	}
	w.run(10 * time.Second)
	if w.m.now != 1350 || w.m.stands() != Complete {
		t.Errorf("after it: %d (%s)", w.m.now, w.m.stands())
	}
	w.fits = 1500
	w.run(raiseTimer + confirmTimer + time.Second)
	if w.m.now != 1400 {
		t.Errorf("a wider path is not used: %d", w.m.now)
	}
	w.fits = 1300
	w.run(time.Minute)
	w.fits = 1500
	w.m.restart(w.now)
	w.run(time.Second)
	if w.m.now != 1400 {
		t.Errorf("a restart does not look for a wider path: %d", w.m.now)
	}
}

// An outage of the peer says nothing about sizes.
func TestMachineOutage(t *testing.T) {
	t.Parallel()
	for i := range 40 {
		w := newWorld(1400, 1400)
		w.run(10 * time.Second)
		w.fits = 0
		w.run(7*time.Second + time.Duration(i)*250*time.Millisecond)
		if w.m.now != 1400 {
			t.Fatalf("%d during an outage", w.m.now)
		}
		w.fits = 1400
		w.run(20 * time.Second)
		if w.m.now != 1400 || w.m.stands() != Complete {
			t.Errorf("outage %d: %d (%s) after it", i, w.m.now, w.m.stands())
		}
	}
}

// One lost packet in ten is no narrow path.
func TestMachineLoss(t *testing.T) {
	t.Parallel()
	w := newWorld(1400, 1400)
	w.loss = 0.05
	w.run(2 * time.Hour)
	if w.m.now != 1400 {
		t.Errorf("%d with 5 %% loss", w.m.now)
	}
}

func TestMachineHint(t *testing.T) {
	t.Parallel()
	w := newWorld(1400, 1400)
	w.run(7 * time.Second)
	w.m.hinted(1322, w.now) // a lie
	w.run(time.Second)
	if w.m.now != 1400 {
		t.Errorf("a router's word alone made it %d", w.m.now)
	}
	w.fits = 1322
	w.m.hinted(1322, w.now)
	w.run(4 * time.Second)
	if w.m.now > 1322 {
		t.Errorf("a hint makes nothing faster: %d", w.m.now)
	}
	w.run(8 * time.Second)
	if w.m.now != 1322 || w.m.stands() != Complete {
		t.Errorf("%d (%s)", w.m.now, w.m.stands())
	}
	for _, n := range []int{0, -5, 10, 1322, 9000} {
		w.m.hinted(n, w.now)
	}
	if w.m.hint != 1322 {
		t.Errorf("hint %d", w.m.hint)
	}
}

func TestLadder(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		top := 100 + rng.IntN(9000)
		fits := minPacket + rng.IntN(top)
		l := ladder{low: minPacket, high: top + 1, likely: []int{1350, 1450, 3850, 8950}}
		rounds := 0
		for ; !l.done(); rounds++ {
			sizes, through := l.round(), map[int]bool{}
			if len(sizes) == 0 || len(sizes) > rungs {
				t.Fatalf("a round of %d sizes between %d and %d", len(sizes), l.low, l.high)
			}
			for _, n := range sizes {
				through[n] = n <= fits
			}
			l.judge(sizes, through)
		}
		if want := max(minPacket, min(fits, top)); l.low != want {
			t.Fatalf("top %d, path %d: %d", top, fits, l.low)
		}
		if rounds > 5 {
			t.Errorf("top %d, path %d: %d rounds", top, fits, rounds)
		}
	}
}

// A path that loses at random ends the search all the same.
func TestLadderEnds(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		l := ladder{low: minPacket, high: 9001}
		for i := 0; !l.done(); i++ {
			if i > 20 {
				t.Fatal("it does not end")
			}
			sizes, through := l.round(), map[int]bool{}
			for _, n := range sizes {
				through[n] = rng.IntN(2) == 0
			}
			l.judge(sizes, through)
		}
	}
}
