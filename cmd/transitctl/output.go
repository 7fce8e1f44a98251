package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// json prints an answer as the API gave it.
func (a *app) json(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// style is how a word is shown on a terminal; the word itself always says it too.
type style string

const (
	plain  style = ""
	good   style = "32" // green
	warn   style = "33" // yellow
	bad    style = "31" // red
	header style = "2"  // dim
)

// paint colours a text if standard output wants colour.
func (a *app) paint(s style, text string) string {
	if !a.colour || s == plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

// c makes a cell of a value; an empty one is shown as a dash, so that columns can be cut by programs.
func c(v any) cell {
	s := fmt.Sprint(v)
	if s == "" {
		s = "-"
	}
	return cell{text: s}
}

// state makes a cell that is green if all is well and red if not.
func state(text string, ok bool) cell {
	if ok {
		return cell{text, good}
	}
	return cell{text, bad}
}

// table prints columns, each as wide as its widest field, two spaces apart.
func (a *app) table(head []string, rows [][]cell) {
	width := make([]int, len(head))
	for i, h := range head {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, r := range rows {
		for i, f := range r {
			width[i] = max(width[i], utf8.RuneCountInString(f.text))
		}
	}
	line := make([]cell, len(head))
	for i, h := range head {
		line[i] = cell{h, header}
	}
	a.row(a.stdout, width, line)
	for _, r := range rows {
		a.row(a.stdout, width, r)
	}
}

// row prints one line without trailing spaces.
func (a *app) row(w io.Writer, width []int, cells []cell) {
	var b strings.Builder
	for i, f := range cells {
		b.WriteString(a.paint(f.style, f.text))
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(f.text)+2))
		}
	}
	fmt.Fprintln(w, b.String())
}

// printf prints a line of data.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format+"\n", args...) }

// duration prints seconds as routers do: 42s, 7m03s, 3h04m, 3d04h.
func duration(seconds uint64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds/60%60)
	}
	return fmt.Sprintf("%dd%02dh", seconds/86400, seconds/3600%24)
}

// size prints bytes with at most four digits: 999 B, 1.5 kB, 12 MB.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n)/1000, "kMGTPE"
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f %cB", v, units[i])
	}
	return fmt.Sprintf("%.0f %cB", v, units[i])
}

// path prints an AS path as routers do; an empty one is "local".
func path(asns []uint32) string {
	if len(asns) == 0 {
		return "local"
	}
	return strings.Trim(fmt.Sprint(asns), "[]")
}
