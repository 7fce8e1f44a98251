package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// checker checks once. It returns soon after ctx ends.
type checker func(ctx context.Context) error

// Probe checks one thing again and again. Status may be called from any goroutine.
type Probe struct {
	cfg   Config
	check checker

	mu     sync.Mutex
	ran    bool
	status Status
}

// Status is what a probe knows at one moment.
type Status struct {
	Up        bool
	Since     time.Time     // of the last change; when the probe was made, before the first
	LastError string        // of the last check that failed; it stays when checks succeed again
	Checks    uint64        // that were finished
	Failed    uint64        // of these
	RTT       time.Duration // how long the last check took that succeeded
}

// New checks the configuration and opens nothing yet.
func New(cfg Config) (*Probe, error) {
	if err := cfg.normalize(); err != nil {
		return nil, fmt.Errorf("health probe %q: %w", cfg.Name, err)
	}
	p := &Probe{cfg: cfg, status: Status{Since: time.Now()}}
	switch {
	case cfg.HTTP != "":
		p.check = newHTTP(&p.cfg)
	case cfg.ICMP.IsValid():
		p.check = newICMP(&p.cfg)
	default:
		p.check = newTCP(&p.cfg)
	}
	return p, nil
}

// Run checks until ctx ends, and returns nil then; a check that is under way
// is broken off. It can be called once. What Status says afterwards is old:
// nobody checks any more.
func (p *Probe) Run(ctx context.Context) error {
	p.mu.Lock()
	ran := p.ran
	p.ran = true
	p.mu.Unlock()
	if ran {
		return errors.New("a health probe runs once")
	}
	// Checks are made here, one after another, so they never overlap. A tick
	// that comes while one is late is kept, at most one.
	tick := time.NewTicker(p.cfg.Interval)
	defer tick.Stop()
	m := machine{failures: p.cfg.Failures, successes: p.cfg.Successes}
	for ctx.Err() == nil {
		p.once(ctx, &m)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// once makes one check and tells what came of it.
func (p *Probe) once(ctx context.Context, m *machine) {
	checkCtx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	start := time.Now()
	err := p.check(checkCtx)
	took := time.Since(start)
	if ctx.Err() != nil {
		return // the check was broken off by us, so it says nothing of the other side
	}
	if err == nil && took > p.cfg.Timeout {
		err = fmt.Errorf("the answer took %s", took.Round(time.Millisecond))
	}
	changed := m.result(err == nil)
	p.record(m.up, changed, err, took)
	if !changed {
		return
	}
	reason := fmt.Sprintf("%d checks in a row succeeded", p.cfg.Successes)
	if !m.up {
		reason = fmt.Sprintf("%d checks in a row failed, the last one: %v", p.cfg.Failures, err)
	}
	p.cfg.Log.Info("health probe changed", zap.String("probe", p.cfg.Name), zap.Bool("up", m.up), zap.String("reason", reason))
	p.cfg.OnChange(m.up, reason)
}

func (p *Probe) record(up, changed bool, err error, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Up = up
	p.status.Checks++
	if changed {
		p.status.Since = time.Now()
	}
	if err != nil {
		p.status.Failed++
		p.status.LastError = err.Error()
		return
	}
	p.status.RTT = took
}

// Status tells how it stands.
func (p *Probe) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}
