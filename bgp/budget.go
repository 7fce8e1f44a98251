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
	// refreshes are those that have been answered, as the engine counts them.
	refreshes uint64
}

// tight reports whether several announcements of everything in one burst would
// be too much.
func (nb *neighbor) tight() bool {
	return nb.conf.Role == policy.RouteServer && nb.engine != nil && 5*len(nb.announced) > nb.conf.maxRoutes()
}

// noteRefreshes counts as sent what GoBGP has said again by itself.
func (s *Speaker) noteRefreshes(now time.Time) {
	for _, nb := range s.neighbors() {
		s.mu.Lock()
		tight := nb.tight()
		s.mu.Unlock()
		if !tight {
			continue
		}
		n := nb.engine.refreshes()
		s.mu.Lock()
		if n > nb.budget.refreshes {
			nb.budget.pace.note(now, len(nb.announced), len(nb.announced))
		}
		nb.budget.refreshes = n
		s.mu.Unlock()
	}
}

// defaultCap is Azure's limit (azure.md 1.3).
const defaultCap = 4000

// maxRoutes is the cap of a Route Server.
func (n Neighbor) maxRoutes() int { return cmp.Or(n.Cap, defaultCap) }

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

// allow says how many announcements may be sent now: of routes that are announced
// already and have changed, and of new ones. They leave room for a
// ROUTE-REFRESH, which may come at any moment and says everything once more.
// Only a change of everything at the beginning of a burst does not: another NVA
// has died, or a next hop has moved, and waiting costs more. There are never
// much more than most at a time.
func (p *pacer) allow(now time.Time, announced, changed, fresh, limit, most int) (changes, news int) {
	p.begin(now, announced)
	room := limit - p.base - p.sent
	if p.sent == 0 {
		changes = min(changed, max(0, room))
	} else {
		changes = min(changed, max(0, room-announced))
	}
	room -= changes
	news = min(fresh, max(0, min((room-announced)/2, most-announced)))
	if changes+news+p.sent == 0 {
		news = min(fresh, max(0, min(room, limit/50))) // slowly, but on
	}
	if changes+news > 0 {
		p.sent += changes + news
		p.last = now
	}
	return changes, news
}

// begin begins another burst, if the last one is over.
func (p *pacer) begin(now time.Time, announced int) {
	if now.Sub(p.last) >= burstPause {
		p.base, p.sent = announced, 0
	}
}

// note counts what was sent without being asked for; with n 0, withdrawals, which
// make a burst last longer.
func (p *pacer) note(now time.Time, announced, n int) {
	p.begin(now, announced)
	p.sent += n
	p.last = now
}

// fit brings what a Route Server is to be told within its budget. While
// everything fits as it is, the difference is what the dirty prefixes say; else
// that of the whole plan. Announcements that are too many for now are deferred.
func (r *rib) fit(w *work, now time.Time) {
	nb := w.to
	before := nb.budget.plan
	var all []policy.Route
	for _, v := range nb.exports {
		if v.Accept {
			all = append(all, v.Route)
		}
	}
	nb.budget.plan = policy.Fit(policy.Budget{Cap: r.usable(nb.conf), Supernets: r.conf.Supernets, Aggregating: len(before.Aggregated) > 0}, all, nb.budget.lastGood)
	if !nb.budget.plan.Held {
		nb.budget.lastGood = nb.budget.plan.Announce
	}
	if r.stance != Refuse && (!before.Everything() || !nb.budget.plan.Everything() || nb.holdsAggregate()) {
		r.diff(w)
	}
	nb.pace(w, now)
}

// holdsAggregate reports whether an aggregate is announced. It may be when the
// plan has none any more: what replaces it had to wait.
func (nb *neighbor) holdsAggregate() bool {
	for _, held := range nb.announced {
		if policy.IsAggregate(held) {
			return true
		}
	}
	return false
}

// usable is the cap of which Fit uses half: the Route Server's, or twice what
// the gateway takes beside the VNet's own prefixes if that is less.
func (r *rib) usable(n Neighbor) int {
	limit := n.maxRoutes()
	if n.GatewayCap > 0 {
		limit = min(limit, 2*max(1, n.GatewayCap-len(r.env.VNet)))
	}
	return limit
}

// pace defers what is too much for now, and with it the withdrawal of that for
// which the deferred stands.
func (nb *neighbor) pace(w *work, now time.Time) {
	var changed, fresh []policy.Route
	for _, route := range w.announce {
		if _, holds := nb.announced[route.Prefix]; holds {
			changed = append(changed, route)
		} else {
			fresh = append(fresh, route)
		}
	}
	if len(w.withdraw)+len(w.replaced) > 0 {
		nb.budget.pace.note(now, len(nb.announced), 0)
	}
	changes, news := nb.budget.pace.allow(now, len(nb.announced), len(changed), len(fresh), nb.conf.maxRoutes(), nb.budget.plan.Limit)
	if changes+news == len(w.announce) {
		return
	}
	// Neighboring prefixes together, so that what they replace can go.
	slices.SortFunc(fresh, func(a, b policy.Route) int { return comparePrefix(a.Prefix, b.Prefix) })
	waiting := map[netip.Prefix]bool{}
	for _, route := range slices.Concat(changed[changes:], fresh[news:]) {
		waiting[route.Prefix] = true
		nb.budget.deferred = append(nb.budget.deferred, route.Prefix)
	}
	w.announce = slices.Concat(changed[:changes], fresh[:news])
	w.replaced = slices.DeleteFunc(w.replaced, func(p netip.Prefix) bool { return replacementWaits(p, waiting) })
}

// replacementWaits reports whether a prefix that is not announced any more is
// partly or wholly in one that waits to be announced in its place.
func replacementWaits(p netip.Prefix, waiting map[netip.Prefix]bool) bool {
	for bits := p.Bits(); bits >= 0; bits-- {
		if waiting[netip.PrefixFrom(p.Addr(), bits).Masked()] {
			return true
		}
	}
	for q := range waiting {
		if q.Bits() > p.Bits() && p.Contains(q.Addr()) {
			return true
		}
	}
	return false
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
