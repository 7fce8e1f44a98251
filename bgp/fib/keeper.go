package fib

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// auditEvery is how often everything is compared without a reason.
const auditEvery = 30 * time.Second

// refusalTime is how long a predecessor's refusals stay: packets for what it had
// announced may still come, and would otherwise go out of the card and come
// back. Azure takes up to 39 s to program its network cards.
const refusalTime = 60 * time.Second

// KeeperConfig is what a keeper needs to know.
type KeeperConfig struct {
	Log      *zap.Logger // nil discards
	Protocol int         // marks what is ours, 5 to 255
	Tables   Tables
	// OnRepair is told what another program had changed and was put right, at
	// most every few seconds: the last changes, and how many there were since
	// the call before. It must not wait, nor call the Keeper. It may be nil.
	OnRepair func(last Changes, n int)
}

// Keeper makes the kernel hold a state, and keeps it so. Its methods may be
// called from any goroutine.
type Keeper struct {
	cfg KeeperConfig
	log *zap.Logger
	mon *monitor

	mu        sync.Mutex
	k         *kernel
	want      State
	have      *State  // what the kernel holds, as we left it; nil: not known, ask it
	adopted   []Route // a predecessor's, not swept yet
	started   bool    // the kernel's state was read
	startedAt time.Time
	sweeping  bool // BGP has converged
	closed    bool
	repaired  uint64
	site      int
	remote    int
	logged    time.Time // when a repair was last logged
	unlogged  int
}

// New opens the kernel's interface in the present network namespace and reads
// nothing yet. Flush closes it.
func New(cfg KeeperConfig) (*Keeper, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	k, err := openKernel(cfg.Protocol)
	if err != nil {
		return nil, err
	}
	// The monitor listens before the first change, so it misses none.
	mon, err := openMonitor(cfg.Protocol, cfg.Tables, k.batch.pid)
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	return &Keeper{cfg: cfg, log: cfg.Log, k: k, mon: mon}, nil
}

// Set makes want what the kernel holds. Routes that a predecessor left and that
// want does not have stay until a call with sweep: they may be right, and BGP has
// only not told them yet. What fails is tried again by the next Set and by
// Run's audit; the error says what it was.
func (k *Keeper) Set(want State, sweep bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errors.New("the routes have been given back to the kernel")
	}
	if !k.started {
		if err := k.adoptLocked(); err != nil {
			return err
		}
	}
	if sweep {
		k.sweptLocked()
	}
	k.want = want
	_, err := k.enforceLocked()
	return err
}

// Forget has the next Set ask the kernel what it holds, after a device was made
// anew: it took its routes with it, and IPv4 says nothing of that.
func (k *Keeper) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.have = nil
}

// sweptLocked gives up what a predecessor left and nobody told again.
func (k *Keeper) sweptLocked() {
	k.sweeping = true
	early := time.Since(k.startedAt) < refusalTime
	k.adopted = slices.DeleteFunc(k.adopted, func(r Route) bool { return !r.Unreachable || !early })
}

// adoptLocked finds what a predecessor left in the tables of learned routes. What it left
// of rules and pins follows from the configuration, so it is not kept.
func (k *Keeper) adoptLocked() error {
	have, err := k.k.state()
	if err != nil {
		return err
	}
	for _, r := range have.Routes {
		if r.Table != k.cfg.Tables.Underlay {
			k.adopted = append(k.adopted, r)
		}
	}
	if len(k.adopted) > 0 {
		k.log.Info("adopting the routes of a predecessor until BGP has converged", zap.Int("routes", len(k.adopted)))
	}
	k.started, k.startedAt = true, time.Now()
	return nil
}

// target is what the kernel is to hold now: what is wanted, and adopted routes for other prefixes.
func (k *Keeper) target() State {
	if len(k.adopted) == 0 {
		return k.want
	}
	taken := make(map[routeKey]bool, len(k.want.Routes))
	for _, r := range k.want.Routes {
		taken[r.key()] = true
	}
	t := State{Rules: k.want.Rules, Routes: slices.Clone(k.want.Routes)}
	// A prefix that was wanted once is not adopted any more: if it goes, it was withdrawn.
	k.adopted = slices.DeleteFunc(k.adopted, func(r Route) bool { return taken[r.key()] })
	t.Routes = append(t.Routes, k.adopted...)
	return t
}

// enforceLocked compares with the kernel and changes it; it returns what was changed.
//
// A dump of 10,000 routes takes longer than adding a thousand, so the kernel is
// asked only when somebody else may have changed something: the monitor tells.
func (k *Keeper) enforceLocked() (Changes, error) {
	if k.have == nil {
		have, err := k.k.state()
		if err != nil {
			return Changes{}, err
		}
		k.have = &have
	}
	target := k.target()
	// A predecessor's routes by a device that is gone went with it.
	changes := Diff(*k.have, target)
	changes.SetRoutes = slices.DeleteFunc(changes.SetRoutes, func(r Route) bool { return slices.Contains(k.adopted, r) })
	done, err := k.k.apply(changes)
	k.have = &target
	if err != nil || len(k.adopted) > 0 {
		k.have = nil
	}
	k.countLocked(target)
	return done, err
}

func (k *Keeper) countLocked(s State) {
	k.site, k.remote = 0, 0
	for _, r := range s.Routes {
		switch {
		case r.Unreachable: // keeps something out
		case r.Table == k.cfg.Tables.Site:
			k.site++
		case r.Table == k.cfg.Tables.Remote && !r.Gateway.IsValid(): // with a gateway it is a copy of a site route
			k.remote++
		}
	}
}

// Run repairs until ctx is done: at once when the kernel tells of a change that
// was not ours, and every half minute by comparing everything.
func (k *Keeper) Run(ctx context.Context) error {
	events := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { k.mon.run(ctx, events, k.log) })
	ticker := time.NewTicker(auditEvery)
	defer ticker.Stop()
	var failing bool
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-events:
		}
		err := k.audit()
		if err != nil && !failing {
			k.log.Error("cannot repair routes; trying on", zap.Error(err))
		}
		failing = err != nil
	}
}

// audit puts back what is missing and removes what should not be there.
func (k *Keeper) audit() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.started || k.closed {
		return nil
	}
	k.have = nil
	if k.sweeping && len(k.adopted) > 0 {
		if k.sweptLocked(); len(k.adopted) == 0 {
			_, err := k.enforceLocked() // no repair of what somebody else did
			return err
		}
	}
	done, err := k.enforceLocked()
	if n := done.Len(); n > 0 {
		k.repaired += uint64(n)
		k.logRepairLocked(done, time.Now())
	}
	return err
}

// logRepairLocked says what was repaired, but not more often than every few
// seconds: another program may insist.
func (k *Keeper) logRepairLocked(done Changes, now time.Time) {
	const pause = 5 * time.Second
	k.unlogged += done.Len()
	if now.Sub(k.logged) < pause {
		return
	}
	k.log.Warn("repaired routes and rules that another program had changed",
		zap.Int("changes", k.unlogged), zap.Int("routes", len(done.SetRoutes)+len(done.DelRoutes)),
		zap.Int("rules", len(done.AddRules)+len(done.DelRules)), zap.Uint64("total", k.repaired))
	if k.cfg.OnRepair != nil {
		k.cfg.OnRepair(done, k.unlogged)
	}
	k.logged, k.unlogged = now, 0
}

// Repaired is how many routes and rules had to be put right.
func (k *Keeper) Repaired() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.repaired
}

// Counts is how many learned routes there are to this side and to the others.
func (k *Keeper) Counts() (site, remote int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.site, k.remote
}

// Flush removes all that carries our protocol number, rules first, and only
// that, and closes the keeper. Run has returned by then.
func (k *Keeper) Flush() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	have, err := k.k.state()
	if err == nil {
		_, err = k.k.apply(Changes{DelRules: have.Rules, DelRoutes: have.Routes})
	}
	return errors.Join(err, k.mon.close(), k.k.close())
}
