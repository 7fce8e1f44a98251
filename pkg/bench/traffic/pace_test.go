package traffic

import (
	"testing"
	"time"
)

func TestPlanIsOfSmallBursts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pps   float64
		burst int
		gap   time.Duration
	}{
		{1, 1, time.Second},
		{9_999, 1, 100_010 * time.Nanosecond},
		{20_000, 2, 100 * time.Microsecond},
		{320_000, 32, 100 * time.Microsecond},
		{1_000_000, 32, 32 * time.Microsecond},
		{32_000_000, 32, time.Microsecond},
	} {
		if burst, gap := plan(c.pps); burst != c.burst || gap != c.gap {
			t.Errorf("%.0f packets per second: %d every %s, want %d every %s", c.pps, burst, gap, c.burst, c.gap)
		}
	}
}

// TestPacerKeepsTheRate has a sender that is late by something each time.
func TestPacerKeepsTheRate(t *testing.T) {
	t.Parallel()
	burst, gap := plan(300_000)
	p := pacer{gap: gap}
	sent, now := 0, time.Duration(0)
	for i := 0; now < time.Second; i++ {
		if wait := p.wait(now); wait > 0 {
			now += wait + time.Duration(i%7)*5*time.Microsecond
			continue
		}
		sent += burst
		p.sent(now)
		now += 20 * time.Microsecond // in the system call
	}
	if sent < 299_900 || sent > 300_100 {
		t.Errorf("sent %d packets in a second, want 300000", sent)
	}
}

// TestPacerAfterAStall checks that what was missed neither comes at once nor all.
func TestPacerAfterAStall(t *testing.T) {
	t.Parallel()
	_, gap := plan(20_000)
	p := pacer{gap: gap}
	p.sent(0)
	const stall = 50 * time.Millisecond
	bursts := 0
	for now := stall; now < stall+4*time.Millisecond; now += time.Microsecond {
		if p.wait(now) <= 0 {
			p.sent(now)
			bursts++
			if wait := p.wait(now); wait < gap/2 {
				t.Fatalf("next burst after %s, want %s or later", wait, gap/2)
			}
		}
	}
	// 4 ms by the rate, and 1 ms of what was missed.
	if want := int((4*time.Millisecond + maxDebt) / gap); bursts < want-1 || bursts > want+1 {
		t.Errorf("%d bursts after the stall, want %d", bursts, want)
	}
}
