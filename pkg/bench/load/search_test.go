package load

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

// pipe is a path that carries up to capacity and drops the rest, with a sender that can do up to reach packets per second.
func pipe(capacity, reach float64) func(context.Context, Load) (Result, error) {
	return func(_ context.Context, l Load) (Result, error) {
		rate := min(l.PPS, reach)
		if l.PPS == 0 {
			rate = reach
		}
		r := Result{Elapsed: l.Duration, Sent: uint64(rate * l.Duration.Seconds())}
		r.Received = min(r.Sent, uint64(capacity*l.Duration.Seconds()))
		if r.Received == 0 {
			return r, ErrNothing
		}
		return r, nil
	}
}

func TestSearchFindsTheCapacity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ capacity, reach, want float64 }{
		{100_000, 1e6, 100_000},
		{5_000, 1e6, 5_000},
		{1e6, 100_000, 100_000}, // the sender is the limit: its rate is the result, not what it was told to send
		{100_000, 100_000, 100_000},
	} {
		s := Search{Resolution: 0.05, Trial: time.Second, Retries: 1}
		best, flood, trials, err := s.RunWith(t.Context(), pipe(c.capacity, c.reach))
		if err != nil || best > c.want*1.0001 || best < c.want/1.06 {
			t.Errorf("%+v: best %.0f, %v", c, best, err)
		}
		if want := min(c.capacity, c.reach); math.Abs(flood-want) > 1 {
			t.Errorf("%+v: flood %.0f", c, flood)
		}
		if len(trials) > 12 {
			t.Errorf("%+v: %d trials", c, len(trials))
		}
		for _, x := range trials {
			if x.PPS > c.reach*1.03 {
				t.Errorf("%+v: a trial of %.0f, which nobody sent", c, x.PPS)
			}
		}
	}
}

// A loss that does not come again is the machine's, not the path's.
func TestSearchTriesAgain(t *testing.T) {
	t.Parallel()
	n := 0
	good := pipe(100_000, 1e6)
	flaky := func(ctx context.Context, l Load) (Result, error) {
		r, err := good(ctx, l)
		if n++; n%2 == 0 {
			r.Received--
		}
		return r, err
	}
	s := Search{Resolution: 0.05, Trial: time.Second, Retries: 1}
	if best, _, _, err := s.RunWith(t.Context(), flaky); err != nil || best < 94_000 {
		t.Errorf("best %.0f, %v", best, err)
	}
	s.Retries, n = 0, 0
	if best, _, _, err := s.RunWith(t.Context(), flaky); err != nil || best > 94_000 {
		t.Errorf("without retries: best %.0f, %v", best, err)
	}
}

func TestSearchOfABrokenPath(t *testing.T) {
	t.Parallel()
	s := Search{Resolution: 0.05, Trial: time.Second}
	if _, _, _, err := s.RunWith(t.Context(), pipe(0, 1e6)); !errors.Is(err, ErrNothing) {
		t.Errorf("got %v", err)
	}
}

func TestIMIXIsSpread(t *testing.T) {
	t.Parallel()
	count := map[int]int{}
	round := lengths(IMIX())
	for i, n := range round {
		count[n+ipUDP]++
		if n+ipUDP == 1400 && round[(i+1)%len(round)] == n {
			t.Error("two long packets in a row")
		}
	}
	for _, s := range IMIX() {
		if count[s.Bytes] != s.Weight {
			t.Errorf("%d packets of %d bytes, want %d", count[s.Bytes], s.Bytes, s.Weight)
		}
	}
}
