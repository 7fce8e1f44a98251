package lab

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Terminal shows a lab's progress and a demonstration to a person. It is used by one goroutine.
type Terminal struct {
	w     io.Writer
	color bool
	live  bool // a line can be written over
	shown string
	steps []Step
}

// NewTerminal makes one. color: use escape sequences; live: w is a terminal, so a line may be written over.
func NewTerminal(w io.Writer, color, live bool) *Terminal {
	return &Terminal{w: w, color: color, live: live}
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (t *Terminal) paint(code, text string) string {
	if !t.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// line writes a finished line where a waiting one may stand. What cannot be written to a person is nobody's error.
func (t *Terminal) line(format string, args ...any) {
	t.clear()
	_, _ = fmt.Fprintf(t.w, format+"\n", args...)
}

func (t *Terminal) clear() {
	if t.shown != "" && t.live {
		_, _ = fmt.Fprint(t.w, "\r\x1b[K")
	}
	t.shown = ""
}

// Done implements Progress.
func (t *Terminal) Done(text string) { t.line("    %s", t.paint(dim, "· "+text)) }

// Waiting implements Progress: on a terminal the line is written over by what comes next.
func (t *Terminal) Waiting(text string) {
	if text == t.shown {
		return
	}
	if !t.live {
		t.line("    · waiting for: %s", text)
		return
	}
	t.clear()
	_, _ = fmt.Fprintf(t.w, "    %s", t.paint(dim, "… "+text))
	t.shown = text
}

// Begin implements Audience.
func (t *Terminal) Begin(number int, title, does, expects string) {
	t.line("")
	t.line("%s", t.paint(bold, fmt.Sprintf("%d  %s", number, title)))
	t.line("    %-9s %s", "does", does)
	t.line("    %-9s %s", "expects", expects)
}

// Measured implements Audience.
func (t *Terminal) Measured(text string) { t.line("    %-9s %s", "measured", text) }

// End implements Audience.
func (t *Terminal) End(s Step) {
	t.steps = append(t.steps, s)
	if s.OK {
		t.line("    %s", t.paint(green, fmt.Sprintf("ok        %.1f s", s.Seconds)))
		return
	}
	t.line("    %s", t.paint(red, "failed    "+s.Error))
}

// Table shows all steps at the end.
func (t *Terminal) Table(r Report) {
	width := 0
	for _, s := range t.steps {
		width = max(width, utf8.RuneCountInString(s.Title))
	}
	t.line("")
	for i, s := range t.steps {
		word, color := "ok", green
		if !s.OK {
			word, color = "failed", red
		}
		title := s.Title + strings.Repeat(" ", width-utf8.RuneCountInString(s.Title))
		t.line("%d  %s  %s  %6.1f s  %s", i+1, title, t.paint(color, fmt.Sprintf("%-6s", word)), s.Seconds, s.Summary)
	}
	t.line("")
	if r.OK {
		t.line("%s", t.paint(green, "all steps ok"))
	} else {
		t.line("%s", t.paint(red, "not all steps are ok"))
	}
}

// Warn shows something that is odd but no failure.
func (t *Terminal) Warn(text string) { t.line("    %s", t.paint(yellow, text)) }

// Silent is an audience for programs: it shows nothing.
type Silent struct{}

// Done implements Progress.
func (Silent) Done(string) {}

// Waiting implements Progress.
func (Silent) Waiting(string) {}

// Begin implements Audience.
func (Silent) Begin(int, string, string, string) {}

// Measured implements Audience.
func (Silent) Measured(string) {}

// End implements Audience.
func (Silent) End(Step) {}
