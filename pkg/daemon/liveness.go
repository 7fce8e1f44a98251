package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp/bfd"
)

// bfdSession is a running session; bfd.Session is.
type bfdSession interface {
	Status() bfd.Status
	Shutdown()
	Close() error
}

// liveness watches the tunnels by BFD. A session begins when its device is there
// and ends with it.
type liveness struct {
	log   *zap.Logger
	start func(bfd.Config) (bfdSession, error)
	index func(name string) (int, error) // of a Linux device, 0 if it is not there
	// failed gets the names of tunnels through which nothing gets any more.
	failed chan failure
	// told gets each change of a session; it does not wait.
	told func(tunnel string, c bfd.Change)

	mu   sync.Mutex
	list map[string]*watched
}

// watched is a tunnel with a session.
type watched struct {
	plan    TunnelPlan
	index   int
	session bfdSession
	err     error // why there is none; nil otherwise
}

// failure is the news that a tunnel is dead.
type failure struct{ tunnel, reason string }

func newLiveness(log *zap.Logger) *liveness {
	return &liveness{
		log: log, index: deviceIndex, failed: make(chan failure, 64), told: func(string, bfd.Change) {}, list: map[string]*watched{},
		start: func(c bfd.Config) (bfdSession, error) { return bfd.Start(c) },
	}
}

// sync starts what is missing and ends what is not wanted any more, or whose device is another one now.
func (l *liveness) sync(plan []TunnelPlan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, w := range l.list {
		i := slices.IndexFunc(plan, func(t TunnelPlan) bool { return t.Name == name })
		index, err := l.index(name)
		if i >= 0 && sameBFD(plan[i], w.plan) && (err != nil || index == w.index) && w.err == nil {
			continue
		}
		if w.session != nil {
			if err := w.session.Close(); err != nil {
				l.log.Info("a BFD session did not close cleanly", zap.String("tunnel", name), zap.Error(err))
			}
		}
		delete(l.list, name)
	}
	for _, t := range plan {
		if t.BFD == nil || l.list[t.Name] != nil {
			continue
		}
		index, err := l.index(t.Name)
		if err != nil || index == 0 {
			continue // next time
		}
		w := &watched{plan: t, index: index}
		w.session, w.err = l.start(l.config(t))
		if w.err != nil {
			w.session = nil
			l.log.Warn("cannot watch a tunnel by BFD; trying again every second", zap.String("tunnel", t.Name), zap.Error(w.err))
		}
		l.list[t.Name] = w
	}
}

// sameBFD reports whether a session can go on.
func sameBFD(a, b TunnelPlan) bool {
	if (a.BFD == nil) != (b.BFD == nil) || a.BFD != nil && *a.BFD != *b.BFD {
		return false
	}
	return slices.Equal(a.Pump.Addrs, b.Pump.Addrs) && slices.Equal(a.Pump.PeerAddrs, b.Pump.PeerAddrs)
}

func (l *liveness) config(t TunnelPlan) bfd.Config {
	local := t.Pump.Addrs[slices.IndexFunc(t.Pump.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() })]
	peer := t.Pump.PeerAddrs[slices.IndexFunc(t.Pump.PeerAddrs, netip.Addr.Is4)]
	return bfd.Config{
		Name: t.Name, Local: local.Addr(), Peer: peer, Interface: t.Name,
		Interval: t.BFD.Interval, Multiplier: t.BFD.Multiplier, Log: l.log,
		OnState: func(c bfd.Change) { l.changed(t.Name, c) },
	}
}

// changed is called by a session, which must not wait. Only what was up can
// fail; a peer that says it goes on purpose has not failed (RFC 5882, section 3.2).
func (l *liveness) changed(name string, c bfd.Change) {
	l.told(name, c)
	if !c.Failure() {
		return
	}
	select {
	case l.failed <- failure{name, fmt.Sprintf("BFD: %s", c.Diagnostic)}:
	default:
		l.log.Error("too many tunnels fail at once; BGP's hold time decides", zap.String("tunnel", name))
	}
}

// run tells the speaker of failures until ctx is done.
func (l *liveness) run(ctx context.Context, down func(ctx context.Context, tunnel, reason string) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-l.failed:
			l.log.Warn("nothing gets through a tunnel any more: its routes are withdrawn", zap.String("tunnel", f.tunnel), zap.String("reason", f.reason))
			if err := down(ctx, f.tunnel, f.reason); err != nil && ctx.Err() == nil {
				l.log.Error("cannot withdraw a dead tunnel's routes", zap.String("tunnel", f.tunnel), zap.Error(err))
			}
		}
	}
}

// statuses describes the sessions by tunnel.
func (l *liveness) statuses() map[string]bfd.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[string]bfd.Status{}
	for name, w := range l.list {
		if w.session != nil {
			m[name] = w.session.Status()
		}
	}
	return m
}

// goodbye tells the peers that we stop on purpose. The sessions end.
func (l *liveness) goodbye() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all sync.WaitGroup
	for _, w := range l.list {
		if w.session != nil {
			all.Go(w.session.Shutdown)
		}
	}
	all.Wait()
	l.list = map[string]*watched{}
}

// closeAll ends what is left.
func (l *liveness) closeAll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, w := range l.list {
		if w.session != nil {
			errs = append(errs, w.session.Close())
		}
	}
	l.list = map[string]*watched{}
	return errors.Join(errs...)
}
