package stamp

import (
	"slices"
	"time"
)

// Method is how a path is measured.
type Method string

// The methods.
const (
	None  Method = "none"  // nothing has answered
	STAMP Method = "stamp" // each direction by itself
	ICMP  Method = "icmp"  // echo: only the way there and back
)

// Stats are what the last probes say. Loss is a share, 0 to 1.
type Stats struct {
	Method         Method
	Sent, Received int // probes of the window whose time is over, and their answers
	// Of round trips, 0 if there was none.
	Last, Min, Median, P99 time.Duration
	Loss                   float64
	// By direction, with STAMP: what we send and what the peer sends.
	LossThere, LossBack     float64
	JitterThere, JitterBack time.Duration
}

// patience is how long an answer may take; what comes later is lost.
const patience = 2 * time.Second

// probe is one that was sent.
type probe struct {
	seq      uint32
	at       time.Time
	answered bool
	rtt      time.Duration
	peerSeq  uint32        // the reflector's number
	there    time.Duration // with the difference of the clocks
	back     time.Duration
}

// window has the last probes of one method, oldest first.
type window struct {
	size int
	list []probe
	last time.Duration
}

func (w *window) sent(seq uint32, at time.Time) {
	if len(w.list) >= w.size {
		w.list = slices.Delete(w.list, 0, len(w.list)-w.size+1)
	}
	w.list = append(w.list, probe{seq: seq, at: at})
}

// answered takes an answer; false if there was no such probe, or it has one already.
func (w *window) answered(seq uint32, at time.Time, r *reply) (rtt time.Duration, ok bool) {
	i, found := slices.BinarySearchFunc(w.list, seq, func(p probe, s uint32) int { return int(int32(p.seq - s)) })
	if !found || w.list[i].answered || at.Sub(w.list[i].at) > patience {
		return 0, false
	}
	p := &w.list[i]
	p.answered, p.rtt = true, at.Sub(p.at)
	if r != nil {
		// What the reflector took for itself is not the path's.
		p.rtt = max(p.rtt-max(r.sent.Sub(r.received), 0), 0)
		p.peerSeq, p.there, p.back = r.seq, r.received.Sub(p.at.Round(0)), at.Round(0).Sub(r.sent)
	}
	w.last = p.rtt
	return p.rtt, true
}

// heard reports whether anything was answered since a time.
func (w *window) heard(since time.Time) bool {
	return slices.ContainsFunc(w.list, func(p probe) bool { return p.answered && p.at.After(since) })
}

func (w *window) stats(now time.Time, m Method) Stats {
	s := Stats{Method: m, Last: w.last}
	var done []probe
	var trips []time.Duration
	for _, p := range w.list {
		if p.answered {
			trips = append(trips, p.rtt)
		}
		if p.answered || now.Sub(p.at) > patience {
			done = append(done, p)
		}
	}
	s.Sent, s.Received = len(done), len(trips)
	if s.Sent > 0 {
		s.Loss = 1 - float64(s.Received)/float64(s.Sent)
	}
	if len(trips) > 0 {
		slices.Sort(trips)
		s.Min, s.Median, s.P99 = trips[0], trips[len(trips)/2], trips[len(trips)*99/100]
	}
	if m == STAMP {
		s.directions(done)
	}
	return s
}

// directions tells them apart, between the first and the last answer: the
// reflector has counted what came to it, so the rest was lost on its way there.
func (s *Stats) directions(done []probe) {
	answered := slices.DeleteFunc(slices.Clone(done), func(p probe) bool { return !p.answered })
	if len(answered) < 2 {
		return
	}
	first, last := answered[0], answered[len(answered)-1]
	sent, arrived := float64(last.seq-first.seq), float64(last.peerSeq-first.peerSeq)
	if back := float64(len(answered) - 1); arrived >= back && arrived <= sent { // else the reflector was restarted
		s.LossThere, s.LossBack = 1-arrived/sent, 1-back/arrived
	}
	for i := 1; i < len(answered); i++ {
		s.JitterThere = smooth(s.JitterThere, answered[i].there-answered[i-1].there)
		s.JitterBack = smooth(s.JitterBack, answered[i].back-answered[i-1].back)
	}
}

// smooth is RFC 3550, section 6.4.1: the mean deviation, one sixteenth at a time.
func smooth(jitter, d time.Duration) time.Duration { return jitter + (d.Abs()-jitter)/16 }
