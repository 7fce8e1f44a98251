package traffic

import "time"

const (
	// burstSpan is how much time's packets go out at once; a burst of a µs would cost a system call for each packet.
	burstSpan = 100 * time.Microsecond
	// pacedBurst bounds a burst: more would test how deep queues are, not how fast they are emptied.
	pacedBurst = 32
	// maxDebt is how far the generator may be behind and still catch up. Beyond it, packets
	// are left out, and Result.SendPPS is below the rate asked for.
	maxDebt = time.Millisecond
)

// plan is how many packets of a rate go out at once, and how often.
func plan(pps float64) (burst int, gap time.Duration) {
	burst = max(1, int(min(pps*burstSpan.Seconds(), pacedBurst)))
	return burst, time.Duration(float64(burst) / pps * float64(time.Second))
}

// pacer says when bursts are due. Times are since the start of sending.
type pacer struct {
	gap      time.Duration
	due      time.Duration // of the next burst by the rate
	earliest time.Duration // of the next burst after the last
}

// wait is how long it is until the next burst; not positive is now.
func (p *pacer) wait(now time.Duration) time.Duration { return max(p.due, p.earliest) - now }

// sent notes a burst. A generator that was held up catches up at up to twice
// the rate, not all at once.
func (p *pacer) sent(now time.Duration) {
	p.due = max(p.due, now-maxDebt) + p.gap
	p.earliest = now + p.gap/2
}
