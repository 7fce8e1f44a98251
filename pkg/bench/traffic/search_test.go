package traffic

import (
	"errors"
	"math"
	"testing"
)

// path is a synthetic one: it loses what is above capacity, the generator reaches
// at most reach, and trials listed in hiccups lose a packet for no reason.
type path struct {
	capacity, reach float64
	hiccups         map[int]bool
	trials          int
}

func (p *path) try(pps float64) (Trial, error) {
	sent := min(pps, p.reach)
	loss := max(0, 1-p.capacity/sent)
	if p.hiccups[p.trials] {
		loss = max(loss, 1e-6)
	}
	p.trials++
	return Trial{PPS: pps, SentPPS: sent, Loss: loss}, nil
}

func TestSearchFindsTheCapacity(t *testing.T) {
	t.Parallel()
	for capacity := 1000.0; capacity < 2e6; capacity *= 1.37 {
		p := &path{capacity: capacity, reach: math.Inf(1)}
		told := 0
		best, trials, err := Search{Min: 1000, Max: 2e6, Resolution: 0.02}.bisect(p.try, func(float64, float64) { told++ })
		if err != nil {
			t.Fatal(err)
		}
		if best > capacity || best < capacity/1.021 {
			t.Errorf("best is %.0f for a capacity of %.0f", best, capacity)
		}
		if len(trials) > 11 || told != len(trials) || p.trials != told {
			t.Errorf("%d trials listed, %d told, %d made", len(trials), told, p.trials)
		}
	}
}

func TestSearchTolerates(t *testing.T) {
	t.Parallel()
	p := &path{capacity: 99_000, reach: math.Inf(1)}
	best, _, err := Search{Min: 1000, Max: 1e6, Tolerance: 0.01, Resolution: 0.005}.bisect(p.try, nil)
	if err != nil || best < 99_400 || best > 100_000 {
		t.Errorf("best is %.0f, %v, want about 100000", best, err)
	}
}

func TestSearchAtItsBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		capacity, reach float64
		best            float64
		trials          int
	}{
		{"all of it", 1e7, math.Inf(1), 1e6, 1},
		{"more than can be sent", 1e7, 4e5, 4e5, 1},
		{"less than the least", 900, math.Inf(1), 0, 9},
		{"just the least", 1000, math.Inf(1), 1000, 9},
	} {
		p := &path{capacity: c.capacity, reach: c.reach}
		best, trials, err := Search{Min: 1000, Max: 1e6}.bisect(p.try, nil)
		if err != nil || best != c.best || len(trials) != c.trials {
			t.Errorf("%s: best %.0f, %d trials, %v; want %.0f, %d", c.name, best, len(trials), err, c.best, c.trials)
		}
	}
}

// TestSearchTriesAgain has single losses in every other trial.
func TestSearchTriesAgain(t *testing.T) {
	t.Parallel()
	hiccups := map[int]bool{}
	for i := 0; i < 100; i += 2 {
		hiccups[i] = true
	}
	for retries, want := range map[int]float64{0: 0.6, 1: 0.95} {
		p := &path{capacity: 123_456, reach: math.Inf(1), hiccups: hiccups}
		best, _, err := Search{Min: 1000, Max: 1e6, Retries: retries}.bisect(p.try, nil)
		if err != nil || (best > 123_456*want) != (retries == 1) || best > 123_456 {
			t.Errorf("%d retries: best %.0f, %v", retries, best, err)
		}
	}
}

func TestSearchOfABrokenPath(t *testing.T) {
	t.Parallel()
	p := &path{capacity: 0, reach: math.Inf(1)}
	if best, trials, err := (Search{Min: 1000, Max: 1e6}).bisect(p.try, nil); !errors.Is(err, ErrNothing) || best != 0 || len(trials) == 0 {
		t.Errorf("nothing arrives: best %.0f, %d trials, %v", best, len(trials), err)
	}
	broken := errors.New("broken")
	if _, _, err := (Search{Min: 1000, Max: 1e6}).bisect(func(float64) (Trial, error) { return Trial{}, broken }, nil); !errors.Is(err, broken) {
		t.Errorf("a trial fails: %v", err)
	}
}

func TestSearchThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Search{
		"no least":            {Max: 1},
		"most below least":    {Min: 2, Max: 1},
		"negative resolution": {Min: 1, Max: 2, Resolution: -1},
		"all may be lost":     {Min: 1, Max: 2, Tolerance: 1},
		"negative retries":    {Min: 1, Max: 2, Retries: -1},
	} {
		if _, _, err := s.bisect((&path{}).try, nil); err == nil || errors.Is(err, ErrNothing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
