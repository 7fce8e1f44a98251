package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Limits of Azure (azure.md 1.3).
const (
	defaultCap        = 4000 // routes of one peer to a Route Server, by default
	expressRouteLimit = 1000 // prefixes to an ExpressRoute gateway, those of its VNet included
	minMergedBits     = 8    // no aggregate is shorter: it would be half a default route
)

// aggregateName is the neighbor's name in the source of an aggregate (role
// Local), by which Fit knows in its last good set what stands for others.
const aggregateName = "aggregate"

// BudgetLevel says how near the announced set is to the limit.
type BudgetLevel uint8

const (
	// BudgetOK is below 80 % of both limits.
	BudgetOK BudgetLevel = iota
	// BudgetWarning is 80 % of the working set, or of what ExpressRoute takes.
	BudgetWarning
	// BudgetExceeded is too many even when aggregated.
	BudgetExceeded
)

// String is the level as the API and the command line show it.
func (l BudgetLevel) String() string {
	switch l {
	case BudgetOK:
		return "ok"
	case BudgetWarning:
		return "warning"
	case BudgetExceeded:
		return "exceeded"
	}
	return fmt.Sprintf("unknown(%d)", uint8(l))
}

// Budget is what one Route Server takes of us.
type Budget struct {
	// Cap is at how many routes of a peer it ends the session; 0 is 4,000. It
	// counts what was announced and what comes in, so half of it is usable.
	Cap int
	// Supernets may be announced in place of everything inside, though they
	// cover more than that. Of nested ones the outermost is tried first;
	// shorter ones than /8 are ignored.
	Supernets []netip.Prefix
	// Aggregating is whether the last plan had aggregates (Aggregated was not
	// empty): then it stays so down to 90 % of the limit.
	Aggregating bool
}

// Plan is what is announced to a Route Server.
type Plan struct {
	Announce   []Route                       // by prefix
	Aggregated map[netip.Prefix]netip.Prefix // a route that is not announced: the aggregate that stands for it
	Level      BudgetLevel
	Held       bool   // there are too many: what was announced last is held, as far as it still exists
	Reason     string // a sentence for a person
	Limit      int    // routes that may be announced: half the cap
	Count      int    // that are
}

// Everything reports whether each route is announced as it is.
func (p Plan) Everything() bool { return !p.Held && len(p.Aggregated) == 0 }

// halves finds the route of the other half of low's parent, if both may be
// announced as one. It is a parameter only so that a test can have it wrong.
type halves func(set map[netip.Prefix]Route, low Route) (high Route, ok bool)

// Fit decides what is announced of the exported routes, one of each prefix,
// so that refreshing all of it at once stays within the cap.
//
// If there are more than half the cap, the configured supernets stand for what
// is in them, and then sibling prefixes with equal attributes are merged, the
// longest first, down to 90 % of the limit if that is possible: the 10 % are
// the hysteresis. An aggregate takes on what its routes have in common (RFC
// 4271, section 9.2.2.2, without an AS_SET: RFC 9774). If there are still too
// many, the last good set is held: a session that is torn down loses them all.
// That is what the last plan announced that was not Held, so that a route which
// goes and comes back is announced again. Without one, the shortest prefixes go out.
//
// An aggregate needs no second look by Export: it is in the VNet or in a
// protected prefix only if the routes that it stands for are.
func Fit(b Budget, routes, lastGood []Route) Plan { return fit(b, routes, lastGood, siblings) }

func fit(b Budget, routes, lastGood []Route, other halves) Plan {
	routeCap := b.Cap
	if routeCap <= 0 {
		routeCap = defaultCap
	}
	a := newAggregator(routes)
	plan := Plan{Limit: routeCap / 2}
	target := plan.Limit * 9 / 10
	if len(a.set) > plan.Limit || b.Aggregating && len(a.set) > target {
		a.supernets(b.Supernets)
		a.merge(target, other)
	}
	plan.Announce = a.routes()
	if excess := len(plan.Announce) - plan.Limit; excess > 0 {
		plan.Held, plan.Level = true, BudgetExceeded
		plan.Reason = exceededReason(plan.Announce, excess, plan.Limit)
		plan.Announce = hold(plan.Announce, routes, lastGood, plan.Limit)
	}
	plan.Aggregated = standIns(routes, plan.Announce)
	plan.Count = len(plan.Announce)
	if !plan.Held {
		plan.Level, plan.Reason = judge(&plan, len(routes))
	}
	return plan
}

// aggregator turns a set of routes into a smaller one.
type aggregator struct {
	set map[netip.Prefix]Route
}

func newAggregator(routes []Route) *aggregator {
	a := &aggregator{set: make(map[netip.Prefix]Route, len(routes))}
	for _, r := range routes {
		a.set[r.Prefix] = r
	}
	return a
}

func (a *aggregator) routes() []Route {
	return slices.SortedFunc(maps.Values(a.set), byPrefix)
}

func byPrefix(x, y Route) int { return x.Prefix.Compare(y.Prefix) }

// supernets replaces what is in a configured supernet, wherever that is two
// routes or more. All supernets are used once the budget is exceeded, not as
// few as would do: a set that depends on the last route more is hard to predict.
func (a *aggregator) supernets(list []netip.Prefix) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(x, y netip.Prefix) int { return cmp.Compare(x.Bits(), y.Bits()) })
	for _, s := range list {
		s = s.Masked()
		if s.Bits() < minMergedBits { // also an invalid one
			continue
		}
		var inside []Route
		for _, r := range a.routes() {
			if s.Bits() <= r.Prefix.Bits() && s.Contains(r.Prefix.Addr()) {
				inside = append(inside, r)
			}
		}
		if len(inside) < 2 {
			continue
		}
		if joined, ok := join(s, inside); ok {
			for _, r := range inside {
				delete(a.set, r.Prefix)
			}
			a.set[s] = joined
		}
	}
}

// join makes the one route that stands for several. There is none if they
// differ in where they lead, in who may be told of them (RFC 1997) or in MED
// (RFC 4271, section 9.2.2.2), or if a path is not a sequence.
func join(p netip.Prefix, routes []Route) (Route, bool) {
	first := routes[0]
	j := Route{
		Prefix: p, ASPath: first.ASPath, Origin: first.Origin, NextHop: first.NextHop, MED: first.MED, HasMED: first.HasMED,
		Communities: first.Communities, Large: first.Large, From: Source{Role: Local, Neighbor: aggregateName},
	}
	for _, r := range routes {
		if r.ASSet || r.NextHop != first.NextHop || r.HasMED != first.HasMED || r.MED != first.MED || scope(r) != scope(first) {
			return Route{}, false
		}
		n := 0
		for n < min(len(j.ASPath), len(r.ASPath)) && j.ASPath[n] == r.ASPath[n] {
			n++
		}
		j.ASPath = slices.Clip(j.ASPath[:n]) // shared with the routes: an append must not write into theirs
		j.Origin = max(j.Origin, r.Origin)
		j.Communities = intersection(j.Communities, r.Communities)
		j.Large = intersection(j.Large, r.Large)
	}
	return j, true
}

// scope tells the communities of a route by which it must not go everywhere.
func scope(r Route) [3]bool {
	return [3]bool{
		slices.Contains(r.Communities, communityNoAdvertise),
		slices.Contains(r.Communities, communityNoExport),
		slices.Contains(r.Communities, communityNoExportSubconfed),
	}
}

func intersection[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(v T) bool { return !slices.Contains(b, v) })
}

// merge replaces siblings by their parents, the longest prefixes first, until
// at most target routes are left or nothing can be merged.
func (a *aggregator) merge(target int, other halves) {
	var byBits [129][]netip.Prefix
	for p := range a.set {
		byBits[p.Bits()] = append(byBits[p.Bits()], p)
	}
	for bits := len(byBits) - 1; bits > minMergedBits; bits-- {
		// The order decides which merge is the last that is needed.
		slices.SortFunc(byBits[bits], netip.Prefix.Compare)
		for _, p := range slices.Compact(byBits[bits]) {
			if len(a.set) <= target {
				return
			}
			low, there := a.set[p]
			parent := netip.PrefixFrom(p.Addr(), bits-1).Masked()
			if !there || parent.Addr() != p.Addr() {
				continue // merged already, or an upper half
			}
			high, ok := other(a.set, low)
			if !ok {
				continue
			}
			delete(a.set, low.Prefix)
			delete(a.set, high.Prefix)
			low.Prefix, low.From = parent, Source{Role: Local, Neighbor: aggregateName}
			a.set[parent] = low
			byBits[bits-1] = append(byBits[bits-1], parent)
		}
	}
}

// siblings are two halves with equal attributes, whose parent is not there
// already with others: what is longest for an address keeps its attributes.
func siblings(set map[netip.Prefix]Route, low Route) (high Route, ok bool) {
	high, ok = set[upperHalf(low.Prefix)]
	if !ok || low.ASSet || !sameAttributes(low, high) {
		return Route{}, false
	}
	parent, taken := set[netip.PrefixFrom(low.Prefix.Addr(), low.Prefix.Bits()-1)]
	return high, !taken || sameAttributes(low, parent)
}

// upperHalf is the sibling of the lower half p: with the last bit of the network set.
func upperHalf(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	bit := p.Bits() - 1
	b[bit/8] |= 0x80 >> (bit % 8)
	addr, _ := netip.AddrFromSlice(b) // AsSlice's lengths are right
	return netip.PrefixFrom(addr, p.Bits())
}

// sameAttributes compares what is on the wire beside the prefix.
func sameAttributes(a, b Route) bool {
	a.Prefix, a.From = b.Prefix, b.From
	return a.Equal(b)
}

// isAggregate reports whether Fit made the route.
// IsAggregate reports whether Fit made a route, of others.
func IsAggregate(r Route) bool { return r.From.Role == Local && r.From.Neighbor == aggregateName }

// standIns finds for each route that is not announced the longest aggregate that covers it.
func standIns(routes, announce []Route) map[netip.Prefix]netip.Prefix {
	announced, aggregates := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
	for _, r := range announce {
		announced[r.Prefix] = true
		if IsAggregate(r) {
			aggregates[r.Prefix] = true
		}
	}
	m := map[netip.Prefix]netip.Prefix{}
	for _, r := range routes {
		for bits := r.Prefix.Bits() - 1; bits >= minMergedBits && !announced[r.Prefix]; bits-- {
			p := netip.PrefixFrom(r.Prefix.Addr(), bits).Masked()
			if aggregates[p] {
				m[r.Prefix] = p
				break
			}
		}
	}
	return m
}

// hold is the last good set without what is gone, in at most limit routes; if
// nothing is left of it, the first of the aggregated ones. What is there still
// is announced as it is now: somebody may have marked it NO_ADVERTISE since.
func hold(aggregated, routes, lastGood []Route, limit int) []Route {
	now := newAggregator(routes)
	inside := map[netip.Prefix][]Route{} // of the aggregates: what they stand for now
	for _, r := range lastGood {
		if IsAggregate(r) {
			inside[r.Prefix] = nil
		}
	}
	for _, r := range now.routes() {
		for bits := r.Prefix.Bits(); bits >= minMergedBits; bits-- {
			p := netip.PrefixFrom(r.Prefix.Addr(), bits).Masked()
			if members, wanted := inside[p]; wanted {
				inside[p] = append(members, r)
			}
		}
	}
	var held []Route
	for _, r := range lastGood {
		current, there := now.set[r.Prefix]
		members := inside[r.Prefix]
		switch {
		case IsAggregate(r) && len(members) > 0:
			if joined, ok := join(r.Prefix, members); ok {
				r = joined // else they differ by now, and the old one still reaches them
			}
			held = append(held, r)
		case there:
			held = append(held, current)
		}
	}
	if len(held) == 0 {
		held = slices.Clone(aggregated)
	}
	if len(held) > limit { // none is good, or that was of a larger cap
		slices.SortFunc(held, func(x, y Route) int {
			return cmp.Or(cmp.Compare(x.Prefix.Bits(), y.Prefix.Bits()), x.Prefix.Compare(y.Prefix))
		})
		held = held[:limit]
	}
	slices.SortFunc(held, byPrefix)
	return held
}

// judge says how near a plan that fits is to the limits. What is marked
// NO_ADVERTISE goes to NICs only, so it does not count for ExpressRoute.
func judge(plan *Plan, routes int) (BudgetLevel, string) {
	gateways := 0
	for _, r := range plan.Announce {
		if !slices.Contains(r.Communities, communityNoAdvertise) {
			gateways++
		}
	}
	reason := fmt.Sprintf("%d of at most %d routes are announced", plan.Count, plan.Limit)
	if len(plan.Aggregated) > 0 {
		reason += fmt.Sprintf(", aggregated from %d", routes)
	}
	switch {
	case gateways*10 >= expressRouteLimit*8:
		return BudgetWarning, reason + fmt.Sprintf("; %d of them go to the gateways, and ExpressRoute goes down beyond %d, the VNet's own prefixes included", gateways, expressRouteLimit)
	case plan.Count > 0 && plan.Count*10 >= plan.Limit*8:
		return BudgetWarning, reason + ": that is 80 % or more"
	}
	return BudgetOK, reason
}

// exceededReason says how many are too many, and which supernet would help.
func exceededReason(routes []Route, excess, limit int) string {
	s := fmt.Sprintf("there are %d routes even when aggregated, %d more than the limit of %d, so what was announced last is held", len(routes), excess, limit)
	best, saved := netip.Prefix{}, 0
	for bits := 24; bits >= minMergedBits && saved < excess; bits -= 4 {
		groups := map[netip.Prefix][]Route{}
		for _, r := range routes {
			if r.Prefix.Bits() >= bits {
				p := netip.PrefixFrom(r.Prefix.Addr(), bits).Masked()
				groups[p] = append(groups[p], r)
			}
		}
		for _, p := range slices.SortedFunc(maps.Keys(groups), netip.Prefix.Compare) {
			if _, ok := join(p, groups[p]); ok && len(groups[p])-1 > saved {
				best, saved = p, len(groups[p])-1
			}
		}
	}
	switch {
	case saved == 0:
		return s + "; no supernet helps, because the routes differ in next hop, MED or NO_ADVERTISE: announce fewer"
	case saved < excess:
		return s + fmt.Sprintf("; configure several supernets: %s would save %d, the most that one can", best, saved)
	}
	return s + fmt.Sprintf("; the supernet %s, if configured, would save %d", best, saved)
}
