package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Search looks for the highest rate without loss by halving (RFC 2544, section 26.1).
type Search struct {
	Load       Load // its PPS and Duration are the search's business
	Tolerance  float64
	Resolution float64       // of the result, relative: 0.05
	Trial      time.Duration // of one rate
	Retries    int           // how often a rate that lost is tried again
}

// Trial is a rate that was tried.
type Trial struct {
	PPS  float64 `json:"pps"`
	Loss float64 `json:"loss"` // 0 to 1
}

// Run returns the highest rate that lost nothing, in packets per second, the
// rate of arrival without a limit, and all trials. If every rate lost, best is 0.
func (s Search) Run(ctx context.Context) (best, flood float64, trials []Trial, err error) {
	l := s.Load
	l.Duration, l.PPS = s.Trial, 0
	r, err := Run(ctx, l)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("flood: %w", err)
	}
	flood = r.ReceivedPPS()
	try := func(pps float64) (float64, error) {
		l.PPS = pps
		r, err := Run(ctx, l)
		if errors.Is(err, ErrNothing) {
			return 1, nil
		}
		return r.Loss(), err
	}
	// What arrives of a flood is about what a tunnel can do; without losses it may be more.
	best, trials, err = s.halve(flood/8, flood*1.5, try)
	return best, flood, trials, err
}

// halve is the search itself: try says what a rate loses.
func (s Search) halve(low, high float64, try func(pps float64) (float64, error)) (best float64, trials []Trial, err error) {
	for high/low > 1+s.Resolution {
		pps := (low + high) / 2
		loss := 1.0
		for range 1 + s.Retries {
			got, err := try(pps)
			if err != nil {
				return best, trials, err
			}
			if loss = min(loss, got); loss <= s.Tolerance {
				break
			}
		}
		trials = append(trials, Trial{pps, loss})
		if loss <= s.Tolerance {
			best, low = pps, pps
		} else {
			high = pps
		}
	}
	return best, trials, nil
}
