package pump

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/transitd/transitd/tunnel/udp"
)

// maxQueues bounds the default number of queues: more do not help one pair of endpoints.
const maxQueues = 4

// EndpointConfig describes an underlay address and port at which tunnels end.
type EndpointConfig struct {
	Local     netip.AddrPort
	Interface string // the underlay's card, to which the sockets are bound
	Mark      uint32 // of all outer packets
	// PlainSends gives every datagram to the kernel for itself, without
	// UDP_SEGMENT. That is also done where the self-test finds it broken.
	PlainSends bool
	// Protocol is that of IP, of packets that are in no UDP; 0: UDP. Local has no port then, and there is one queue.
	Protocol uint8
	Queues   int         // receivers, and TUN queues of each tunnel; 0: one per CPU, at most 4
	Log      *zap.Logger // nil discards
}

// Endpoint receives for the tunnels of one underlay address and port.
type Endpoint struct {
	cfg       EndpointConfig
	log       *zap.Logger
	receivers []*udp.Receiver
	bells     []*bell
	stop      atomic.Bool
	loops     sync.WaitGroup
	table     atomic.Pointer[table]

	mu      sync.Mutex // of Add and Close, and of what follows
	closed  bool
	tunnels []*Tunnel
}

// table tells the receiving loops which tunnels there are. It never changes;
// a loop calls adopted.Done when it has begun to use it, from when on it does not
// touch a tunnel of the table before.
type table struct {
	tunnels []*Tunnel
	peers   map[netip.Addr][]*Tunnel // by outer source
	adopted sync.WaitGroup
}

// Listen opens an endpoint without tunnels. It needs CAP_NET_ADMIN for the mark,
// and CAP_NET_RAW for a protocol that is not UDP.
func Listen(cfg EndpointConfig) (*Endpoint, error) {
	switch {
	case cfg.Protocol != 0:
		// Without ports the kernel cannot spread packets over sockets, so one loop
		// receives; and a device's queue sends the flows that it has last written.
		cfg.Queues = 1
	case cfg.Queues <= 0:
		cfg.Queues = min(runtime.NumCPU(), maxQueues)
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Protocol == 0 && !cfg.PlainSends {
		if err := udp.SelfTest(); err != nil {
			cfg.Log.Warn("sending datagrams one by one, which is slower", zap.Error(err))
			cfg.PlainSends = true
		}
	}
	e := &Endpoint{cfg: cfg, log: cfg.Log}
	receivers, err := udp.Listen(e.socket(), cfg.Queues)
	if err != nil {
		return nil, err
	}
	e.receivers = receivers
	for range receivers {
		b, err := newBell()
		if err != nil {
			return nil, errors.Join(err, e.closeSockets())
		}
		e.bells = append(e.bells, b)
	}
	e.publish()
	for i := range receivers {
		e.loops.Go(newLoop(e, i).run)
	}
	return e, nil
}

func (e *Endpoint) socket() udp.Config {
	return udp.Config{Local: e.cfg.Local, Interface: e.cfg.Interface, Mark: e.cfg.Mark, Protocol: e.cfg.Protocol}
}

// publish makes a table of the tunnels and gives it to the loops.
func (e *Endpoint) publish() *table {
	t := &table{tunnels: slices.Clone(e.tunnels), peers: map[netip.Addr][]*Tunnel{}}
	for _, tn := range e.tunnels {
		a := tn.cfg.Remote.Addr()
		t.peers[a] = append(t.peers[a], tn)
	}
	t.adopted.Add(len(e.receivers))
	e.table.Store(t)
	for _, b := range e.bells {
		b.ring()
	}
	return t
}

// Add makes a tunnel's device and returns when the loops serve it.
func (e *Endpoint) Add(cfg TunnelConfig) (*Tunnel, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("tunnel %s: the endpoint %s is closed", cfg.Name, e.cfg.Local)
	}
	t, err := newTunnel(e, cfg)
	if err != nil {
		return nil, err
	}
	e.tunnels = append(e.tunnels, t)
	e.publish().adopted.Wait()
	t.start()
	return t, nil
}

// remove returns when no receiving loop knows the tunnel any more; false if it was removed before.
func (e *Endpoint) remove(t *Tunnel) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.tunnels, t)
	if i < 0 {
		return false
	}
	e.tunnels = slices.Delete(e.tunnels, i, i+1)
	e.publish().adopted.Wait()
	return true
}

// Close closes all tunnels and the sockets.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	again := e.closed // from here on nothing is added
	e.closed = true
	tunnels := slices.Clone(e.tunnels)
	e.mu.Unlock()
	var errs []error
	for _, t := range tunnels {
		errs = append(errs, t.Close())
	}
	if again {
		return errors.Join(errs...)
	}
	e.stop.Store(true)
	for _, b := range e.bells {
		b.ring()
	}
	e.loops.Wait()
	return errors.Join(append(errs, e.closeSockets())...)
}

func (e *Endpoint) closeSockets() error {
	var errs []error
	for _, r := range e.receivers {
		errs = append(errs, r.Close())
	}
	for _, b := range e.bells {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}
