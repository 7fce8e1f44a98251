package speaker

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// rib holds all routes of a speaker. Its methods never wait: they may be called
// from any goroutine, also from one that must keep its timers.
type rib struct {
	// Constant.
	asn uint32
	// changedC has capacity 1 and says that best would return something new.
	changedC chan struct{}

	// mu guards all that follows. It is taken before an outbox's mutex.
	mu    sync.Mutex
	own   map[netip.Prefix]Path
	peers []*ribPeer
	// loc is the Loc-RIB: never an empty set.
	loc map[netip.Prefix][]Path
}

// ribPeer is a neighbour as the RIB knows it.
type ribPeer struct {
	cfg   Peer
	stats *peerStats
	in    map[netip.Prefix]Path
	// box is where its announcements go; nil without a session. out and
	// local belong to the session.
	box   *outbox
	out   map[netip.Prefix]Path
	local netip.Addr
	burst burst
}

// burst counts what a burst of UPDATEs brings, for MaxPrefixes.
type burst struct {
	last  time.Time // of the UPDATE before
	base  int       // prefixes there when the burst began
	count int       // prefixes announced since
}

// add returns what the neighbour's limit is compared with after n more prefixes.
func (b *burst) add(now time.Time, gap time.Duration, current, n int) int {
	if b.last.IsZero() || now.Sub(b.last) >= gap {
		b.base, b.count = current, 0
	}
	b.last = now
	b.count += n
	return b.base + b.count
}

func newRIB(asn uint32) *rib {
	return &rib{
		asn:      asn,
		changedC: make(chan struct{}, 1),
		own:      make(map[netip.Prefix]Path),
		loc:      make(map[netip.Prefix][]Path),
	}
}

func (r *rib) addPeer(cfg Peer, stats *peerStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers = append(r.peers, &ribPeer{
		cfg: cfg, stats: stats, in: make(map[netip.Prefix]Path), out: make(map[netip.Prefix]Path),
	})
}

func (r *rib) peerLocked(name string) *ribPeer {
	i := slices.IndexFunc(r.peers, func(p *ribPeer) bool { return p.cfg.Name == name })
	return r.peers[i] // names come from the same configuration
}

// up begins a session: everything the neighbour is to know goes into its outbox.
func (r *rib) up(name string, box *outbox, local netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peerLocked(name)
	p.box, p.local, p.burst = box, local, burst{}
	for prefix := range r.loc {
		r.advertiseLocked(p, prefix)
	}
}

// down ends a session and forgets what the neighbour announced.
func (r *rib) down(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peerLocked(name)
	gone := slices.Collect(maps.Keys(p.in))
	p.box = nil
	clear(p.in)
	clear(p.out)
	p.countLocked()
	r.recomputeLocked(gone)
}

// readvertise puts all announcements into the outbox again (RFC 2918, section 4).
func (r *rib) readvertise(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peerLocked(name)
	if p.box == nil {
		return
	}
	for prefix, path := range p.out {
		p.box.announce(prefix, path)
	}
	p.box.signal()
}

// update takes one UPDATE of a neighbour. The error is the *MessageError that
// ends the session if the neighbour is over its limit; then nothing has changed.
func (r *rib) update(name string, withdrawn []netip.Prefix, announced []Path, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peerLocked(name)
	if limit := p.cfg.MaxPrefixes; limit > 0 && len(announced) > 0 {
		if n := p.limitedLocked(announced, now); n > limit {
			return overLimit(limit, len(p.in), n)
		}
	}
	touched := make([]netip.Prefix, 0, len(withdrawn)+len(announced))
	for _, prefix := range withdrawn {
		delete(p.in, prefix)
		touched = append(touched, prefix)
	}
	for _, path := range announced {
		touched = append(touched, path.Prefix)
		if path, ok := r.importLocked(p, path); ok {
			p.in[path.Prefix] = path
		} else {
			delete(p.in, path.Prefix)
		}
	}
	p.countLocked()
	r.recomputeLocked(touched)
	return nil
}

// limitedLocked is what MaxPrefixes is compared with.
func (p *ribPeer) limitedLocked(announced []Path, now time.Time) int {
	if p.cfg.CountIncoming {
		return p.burst.add(now, p.cfg.Burst, len(p.in), len(announced))
	}
	n := len(p.in)
	for _, path := range announced {
		if _, known := p.in[path.Prefix]; !known {
			n++
		}
	}
	return n
}

// overLimit is the notification of RFC 4486, section 4, with AFI, SAFI and limit.
func overLimit(limit, current, n int) error {
	data := binary.BigEndian.AppendUint32([]byte{0, 1, 1}, uint32(limit))
	return newMessageError(codeCease, ceaseMaxPrefixes, data,
		"%d prefixes are there, with those announced %d (limit %d)", current, n, limit)
}

func (r *rib) importLocked(p *ribPeer, path Path) (Path, bool) {
	if path.HasAS(r.asn) { // RFC 4271, section 9.1.2
		p.stats.asLoop.Add(1)
		return path, false
	}
	path.From, path.Peer, path.Preference = p.cfg.Name, p.cfg.Addr, p.cfg.Preference
	if p.cfg.Import == nil {
		return path, true
	}
	prefix := path.Prefix
	path, ok := p.cfg.Import(path)
	path.Prefix, path.From, path.Peer = prefix, p.cfg.Name, p.cfg.Addr
	if !ok {
		p.stats.importRefused.Add(1)
	}
	return path, ok
}

// originate adds or replaces own paths.
func (r *rib) originate(paths []Path) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range paths {
		r.own[p.Prefix] = p
	}
	r.ownChangedLocked(nil)
}

// withdrawOwn removes own paths.
func (r *rib) withdrawOwn(prefixes []netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range prefixes {
		delete(r.own, p)
	}
	r.ownChangedLocked(prefixes)
}

// ownChangedLocked looks at every prefix again: an own one shields all that it covers.
func (r *rib) ownChangedLocked(gone []netip.Prefix) {
	all := slices.Concat(gone, slices.Collect(maps.Keys(r.own)), slices.Collect(maps.Keys(r.loc)))
	for _, p := range r.peers {
		all = slices.AppendSeq(all, maps.Keys(p.in))
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	r.recomputeLocked(slices.Compact(all))
}

// recomputeLocked runs the decision process (RFC 4271, section 9.1) for the prefixes.
func (r *rib) recomputeLocked(prefixes []netip.Prefix) {
	changed := false
	for _, prefix := range prefixes {
		set := r.decideLocked(prefix)
		if slices.EqualFunc(set, r.loc[prefix], Path.equal) {
			continue
		}
		changed = true
		if len(set) == 0 {
			delete(r.loc, prefix)
		} else {
			r.loc[prefix] = set
		}
		for _, p := range r.peers {
			r.advertiseLocked(p, prefix)
		}
	}
	if changed {
		select {
		case r.changedC <- struct{}{}:
		default:
		}
	}
}

// decideLocked returns the best path and those as good: an own path alone, else
// by preference, then the shorter AS path; among those the lowest neighbour
// address is first (RFC 4271, section 9.1.2.2(g)). Origin and MED are not
// looked at: nobody has seen a Route Server do it.
func (r *rib) decideLocked(prefix netip.Prefix) []Path {
	if own, ok := r.own[prefix]; ok {
		return []Path{own}
	}
	shielded := r.coveredLocked(prefix)
	var set []Path
	for _, p := range r.peers {
		path, ok := p.in[prefix]
		if !ok || shielded && p.cfg.ShieldOriginated {
			continue
		}
		if len(set) > 0 {
			switch c := compareRank(path, set[0]); {
			case c > 0:
				continue
			case c < 0:
				set = nil
			}
		}
		set = append(set, path)
	}
	slices.SortFunc(set, func(a, b Path) int { return a.Peer.Compare(b.Peer) })
	return set
}

// compareRank is negative if a is better than b, zero if they are as good.
func compareRank(a, b Path) int {
	return cmp.Or(cmp.Compare(b.Preference, a.Preference), cmp.Compare(a.Length(), b.Length()))
}

// coveredLocked reports whether an own prefix is equal to or contains the prefix.
func (r *rib) coveredLocked(prefix netip.Prefix) bool {
	for own := range r.own {
		if own.Bits() <= prefix.Bits() && own.Contains(prefix.Addr()) {
			return true
		}
	}
	return false
}

// advertiseLocked brings a neighbour's Adj-RIB-Out up to date for one prefix.
func (r *rib) advertiseLocked(p *ribPeer, prefix netip.Prefix) {
	if p.box == nil {
		return
	}
	var path Path
	ok := false
	if set := r.loc[prefix]; len(set) > 0 {
		path, ok = r.exportLocked(p, set[0])
	}
	old, had := p.out[prefix]
	switch {
	case ok && (!had || !path.sameRoute(old)):
		p.out[prefix] = path
		p.box.announce(prefix, path)
	case !ok && had:
		delete(p.out, prefix)
		p.box.withdraw(prefix)
	default:
		return
	}
	p.countLocked()
	p.box.signal()
}

// exportLocked is what the neighbour is told of a path, if anything.
func (r *rib) exportLocked(p *ribPeer, path Path) (Path, bool) {
	learned := path.From != ""
	if learned {
		// RFC 1997: for all other neighbours are in another AS.
		if path.From == p.cfg.Name || path.HasCommunity(NoAdvertise) || path.HasCommunity(NoExport) {
			return path, false
		}
		path.MED, path.HasMED = 0, false
	}
	if p.cfg.Export != nil {
		var ok bool
		prefix := path.Prefix
		if path, ok = p.cfg.Export(path); !ok {
			return path, false
		}
		path.Prefix = prefix
	}
	path = prependAS(path, r.asn)
	if learned || !path.NextHop.IsValid() {
		path.NextHop = p.local
	}
	return path, true
}

func (p *ribPeer) countLocked() {
	p.stats.prefixesIn.Store(int64(len(p.in)))
	p.stats.prefixesOut.Store(int64(len(p.out)))
}

// best returns the Loc-RIB, sorted by prefix.
func (r *rib) best() []Best {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Best, 0, len(r.loc))
	for prefix, set := range r.loc {
		out = append(out, Best{Prefix: prefix, Paths: slices.Clone(set)})
	}
	slices.SortFunc(out, func(a, b Best) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

func (r *rib) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.loc)
}

func (r *rib) received(name string) []Path {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedPaths(r.peerLocked(name).in)
}

func (r *rib) announced(name string) []Path {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedPaths(r.peerLocked(name).out)
}

func sortedPaths(m map[netip.Prefix]Path) []Path {
	return slices.SortedFunc(maps.Values(m), func(a, b Path) int { return a.Prefix.Compare(b.Prefix) })
}
