package bench

import (
	"encoding/json"
	"fmt"
	"io"
)

// Change is one number in two reports, A before B.
type Change struct {
	Subject string
	Profile Profile
	Test    string
	Unit    string
	A, B    *Result // nil if that report does not have it
}

// Verdict is what a change means.
type Verdict string

// Verdicts. A change within the spread of the rounds means nothing.
const (
	Within Verdict = ""
	Better Verdict = "better"
	Worse  Verdict = "WORSE"
	OnlyA  Verdict = "only in A"
	OnlyB  Verdict = "only in B"
)

// Percent is how much larger B's median is than A's; 0 if one is missing.
func (c Change) Percent() float64 {
	if c.A == nil || c.B == nil || c.A.Median == 0 {
		return 0
	}
	return (c.B.Median/c.A.Median - 1) * 100
}

// Verdict says whether all rounds of one report are beyond all of the other,
// and for the better or the worse.
func (c Change) Verdict() Verdict {
	switch {
	case c.B == nil:
		return OnlyA
	case c.A == nil:
		return OnlyB
	case c.A.Min <= c.B.Max && c.B.Min <= c.A.Max:
		return Within
	case (c.B.Median > c.A.Median) == lessIsBetter(c.Unit):
		return Worse
	}
	return Better
}

// lessIsBetter tells times and costs from rates.
func lessIsBetter(unit string) bool { return unit == micro || unit == cpuGB }

// Compare pairs what two reports measured, in A's order.
func Compare(a, b *Report) (list []Change) {
	for i := range a.Results {
		x := &a.Results[i]
		list = append(list, Change{x.Subject, x.Profile, x.Test, x.Unit, x, b.Find(x.Subject, x.Profile, x.Test)})
	}
	for i := range b.Results {
		if x := &b.Results[i]; a.Find(x.Subject, x.Profile, x.Test) == nil {
			list = append(list, Change{x.Subject, x.Profile, x.Test, x.Unit, nil, x})
		}
	}
	return list
}

// schemaVersion is that of the JSON.
const schemaVersion = 1

// ReadReport reads the JSON of a run.
func ReadReport(r io.Reader) (*Report, error) {
	var report Report
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	if report.Version != schemaVersion {
		return nil, fmt.Errorf("read a report: its schema_version is %d, this program knows %d", report.Version, schemaVersion)
	}
	return &report, nil
}
