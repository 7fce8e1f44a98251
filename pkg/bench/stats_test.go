package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 9}, 3},
		{[]float64{1, 1, 1, 1, 100}, 1},
	} {
		before := append([]float64(nil), c.values...)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
		if diff := cmp.Diff(before, c.values); diff != "" {
			t.Errorf("median changes its argument: %s", diff)
		}
	}
}

// A machine that is slow in one round is slow for both: the ratio of the
// medians would be wrong, the median of the ratios is not.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	t.Parallel()
	s := newSeries()
	for round, speed := range []float64{1, 0.2, 0.9} {
		s.add("kernel-vxlan", Wire, round, sample{TCP1, gbps, 6 * speed})
		if round != 0 { // one failed
			s.add("transitd-vxlan", Wire, round, sample{TCP1, gbps, 3 * speed})
		}
	}
	got := s.ratios()
	if len(got) != 1 || got[0].Subject != "transitd-vxlan" || got[0].Versus != "kernel-vxlan" || got[0].Median != 0.5 {
		t.Errorf("%+v", got)
	}
}

func TestRatiosNeedAYardstick(t *testing.T) {
	t.Parallel()
	s := newSeries()
	s.add("raw", Wire, 0, sample{CPUPerGB, cpuGB, 0})
	s.add("strongswan", Wire, 0, sample{CPUPerGB, cpuGB, 2})
	s.add("strongswan", Bare, 0, sample{TCP1, gbps, 2})
	if got := s.ratios(); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

func TestResultsHaveTheSpread(t *testing.T) {
	t.Parallel()
	s := newSeries()
	for round, v := range []float64{3, 1, 2} {
		s.add("raw", Bare, round, sample{TCP8, gbps, v})
	}
	want := []Result{{Subject: "raw", Profile: Bare, Test: TCP8, Unit: gbps, Median: 2, Min: 1, Max: 3, Rounds: []float64{3, 1, 2}}}
	if diff := cmp.Diff(want, s.results()); diff != "" {
		t.Error(diff)
	}
}
