package ike

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxText is the longest text of an event, in bytes: what a peer says may be
	// in it, and a datagram has room for more than anybody reads.
	maxText = 1000
	// maxLines are the events of each kind that are logged in a minute, and
	// maxProblems how many are remembered so as not to be told twice.
	maxLines    = 40
	maxProblems = 64
)

// journal keeps a peer, or a stranger, from filling the log.
type journal struct {
	since    time.Time // when this minute began
	lines    [2]int    // in it: of problems, and of all else
	unsaid   int       // that were too many
	problems map[string]time.Time
}

// admits reports whether one more line of a kind may be logged.
func (j *journal) admits(m *Machine, kind int) bool {
	if m.now.Sub(j.since) >= time.Minute {
		if j.unsaid > 0 {
			m.e.Log(Event{Problem: true, Text: fmt.Sprintf("%d more events in a minute were not logged", j.unsaid)})
		}
		j.since, j.lines, j.unsaid = m.now, [2]int{}, 0
	}
	if j.lines[kind]++; j.lines[kind] > maxLines {
		j.unsaid++
		return false
	}
	return true
}

// problem tells an operator of something to look at, the same once in a minute.
func (m *Machine) problem(format string, args ...any) {
	text := plain(fmt.Sprintf(format, args...))
	m.status.Problem, m.status.ProblemAt = text, m.now
	j := &m.journal
	if at, ok := j.problems[text]; ok && m.now.Sub(at) < time.Minute {
		return
	}
	if !j.admits(m, 0) {
		return
	}
	if j.problems == nil || len(j.problems) >= maxProblems {
		j.problems = map[string]time.Time{}
	}
	j.problems[text] = m.now
	m.e.Log(Event{Problem: true, Text: text})
}

func (m *Machine) say(format string, args ...any) {
	if m.journal.admits(m, 1) {
		m.e.Log(Event{Text: plain(fmt.Sprintf(format, args...))})
	}
}

// plain is a text in which nothing acts on a terminal or takes another line:
// identities and certificates come from a peer.
func plain(text string) string {
	if len(text) > maxText {
		cut := maxText
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + " … (cut)"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
