package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
)

// speakerControl is what a reload changes of the BGP speaker.
type speakerControl interface {
	Apply(context.Context, bgp.Config) (bgp.Changes, error)
}

// machine is what a change is applied to. Its methods are called by one
// goroutine at a time.
type machine struct {
	log     *zap.Logger
	tunnels *tunnelSet
	routes  *routeTable
	speaker speakerControl
	origins *origins
	watch   func([]TunnelPlan) // starts and ends BFD sessions
	// settings applies sysctls and remembers what they were.
	settings func([]Sysctl) error
	level    func(zapcore.Level)
}

// apply makes the difference between two plans real. The order never leaves a
// session without its tunnel or a tunnel without its rules: what leaves goes
// from BGP down, what comes goes from the rules up. A tunnel that cannot be made
// does not stop the rest; it is tried again.
func (m *machine) apply(ctx context.Context, d *Difference, from, to *Plan) error {
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if d.LogLevel {
		level, err := zapcore.ParseLevel(to.Log.Level)
		note(err)
		if err == nil {
			m.level(level)
		}
	}
	if len(d.Remove) > 0 {
		_, err := m.speaker.Apply(ctx, without(m.origins.effective(from), d.Remove))
		note(err)
		for _, name := range d.Remove {
			note(m.tunnels.remove(name))
		}
	}
	if d.FIB {
		note(m.routes.setNode(to.FIB))
	}
	for _, name := range d.Add {
		i := slices.IndexFunc(to.Tunnels, func(t TunnelPlan) bool { return t.Name == name })
		note(m.tunnels.add(to.Tunnels[i]))
	}
	for _, name := range d.Rekey {
		i := slices.IndexFunc(to.Tunnels, func(t TunnelPlan) bool { return t.Name == name })
		note(m.tunnels.rekey(to.Tunnels[i]))
	}
	m.tunnels.order(to.Tunnels)
	if len(d.Add) > 0 || d.FIB {
		note(m.settings(to.Sysctls))
	}
	if d.BGP || len(d.Remove) > 0 {
		note(m.origins.sync(to.Probes))
		changes, err := m.speaker.Apply(ctx, m.origins.effective(to))
		note(err)
		m.log.Info("BGP has the new configuration", zap.Strings("added", changes.Added), zap.Strings("removed", changes.Removed),
			zap.Strings("reset", changes.Reset), zap.Int("announced", changes.Announced), zap.Int("withdrawn", changes.Withdrawn))
	}
	m.watch(to.Tunnels)
	return errors.Join(errs...)
}

// rebuild makes a tunnel again whose device vanished, with its BGP session: the
// session's sockets are bound to a device that is gone.
func (m *machine) rebuild(ctx context.Context, name string, p *Plan) error {
	if _, err := m.speaker.Apply(ctx, without(m.origins.effective(p), []string{name})); err != nil {
		return fmt.Errorf("end the BGP session of tunnel %s: %w", name, err)
	}
	err := m.tunnels.rebuild(name)
	if err == nil {
		err = errors.Join(m.settings(p.Sysctls), m.routes.again())
	}
	// Also if the device is still missing: BGP tries the session until it is there.
	_, aerr := m.speaker.Apply(ctx, m.origins.effective(p))
	m.watch(p.Tunnels)
	return errors.Join(err, aerr)
}

// without is the configuration minus some neighbours.
func without(c bgp.Config, names []string) bgp.Config {
	c.Neighbors = slices.DeleteFunc(slices.Clone(c.Neighbors), func(n bgp.Neighbor) bool { return slices.Contains(names, n.Name) })
	var originate []bgp.Origination
	for _, o := range c.Originate {
		o.To = slices.DeleteFunc(slices.Clone(o.To), func(to string) bool { return slices.Contains(names, to) })
		if len(o.To) > 0 {
			originate = append(originate, o)
		}
	}
	c.Originate = originate
	return c
}

// Reload reads the configuration file again and applies the difference. A file
// that is not valid, or asks for what a running daemon cannot change, changes
// nothing. The result is logged as well as returned: who reloads by SIGHUP sees
// no answer.
func (d *Daemon) Reload(ctx context.Context, req control.ReloadRequest) (control.Reload, error) {
	d.change.Lock()
	defer d.change.Unlock()
	if d.stopping.Load() {
		return control.Reload{}, &control.Error{Code: control.CodeStopping, Message: "the daemon is stopping"}
	}
	// The client may hang up; what has begun is finished.
	ctx = context.WithoutCancel(ctx)
	to, diff, err := d.prepare()
	if err != nil {
		if !req.DryRun {
			d.story.reload(nil, fmt.Errorf("refused, nothing was changed: %w", err))
		}
		d.log.Warn("reload refused; nothing was changed", zap.String("file", d.file), zap.Error(err))
		return control.Reload{}, refusal(err)
	}
	answer := control.Reload{Version: control.V1(), DryRun: req.DryRun, Changed: !diff.Empty(), Changes: append([]string{}, diff.Lines...)}
	if req.DryRun {
		list, err := d.speaker.Preview(ctx, d.machine.origins.effective(to))
		if err != nil {
			return answer, err
		}
		answer.Routes = routeChanges(list, to.Node.ASN)
	}
	if req.DryRun || diff.Empty() {
		if !req.DryRun {
			d.story.reload(nil, nil)
		}
		d.log.Info("configuration read again", zap.Bool("changed", answer.Changed), zap.Bool("dry_run", req.DryRun))
		return answer, nil
	}
	d.notify.reloading()
	defer d.notify.ready()
	for _, line := range diff.Lines {
		d.log.Info("reload", zap.String("change", line))
	}
	err = d.machine.apply(ctx, diff, d.plan.Load(), to)
	d.plan.Store(to)
	d.web.listenAt(to.Observe)
	d.noteProblem(err)
	d.story.reload(diff.Lines, err)
	if err != nil {
		return answer, fmt.Errorf("the new configuration is in force, but not all of it could be done: %w", err)
	}
	return answer, nil
}

// refusedError are changes that need a restart.
type refusedError []control.ConfigError

// Error lists the changes.
func (e refusedError) Error() string {
	s := ""
	for i, c := range e {
		if i > 0 {
			s += "\n"
		}
		s += fmt.Sprintf("%s: %s: %s (%s)", c.File, c.Path, c.Message, c.Hint)
	}
	return s
}

func inUse(p netip.Prefix, u Underlay) bool { return p.Addr() == u.Address || p.Addr() == u.Address6 }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// noteProblem keeps what the last reload could not do for the status, until another one has done it.
func (d *Daemon) noteProblem(err error) {
	if err == nil {
		d.problem.Store(nil)
		return
	}
	s := fmt.Sprintf("the last reload could not do everything: %v; reload again, or restart", err)
	d.problem.Store(&s)
}

// prepare reads the file and the machine and compares; it changes nothing.
func (d *Daemon) prepare() (*Plan, *Difference, error) {
	cfg, err := config.Load(d.file)
	if err != nil {
		return nil, nil, err
	}
	facts, err := ReadFacts(cfg.Underlay.Interface)
	if err != nil {
		return nil, nil, err
	}
	// An address that was added to the card must not take the place of the one in use.
	in := d.plan.Load().Underlay
	slices.SortStableFunc(facts.Addrs, func(a, b netip.Prefix) int { return boolInt(inUse(b, in)) - boolInt(inUse(a, in)) })
	to, err := NewPlan(d.file, cfg, facts)
	if err != nil {
		return nil, nil, err
	}
	diff := compare(d.file, d.plan.Load(), to)
	if len(diff.Refused) > 0 {
		return nil, nil, refusedError(diff.Refused)
	}
	return to, diff, nil
}

// refusal turns an error of prepare into the API's.
func refusal(err error) *control.Error {
	e := &control.Error{Code: control.CodeConfig, Message: "the configuration is not valid; nothing was changed"}
	if list := config.AsErrors(err); list != nil {
		for _, x := range list {
			e.Config = append(e.Config, control.ConfigError{File: x.File, Line: x.Line, Column: x.Column, Path: x.Path, Message: x.Msg, Hint: x.Hint})
		}
		return e
	}
	if r, ok := errors.AsType[refusedError](err); ok {
		e.Message, e.Config = "the new configuration needs a restart; nothing was changed", r
		return e
	}
	e.Message = fmt.Sprintf("the new configuration cannot be used; nothing was changed: %v", err)
	return e
}
