package health

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMachine has one letter per result: + succeeded, - failed; and what up is after it: U or d.
func TestMachine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failures, successes int
		results, up         string
	}{
		"starts down and needs two":     {3, 2, "++", "dU"},
		"one success is not enough":     {3, 2, "+-+-+-", "dddddd"},
		"a failure starts again":        {3, 2, "+-++", "dddU"},
		"stays up over two failures":    {3, 2, "++--+--+", "dUUUUUUU"},
		"goes down at the third":        {3, 2, "++---", "dUUUd"},
		"down needs two again":          {3, 2, "++---+-++", "dUUUddddU"},
		"flapping each time is nothing": {2, 2, "++-+-+-+-+", "dUUUUUUUUU"},
		"one each follows at once":      {1, 1, "+-+-+", "UdUdU"},
		"slow up, quick down":           {1, 4, "++++-+++-++++", "dddUddddddddU"},
		"always failing":                {1, 1, "----", "dddd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := machine{failures: c.failures, successes: c.successes}
			var got strings.Builder
			for i, r := range c.results {
				before := m.up
				if changed := m.result(r == '+'); changed != (before != m.up) {
					t.Errorf("result %d: changed is %v, up was %v and is %v", i, changed, before, m.up)
				}
				if m.up {
					got.WriteByte('U')
				} else {
					got.WriteByte('d')
				}
			}
			if got.String() != c.up {
				t.Errorf("%s: got %s, want %s", c.results, got.String(), c.up)
			}
		})
	}
}

func TestNewDefaults(t *testing.T) {
	t.Parallel()
	p, err := New(Config{ICMP: netip.MustParseAddr("::ffff:192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	c := p.cfg
	if c.Interval != 2*time.Second || c.Timeout != time.Second || c.Failures != 3 || c.Successes != 2 || !c.ICMP.Is4() {
		t.Errorf("defaults are %+v", c)
	}
	if s := p.Status(); s.Up || s.Since.IsZero() || s.Checks != 0 {
		t.Errorf("a new probe has status %+v", s)
	}
	p, err = New(Config{HTTP: "https://example.net/", Interval: 300 * time.Millisecond})
	if err != nil || p.cfg.Timeout != p.cfg.Interval {
		t.Errorf("the default timeout is longer than the interval: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for want, c := range map[string]Config{
		"0 of HTTP, TCP and ICMP":         {},
		"2 of HTTP, TCP and ICMP":         {HTTP: "http://a/", ICMP: addr("192.0.2.1")},
		"scheme \"ftp\"":                  {HTTP: "ftp://a/"},
		"names no host":                   {HTTP: "http:///x"},
		"read the URL":                    {HTTP: "http://a b/"},
		"port 0":                          {TCP: netip.AddrPortFrom(addr("192.0.2.1"), 0)},
		"invalid IP is no address":        {TCP: netip.AddrPortFrom(netip.Addr{}, 80)},
		"0.0.0.0 is no address":           {ICMP: addr("0.0.0.0")},
		"ff02::1 is no address":           {ICMP: addr("ff02::1")},
		"of another family":               {ICMP: addr("192.0.2.1"), Source: addr("2001:db8::1")},
		"of another family than 192.0.2.": {HTTP: "http://192.0.2.1/", Source: addr("2001:db8::1")},
		"source 224.0.0.1":                {ICMP: addr("192.0.2.1"), Source: addr("224.0.0.1")},
		"interval 99ms":                   {ICMP: addr("192.0.2.1"), Interval: 99 * time.Millisecond},
		"interval 1h0m0.001s":             {ICMP: addr("192.0.2.1"), Interval: time.Hour + time.Millisecond},
		"timeout 3s":                      {ICMP: addr("192.0.2.1"), Timeout: 3 * time.Second},
		"timeout -1ns":                    {ICMP: addr("192.0.2.1"), Timeout: -1},
		"-1 failures":                     {ICMP: addr("192.0.2.1"), Failures: -1},
		"1001 successes":                  {ICMP: addr("192.0.2.1"), Successes: 1001},
	} {
		c.Name = "exit"
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"exit"`) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// fake is a probe whose checks the test makes.
func fake(t *testing.T, cfg Config, check checker) *Probe {
	t.Helper()
	cfg.ICMP = netip.MustParseAddr("192.0.2.1")
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.check = check
	return p
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var changes []string
		checks := 0
		p := fake(t, Config{OnChange: func(up bool, reason string) {
			changes = append(changes, time.Since(start).String()+" "+map[bool]string{true: "up", false: "down"}[up]+": "+reason)
		}}, func(context.Context) error {
			checks++
			if checks > 4 {
				return errors.New("no answer")
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		want := []string{"2s up: 2 checks in a row succeeded", "12s down: 3 checks in a row failed, the last one: no answer"}
		if !slices.Equal(changes, want) {
			t.Errorf("changes %q, want %q", changes, want)
		}
		s := p.Status()
		if s.Up || s.Checks != 8 || s.Failed != 4 || s.LastError != "no answer" || s.Since != start.Add(12*time.Second) {
			t.Errorf("status %+v", s)
		}
		if err := p.Run(t.Context()); err == nil {
			t.Error("a probe ran twice")
		}
	})
}

// TestRunNeverOverlaps: each check needs its whole timeout, which is the interval.
func TestRunNeverOverlaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		running, checks := 0, 0
		p := fake(t, Config{Interval: time.Second, Timeout: time.Second}, func(ctx context.Context) error {
			running++
			defer func() { running-- }()
			checks++
			if running != 1 {
				t.Errorf("%d checks at once", running)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if s := p.Status(); checks != 11 || s.Checks != 10 || s.Failed != 10 {
			t.Errorf("%d checks began, status %+v", checks, s)
		}
	})
}

// TestRunEnds: at once, and what was broken off counts neither way.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fake(t, Config{}, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %s", took)
		}
		if s := p.Status(); s.Checks != 0 || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
	})
}

// TestRunLateSuccess: an answer after the timeout is none.
func TestRunLateSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fake(t, Config{}, func(ctx context.Context) error {
			<-ctx.Done()
			<-time.After(time.Millisecond)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		if s := p.Status(); s.Failed != 1 || s.LastError != "the answer took 1.001s" {
			t.Errorf("status %+v", s)
		}
	})
}
