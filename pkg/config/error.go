package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a configuration.
type Error struct {
	// File is the name given to Load or Parse; empty from CheckUnderlay.
	File string `json:"file"`
	// Line and Column start at 1 and point at the key or value to change; both are 0 if the file could not be read, and from CheckUnderlay.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Path is the key's place: "tunnels[0].vxlan.vni"; empty for the file as a whole.
	Path string `json:"path,omitempty"`
	// Msg says what is wrong, with the offending value.
	Msg string `json:"msg"`
	// Hint says what would be right; it may be empty.
	Hint string `json:"hint,omitempty"`
	// Err is the cause if the file could not be read, so that errors.Is finds it.
	Err error `json:"-"`
}

// Error returns "file:line:col: path: msg" and, on a line of its own, the hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if e.File != "" {
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString("\n  hint: " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors is everything that is wrong with a configuration, sorted by place.
// It is what Load and Parse return as error.
type Errors []*Error

// Error returns all errors, each as a compiler would print it.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single errors.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, x := range e {
		errs[i] = x
	}
	return errs
}

// sorted returns the errors in the order of the file, each once.
func (e Errors) sorted() Errors {
	out := slices.Clone(e)
	slices.SortStableFunc(out, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Msg, b.Msg))
	})
	return slices.CompactFunc(out, func(a, b *Error) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Path == b.Path && a.Msg == b.Msg
	})
}

// AsErrors returns the list inside an error of Load or Parse, or nil.
func AsErrors(err error) Errors {
	var list Errors
	if errors.As(err, &list) {
		return list
	}
	return nil
}
