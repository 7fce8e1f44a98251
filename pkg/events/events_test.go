package events

import (
	"math"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// noon is when everything happens in these tests.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600)) }

func add(l *Log, texts ...string) {
	for _, s := range texts {
		l.Add(noon(), Event{Kind: Tunnel, Severity: Info, Text: s})
	}
}

func texts(list []Event) []string {
	out := []string{}
	for _, e := range list {
		out = append(out, e.Text)
	}
	return out
}

func TestAddNumbersAndDates(t *testing.T) {
	t.Parallel()
	var l Log
	l.Add(noon(), Event{Seq: 77, Kind: BGP, Severity: Warning, Subject: "ars", Before: "established", After: "idle", Text: "lost"})
	want := []Event{{
		Seq: 1, Time: time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC), Kind: BGP, Severity: Warning,
		Subject: "ars", Before: "established", After: "idle", Text: "lost",
	}}
	if d := cmp.Diff(want, l.Since(0)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[Class]uint64{{BGP, Warning}: 1}, l.Counts()); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	var empty, few, many Log
	add(&few, "a", "b", "c")
	for range Capacity {
		add(&many, "old")
	}
	add(&many, "x", "y")
	for _, c := range []struct {
		name  string
		log   *Log
		seq   uint64
		count int
		last  string
	}{
		{"nothing happened", &empty, 0, 0, ""},
		{"all", &few, 0, 3, "c"},
		{"the newest", &few, 2, 1, "c"},
		{"none is newer", &few, 3, 0, ""},
		{"a number from before a restart", &few, 99, 3, "c"},
		{"the largest number", &few, math.MaxUint64, 3, "c"},
		{"a full ring", &many, 0, Capacity, "y"},
		{"forgotten ones", &many, 1, Capacity, "y"},
		{"after a full ring", &many, Capacity, 2, "y"},
	} {
		got := c.log.Since(c.seq)
		if got == nil || len(got) != c.count || c.count > 0 && got[c.count-1].Text != c.last {
			t.Errorf("%s: %d events, want %d, the last %q", c.name, len(got), c.count, c.last)
		}
		for i := range got {
			if got[i].Seq != got[0].Seq+uint64(i) {
				t.Fatalf("%s: number %d at place %d", c.name, got[i].Seq, i)
			}
		}
	}
}

func TestTextsAreBounded(t *testing.T) {
	t.Parallel()
	var l Log
	add(&l, strings.Repeat("ä", 400), "two\r\nlines\x1b[31m", "bro\xffken", "")
	got := l.Since(0)
	if s := got[0].Text; len(s) > maxText+len("…") || !utf8.ValidString(s) || !strings.HasSuffix(s, "ä…") {
		t.Errorf("a long text became %q (%d bytes)", s, len(s))
	}
	if d := cmp.Diff([]string{"two  lines [31m", "bro�ken", ""}, texts(got[1:])); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSubscribeContinues(t *testing.T) {
	t.Parallel()
	var l Log
	add(&l, "a", "b")
	before, s := l.Subscribe(1, 4)
	add(&l, "c", "d")
	s.Close()
	s.Close()
	add(&l, "e")
	got := texts(before)
	for e := range s.Events() {
		got = append(got, e.Text)
	}
	if d := cmp.Diff([]string{"b", "c", "d"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A reader who does not read is dropped; the others and the adder do not notice.
func TestSlowReaderIsDropped(t *testing.T) {
	t.Parallel()
	var l Log
	_, slow := l.Subscribe(0, 2)
	_, fast := l.Subscribe(0, 10)
	add(&l, "a", "b", "c", "d")
	var got []string
	for e := range slow.Events() { // ends: it was closed
		got = append(got, e.Text)
	}
	if d := cmp.Diff([]string{"a", "b"}, got); d != "" {
		t.Errorf("the slow one (-want +got):\n%s", d)
	}
	slow.Close()
	fast.Close()
	if n := len(fast.Events()); n != 4 {
		t.Errorf("the fast one has %d events", n)
	}
	if len(l.subs) != 0 {
		t.Errorf("%d subscriptions are left", len(l.subs))
	}
}

// Everybody at once; -race judges, and a reader misses nothing.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 200
	var l Log
	_, s := l.Subscribe(0, writers*each)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				add(&l, "x")
				l.Since(l.Since(0)[0].Seq)
				_, other := l.Subscribe(0, 1)
				other.Close()
			}
		})
	}
	all.Wait()
	s.Close()
	var last uint64
	for e := range s.Events() {
		if e.Seq != last+1 {
			t.Fatalf("number %d after %d", e.Seq, last)
		}
		last = e.Seq
	}
	if last != writers*each {
		t.Errorf("%d events, want %d", last, writers*each)
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	list := []Event{{Seq: 1}, {Seq: 2}, {Seq: 3}}
	for n, want := range map[int]int{0: 0, 2: 2, 3: 3, 9: 3} {
		if got := Last(list, n); len(got) != want || want > 0 && got[want-1].Seq != 3 {
			t.Errorf("Last(%d) = %v", n, got)
		}
	}
}
