package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

// rib is everything the speaker knows: what was received on each session,
// what was selected, and what every neighbor is told. The owner changes it,
// with Speaker.mu held.
type rib struct {
	conf      Config
	env       policy.Env
	local     map[netip.Prefix]policy.Route // what the configuration originates
	neighbors []*neighbor                   // in the order of the configuration
	selected  map[netip.Prefix]selection

	// vnet are the VNet prefixes learned. They are kept while a session is
	// away, so that at its return nothing of them is announced before the
	// Route Server has told them again.
	vnet     map[netip.Prefix]struct{}
	vnetSeen bool // a Route Server has told all it has at least once

	// ghosts were withdrawn from a Route Server and are refused until then, where
	// a shorter prefix would send their packets back into the fabric.
	ghosts map[netip.Prefix]time.Time

	dirty   map[netip.Prefix]struct{} // to be selected and exported again
	stance  Stance
	changed bool // the selection differs from what OnRoutes got
}

// neighbor is one configured neighbor and its engine.
type neighbor struct {
	conf     Neighbor
	engine   engine        // nil until started
	gone     chan struct{} // closed before the engine stops: its events are not wanted any more
	sessions []*session    // in the order of conf.Addrs

	exports   map[netip.Prefix]policy.Verdict // of every selected route
	announced map[netip.Prefix]policy.Route   // what the engine holds
	budget    budget                          // of a Route Server
}

// session is one BGP session.
type session struct {
	peer       netip.Addr
	state      State
	since      time.Time // of state
	lastError  string    // why it last ended, or did not come up
	eor        bool
	lastUpdate time.Time
	received   map[netip.Prefix]received

	// What is kept of a peer that restarts (RFC 4724, section 4.2): how long it may
	// be away, until when that is, and what it has not told again since.
	restart    time.Duration
	staleUntil time.Time
	stale      map[netip.Prefix]struct{}

	// Of a sibling: what it last said of itself, and whether it ever did.
	standing policy.Standing
	told     bool // it has told all it has at least once in this session

	flaps     uint64    // how often it left Established
	malformed uint64    // UPDATEs taken as withdrawals since the start
	limited   time.Time // it told more than it may: not started before
	failures  int       // attempts that ended early, in a row
	recycleAt time.Time // when to start afresh; zero: not planned
	recycled  time.Time // when that was done last
	knocked   time.Time // when the peer last opened a connection although it has one
}

// received is an entry of the Adj-RIB-In.
type received struct {
	route   policy.Route // as received
	verdict policy.Verdict
}

// selection is an entry of the Loc-RIB.
type selection struct {
	route policy.Route // as imported
	also  []string     // further tunnels that are as good
	why   string
}

func newRIB(c Config) *rib {
	r := &rib{
		ghosts:   map[netip.Prefix]time.Time{},
		selected: map[netip.Prefix]selection{}, vnet: map[netip.Prefix]struct{}{}, dirty: map[netip.Prefix]struct{}{},
	}
	r.configure(c)
	return r
}

// configure takes a new configuration, but for its neighbors' sessions.
func (r *rib) configure(c Config) {
	r.conf = c
	r.refreshEnv()
	for p := range r.local {
		r.dirty[p] = struct{}{}
	}
	r.local = map[netip.Prefix]policy.Route{}
	for _, route := range policy.Originated(&r.env) {
		r.local[route.Prefix] = route
		r.dirty[route.Prefix] = struct{}{}
	}
}

// refreshEnv rebuilds what the rules know, and has every route judged again.
func (r *rib) refreshEnv() {
	c := r.conf
	r.env = policy.Env{
		ASN: c.ASN, Site: c.Site, VNet: slices.Clone(c.VNet),
		Protected: slices.Clone(c.Protected), AllowHostRoutes: c.AllowHostRoutes, Originate: c.Originate,
		Priority: c.Priority, Prepend: r.env.Prepend,
	}
	for p := range r.vnet {
		r.env.VNet = append(r.env.VNet, p)
	}
	slices.SortFunc(r.env.VNet, comparePrefix)
	r.env.VNet = slices.Compact(r.env.VNet)
	r.env.VNetKnown = r.vnetSeen || len(r.env.VNet) > 0
	for _, n := range c.Neighbors {
		if n.Role == policy.Tunnel {
			r.env.TunnelASNs = append(r.env.TunnelASNs, n.ASN)
		}
		for _, a := range append(slices.Clone(n.Addrs), n.LocalAddr) {
			r.env.Protected = append(r.env.Protected, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, nb := range r.neighbors {
		for _, s := range nb.sessions {
			for p, rx := range s.received {
				rx.verdict = policy.Import(&r.env, rx.route)
				s.received[p] = rx
				r.dirty[p] = struct{}{}
			}
		}
	}
	for p := range r.selected {
		r.dirty[p] = struct{}{}
	}
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// update enters what a peer announced or withdrew. The verdicts that changed
// and are an alarm are returned.
func (r *rib) update(nb *neighbor, s *session, updates []update, now time.Time) (alarms []policy.Verdict) {
	s.lastUpdate = now
	vnetChanged := false
	for _, u := range updates {
		p := u.route.Prefix
		delete(s.stale, p)
		old, had := s.received[p]
		switch {
		case u.withdrawn && !had:
			continue
		case u.withdrawn:
			delete(s.received, p)
		default:
			rx := received{route: u.route, verdict: policy.Import(&r.env, u.route)}
			if rx.verdict.Alarm && (!had || !old.verdict.Alarm) {
				alarms = append(alarms, rx.verdict)
			}
			s.received[p] = rx
		}
		r.dirty[p] = struct{}{}
		if nb.conf.Role == policy.RouteServer {
			vnetChanged = r.learnVNet(u, had && policy.IsVNet(old.route)) || vnetChanged
		}
	}
	if vnetChanged {
		r.refreshEnv()
	}
	return alarms
}

// learnVNet keeps vnet up with an update; was says that the route was a VNet's before.
func (r *rib) learnVNet(u update, was bool) (changed bool) {
	p := u.route.Prefix
	_, known := r.vnet[p]
	is := !u.withdrawn && policy.IsVNet(u.route)
	switch {
	case is && !known:
		r.vnet[p] = struct{}{}
		return true
	case was && !is && known && !r.toldAsVNet(p):
		delete(r.vnet, p)
		return true
	}
	return false
}

func (r *rib) toldAsVNet(p netip.Prefix) bool {
	for _, nb := range r.neighbors {
		for _, s := range nb.sessions {
			if rx, ok := s.received[p]; ok && policy.IsVNet(rx.route) {
				return true
			}
		}
	}
	return false
}

// settleVNet is called when all sessions with Route Servers have told all they
// have: what is not among it is no VNet prefix any more.
func (r *rib) settleVNet() {
	changed := !r.vnetSeen
	r.vnetSeen = true
	for p := range r.vnet {
		if !r.toldAsVNet(p) {
			delete(r.vnet, p)
			changed = true
		}
	}
	if changed {
		r.refreshEnv()
	}
}

// flush forgets what a session told.
func (r *rib) flush(s *session) {
	for p := range s.received {
		r.dirty[p] = struct{}{}
	}
	s.received = map[netip.Prefix]received{}
	s.eor, s.told = false, false
	s.stale, s.staleUntil = nil, time.Time{}
}

// retain keeps what a session told while its peer restarts.
func (s *session) retain(now time.Time) {
	s.eor, s.told = false, false
	s.staleUntil = now.Add(min(s.restart, maxStale))
	s.stale = make(map[netip.Prefix]struct{}, len(s.received))
	for p := range s.received {
		s.stale[p] = struct{}{}
	}
}

// purge forgets what a peer has not told again after its restart.
func (r *rib) purge(s *session) {
	for p := range s.stale {
		delete(s.received, p)
		r.dirty[p] = struct{}{}
	}
	s.stale, s.staleUntil = nil, time.Time{}
}

// work is what has to be said to one engine.
type work struct {
	to       *neighbor
	withdraw []netip.Prefix
	announce []policy.Route
	replaced []netip.Prefix // to be withdrawn last: something announced stands for them
}

// recompute selects and exports the dirty prefixes, and returns the difference
// between what every neighbor should be told and what its engine holds.
func (r *rib) recompute(now time.Time) []work {
	dirty := make([]netip.Prefix, 0, len(r.dirty))
	for p := range r.dirty {
		dirty = append(dirty, p)
	}
	clear(r.dirty)
	slices.SortFunc(dirty, comparePrefix)
	for _, p := range dirty {
		r.selectPrefix(p)
	}
	var all []work
	for _, nb := range r.neighbors {
		w := work{to: nb}
		for _, p := range dirty {
			r.export(&w, p)
		}
		if nb.conf.Role == policy.RouteServer {
			r.fit(&w, now)
			for _, p := range w.withdraw {
				r.ghosts[p] = now.Add(ghostTime)
				r.changed = r.changed || r.fallsToCard(p)
			}
		}
		if len(w.withdraw)+len(w.announce)+len(w.replaced) > 0 {
			all = append(all, w)
		}
	}
	return all
}

func (r *rib) selectPrefix(p netip.Prefix) {
	var candidates []policy.Route
	if route, ok := r.local[p]; ok {
		candidates = append(candidates, route)
	}
	for _, nb := range r.neighbors {
		for _, s := range nb.sessions {
			if rx, ok := s.received[p]; ok && rx.verdict.Accept {
				candidates = append(candidates, rx.verdict.Route)
			}
		}
	}
	old, had := r.selected[p]
	best, why := policy.Select(candidates)
	if best < 0 {
		delete(r.selected, p)
		r.changed = r.changed || had
		return
	}
	also := policy.Sharing(candidates, best)
	r.selected[p] = selection{route: candidates[best], also: also, why: why}
	was, is := old.route.From, candidates[best].From
	r.changed = r.changed || !had || was.Role != is.Role || was.Neighbor != is.Neighbor || !slices.Equal(old.also, also)
}

// redoExports has every route told anew, or not, after something changed that
// is in all of them.
func (r *rib) redoExports() {
	for p := range r.selected {
		r.dirty[p] = struct{}{}
	}
	for _, nb := range r.neighbors {
		for p := range nb.announced {
			r.dirty[p] = struct{}{}
		}
	}
}

// export decides one prefix for one neighbor.
func (r *rib) export(w *work, p netip.Prefix) {
	nb := w.to
	held, holds := nb.announced[p]
	sel, ok := r.selected[p]
	if ok {
		nb.exports[p] = policy.Export(&r.env, sel.route, nb.conf.target())
	} else {
		delete(nb.exports, p)
	}
	v := nb.exports[p]
	switch {
	case ok && v.Accept && r.stance != Refuse:
		if !holds || !sameOnWire(held, v.Route) {
			w.announce = append(w.announce, v.Route)
		}
	case holds:
		w.withdraw = append(w.withdraw, p)
	}
}

// sameOnWire ignores where a route was learned: an instance of a Route Server
// that goes away is no change if the other tells the same.
func sameOnWire(a, b policy.Route) bool {
	a.From, b.From = policy.Source{}, policy.Source{}
	return a.Equal(b)
}

// bests is the selection as the kernel's tables need it, sorted by prefix.
func (r *rib) bests() []Best {
	list := make([]Best, 0, len(r.selected))
	for p, sel := range r.selected {
		list = append(list, Best{Prefix: p, Role: sel.route.From.Role, Neighbor: sel.route.From.Neighbor, Also: sel.also})
	}
	for p := range r.ghosts {
		if r.fallsToCard(p) {
			list = append(list, Best{Prefix: p})
		}
	}
	slices.SortFunc(list, func(a, b Best) int { return comparePrefix(a.Prefix, b.Prefix) })
	return list
}

// fallsToCard reports whether a prefix that nobody tells any more would go out
// of the card, by a shorter one.
func (r *rib) fallsToCard(p netip.Prefix) bool {
	if _, ok := r.selected[p]; ok {
		return false
	}
	for bits := p.Bits() - 1; bits >= 0; bits-- {
		if sel, ok := r.selected[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok {
			return sel.route.From.Role == policy.RouteServer || sel.route.From.Role == policy.Local
		}
	}
	return false
}

// forgetGhosts ends those whose time is over.
func (r *rib) forgetGhosts(now time.Time) {
	for p, until := range r.ghosts {
		if now.Before(until) {
			continue
		}
		delete(r.ghosts, p)
		if r.fallsToCard(p) {
			r.dirty[p], r.changed = struct{}{}, true
		}
	}
}

func (n *neighbor) session(peer netip.Addr) *session {
	for _, s := range n.sessions {
		if s.peer == peer {
			return s
		}
	}
	return nil
}
