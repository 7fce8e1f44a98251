package pmtud

import (
	"slices"
	"time"
)

// Phase is where a machine stands (RFC 8899, section 5.2).
type Phase uint8

// The phases.
const (
	// Unconfirmed: no answer has ever come; the configured MTU is used.
	Unconfirmed Phase = iota
	// Base: what was used does not get through any more; a small size is tried.
	Base
	// Searching: between a size that gets through and one that does not.
	Searching
	// Complete: the largest size is known, and confirmed now and then.
	Complete
	// Lost: not even small packets get through.
	Lost
)

// String is the phase as the API names it.
func (p Phase) String() string {
	return [...]string{"unconfirmed", "base", "searching", "complete", "lost"}[p]
}

const (
	// BaseSize is BASE_PLPMTU, in bytes. RFC 8899, section 5.1.2, has 1,200 for the
	// outer packet; this is inside, and what a device that carries IPv6 needs.
	BaseSize = 1280
	// MinSize is MIN_PLPMTU: what IPv4 hosts have to take (RFC 791, section 3.2).
	MinSize = 576
	// maxProbes is how often a size is tried before it counts as too large: MAX_PROBES.
	maxProbes = 3
	// probeTimer is how long an answer may take: PROBE_TIMER. again is how long after
	// a probe the next one of the same size follows; the first one's answer still counts.
	probeTimer = time.Second
	again      = 400 * time.Millisecond
	// confirmTimer is how often the size in use is checked: CONFIRMATION_TIMER.
	confirmTimer = 2 * time.Second
	// hasty is how many probes of a dead tunnel come one after the other.
	hasty = 60
	// raiseTimer is how long after a search a wider path is looked for: PMTU_RAISE_TIMER.
	raiseTimer = 10 * time.Minute
)

// machine decides for one direction. Sizes are of inner IP packets, in bytes.
// It is not for several goroutines at once.
type machine struct {
	most  int   // the configured MTU: never exceeded
	known []int // sizes that paths are likely to have, besides
	phase Phase
	now   int // in use

	// While searching, low gets through and high does not, or is one more than most.
	low, high int
	hint      int // what a router said; 0: nothing

	probe struct {
		size int // 0: none is under way
		sent int
		at   time.Time // of the last one
	}
	ever  bool      // an answer has come
	turn  int       // of the sizes that are tried in Lost
	next  time.Time // when to begin the next probe
	raise time.Time // when to search again
}

// newMachine begins with the configured MTU, which is checked at once.
func newMachine(most int, known []int, now time.Time) *machine {
	return &machine{most: most, known: known, now: most, next: now, raise: now.Add(raiseTimer)}
}

// stands is the phase for people: what never answered was not lost.
func (m *machine) stands() Phase {
	if !m.ever {
		return Unconfirmed
	}
	return m.phase
}

// tick says which size to send now, 0 for none, and when to ask again.
func (m *machine) tick(now time.Time) (size int, next time.Time) {
	p := &m.probe
	if p.size != 0 && !now.Before(p.at.Add(probeTimer)) && p.sent >= maxProbes {
		size := p.size
		p.size = 0
		m.failed(size, now)
	}
	if p.size == 0 && !now.Before(m.next) {
		m.begin(now)
	}
	switch {
	case p.size == 0:
		return 0, m.next
	case p.sent > 0 && now.Before(p.at.Add(m.patience())):
		return 0, p.at.Add(m.patience())
	}
	p.sent, p.at = p.sent+1, now
	return p.size, now.Add(m.patience())
}

// patience is how long after a probe something else happens: the next one of its
// size, or after the last one the end.
func (m *machine) patience() time.Duration {
	if m.probe.sent < maxProbes {
		return again
	}
	return probeTimer
}

// begin chooses what to probe.
func (m *machine) begin(now time.Time) {
	p := &m.probe
	p.sent = 0
	switch m.phase {
	case Unconfirmed, Complete:
		if m.phase == Complete && m.now < m.most && !now.Before(m.raise) {
			m.search(m.now, m.most+1)
			p.size = m.candidate()
			return
		}
		p.size = m.now
	case Base:
		p.size = m.base()
	case Searching:
		p.size = m.candidate()
	case Lost:
		// One probe each, in turn: what was last good, so that an outage costs
		// nothing, then the small ones.
		sizes := [...]int{m.now, m.base(), min(MinSize, m.most)}
		p.size, p.sent = sizes[m.turn%len(sizes)], maxProbes-1
		m.turn++
	}
}

// base is the small size for a path that has become narrower than now.
func (m *machine) base() int {
	if m.now > BaseSize {
		return BaseSize
	}
	return min(MinSize, m.most)
}

func (m *machine) search(low, high int) { m.phase, m.low, m.high = Searching, low, high }

// candidate is the next size to try: what a router said, all that is configured,
// a likely size, one more than a likely size, which shows that it was the limit,
// or the middle.
func (m *machine) candidate() int {
	likely := append(slices.Clone(m.known), m.hint)
	best := 0
	for _, n := range likely {
		if n > m.low && n < m.high {
			best = max(best, n)
		}
	}
	switch {
	case m.hint > m.low && m.hint < m.high:
		return m.hint
	case m.hint > 0 && m.hint == m.low:
		return m.low + 1
	case m.high > m.most:
		return m.most
	case best > 0:
		return best
	case slices.Contains(likely, m.low):
		return m.low + 1
	}
	return (m.low + m.high) / 2
}

// answered takes the news that a size has got through.
func (m *machine) answered(size int, now time.Time) {
	if size != m.probe.size {
		return // late: the size was given up, or is confirmed already
	}
	m.probe.size, m.next, m.ever = 0, now, true
	switch m.phase {
	case Unconfirmed, Complete:
		m.complete(now)
	case Base, Lost:
		if size == m.now {
			m.complete(now)
			return
		}
		// All that failed may have failed because nothing got through.
		m.search(size, m.most+1)
		m.now = size
	case Searching:
		m.low, m.now = size, size
	}
	m.settle(now)
}

// failed takes the news that a size does not get through.
func (m *machine) failed(size int, now time.Time) {
	m.next = now
	switch m.phase {
	case Unconfirmed: // a peer that answers nothing is not measured
		if size == m.now && m.base() < m.now {
			m.phase = Base
			return
		}
		m.next = now.Add(confirmTimer)
	case Complete:
		m.phase = Base
	case Base:
		m.phase, m.turn = Lost, 0
	case Searching:
		m.high = size
	case Lost:
		if m.turn > hasty {
			m.next = now.Add(confirmTimer)
		}
	}
	m.settle(now)
}

// settle ends a search that has found its size.
func (m *machine) settle(now time.Time) {
	if m.phase == Searching && m.high-m.low <= 1 {
		m.raise = now.Add(raiseTimer)
		m.complete(now)
	}
}

func (m *machine) complete(now time.Time) { m.phase, m.next = Complete, now.Add(confirmTimer) }

// hinted takes what a router says: a reason to look now, and a likely size. It
// changes nothing by itself (RFC 8899, section 4.6.1).
func (m *machine) hinted(size int, now time.Time) {
	if size < MinSize || size >= m.now {
		return
	}
	m.hint = size
	if m.phase == Complete && m.probe.size == 0 {
		m.next = now
	}
}

// restart looks for a wider path now.
func (m *machine) restart(now time.Time) {
	m.raise = now
	if m.phase == Complete && m.probe.size == 0 {
		m.next = now
	}
}
