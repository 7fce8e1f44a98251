package load

import (
	"context"
	"errors"
	"fmt"
	"math"
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
	// PPS is the rate that was sent. Where the sender runs on the processors of what it
	// measures, that may be less than it wanted to send.
	PPS  float64 `json:"pps"`
	Loss float64 `json:"loss"` // 0 to 1
}

// Run returns the highest rate that was sent and lost nothing, in packets per
// second, the rate of arrival without a limit, and all trials, of which the first
// is the one without a limit. If every rate lost, best is 0.
func (s Search) Run(ctx context.Context) (best, flood float64, trials []Trial, err error) {
	return s.RunWith(ctx, Run)
}

// RunWith is Run where the loads are sent by send, to another machine say.
func (s Search) RunWith(ctx context.Context, send func(context.Context, Load) (Result, error)) (best, flood float64, trials []Trial, err error) {
	l := s.Load
	l.Duration, l.PPS = s.Trial, 0
	r, err := send(ctx, l)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("flood: %w", err)
	}
	flood = r.ReceivedPPS()
	try := func(pps float64) (Trial, error) {
		l.PPS = pps
		r, err := send(ctx, l)
		t := Trial{pps, 1}
		if r.Sent > 0 && r.Elapsed > 0 {
			// The last few that were due are not a rate that was not reached.
			if t.PPS = float64(r.Sent) / r.Elapsed.Seconds(); t.PPS > pps*0.98 {
				t.PPS = pps
			}
			t.Loss = r.Loss()
		}
		if errors.Is(err, ErrNothing) {
			err = nil
		}
		return t, err
	}
	// A flood takes the processor from the tunnel and the sink: both much less and some more than
	// arrives of it may be the limit.
	best, trials, err = s.halve(flood/32, flood*4, try)
	return best, flood, append([]Trial{{float64(r.Sent) / r.Elapsed.Seconds(), r.Loss()}}, trials...), err
}

// halve is the search itself, of logarithms: try says what was sent and lost.
func (s Search) halve(low, high float64, try func(pps float64) (Trial, error)) (best float64, trials []Trial, err error) {
	for high/low > 1+s.Resolution {
		pps := math.Sqrt(low * high)
		kept := Trial{pps, 1}
		for range 1 + s.Retries {
			t, err := try(pps)
			if err != nil {
				return best, trials, err
			}
			if t.Loss < kept.Loss {
				kept = t
			}
			if t.Loss <= s.Tolerance {
				break
			}
		}
		trials = append(trials, kept)
		switch {
		case kept.Loss > s.Tolerance:
			high = pps
		case kept.PPS < pps:
			// As much as could be sent got through. A held-up sender may do a bit better.
			best = max(best, kept.PPS)
			low, high = max(low, kept.PPS), min(pps, kept.PPS*1.3)
		default:
			best, low = max(best, pps), pps
		}
	}
	return best, trials, nil
}
