package daemon

import (
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
)

// kernelWriter makes the kernel hold what is wanted; fib.Keeper does.
type kernelWriter interface {
	Set(want fib.State, sweep bool) error
	Forget()
}

// routeTable brings together where the node stands and what BGP chose, and hands
// the result to the kernel. Stale objects of a predecessor stay until BGP has
// converged: then the next change, or the next tick, sweeps them.
type routeTable struct {
	log       *zap.Logger
	kernel    kernelWriter
	converged func() bool

	mu      sync.Mutex // held across kernel.Set, so that an older state never overwrites a newer one
	node    fib.Node
	bests   []bgp.Best
	want    fib.State
	refused []fib.Refused
	overlap []overlap
	swept   bool
	err     error // of the last Set
}

// setNode changes where the node stands.
func (r *routeTable) setNode(n fib.Node) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node = n
	return r.applyLocked()
}

// onRoutes takes what BGP chose. It runs in the speaker's own goroutine and
// returns when the kernel has the routes, so nothing is announced before.
func (r *routeTable) onRoutes(bests []bgp.Best) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bests, r.overlap = bests, overlaps(bests)
	if err := r.applyLocked(); err != nil {
		r.log.Error("the kernel does not take the routes; they are tried again every second", zap.Error(err))
	}
}

// tick sweeps once BGP has converged, and tries again what failed.
func (r *routeTable) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.swept && r.err == nil || r.err == nil && !r.converged() {
		return
	}
	before := r.err
	err := r.applyLocked()
	switch {
	case err == nil && before != nil:
		r.log.Info("the kernel takes the routes again")
	case err != nil && before == nil:
		r.log.Error("the kernel does not take the routes; they are tried again every second", zap.Error(err))
	case err == nil && r.swept:
		r.log.Info("BGP has converged: nothing stale is left in the kernel", zap.Int("routes", len(r.want.Routes)))
	}
}

// again writes everything once more, after a device was made anew.
func (r *routeTable) again() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kernel.Forget()
	return r.applyLocked()
}

func (r *routeTable) applyLocked() error {
	want, refused := fib.Plan(r.node, learned(r.bests))
	for _, x := range refused {
		if !slices.Contains(r.refused, x) {
			r.log.Warn("a route is not put into the kernel", zap.Stringer("prefix", x.Prefix), zap.String("rule", x.Rule), zap.String("reason", x.Reason))
		}
	}
	r.want, r.refused = want, refused
	sweep := r.swept || r.converged()
	r.err = r.kernel.Set(want, sweep)
	if r.err == nil && sweep {
		r.swept = true
	}
	return r.err
}

// learned translates BGP's choice for the kernel's plan.
func learned(bests []bgp.Best) []fib.Learned {
	list := make([]fib.Learned, len(bests))
	for i, b := range bests {
		list[i] = fib.Learned{Prefix: b.Prefix, Nowhere: b.Role == 0}
		if b.Role == policy.Tunnel || b.Role == policy.Sibling {
			list[i].Tunnels = append([]string{b.Neighbor}, b.Also...)
		}
	}
	return list
}

// routeView is what the route table looks like at one moment.
type routeView struct {
	Node    fib.Node
	Bests   []bgp.Best
	Want    fib.State
	Refused []fib.Refused
	Overlap []overlap
	Swept   bool
	Err     error
}

// view describes the table; the slices are not changed afterwards.
func (r *routeTable) view() routeView {
	r.mu.Lock()
	defer r.mu.Unlock()
	return routeView{Node: r.node, Bests: r.bests, Want: r.want, Refused: r.refused, Overlap: r.overlap, Swept: r.swept, Err: r.err}
}
