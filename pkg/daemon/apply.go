package daemon

import (
	"context"
	"fmt"
	"maps"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/observe"
)

// open makes everything that has to exist before the tasks run, and notes how it
// is removed. The order is the one that lets no packet loop: rules and pins
// stand before a tunnel carries anything, and a tunnel goes before its rules.
func (d *Daemon) open(undo *undoList) error {
	p := d.plan.Load()
	if err := d.openLocks(p, undo); err != nil {
		return err
	}
	keeper, err := fib.New(fib.KeeperConfig{Log: d.log.Named("fib"), Protocol: p.FIB.Protocol, Tables: p.FIB.Tables, OnRepair: d.story.repaired})
	if err != nil {
		return err
	}
	d.keeper = keeper
	undo.add(keeper.Flush)
	routes := &routeTable{log: d.log, kernel: keeper, converged: func() bool { return false }}
	if err := routes.setNode(p.FIB); err != nil {
		return fmt.Errorf("set up rules and pinned routes: %w", err)
	}
	d.sysctls = newSysctls(procSys, d.lock.Left())
	undo.add(func() error { return d.sysctls.restore(d.plan.Load().Sysctls) })

	origins := newOrigins(d.log.Named("probe"))
	origins.told = d.story.probe
	undo.add(origins.closeAll)
	if err := origins.sync(p.Probes); err != nil {
		return err
	}
	d.drainer = newDrainer(d.log.Named("drain"), p.Socket)
	d.drainer.told = d.story.drain
	d.speaker, err = bgp.New(origins.effective(p), bgp.Options{Log: d.log.Named("bgp"), OnRoutes: routes.onRoutes, OnSession: d.story.session, Stance: d.drainer.stance()})
	if err != nil {
		return err
	}
	d.drainer.take = d.speaker.Take
	d.liveness = newLiveness(d.log.Named("bfd"))
	d.liveness.told = d.story.bfd
	routes.converged = d.speaker.Converged
	sockets := &endpoints{log: d.log.Named("tunnel"), keyLogs: d.opts.KeyLogs, keysLogged: d.story.keysLogged}
	d.machine = &machine{
		log: d.log, routes: routes, speaker: d.speaker, settings: d.applySysctls, level: d.setLevel,
		tunnels: &tunnelSet{log: d.log, open: sockets.start, index: deviceIndex}, origins: origins, watch: d.liveness.sync,
	}
	undo.add(d.machine.tunnels.closeAll)
	undo.add(d.liveness.closeAll)
	for _, t := range p.Tunnels {
		if err := d.machine.tunnels.add(t); err != nil {
			return err
		}
	}
	if err := d.applySysctls(p.Sysctls); err != nil {
		return err
	}
	d.liveness.sync(p.Tunnels)
	if err := d.listenBalancer(p, undo); err != nil {
		return err
	}
	d.server = control.NewServer(d, d.log.Named("control"))
	d.web = newWebServer(d.log.Named("observe"), observe.New(d, d.server.Reading(), d.log.Named("observe")), p.Observe)
	d.listener, err = d.lock.Listen()
	return err
}

// openLocks makes sure that no other daemon has our socket or our routes.
func (d *Daemon) openLocks(p *Plan, undo *undoList) error {
	lock, err := control.Acquire(p.Socket)
	if err != nil {
		return err
	}
	d.lock = lock
	undo.add(lock.Release)
	protocol, err := lockProtocol(p.FIB.Protocol)
	if err != nil {
		return err
	}
	undo.add(protocol.release)
	return nil
}

// applySysctls sets what forwarding needs and writes down what it was.
func (d *Daemon) applySysctls(want []Sysctl) error {
	before := d.sysctls.remembered()
	err := d.sysctls.apply(want)
	if after := d.sysctls.remembered(); !maps.Equal(before, after) {
		if rerr := d.lock.Remember(after); rerr != nil {
			d.log.Warn("a crash would leave sysctls changed", zap.Error(rerr))
		}
	}
	return err
}

func (d *Daemon) setLevel(l zapcore.Level) {
	if d.opts.Level != nil {
		d.opts.Level.SetLevel(l)
	}
}

// task is a part that runs until its context is done and returns when its goroutines have ended.
type task struct {
	name string
	run  func(context.Context) error
}

func (d *Daemon) tasks() []task {
	return []task{
		{"keep routes", d.keeper.Run},
		{"speak BGP", d.speaker.Run},
		{"watch tunnels", func(ctx context.Context) error { return d.liveness.run(ctx, d.speaker.PathDown) }},
		{"follow probes", d.followProbes},
		{"drain", d.drainer.run},
		{"answer the load balancer", d.answerBalancer},
		{"supervise", d.supervise},
		{"observe", d.web.run},
		{"reload by signal", d.hangups},
		{"control", func(ctx context.Context) error { return d.server.Run(ctx, d.listener) }},
	}
}
