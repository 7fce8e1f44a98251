package bgp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp/policy"
)

const (
	// debounce gathers the updates of a burst: one pass over the rules and one
	// call of OnRoutes for all of them. Small beside the time that a Route
	// Server or a kernel takes, large beside the gaps within a burst.
	debounce = 10 * time.Millisecond
	// drainFlush is how long Drain lets withdrawals leave before the Cease
	// that takes the routes away anyway.
	drainFlush = 300 * time.Millisecond
	// tick is how often timers of sessions are looked at.
	tick = 250 * time.Millisecond
	// backlog of events between GoBGP's watchers and the owner.
	backlog = 256
)

// Options are what a Speaker needs besides its configuration.
type Options struct {
	// Log gets session changes and alarms; nil discards.
	Log *zap.Logger
	// OnRoutes is told the whole selection, sorted by prefix, each time its
	// part that the kernel needs has changed. It runs in the owner's goroutine:
	// while it runs no route is learned. The slice is the callee's to keep.
	OnRoutes func([]Best)
	// OnSession is told each time a session comes up or ends. It must not wait,
	// nor call the Speaker.
	OnSession func(SessionChange)
	// Stance is what the node begins with.
	Stance Stance

	engines engines // tests
}

// Best is the selected route of a prefix: a prefix has one, either of the own
// site or remote, see policy.Select.
type Best struct {
	Prefix netip.Prefix
	// Role says where traffic goes: 0 nowhere, RouteServer and Local out of the NIC
	// towards the gateway, Tunnel and Sibling into the tunnel called Neighbor.
	Role     policy.Role
	Neighbor string   // name; empty for Local
	Also     []string // further tunnels that are as good, sorted
}

// Speaker is the BGP side of a node. Make it with New, start it with Run. All
// methods may be called from any goroutine. GoBGP has variables of its own in
// the process, so there should be one running Speaker in a process.
type Speaker struct {
	log       *zap.Logger
	onRoutes  func([]Best)
	onSession func(SessionChange)
	engines   engines
	events    chan event
	ops       chan func()
	running   atomic.Bool
	stopped   chan struct{} // closed when Run has ended
	strangers atomic.Uint64

	// Owned by the Run goroutine.
	ended   bool // drained: nothing is started again
	retryAt time.Time

	mu      sync.Mutex // guards what follows; not held across calls into engines or OnRoutes
	rib     *rib
	started time.Time
}

// ErrNotRunning is returned by what needs Run to be running.
var ErrNotRunning = errors.New("bgp: the speaker is not running")

// New makes a Speaker, or says what is wrong with the configuration. It opens nothing.
func New(c Config, o Options) (*Speaker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Speaker{
		log: o.Log, onRoutes: o.OnRoutes, onSession: o.OnSession, engines: o.engines,
		events: make(chan event, backlog), ops: make(chan func()), stopped: make(chan struct{}),
		rib: newRIB(c),
	}
	s.rib.stance = o.Stance
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.onRoutes == nil {
		s.onRoutes = func([]Best) {}
	}
	if s.onSession == nil {
		s.onSession = func(SessionChange) {}
	}
	if s.engines == nil {
		s.engines = &gobgpEngines{log: s.log, listening: map[netip.Addr]*gobgpEngine{}}
	}
	for _, n := range c.Neighbors {
		s.rib.neighbors = append(s.rib.neighbors, newNeighbor(n))
	}
	return s, nil
}

func newNeighbor(c Neighbor) *neighbor {
	nb := &neighbor{
		conf: c, gone: make(chan struct{}),
		exports: map[netip.Prefix]policy.Verdict{}, announced: map[netip.Prefix]policy.Route{},
	}
	for _, a := range c.Addrs {
		nb.sessions = append(nb.sessions, &session{peer: a, received: map[netip.Prefix]received{}})
	}
	return nb
}

// Run speaks until ctx is done, then sends Cease to every peer and returns nil
// when all its goroutines have ended. It can be called once. A neighbor that
// cannot be started (its own address is not there yet, say) is logged and
// tried again every second.
func (s *Speaker) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("bgp: the speaker has been run already")
	}
	defer close(s.stopped)
	s.mu.Lock()
	s.started = time.Now()
	s.mu.Unlock()
	s.startAll()
	defer s.stopAll()

	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	pending, pause := true, debounce
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-s.events:
			s.handle(ev)
		case op := <-s.ops:
			op()
		case <-ticker.C:
			s.onTick(time.Now())
		case <-due.C:
			pending = false
			start := time.Now()
			s.flush()
			// While thousands of routes arrive, at least as much time is for taking them.
			pause = max(debounce, time.Since(start))
		}
		if !pending && s.hasWork() {
			pending = true
			due.Reset(pause)
		}
	}
}

// do runs f in the owner's goroutine and waits for it.
func (s *Speaker) do(ctx context.Context, f func()) error {
	if !s.running.Load() {
		return ErrNotRunning
	}
	done := make(chan struct{})
	select {
	case s.ops <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-s.stopped:
		return ErrNotRunning
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Apply changes to another configuration. Sessions of neighbors that did not
// change are untouched; the routes of all are judged by the new rules, and only
// what differs is sent. A configuration that is refused changes nothing.
func (s *Speaker) Apply(ctx context.Context, c Config) (Changes, error) {
	c, err := c.withDefaults()
	if err != nil {
		return Changes{}, err
	}
	var changes Changes
	err = s.do(ctx, func() { changes = s.apply(c) })
	return changes, err
}

func (s *Speaker) apply(c Config) Changes {
	var changes Changes
	s.mu.Lock()
	old := s.rib.neighbors
	sameSpeaker := s.rib.conf.sameSpeaker(c)
	kept := map[string]*neighbor{}
	var leaving []*neighbor
	for _, nb := range old {
		i := slices.IndexFunc(c.Neighbors, func(n Neighbor) bool { return n.Name == nb.conf.Name })
		switch {
		case i < 0:
			changes.Removed = append(changes.Removed, nb.conf.Name)
			leaving = append(leaving, nb)
		case !sameSpeaker || !nb.conf.sameSessions(c.Neighbors[i]):
			changes.Reset = append(changes.Reset, nb.conf.Name)
			leaving = append(leaving, nb)
		default:
			kept[nb.conf.Name] = nb
		}
	}
	for _, nb := range leaving {
		for _, sess := range nb.sessions {
			s.rib.flush(sess)
		}
	}
	s.rib.neighbors = nil
	for _, n := range c.Neighbors {
		nb := kept[n.Name]
		if nb == nil {
			nb = newNeighbor(n)
			if !slices.Contains(changes.Reset, n.Name) {
				changes.Added = append(changes.Added, n.Name)
			}
		}
		nb.conf = n
		s.rib.neighbors = append(s.rib.neighbors, nb)
	}
	s.rib.configure(c)
	s.mu.Unlock()

	for _, nb := range leaving {
		s.stopNeighbor(nb)
	}
	s.startAll()
	for _, w := range s.flush() {
		if kept[w.to.conf.Name] != nil {
			changes.Announced += len(w.announce)
			changes.Withdrawn += len(w.withdraw)
		}
	}
	return changes
}

// Stance is what a node wants of the traffic.
type Stance uint8

const (
	// Carry is normal life.
	Carry Stance = iota
	// Avoid announces everything as the worst way there is.
	Avoid
	// Refuse withdraws everything; the sessions stay.
	Refuse
)

// Take changes the stance. What was learned stays in the kernel, so packets
// that still arrive are forwarded.
func (s *Speaker) Take(ctx context.Context, st Stance) error {
	return s.do(ctx, func() {
		s.mu.Lock()
		s.rib.stance = st
		s.rib.redoExports()
		s.mu.Unlock()
		s.flush()
	})
}

// PathDown says that nothing gets through to a neighbor any more (BFD, RFC
// 5882): all that it told is forgotten at once, and its session is started
// afresh. An unknown name does nothing.
func (s *Speaker) PathDown(ctx context.Context, name, reason string) error {
	return s.do(ctx, func() { s.pathDown(name, reason) })
}

func (s *Speaker) pathDown(name, reason string) {
	s.mu.Lock()
	var peers []netip.Addr
	i := slices.IndexFunc(s.rib.neighbors, func(nb *neighbor) bool { return nb.conf.Name == name })
	if i >= 0 && s.rib.neighbors[i].engine != nil {
		now := time.Now()
		for _, sess := range s.rib.neighbors[i].sessions {
			if limit := now.Add(staleWithoutBFD); sess.state != Established && sess.staleUntil.After(limit) {
				sess.staleUntil = limit
			}
			if sess.state == Established {
				s.onState(s.rib.neighbors[i], sess, stateChange{state: Idle, reason: reason, notified: true}, now)
				sess.recycled, sess.recycleAt = now, time.Time{}
				peers = append(peers, sess.peer)
			}
		}
	}
	s.mu.Unlock()
	s.flush() // before anything is said to the peer, which does not hear it
	for _, peer := range peers {
		nb := s.neighbors()[i]
		if err := nb.engine.recycle(peer); err != nil {
			s.log.Error("restarting a neighbor whose session could not be reset", zap.String("neighbor", name), zap.Error(err))
			s.restart(nb)
		}
	}
}

// Drain withdraws every route that was announced, then ends every session with
// a Cease. Run goes on, without sessions, until its context is done; OnRoutes
// is not called any more, so forwarding goes on too.
func (s *Speaker) Drain(ctx context.Context) error {
	withdraw := func() {
		s.mu.Lock()
		s.rib.stance = Refuse
		s.rib.redoExports()
		s.mu.Unlock()
		s.flush()
	}
	if err := s.do(ctx, withdraw); err != nil {
		return err
	}
	flushed := time.NewTimer(drainFlush)
	defer flushed.Stop()
	select {
	case <-flushed.C:
	case <-ctx.Done():
	}
	return s.do(context.WithoutCancel(ctx), s.stopAll)
}

func (s *Speaker) hasWork() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rib.dirty) > 0
}

// flush brings the neighbors and the kernel up to date: what is gone is first
// withdrawn, then taken out of the kernel; what is new is first put into the
// kernel, then announced.
func (s *Speaker) flush() []work {
	if s.ended {
		return nil
	}
	s.noteRefreshes(time.Now())
	s.mu.Lock()
	s.standLocked(time.Now())
	all := s.rib.recompute(time.Now())
	var bests []Best
	changed := s.rib.changed
	if changed {
		s.rib.changed = false
		bests = s.rib.bests()
	}
	s.mu.Unlock()
	for _, w := range all {
		s.withdraw(w, w.withdraw)
	}
	if changed {
		s.onRoutes(bests)
	}
	for _, w := range all {
		s.announce(w)
		s.withdraw(w, w.replaced)
	}
	return all
}

// standLocked follows the siblings.
func (s *Speaker) standLocked(now time.Time) {
	if prepend, changed := s.rib.refreshStanding(now); changed {
		s.log.Info("this node's place among the NVAs of its site has changed", zap.Int("prepend", prepend), zap.Strings("siblings_alive", s.rib.siblingNames()))
	}
}

func (s *Speaker) withdraw(w work, prefixes []netip.Prefix) {
	if w.to.engine == nil || len(prefixes) == 0 {
		return
	}
	if err := w.to.engine.withdraw(prefixes); err != nil {
		s.failed(w, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range prefixes {
		delete(w.to.announced, p)
	}
}

func (s *Speaker) announce(w work) {
	if w.to.engine == nil || len(w.announce) == 0 {
		return
	}
	if err := w.to.engine.announce(w.announce); err != nil {
		s.failed(w, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range w.announce {
		w.to.announced[r.Prefix] = r
	}
}

// failed starts a neighbor afresh whose engine does not take what it is told:
// what it holds is unknown now, and a wrong route is worse than a lost session.
func (s *Speaker) failed(w work, err error) {
	s.log.Error("restarting the sessions of a neighbor whose routes could not be set",
		zap.String("neighbor", w.to.conf.Name), zap.Error(err))
	s.restart(w.to)
}
