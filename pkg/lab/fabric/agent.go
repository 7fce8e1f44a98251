package fabric

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/netns"
)

// AgentConfig is what the agent needs.
type AgentConfig struct {
	Fabric    Config
	Namespace netns.NS
	// Socket is where Route Servers and the command line find the agent.
	Socket string
	// Delay is the time from the first change until the NICs are programmed. In Azure 24 to 39 s were measured.
	Delay time.Duration
	Log   *zap.Logger // nil discards
}

// Agent is the SDN's control plane: it hears from Route Server instances and programs the tables of all NICs.
type Agent struct {
	cfg AgentConfig
	log *zap.Logger

	changedC chan struct{} // has room for one: a change is waiting to be programmed

	mu      sync.Mutex
	learned map[string]map[string][]BGPRoute // by Route Server, then by instance; guarded by mu
	writes  uint64                           // how often tables were programmed; guarded by mu
	written map[string][]BGPRoute            // what the tables were made from; guarded by mu
}

// NewAgent checks the fabric and returns an agent that does nothing yet.
func NewAgent(cfg AgentConfig) (*Agent, error) {
	if err := cfg.Fabric.Validate(); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = zap.NewNop()
	}
	return &Agent{cfg: cfg, log: log, changedC: make(chan struct{}, 1), learned: map[string]map[string][]BGPRoute{}}, nil
}

// Run programs the tables as far as they depend on nobody, then serves until ctx ends. The tables stay.
func (a *Agent) Run(ctx context.Context) error {
	h, err := a.cfg.Namespace.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	k, err := a.prepare(h)
	if err != nil {
		return err
	}
	ln, err := listen(a.cfg.Socket)
	if err != nil {
		return err
	}
	// BaseContext ends long requests (an instance's stream) with the agent.
	srv := &http.Server{
		Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	var wg sync.WaitGroup
	var serveErr error
	wg.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			serveErr = fmt.Errorf("serve the fabric's socket: %w", err)
		}
	})
	err = a.loop(ctx, k)
	if cerr := srv.Close(); cerr != nil {
		a.log.Debug("close the fabric's socket", zap.Error(cerr))
	}
	wg.Wait()
	return errors.Join(err, serveErr)
}

// listen makes the socket anew: the process that had it is gone, or this one would not have been started.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for Route Servers: %w", err)
	}
	return ln, nil
}

func (a *Agent) prepare(h *netlink.Handle) (*kernel, error) {
	k := newKernel(h)
	for i := range a.cfg.Fabric.NICs {
		if err := k.adopt(firstTable + i); err != nil {
			return nil, err
		}
	}
	if err := k.adopt(hostTable); err != nil {
		return nil, err
	}
	if err := a.program(k); err != nil {
		return nil, err
	}
	for i, nic := range a.cfg.Fabric.NICs {
		if err := k.addRule(i, nic); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// loop programs the tables Delay after the first change; what changes in between is in it too.
func (a *Agent) loop(ctx context.Context, k *kernel) error {
	var timerC <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.changedC:
			if timerC == nil {
				timerC = time.After(a.cfg.Delay)
			}
		case <-timerC:
			timerC = nil
			if err := a.program(k); err != nil {
				return err
			}
		}
	}
}

// program writes all tables. A NIC that was unplugged meanwhile ends the agent: the lab is going down.
func (a *Agent) program(k *kernel) error {
	learned := a.snapshot()
	for i, nic := range a.cfg.Fabric.NICs {
		want := Program(a.cfg.Fabric, nic, Effective(a.cfg.Fabric, nic, learned[a.cfg.Fabric.vnet(nic.VNet).RouteServer]))
		if err := k.apply(firstTable+i, want); err != nil {
			return fmt.Errorf("program NIC %s: %w", nic.Name, err)
		}
	}
	if err := k.apply(hostTable, Host(a.cfg.Fabric, learned)); err != nil {
		return fmt.Errorf("program the fabric's own table: %w", err)
	}
	a.mu.Lock()
	a.writes++
	a.written = learned
	a.mu.Unlock()
	a.log.Debug("programmed all NICs")
	return nil
}

// snapshot is the union over the instances of each Route Server.
func (a *Agent) snapshot() map[string][]BGPRoute {
	a.mu.Lock()
	defer a.mu.Unlock()
	union := map[string][]BGPRoute{}
	for rs, instances := range a.learned {
		for _, name := range slices.Sorted(maps.Keys(instances)) {
			union[rs] = append(union[rs], instances[name]...)
		}
	}
	return union
}

// learn replaces what an instance knows; nil routes with there == false forget the instance.
func (a *Agent) learn(routeServer, instance string, routes []BGPRoute, there bool) {
	a.mu.Lock()
	if a.learned[routeServer] == nil {
		a.learned[routeServer] = map[string][]BGPRoute{}
	}
	if there {
		a.learned[routeServer][instance] = routes
	} else {
		delete(a.learned[routeServer], instance)
	}
	a.mu.Unlock()
	select {
	case a.changedC <- struct{}{}:
	default: // one is waiting already and will see this too
	}
}
