package daemon

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/health"
)

// origins runs the probes on which originated prefixes depend. A prefix with a
// probe is not announced before the probe has succeeded.
type origins struct {
	log *zap.Logger
	// changed has a word in it when a probe's answer has changed.
	changed chan struct{}
	// told gets each change of a probe; it does not wait.
	told func(name string, up bool, reason string)

	mu   sync.Mutex
	list []*runningProbe
}

type runningProbe struct {
	plan  ProbePlan
	probe *health.Probe
	stop  context.CancelFunc
	ended chan struct{}
}

func newOrigins(log *zap.Logger) *origins {
	return &origins{log: log, changed: make(chan struct{}, 1), told: func(string, bool, string) {}}
}

// sync starts and ends probes; those that stay the same go on.
func (o *origins) sync(plan []ProbePlan) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var kept []*runningProbe
	for _, r := range o.list {
		if slices.ContainsFunc(plan, func(p ProbePlan) bool { return reflect.DeepEqual(p, r.plan) }) {
			kept = append(kept, r)
			continue
		}
		r.end()
	}
	o.list = kept
	for _, p := range plan {
		if slices.ContainsFunc(kept, func(r *runningProbe) bool { return reflect.DeepEqual(p, r.plan) }) {
			continue
		}
		r, err := o.begin(p)
		if err != nil {
			return err
		}
		o.list = append(o.list, r)
	}
	return nil
}

func (o *origins) begin(p ProbePlan) (*runningProbe, error) {
	c := p.Check
	c.Log = o.log
	c.OnChange = func(up bool, reason string) {
		o.told(c.Name, up, reason)
		select {
		case o.changed <- struct{}{}:
		default: // there is one already
		}
	}
	probe, err := health.New(c)
	if err != nil {
		return nil, fmt.Errorf("begin the probe of %s: %w", c.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningProbe{plan: p, probe: probe, stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		if err := probe.Run(ctx); err != nil {
			o.log.Error("a probe has ended", zap.String("probe", c.Name), zap.Error(err))
		}
	}()
	return r, nil
}

func (r *runningProbe) end() {
	r.stop()
	<-r.ended
}

// effective is a plan's BGP configuration without what a probe forbids.
func (o *origins) effective(p *Plan) bgp.Config {
	c := p.BGP
	c.Originate = nil
	for _, origin := range p.BGP.Originate {
		if o.allowed(p, origin) {
			c.Originate = append(c.Originate, origin)
		}
	}
	return c
}

func (o *origins) allowed(p *Plan, origin bgp.Origination) bool {
	for _, pp := range p.Probes {
		if !slices.ContainsFunc(pp.Origins, func(x bgp.Origination) bool { return reflect.DeepEqual(x, origin) }) {
			continue
		}
		if !o.up(pp) {
			return false
		}
	}
	return true
}

func (o *origins) up(p ProbePlan) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.list, func(r *runningProbe) bool { return reflect.DeepEqual(p, r.plan) })
	return i >= 0 && o.list[i].probe.Status().Up
}

// warnings say which probes fail.
func (o *origins) warnings() (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.list {
		if s := r.probe.Status(); !s.Up {
			list = append(list, fmt.Sprintf("%s is not announced: its probe fails: %s", r.plan.Check.Name, s.LastError))
		}
	}
	return list
}

// closeAll ends every probe.
func (o *origins) closeAll() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.list {
		r.end()
	}
	o.list = nil
	return nil
}

// followProbes announces and withdraws as the probes say, until ctx is done.
func (d *Daemon) followProbes(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.machine.origins.changed:
		}
		d.change.Lock()
		if !d.stopping.Load() {
			if _, err := d.speaker.Apply(ctx, d.machine.origins.effective(d.plan.Load())); err != nil && ctx.Err() == nil {
				d.log.Error("cannot follow a probe", zap.Error(err))
			}
		}
		d.change.Unlock()
	}
}
