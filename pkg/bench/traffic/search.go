package traffic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Search finds the highest rate without loss: the throughput of RFC 2544, section
// 26.1, by bisection. It is of logarithms, as Max may be hundreds of times Min.
type Search struct {
	// Load is what is sent; its PPS and Duration are set by the search.
	Load Load
	// Min and Max are the bounds in packets per second. Max is tried first.
	Min, Max float64
	// Tolerance is the share of packets that may be lost, 0 is none.
	Tolerance float64
	// Resolution is how far the result may be below the best rate, as a share of it; 0 is 0.05.
	Resolution float64
	// Trial is how long one rate is tried.
	Trial time.Duration
	// Retries is how often a rate with loss is tried again before that is believed: a
	// machine that does something else for a moment is not the path's limit.
	Retries int
}

// Trial is one rate, tried.
type Trial struct {
	PPS     float64 // asked for
	SentPPS float64 // what the generator reached
	Loss    float64 // 0 to 1
	OK      bool    // loss was within the tolerance
	// SinkOverflow is how many of the lost packets the sink lost itself, see Result.
	SinkOverflow uint64
}

// Run searches. It returns the best rate in packets per second, 0 if there is loss also at Min, and all trials
// in their order, also with an error. Progress, which may be nil, is told each trial's rate and loss (0 to 1).
//
// A rate is never better than what was really sent at it. If no trial got anything through, it is ErrNothing.
func (s Search) Run(ctx context.Context, progress func(pps, loss float64)) (best float64, trials []Trial, err error) {
	l := s.Load
	l.Duration = s.Trial
	return s.bisect(func(pps float64) (Trial, error) {
		l.PPS = pps
		r, err := Run(ctx, l)
		if errors.Is(err, ErrNothing) {
			err = nil // overload may do that, too; bisect knows whether anything ever arrived
		}
		return Trial{PPS: pps, SentPPS: r.SendPPS, Loss: r.Loss(), SinkOverflow: r.SinkOverflow}, err
	}, progress)
}

// bisect is the search with any way to try a rate.
func (s Search) bisect(try func(pps float64) (Trial, error), progress func(pps, loss float64)) (best float64, trials []Trial, err error) {
	if s.Resolution == 0 {
		s.Resolution = 0.05
	}
	if !(s.Min > 0 && s.Max >= s.Min && s.Resolution > 0 && s.Tolerance >= 0 && s.Tolerance < 1 && s.Retries >= 0) {
		return 0, nil, fmt.Errorf("search from %g to %g packets per second, tolerance %g, resolution %g, %d retries: out of range",
			s.Min, s.Max, s.Tolerance, s.Resolution, s.Retries)
	}
	// attempt tries a rate until it passes or retries are over.
	attempt := func(pps float64) (t Trial, err error) {
		for range 1 + s.Retries {
			if t, err = try(pps); err != nil {
				return t, fmt.Errorf("try %.0f packets per second: %w", pps, err)
			}
			t.OK = t.Loss <= s.Tolerance
			trials = append(trials, t)
			if progress != nil {
				progress(t.PPS, t.Loss)
			}
			if t.OK {
				best = max(best, min(t.PPS, t.SentPPS))
				break
			}
		}
		return t, nil
	}
	low, high := s.Min, s.Max*(1+s.Resolution) // so that Max itself is the first
	for pps := s.Max; ; pps = math.Sqrt(low * high) {
		t, err := attempt(pps)
		if err != nil {
			return best, trials, err
		}
		switch {
		case !t.OK:
			high = pps
		case t.SentPPS < pps/(1+s.Resolution):
			// More cannot be offered: what was sent is the best.
			return best, trials, nil
		default:
			low = pps
		}
		if high <= low*(1+s.Resolution) {
			break
		}
	}
	if best == 0 && s.Min < s.Max {
		if _, err := attempt(s.Min); err != nil {
			return best, trials, err
		}
	}
	for _, t := range trials {
		if t.Loss < 1 {
			return best, trials, nil
		}
	}
	return 0, trials, fmt.Errorf("%d trials down to %.0f packets per second: %w", len(trials), s.Min, ErrNothing)
}
