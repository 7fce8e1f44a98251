// Package events remembers what happened to a node, and why: the last events in
// a ring, and subscribers who get each new one.
//
// The daemon adds, from any goroutine, and never waits: a subscriber has a queue
// of its own, and one that does not read is dropped and told so, not waited for.
// The ring is bounded in number and each text in length, so a node that flaps for
// a year holds as much memory as one that was started today.
//
// There is no goroutine here. The package knows nothing of tunnels or BGP: what
// an event says is the caller's.
package events

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Kind is what an event is about. The kinds are labels of a metric: there are
// only these.
type Kind string

// The kinds.
const (
	Node   Kind = "node"   // started, stopping
	Tunnel Kind = "tunnel" // up, down, made again
	BFD    Kind = "bfd"    // a tunnel's BFD session changed state
	BGP    Kind = "bgp"    // a session came up or ended
	Routes Kind = "routes" // repaired, refused by the kernel, taken again
	Budget Kind = "budget" // what a Route Server takes is nearly or quite used up
	Probe  Kind = "probe"  // the check of an originated prefix changed its answer
	Drain  Kind = "drain"  // planned work
	Reload Kind = "reload" // the configuration was read again
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{Node, Tunnel, BFD, BGP, Routes, Budget, Probe, Drain, Reload} }

// Severity is how much an event matters.
type Severity string

// The severities.
const (
	Info    Severity = "info"
	Warning Severity = "warning" // something configured does not work now
	Error   Severity = "error"   // something that was asked for could not be done
)

// Severities are all severities.
func Severities() []Severity { return []Severity{Info, Warning, Error} }

// Event is one thing that happened.
type Event struct {
	// Seq counts the events since the start, from 1.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	// Severity is "info", "warning" or "error".
	Severity Severity `json:"severity"`
	// Subject is what it happened to: a tunnel's, a neighbour's or a prefix' name.
	Subject string `json:"subject,omitempty"`
	// Before and After are the state in one word, where there is one.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Text says it in a sentence, with the reason.
	Text string `json:"text"`
}

const (
	// Capacity is how many events are remembered.
	Capacity = 1000
	// maxText bounds each text of an event, in bytes: some come from a peer.
	maxText = 500
)

// Log remembers events. The zero value is ready.
type Log struct {
	mu     sync.Mutex
	ring   []Event // ring[i] is the event with Seq%Capacity == i
	last   uint64
	counts map[Class]uint64
	subs   map[*Subscription]struct{}
}

// Class is what events are counted by.
type Class struct {
	Kind     Kind
	Severity Severity
}

// Add remembers an event that happened at a time and passes it on. Its number
// and its time are set here. It never waits.
func (l *Log) Add(now time.Time, e Event) {
	e.Subject, e.Before, e.After, e.Text = clean(e.Subject), clean(e.Before), clean(e.After), clean(e.Text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.Seq, e.Time = l.last, now.UTC()
	if l.counts == nil {
		l.ring, l.counts = make([]Event, Capacity), map[Class]uint64{}
	}
	l.ring[e.Seq%Capacity] = e
	l.counts[Class{e.Kind, e.Severity}]++
	for s := range l.subs {
		select {
		case s.queue <- e:
		default:
			l.endLocked(s)
		}
	}
}

// clean cuts a text to what is kept of it, and makes one valid line of it.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Since returns the remembered events with a number above seq, oldest first. A
// number that was not given yet is one of the time before a restart: then all
// are returned.
func (l *Log) Since(seq uint64) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinceLocked(seq)
}

func (l *Log) sinceLocked(seq uint64) []Event {
	first := uint64(1)
	if l.last > Capacity {
		first = l.last - Capacity + 1
	}
	list := []Event{}
	if seq > l.last {
		seq = 0
	}
	for n := max(first, seq+1); n <= l.last; n++ {
		list = append(list, l.ring[n%Capacity])
	}
	return list
}

// Counts are how many events there were since the start.
func (l *Log) Counts() map[Class]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[Class]uint64, len(l.counts))
	for c, n := range l.counts {
		m[c] = n
	}
	return m
}

// Subscription is a reader of new events. Close it.
type Subscription struct {
	log   *Log
	queue chan Event
	ended bool
}

// Subscribe returns what is remembered above seq, and a subscription to what
// comes after that, so that nothing is lost or told twice. The queue is how many
// events may wait to be read.
func (l *Log) Subscribe(seq uint64, queue int) ([]Event, *Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Subscription{log: l, queue: make(chan Event, queue)}
	if l.subs == nil {
		l.subs = map[*Subscription]struct{}{}
	}
	l.subs[s] = struct{}{}
	return l.sinceLocked(seq), s
}

// Events delivers new events, and is closed by Close and when the queue was full:
// the reader was too slow, and subscribes again from the last number it has.
func (s *Subscription) Events() <-chan Event { return s.queue }

// Close ends the subscription; it may be called more than once.
func (s *Subscription) Close() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.endLocked(s)
}

func (l *Log) endLocked(s *Subscription) {
	if s.ended {
		return
	}
	s.ended = true
	delete(l.subs, s)
	close(s.queue)
}

// Last returns the newest n of some events, oldest first.
func Last(list []Event, n int) []Event { return slices.Clone(list[max(0, len(list)-n):]) }
