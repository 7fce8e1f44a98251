package audit

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/transitd/transitd/pkg/control"
)

// Severity of a finding.
type Severity string

// The values of Severity.
const (
	SeverityError   Severity = "error"   // traffic loops, is dropped or will be
	SeverityWarning Severity = "warning" // it works now and may not tomorrow, or only a part of it works
)

// Finding is one thing that is wrong.
type Finding struct {
	ID       ID       `json:"id"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`  // a tunnel, a Route Server, a card, a peering
	Sentence string   `json:"sentence"` // what is wrong, with the values
	Breaks   string   `json:"breaks"`   // what that does to the traffic
	Mend     string   `json:"mend"`     // the command that mends it, or finds out more; names in capitals are to be filled in
	// Prefixes are all routes that the finding is about; the sentence names some.
	Prefixes []string `json:"prefixes,omitempty"`
}

// Unchecked is something that could not be checked, and how to get what is missing.
type Unchecked struct {
	Check string `json:"check"`
	Why   string `json:"why"`
	Get   string `json:"get,omitempty"`
}

// Report is the answer of "transitctl audit".
type Report struct {
	control.Version
	Node      string      `json:"node"`
	Compared  string      `json:"compared_with"` // "running" or "configuration"
	OK        bool        `json:"ok"`            // no findings
	Inputs    []Input     `json:"inputs"`
	Findings  []Finding   `json:"findings"`
	Unchecked []Unchecked `json:"unchecked"`
	Notes     []string    `json:"notes"` // what in the inputs could not be understood
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

// Run compares. The order of the findings is stable: errors first, then by ID and subject.
func Run(in Intent, az Azure) Report {
	a := &auditor{in: in, az: az, report: Report{
		Version: control.V1(), Node: in.Node, Compared: "configuration",
		Inputs: append([]Input{}, az.Inputs...), Findings: []Finding{}, Unchecked: []Unchecked{}, Notes: append([]string{}, az.Notes...),
	}}
	if in.Running {
		a.report.Compared = "running"
	}
	a.knowOurselves()
	a.knowLearned()
	a.checkCards()
	a.checkGroups()
	a.checkPeers()
	a.checkRouteTables()
	a.checkPeerings()
	a.checkRouteServers()
	a.checkLearned()
	a.checkAdvertised()
	a.checkProgrammed()
	a.checkLimits()
	return a.done()
}

// auditor is one run.
type auditor struct {
	in   Intent
	az   Azure
	own  []netip.Addr // the node's addresses on the underlay
	self []netip.Addr // own, and the load balancers in front of the node: what is sent there comes back
	card *Card        // the node's card
	// learned are the lists of learned routes without what other peers announced.
	learned []PeerRoutes
	report  Report
}

// done sorts, and drops what two documents say alike.
func (a *auditor) done() Report {
	r := a.report
	slices.SortStableFunc(r.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.Severity, y.Severity), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Subject, y.Subject), cmp.Compare(x.Sentence, y.Sentence))
	})
	r.Findings = slices.CompactFunc(r.Findings, func(x, y Finding) bool {
		return x.ID == y.ID && x.Subject == y.Subject && x.Sentence == y.Sentence
	})
	slices.Sort(r.Notes)
	r.Notes = slices.Compact(r.Notes)
	r.OK = len(r.Findings) == 0
	return r
}

// find adds a finding; what it breaks comes from the catalogue.
func (a *auditor) find(id ID, subject, mend, format string, args ...any) {
	a.findRoutes(id, subject, mend, nil, format, args...)
}

// findRoutes adds a finding about routes.
func (a *auditor) findRoutes(id ID, subject, mend string, prefixes []netip.Prefix, format string, args ...any) {
	e := catalogue()[id]
	f := Finding{ID: id, Severity: e.severity, Subject: subject, Sentence: fmt.Sprintf(format, args...), Breaks: e.breaks, Mend: mend}
	for _, p := range prefixes {
		f.Prefixes = append(f.Prefixes, p.String())
	}
	a.report.Findings = append(a.report.Findings, f)
}

// skip tells what was not checked.
func (a *auditor) skip(check, why, get string) {
	u := Unchecked{Check: check, Why: why, Get: get}
	if !slices.Contains(a.report.Unchecked, u) {
		a.report.Unchecked = append(a.report.Unchecked, u)
	}
}

func (a *auditor) note(format string, args ...any) {
	a.report.Notes = append(a.report.Notes, fmt.Sprintf(format, args...))
}

// knowOurselves finds the node's card, and its addresses if the intent has none.
func (a *auditor) knowOurselves() {
	a.own = slices.Clone(a.in.Addresses)
	for i, c := range a.az.Cards {
		if len(a.in.Addresses) == 0 || overlap(c.Addresses, a.in.Addresses) {
			a.card = &a.az.Cards[i]
			for _, x := range c.Addresses {
				if !slices.Contains(a.own, x) {
					a.own = append(a.own, x)
				}
			}
			continue
		}
		a.note("%s: the card %s has %s, which is not this node (%s): left out", c.Source, c.ID.name(), joined(c.Addresses), joined(a.in.Addresses))
	}
	if len(a.own) == 0 {
		a.skip("what depends on the node's own address: routes that lead back to it, other announcers' routes",
			"neither the configuration (underlay.address) nor a network card tells it", "az network nic show -g GROUP -n NIC")
	}
}

// ours reports whether an address is the node's own.
func (a *auditor) ours(x netip.Addr) bool { return slices.Contains(a.own, x) }

func overlap[T comparable](x, y []T) bool {
	return slices.ContainsFunc(x, func(v T) bool { return slices.Contains(y, v) })
}

// joined lists values for a sentence; an empty list is "nothing".
func joined[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return firstOf(texts, 5)
}

// or returns a name, or what a person has to fill in.
func or(name, placeholder string) string { return cmp.Or(name, placeholder) }

// target is the "-g GROUP -n NAME" of a resource's command.
func target(id resourceID, placeholder string) string {
	return "-g " + or(id.part("resourceGroups"), "GROUP") + " -n " + or(id.name(), placeholder)
}

func on(flag *bool) bool  { return flag != nil && *flag }
func off(flag *bool) bool { return flag != nil && !*flag }

// covered reports whether one of the prefixes has all of p.
func covered(p netip.Prefix, by []netip.Prefix) bool {
	return slices.ContainsFunc(by, func(b netip.Prefix) bool { return b.Bits() <= p.Bits() && b.Contains(p.Addr()) })
}

// routes is "1 route" or "3 routes".
func routes(n int) string {
	if n == 1 {
		return "1 route"
	}
	return fmt.Sprintf("%d routes", n)
}
