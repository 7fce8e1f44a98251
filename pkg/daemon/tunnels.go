package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/stamp"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/pmtud"
	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/vxlan"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// device is a running tunnel. Close waits for its loops and removes the Linux device.
type device interface {
	Close() error
	Stats() tunnel.Stats
	// Up reports whether the device is there and the peer is resolved.
	Up() bool
	// WireGuard and IPsec describe keys and how they were agreed on, nil where
	// there are none; Reconfigure takes others.
	WireGuard() *wireguard.Status
	IPsec() *ike.Status
	// ForeignVNI is the last VNI that the peer sent and that is not the tunnel's, 0: none.
	ForeignVNI() uint32
	Reconfigure(p TunnelPlan) error
	// Path is what is known of the path's MTU, and Measure finds it out now.
	Path() pmtud.Status
	// Quality is what the last probes say of round trip, loss and jitter.
	Quality() stamp.Stats
	// Loops is how many packets were seen again in a loop, and the last one.
	Loops() (n uint64, last *pump.Loop)
	Measure(ctx context.Context, progress func(string)) (pmtud.Result, error)
}

// tunnelSet holds the tunnels that run. Its methods may be called at once;
// those that open or close something hold the lock meanwhile, so status waits
// for a device to be made (milliseconds).
type tunnelSet struct {
	log *zap.Logger
	// open starts a tunnel; index finds a Linux device, 0 if it is not there.
	open  func(TunnelPlan) (device, error)
	index func(name string) (int, error)

	mu   sync.Mutex
	list []*slot // in the order of the plan
}

// slot is one tunnel of the plan, whether it runs or not.
type slot struct {
	plan    TunnelPlan
	dev     device // nil: it could not be made, see err
	index   int    // of the Linux device that dev made
	err     error
	rebuilt uint64
	// before is what devices counted that are gone.
	before tunnel.Stats
}

// TunnelView is what a tunnel looks like at one moment.
type TunnelView struct {
	Plan    TunnelPlan
	Present bool // the Linux device is there
	Up      bool // and the peer is resolved
	Err     error
	Rebuilt uint64
	Stats   tunnel.Stats
	// WireGuard is nil for other encapsulations, and so is IPsec.
	WireGuard *wireguard.Status
	IPsec     *ike.Status
	// ForeignVNI is a VNI that the peer sends and that is not the tunnel's, 0: none.
	ForeignVNI uint32
	// Path is what is known of the path's MTU.
	Path pmtud.Status
	// Quality is what the last probes say of round trip, loss and jitter.
	Quality stamp.Stats
	// Loops counts packets that were seen again in a loop; Loop is the last one, nil if there was none.
	Loops uint64
	Loop  *pump.Loop
}

// add starts a tunnel. If that fails the slot is kept, and rebuild tries again.
func (s *tunnelSet) add(p TunnelPlan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := &slot{plan: p}
	s.list = append(s.list, sl)
	return s.startLocked(sl)
}

func (s *tunnelSet) startLocked(sl *slot) error {
	sl.dev, sl.err = s.open(sl.plan)
	if sl.err != nil {
		sl.dev = nil
		return fmt.Errorf("tunnel %s: %w", sl.plan.Name, sl.err)
	}
	sl.index, sl.err = s.index(sl.plan.Name)
	return sl.err
}

// rekey gives a running tunnel other keys.
func (s *tunnelSet) rekey(p TunnelPlan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.list {
		if sl.plan.Name != p.Name {
			continue
		}
		sl.plan = p
		if sl.dev == nil {
			return nil // made with them, when it can be made
		}
		if err := sl.dev.Reconfigure(p); err != nil {
			return fmt.Errorf("change the keys of tunnel %s: %w", p.Name, err)
		}
	}
	return nil
}

// remove stops a tunnel and forgets it.
func (s *tunnelSet) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(sl *slot) bool { return sl.plan.Name == name })
	if i < 0 {
		return nil
	}
	sl := s.list[i]
	s.list = slices.Delete(s.list, i, i+1)
	return sl.close()
}

func (sl *slot) close() error {
	if sl.dev == nil {
		return nil
	}
	addStats(&sl.before, sl.dev.Stats())
	err := sl.dev.Close()
	sl.dev = nil
	if err != nil {
		return fmt.Errorf("close tunnel %s: %w", sl.plan.Name, err)
	}
	return nil
}

// is reports whether an index is that of the device that was made. A device that
// was deleted before it could be looked at has index 0, and so has none at all.
func (sl *slot) is(index int) bool { return index != 0 && index == sl.index }

// vanished lists the tunnels whose Linux device is not the one that was made:
// somebody deleted it, or it could not be made.
func (s *tunnelSet) vanished() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.list {
		index, err := s.index(sl.plan.Name)
		if err != nil {
			continue // the kernel could not be asked: next time
		}
		if sl.dev == nil || sl.err != nil || !sl.is(index) {
			names = append(names, sl.plan.Name)
		}
	}
	return names
}

// rebuild closes what is left of a tunnel and starts it again.
func (s *tunnelSet) rebuild(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(sl *slot) bool { return sl.plan.Name == name })
	if i < 0 {
		return nil
	}
	sl := s.list[i]
	if err := sl.close(); err != nil {
		s.log.Info("what was left of a vanished tunnel did not close cleanly", zap.String("tunnel", name), zap.Error(err))
	}
	if err := s.startLocked(sl); err != nil {
		return err
	}
	sl.rebuilt++
	return nil
}

// order sorts the tunnels as the plan has them.
func (s *tunnelSet) order(plan []TunnelPlan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := map[string]int{}
	for i, p := range plan {
		at[p.Name] = i
	}
	slices.SortStableFunc(s.list, func(a, b *slot) int { return at[a.plan.Name] - at[b.plan.Name] })
}

// views describes all tunnels.
func (s *tunnelSet) views() []TunnelView {
	s.mu.Lock()
	defer s.mu.Unlock()
	views := make([]TunnelView, len(s.list))
	for i, sl := range s.list {
		v := TunnelView{Plan: sl.plan, Err: sl.err, Rebuilt: sl.rebuilt}
		addStats(&v.Stats, sl.before)
		if sl.dev != nil {
			addStats(&v.Stats, sl.dev.Stats())
			index, err := s.index(sl.plan.Name)
			v.Present = err == nil && sl.is(index)
			v.Up = v.Present && sl.dev.Up()
			v.Loops, v.Loop = sl.dev.Loops()
			v.IPsec = sl.dev.IPsec()
			v.WireGuard, v.ForeignVNI, v.Path, v.Quality = sl.dev.WireGuard(), sl.dev.ForeignVNI(), sl.dev.Path(), sl.dev.Quality()
		}
		views[i] = v
	}
	return views
}

// closeAll stops everything.
func (s *tunnelSet) closeAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, sl := range s.list {
		errs = append(errs, sl.close())
	}
	s.list = nil
	return errors.Join(errs...)
}

// addStats adds b to a.
func addStats(a *tunnel.Stats, b tunnel.Stats) {
	a.TXPackets += b.TXPackets
	a.TXBytes += b.TXBytes
	a.RXPackets += b.RXPackets
	a.RXBytes += b.RXBytes
	a.Arrived += b.Arrived
	for reason, n := range b.Drops {
		if a.Drops == nil {
			a.Drops = map[string]uint64{}
		}
		a.Drops[reason] += n
	}
}

// endpoints opens tunnels on the sockets that tunnels with the same address and
// port share. A socket is opened for its first tunnel and closed with its last.
type endpoints struct {
	log     *zap.Logger
	keyLogs string // the folder that gets secrets; empty: none are written
	// keysLogged is told of each tunnel whose secrets are written; nil: nobody is.
	keysLogged func(tunnel string)

	mu   sync.Mutex
	open map[netip.AddrPort]*shared
}

type shared struct {
	endpoint *pump.Endpoint
	users    int
}

// start makes a tunnel's device and loops.
func (e *endpoints) start(p TunnelPlan) (device, error) {
	codec, engine, err := e.codec(p)
	if err != nil {
		return nil, err
	}
	t, err := e.add(p, codec)
	if err != nil {
		return nil, errors.Join(err, engine.close())
	}
	if engine != nil {
		engine.serve(p, t)
	}
	st := &sharedTunnel{Tunnel: t, engine: engine, of: e, at: p.Endpoint.Local, mtu: p.Pump.MTU}
	p.Path.Log = e.log.With(zap.String("tunnel", p.Name))
	// That the path cannot be measured is no reason to have no tunnel.
	if st.path, err = pmtud.Start(t, p.Path); err != nil {
		e.log.Warn("the path's MTU is not measured: the tunnel uses what is configured", zap.String("tunnel", p.Name), zap.Error(err))
	}
	if p.ProbeInterval > 0 {
		if st.quality, err = stamp.Start(p.Quality, p.ProbeInterval); err != nil {
			e.log.Warn("round trip and loss are not measured", zap.String("tunnel", p.Name), zap.Error(err))
		}
	}
	return st, nil
}

// add makes the device on the endpoint, which is opened if this is its first.
func (e *endpoints) add(p TunnelPlan, codec pump.Codec) (*pump.Tunnel, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sh := e.open[p.Endpoint.Local]
	if sh == nil {
		cfg := p.Endpoint
		cfg.Log = e.log
		ep, err := pump.Listen(cfg)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", cfg.Local, err)
		}
		sh = &shared{endpoint: ep}
		if e.open == nil {
			e.open = map[netip.AddrPort]*shared{}
		}
		e.open[p.Endpoint.Local] = sh
	}
	cfg := p.Pump
	cfg.Codec = codec
	t, err := sh.endpoint.Add(cfg)
	if err != nil {
		return nil, errors.Join(err, e.releaseLocked(p.Endpoint.Local))
	}
	sh.users++
	return t, nil
}

// releaseLocked closes an endpoint that nobody uses.
func (e *endpoints) releaseLocked(at netip.AddrPort) error {
	sh := e.open[at]
	if sh == nil || sh.users > 0 {
		return nil
	}
	delete(e.open, at)
	if err := sh.endpoint.Close(); err != nil {
		return fmt.Errorf("close the sockets of %s: %w", at, err)
	}
	return nil
}

// sharedTunnel is a tunnel that gives its endpoint back.
type sharedTunnel struct {
	*pump.Tunnel
	engine *engine // nil: an encapsulation without
	of     *endpoints
	at     netip.AddrPort
	mtu    int            // the configured one
	path   *pmtud.Session // nil: it could not be started
	// quality is nil if it is not measured.
	quality *stamp.Session
}

// Quality is what the last probes say.
func (t *sharedTunnel) Quality() stamp.Stats { return t.quality.Stats() }

// Path is what is known of the path's MTU.
func (t *sharedTunnel) Path() pmtud.Status {
	if t.path == nil {
		return pmtud.Status{MTU: t.mtu, Method: pmtud.MethodNone}
	}
	return t.path.Status()
}

// Measure finds out now what the path carries.
func (t *sharedTunnel) Measure(ctx context.Context, progress func(string)) (pmtud.Result, error) {
	if t.path == nil {
		return pmtud.Result{}, errors.New("the path's MTU cannot be measured: see the log of when the tunnel was made")
	}
	return t.path.Measure(ctx, progress)
}

// WireGuard describes the tunnel's keys and handshakes, nil if it has none.
func (t *sharedTunnel) WireGuard() *wireguard.Status { return t.engine.wireguardStatus() }

// IPsec describes the tunnel's SAs, nil if it has none.
func (t *sharedTunnel) IPsec() *ike.Status { return t.engine.ipsecStatus() }

// ForeignVNI is the last VNI that the peer sent and that is not the tunnel's, 0: none.
func (t *sharedTunnel) ForeignVNI() uint32 {
	if c, ok := t.Codec().(*vxlan.Codec); ok {
		return c.ForeignVNI()
	}
	return 0
}

// Reconfigure takes other keys while packets go on.
func (t *sharedTunnel) Reconfigure(p TunnelPlan) error { return t.engine.reconfigure(p) }

// Close ends the tunnel, and its endpoint if it was the last one.
func (t *sharedTunnel) Close() error {
	err := errors.Join(t.quality.Close(), t.path.Close(), t.Tunnel.Close(), t.engine.close())
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	if sh := t.of.open[t.at]; sh != nil {
		sh.users--
	}
	return errors.Join(err, t.of.releaseLocked(t.at))
}

// dscp translates the configuration's code point.
func dscp(d config.DSCP) pump.DSCP { return pump.DSCP(d) }
