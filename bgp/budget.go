package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

// budget is what a Route Server is told of all that it may be told, and how fast.
type budget struct {
	plan     policy.Plan
	lastGood []policy.Route // what a plan announced last that fitted
	pace     pacer
	deferred []netip.Prefix // have to wait for the next burst
}

// defaultCap is Azure's limit (azure.md 1.3).
const defaultCap = 4000

// burstPause ends what a Route Server may count as one burst of updates. That
// it counts bursts is inferred, and their length is not documented (azure.md
// 1.3): a Route Server takes longer than this for anything.
const burstPause = 2 * time.Second

// pacer keeps what is announced already, plus what is sent in one burst, below
// the cap: a route that is announced again counts twice.
type pacer struct {
	base, sent int // routes announced before the burst, and in it
	last       time.Time
}

// allow says how many of want announcements may be sent now.
func (p *pacer) allow(now time.Time, announced, want, limit int) int {
	if now.Sub(p.last) >= burstPause {
		p.base, p.sent = announced, 0
	}
	n := min(want, max(0, limit-p.base-p.sent))
	if n > 0 {
		p.sent += n
		p.last = now
	}
	return n
}

// fit brings what a Route Server is to be told within its budget. As long as
// there is plenty of room, that is what the dirty prefixes say; else the whole
// set is looked at. Announcements that are too many for now are deferred.
func (r *rib) fit(w *work, now time.Time) {
	nb := w.to
	limit := cmp.Or(nb.conf.Cap, defaultCap)
	aggregating := len(nb.budget.plan.Aggregated) > 0
	var all []policy.Route
	for _, v := range nb.exports {
		if v.Accept {
			all = append(all, v.Route)
		}
	}
	nb.budget.plan = policy.Fit(policy.Budget{Cap: limit, Supernets: r.conf.Supernets, Aggregating: aggregating}, all, nb.budget.lastGood)
	if !nb.budget.plan.Held {
		nb.budget.lastGood = nb.budget.plan.Announce
	}
	if r.stance != Refuse && (aggregating || nb.budget.plan.Held || len(nb.budget.plan.Aggregated) > 0) {
		r.diff(w)
	}
	if n := nb.budget.pace.allow(now, len(nb.announced), len(w.announce), limit); n < len(w.announce) {
		for _, route := range w.announce[n:] {
			nb.budget.deferred = append(nb.budget.deferred, route.Prefix)
		}
		w.announce = w.announce[:n]
	}
}

// diff compares the plan with what the engine holds. What goes only because
// something else stands for it goes last.
func (r *rib) diff(w *work) {
	nb := w.to
	w.announce, w.withdraw = nil, nil
	wanted := make(map[netip.Prefix]bool, len(nb.budget.plan.Announce))
	for _, route := range nb.budget.plan.Announce {
		wanted[route.Prefix] = true
		if held, holds := nb.announced[route.Prefix]; !holds || !sameOnWire(held, route) {
			w.announce = append(w.announce, route)
		}
	}
	for p, held := range nb.announced {
		switch {
		case wanted[p]:
		case nb.exports[p].Accept || policy.IsAggregate(held):
			w.replaced = append(w.replaced, p)
		default:
			w.withdraw = append(w.withdraw, p)
		}
	}
	slices.SortFunc(w.withdraw, comparePrefix)
	slices.SortFunc(w.replaced, comparePrefix)
}

// resume makes what was deferred due again when the burst is over.
func (r *rib) resume(now time.Time) {
	for _, nb := range r.neighbors {
		if len(nb.budget.deferred) > 0 && now.Sub(nb.budget.pace.last) >= burstPause {
			for _, p := range nb.budget.deferred {
				r.dirty[p] = struct{}{}
			}
			nb.budget.deferred = nil
		}
	}
}

// BudgetView says how full a Route Server is.
type BudgetView struct {
	Neighbor   string
	Level      policy.BudgetLevel
	Count      int // routes announced
	Limit      int // that may be
	Aggregated int // that others stand for
	Held       bool
	Reason     string
}

// Budgets describes every Route Server's.
func (s *Speaker) Budgets() (list []BudgetView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, nb := range s.rib.neighbors {
		if p := nb.budget.plan; nb.conf.Role == policy.RouteServer {
			list = append(list, BudgetView{Neighbor: nb.conf.Name, Level: p.Level, Count: p.Count, Limit: p.Limit, Aggregated: len(p.Aggregated), Held: p.Held, Reason: p.Reason})
		}
	}
	return list
}
