package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/transitd/transitd/pkg/control"
)

// Severity of a finding.
type Severity string

// The values of Severity.
const (
	SeverityError   Severity = "error"   // traffic is dropped or will be
	SeverityWarning Severity = "warning" // it works now and may not tomorrow, or only a part of it works
	SeverityOK      Severity = "ok"      // looked at, and nothing is wrong
)

// Finding is what a check came to about one subject.
type Finding struct {
	ID       ID       `json:"id"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`          // a setting, an interface, a tunnel, a program
	Sentence string   `json:"sentence"`         // what was found, with the values
	Breaks   string   `json:"breaks,omitempty"` // what that does to the traffic
	Mend     string   `json:"mend,omitempty"`   // the command that mends it, or finds out more
	// Fixable says that "transitctl doctor --fix" mends it.
	Fixable bool `json:"fixable,omitempty"`
	// Fix are the changes by which it does.
	Fix []Fix `json:"-"`
}

// Unchecked is something that could not be checked, and how to get what is missing.
type Unchecked struct {
	Check string `json:"check"`
	Why   string `json:"why"`
	Get   string `json:"get,omitempty"`
}

// Report is the answer of "transitctl doctor".
type Report struct {
	control.Version
	Node     string      `json:"node"` // empty if it is not known
	Compared Basis       `json:"compared_with"`
	Running  bool        `json:"running"` // a daemon answers
	OK       bool        `json:"ok"`      // neither errors nor warnings
	Findings []Finding   `json:"findings"`
	Unread   []Unchecked `json:"unchecked"`
	// Fixed says what --fix did, one sentence each.
	Fixed []string `json:"fixed"`
}

// Count returns how many findings have a severity.
func (r Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Fixes are the changes that mend what can be mended safely.
func (r Report) Fixes() (list []Fix) {
	for _, f := range r.Findings {
		for _, x := range f.Fix {
			if !slices.Contains(list, x) {
				list = append(list, x)
			}
		}
	}
	return list
}

// Run looks for what is wrong. The order of the findings is stable: errors
// first, then by ID and subject.
func Run(n Node, h Host) Report {
	d := &doctor{n: n, h: h, r: Report{
		Version: control.V1(), Node: n.Name, Compared: cmp.Or(n.Basis, BasisHost), Running: n.running(),
		Findings: []Finding{}, Unread: append([]Unchecked{}, h.Unread...), Fixed: []string{},
	}}
	d.checkForwarding()
	d.checkReversePath()
	d.checkRedirects()
	d.checkReservedPort()
	d.checkCard()
	d.checkTunnelDevices()
	d.checkWays()
	d.checkKernel()
	d.checkClock()
	d.checkProcess()
	d.checkSocketBuffers()
	d.checkPorts()
	d.checkFirewall()
	d.checkKernelIPsec()
	d.checkConntrack()
	d.checkNetworkd()
	d.checkLeftovers()
	d.checkForeignRoutes()
	d.checkDrops()
	d.checkWarnings()
	slices.SortStableFunc(d.r.Findings, func(x, y Finding) int {
		return cmp.Or(rank(x.Severity)-rank(y.Severity), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Subject, y.Subject))
	})
	d.r.OK = d.r.Count(SeverityError)+d.r.Count(SeverityWarning) == 0
	return d.r
}

func rank(s Severity) int {
	return slices.Index([]Severity{SeverityError, SeverityWarning, SeverityOK}, s)
}

// doctor is one run.
type doctor struct {
	n Node
	h Host
	r Report
}

// find adds a finding; what it breaks comes from the catalogue.
func (d *doctor) find(id ID, s Severity, subject, mend, format string, args ...any) *Finding {
	f := Finding{ID: id, Severity: s, Subject: subject, Sentence: fmt.Sprintf(format, args...), Mend: mend, Breaks: catalogue()[id].breaks}
	d.r.Findings = append(d.r.Findings, f)
	return &d.r.Findings[len(d.r.Findings)-1]
}

// ok notes that a check found nothing.
func (d *doctor) ok(id ID, subject, format string, args ...any) {
	d.r.Findings = append(d.r.Findings, Finding{ID: id, Severity: SeverityOK, Subject: subject, Sentence: fmt.Sprintf(format, args...)})
}

// skip tells what was not checked.
func (d *doctor) skip(check, why, get string) {
	d.r.Unread = append(d.r.Unread, Unchecked{Check: check, Why: why, Get: get})
}

// worse is an error while a daemon runs, and a warning otherwise: it sets the right value when it starts.
func (d *doctor) worse() Severity {
	if d.n.running() {
		return SeverityError
	}
	return SeverityWarning
}

// with attaches what mends a finding.
func (f *Finding) with(fixes ...Fix) {
	f.Fix, f.Fixable = fixes, true
}

// firstOf lists texts for a sentence, not more than n.
func firstOf(list []string, n int) string {
	if len(list) > n {
		return strings.Join(list[:n], ", ") + fmt.Sprintf(" and %d more", len(list)-n)
	}
	return strings.Join(list, ", ")
}
