package fib

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Tables are the numbers of our routing tables.
//
// Relay is Remote without what leads to siblings: what a sibling sent goes to
// another site or nowhere, so two siblings never send a packet to and fro.
type Tables struct{ Underlay, Site, Remote, Relay uint32 }

// Route is one route as the kernel holds it.
type Route struct {
	Prefix netip.Prefix
	Table  uint32
	// Unreachable refuses packets; such a route has no device.
	Unreachable bool
	// Metric: of several routes for a prefix the lowest counts.
	Metric uint32
	Device string
	// More are further devices among which flows are spread, sorted and joined
	// by commas: a string, so that routes can be compared.
	More    string
	Gateway netip.Addr // invalid: on the link
	Source  netip.Addr // preferred source of the box's own packets; invalid: the kernel chooses
}

// String is the route as "ip route" would take it.
func (r Route) String() string {
	var b strings.Builder
	if r.Unreachable {
		b.WriteString("unreachable ")
	}
	if r.Prefix.Bits() == 0 {
		b.WriteString("default")
	} else {
		b.WriteString(r.Prefix.String())
	}
	if r.Gateway.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Gateway)
	}
	if r.More == "" && !r.Unreachable {
		fmt.Fprintf(&b, " dev %s", r.Device)
	}
	if r.Source.IsValid() {
		fmt.Fprintf(&b, " src %s", r.Source)
	}
	if r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	fmt.Fprintf(&b, " table %d", r.Table)
	if r.More != "" {
		for _, device := range r.Devices() {
			fmt.Fprintf(&b, " nexthop dev %s", device)
		}
	}
	return b.String()
}

// Devices are all that the route leads out of.
func (r Route) Devices() []string {
	if r.Unreachable {
		return nil
	}
	if r.More == "" {
		return []string{r.Device}
	}
	return append([]string{r.Device}, strings.Split(r.More, ",")...)
}

// routeKey is what the kernel has one route for.
type routeKey struct {
	table  uint32
	prefix netip.Prefix
	metric uint32
}

func (r Route) key() routeKey { return routeKey{r.Table, r.Prefix, r.Metric} }

// Rule is one policy rule.
type Rule struct {
	Priority int
	IPv6     bool
	Mark     uint32 // 0: any
	IifName  string // empty: any
	NotIif   bool   // every input device but IifName
	Table    uint32 // 0 with Unreachable
	// NoDefault ignores the table's default route (suppress_prefixlength 0).
	NoDefault   bool
	Unreachable bool
}

// String is the rule as "ip rule" would show it.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", r.Priority)
	if r.NotIif {
		b.WriteString(" not")
	}
	b.WriteString(" from all")
	if r.Mark != 0 {
		fmt.Fprintf(&b, " fwmark %#x", r.Mark)
	}
	if r.IifName != "" {
		fmt.Fprintf(&b, " iif %s", r.IifName)
	}
	if r.Unreachable {
		b.WriteString(" unreachable")
	} else {
		fmt.Fprintf(&b, " lookup %d", r.Table)
	}
	if r.NoDefault {
		b.WriteString(" suppress_prefixlength 0")
	}
	if r.IPv6 {
		b.WriteString(" (IPv6)")
	}
	return b.String()
}

// State is a set of routes and rules.
type State struct {
	Routes []Route
	Rules  []Rule
}

// String lists rules and routes, one a line, sorted.
func (s State) String() string {
	rules, routes := slices.Clone(s.Rules), slices.Clone(s.Routes)
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	slices.SortFunc(routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintln(&b, r)
	}
	for _, r := range routes {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// Changes lead from one state to another.
type Changes struct {
	SetRoutes []Route // to add, or to put in the place of another for the same prefix
	DelRoutes []Route
	AddRules  []Rule
	DelRules  []Rule
}

// Len is how many there are.
func (c Changes) Len() int {
	return len(c.SetRoutes) + len(c.DelRoutes) + len(c.AddRules) + len(c.DelRules)
}

// Diff finds the changes that make want out of have. A rule that have holds
// twice is deleted once.
func Diff(have, want State) (c Changes) {
	had := make(map[routeKey]Route, len(have.Routes))
	for _, r := range have.Routes {
		had[r.key()] = r
	}
	for _, r := range want.Routes {
		if old, ok := had[r.key()]; !ok || old != r {
			c.SetRoutes = append(c.SetRoutes, r)
		}
		delete(had, r.key())
	}
	for _, r := range have.Routes {
		if left, ok := had[r.key()]; ok && left == r {
			c.DelRoutes = append(c.DelRoutes, r)
		}
	}
	rules := make(map[Rule]int, len(have.Rules))
	for _, r := range have.Rules {
		rules[r]++
	}
	for _, r := range want.Rules {
		if rules[r] > 0 {
			rules[r]--
		} else {
			c.AddRules = append(c.AddRules, r)
		}
	}
	for _, r := range have.Rules {
		if rules[r] > 0 {
			rules[r]--
			c.DelRules = append(c.DelRules, r)
		}
	}
	return c
}
