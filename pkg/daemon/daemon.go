package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/diag/hairpin"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/pkg/version"
)

const (
	// supervision is how often vanished devices and routes that failed are looked at.
	supervision = time.Second
	// drainTimeout bounds withdrawing and Cease at a stop; a peer that does not
	// read its socket must not hold it up.
	drainTimeout = 5 * time.Second
)

// Options are what a daemon needs besides its configuration.
type Options struct {
	// File is where the configuration came from; Reload reads it again.
	File string
	// Log gets everything; nil discards. Level, if not nil, is set by a reload.
	Log   *zap.Logger
	Level *zap.AtomicLevel
	// Hangup makes the daemon reload at each signal; may be nil.
	Hangup <-chan os.Signal
	// DropPrivileges gives up what is not needed once everything runs. It is for
	// the whole process and cannot be taken back.
	DropPrivileges bool
	// KeyLogs is a folder that gets the secrets of all handshakes, for tshark;
	// empty: none are written. Whoever has them can read the traffic.
	KeyLogs string
}

// Daemon is one node. Make it with New, start it with Run.
type Daemon struct {
	file   string
	log    *zap.Logger
	opts   Options
	notify *notifier
	ready  chan struct{}
	plan   atomic.Pointer[Plan]
	events *events.Log
	story  *chronicle
	beat   atomic.Int64 // when the supervisor last went round, in ns since 1970

	// change is held while the running configuration changes: by a reload, by a
	// rebuild of a tunnel, and by the stop.
	change   sync.Mutex
	stopping atomic.Bool
	symptoms atomic.Pointer[map[string]symptoms] // of the tunnels that do not work
	problem  atomic.Pointer[string]              // what the last reload could not do; nil: nothing

	// Set by Run before ready is closed, constant afterwards.
	started  time.Time
	lock     *control.Lock
	listener net.Listener
	sysctls  *sysctls
	keeper   *fib.Keeper
	speaker  *bgp.Speaker
	machine  *machine
	liveness *liveness
	drainer  *drainer
	balancer net.Listener // nil: none is asked for
	web      *webServer
	server   *control.Server
}

// New plans a daemon; it reads the machine and changes nothing.
func New(c *config.Config, o Options) (*Daemon, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	facts, err := ReadFacts(c.Underlay.Interface)
	if err != nil {
		return nil, err
	}
	plan, err := NewPlan(o.File, c, facts)
	if err != nil {
		return nil, err
	}
	d := &Daemon{file: o.File, log: o.Log, opts: o, notify: &notifier{log: o.Log}, ready: make(chan struct{}), events: &events.Log{}}
	d.story = newChronicle(d.events)
	d.plan.Store(plan)
	return d, nil
}

// Check says everything that is wrong with a configuration file, and in notes
// what cannot be known on this machine. It touches nothing.
func Check(file string) (notes []string, err error) {
	c, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	facts, err := ReadFacts(c.Underlay.Interface)
	if err != nil {
		return []string{fmt.Sprintf("not checked against a machine: %v", err)}, nil
	}
	p, err := NewPlan(file, c, facts)
	if err != nil {
		return nil, err
	}
	return certificateNotes(p, time.Now()), nil
}

// Ready is closed when everything runs; sessions may still be on their way up.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Run works until ctx is done, then withdraws what it announced, ends its
// sessions, and removes all that it made on the machine. It returns nil after
// such a stop, and the first error of a part otherwise; also then everything is
// removed. It can be called once.
func (d *Daemon) Run(ctx context.Context) (err error) {
	var undo undoList
	defer func() { err = errors.Join(err, undo.run()) }()
	d.started = time.Now()
	if err := d.open(&undo); err != nil {
		return err
	}
	// The tasks outlive ctx until everything is drained.
	tasks, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g, tctx := errgroup.WithContext(tasks)
	for _, t := range d.tasks() {
		g.Go(func() error {
			if err := t.run(tctx); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			return nil
		})
	}
	if d.opts.DropPrivileges {
		if err := dropPrivileges(); err != nil {
			cancel()
			return errors.Join(err, g.Wait())
		}
	}
	p := d.plan.Load()
	d.story.add(events.Node, events.Info, p.Node.Name, "", "running", "transitd %s runs as node %s of site %s, AS %d", version.Get().Version, p.Node.Name, p.Node.Site, p.Node.ASN)
	close(d.ready)
	d.notify.ready()
	d.log.Info("running", zap.String("node", p.Node.Name), zap.Uint32("asn", p.Node.ASN), zap.Int("tunnels", len(p.Tunnels)), zap.String("socket", p.Socket))
	select {
	case <-ctx.Done():
		d.drain(tctx)
	case <-tctx.Done(): // a part failed; Wait says which
		d.stopping.Store(true)
	}
	d.notify.stopping()
	cancel()
	return g.Wait()
}

// drain withdraws and says goodbye. Packets are still forwarded meanwhile.
func (d *Daemon) drain(ctx context.Context) {
	d.change.Lock() // a reload that is under way ends first; none begins afterwards
	defer d.change.Unlock()
	d.stopping.Store(true)
	d.notify.stopping()
	d.story.add(events.Node, events.Info, d.plan.Load().Node.Name, "running", "stopping", "stopping: withdrawing routes and ending BGP sessions")
	d.log.Info("stopping: withdrawing routes and ending BGP sessions")
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := d.speaker.Drain(ctx); err != nil {
		d.log.Warn("not everything could be withdrawn; the sessions are ended anyway", zap.Error(err))
	}
	d.liveness.goodbye()
}

// undoList runs the opposite of what was done, last first.
type undoList []func() error

func (u *undoList) add(f func() error) { *u = append(*u, f) }

func (u *undoList) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i]())
	}
	return errors.Join(errs...)
}

// supervise rebuilds tunnels whose device vanished, retries and sweeps routes, and tells the service manager how things are.
func (d *Daemon) supervise(ctx context.Context) error {
	d.beat.Store(time.Now().UnixNano())
	ticker := time.NewTicker(supervision)
	defer ticker.Stop()
	patients := &clinic{open: d.watchComebacks, list: map[string]*patient{}}
	defer patients.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			d.machine.routes.tick()
			d.rebuildVanished(ctx)
			d.keepSettings()
			d.liveness.sync(d.plan.Load().Tunnels)
			snap := d.snapshot()
			snap.Symptoms = patients.round(time.Now(), snap)
			d.symptoms.Store(&snap.Symptoms)
			d.story.watch(snap)
			d.beat.Store(time.Now().UnixNano())
			s := snap.status()
			d.notify.status("%s: %d tunnels, %d BGP sessions, %d routes", s.Health, len(s.Tunnels), len(s.BGP), s.Routes.Site+s.Routes.Remote)
		}
	}
}

// watchComebacks begins to look for our own datagrams to a peer that arrive at our card.
func (d *Daemon) watchComebacks(to netip.Addr) (comebacks, error) {
	p := d.plan.Load()
	index, err := deviceIndex(p.Underlay.Interface)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.Tunnels, func(t TunnelPlan) bool { return t.Pump.Remote.Addr() == to })
	if i < 0 || index == 0 {
		return nil, fmt.Errorf("nothing to watch for at %s", to)
	}
	return hairpin.Open(index, p.Tunnels[i].Endpoint.Local.Addr(), to)
}

// keepSettings sets again what another program changed of the kernel's settings.
func (d *Daemon) keepSettings() {
	if !d.change.TryLock() {
		return // a reload is at work: next time
	}
	defer d.change.Unlock()
	want := d.plan.Load().Sysctls
	if d.stopping.Load() {
		return
	}
	drifted := d.sysctls.drifted(want)
	if len(drifted) == 0 {
		return
	}
	if err := d.applySysctls(want); err != nil {
		d.log.Error("cannot set kernel settings again that another program changed", zap.Error(err), zap.Strings("settings", drifted))
		return
	}
	d.log.Warn("another program changed kernel settings that forwarding needs; they are set again", zap.Strings("settings", drifted))
	d.story.settings(drifted)
}

// rebuildVanished makes devices again that somebody deleted.
func (d *Daemon) rebuildVanished(ctx context.Context) {
	if len(d.machine.tunnels.vanished()) == 0 {
		return
	}
	d.change.Lock()
	defer d.change.Unlock()
	if d.stopping.Load() {
		return
	}
	for _, name := range d.machine.tunnels.vanished() { // again, now that no reload is at work
		err := d.machine.rebuild(ctx, name, d.plan.Load())
		if err != nil {
			d.log.Error("cannot make a vanished tunnel again", zap.String("tunnel", name), zap.Error(err))
			continue
		}
		d.log.Warn("a tunnel's device had vanished and was made again", zap.String("tunnel", name))
		d.story.add(events.Tunnel, events.Warning, name, "", "", "the device of tunnel %s had been removed by another program and was made again", name)
	}
}

// hangups reloads at each SIGHUP. Reload itself logs that it refused; what else
// went wrong it returns.
func (d *Daemon) hangups(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.opts.Hangup:
			_, err := d.Reload(ctx, control.ReloadRequest{})
			if _, refused := errors.AsType[*control.Error](err); err != nil && !refused {
				d.log.Error("reload by signal", zap.Error(err))
			}
		}
	}
}
