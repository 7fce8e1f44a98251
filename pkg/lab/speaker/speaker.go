package speaker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Defaults of Config and Peer.
const (
	// DefaultHoldTime is Azure's: keepalive every 60 s, hold 180 s.
	DefaultHoldTime = 180 * time.Second
	// DefaultConnectRetry is the pause before each attempt to connect. RFC
	// 4271, section 10 suggests 120 s; a person waits for the lab.
	DefaultConnectRetry = time.Second
	// DefaultPort is BGP's (IANA).
	DefaultPort uint16 = 179
	// DefaultLimitIdle is how long a neighbour that sent too many prefixes is refused.
	DefaultLimitIdle = 10 * time.Second
)

// A Config describes a speaker. RouteServer, MSEE, Naive and Edge make ready ones.
type Config struct {
	// ASN is the speaker's own, 1 to 4294967295.
	ASN uint32
	// RouterID is the BGP identifier, a non-zero IPv4 address.
	RouterID netip.Addr
	// Listen is where neighbours connect to. An invalid one: no listener.
	// Port 0 is 179; the address may be 0.0.0.0.
	Listen netip.AddrPort
	// HoldTime is what OPEN offers; 0 is DefaultHoldTime. At least 3 s, whole
	// seconds. The lower of both ends is used, keepalives at a third of it.
	HoldTime time.Duration
	// ConnectRetry is the pause before each attempt to connect; 0 is DefaultConnectRetry.
	ConnectRetry time.Duration
	// AnnounceIPv6 puts the IPv6 unicast capability into OPEN, as a Route
	// Server does. IPv6 routes are ignored all the same.
	AnnounceIPv6 bool
	// Peers are the neighbours. Their names and addresses are unique.
	Peers []Peer
	// Originate holds the paths that are there from the start.
	Originate []Path
	// OnBest, if set, gets the whole best set after every change, sorted by
	// prefix: the speaker's own prefixes (Best.Local) included. Calls come
	// from one goroutine, one at a time; while a call runs, changes are
	// gathered for the next. It must not call Run's cancel and wait for Run.
	OnBest func([]Best)
	// OnState, if set, is told about each change of a session's state, from
	// the neighbour's goroutine. It must return soon.
	OnState func(peer string, state State)
	// Log may be nil.
	Log *zap.Logger
}

// A Peer is one neighbour.
type Peer struct {
	// Name is unique in the speaker: what Status, Refresh and Path.From use.
	Name string
	// Addr is the neighbour's IPv4 address, ASN its AS (never the speaker's own).
	Addr netip.Addr
	ASN  uint32
	// Port is where to connect to; 0 is 179.
	Port uint16
	// Local is the address to connect from and the next hop for this
	// neighbour; if invalid, the kernel's choice.
	Local netip.Addr
	// Passive: never connect, only wait.
	Passive bool
	// Preference is given to all paths of the neighbour.
	Preference int
	// ShieldOriginated: paths of this neighbour to a prefix equal to or
	// inside one that this speaker originates are neither used nor passed on.
	ShieldOriginated bool
	// MaxPrefixes is how many prefixes the neighbour may announce; 0: no
	// limit. Over it the session ends with Cease/Maximum Number of Prefixes Reached.
	MaxPrefixes int
	// CountIncoming counts as a Route Server does: what was there before a
	// burst of UPDATEs plus all that the burst announces, so that a repeated
	// route counts twice. Otherwise a prefix counts once.
	CountIncoming bool
	// Burst is how long a pause between UPDATEs ends a burst; 0: each UPDATE
	// is one. It matters to CountIncoming only.
	Burst time.Duration
	// LimitIdle is how long the neighbour is refused after it went over
	// MaxPrefixes; 0 is DefaultLimitIdle.
	LimitIdle time.Duration
	// Import may change or refuse a path after the loop check; nil accepts.
	// It is called with the RIB locked, possibly often: it must be quick and
	// must not call the speaker. The same holds for Export.
	Import func(Path) (Path, bool)
	// Export may change or refuse a path before it is announced to the
	// neighbour; nil accepts. The speaker's own AS is prepended and the next
	// hop is set after it.
	Export func(Path) (Path, bool)
}

// A Speaker is one BGP router. Its methods may be called from any goroutine.
type Speaker struct {
	// Set by New and constant.
	cfg       Config
	log       *zap.Logger
	transport transport
	peers     []*peer
	rib       *rib

	rejected atomic.Uint64 // connections from strangers

	mu      sync.Mutex
	running bool
	addr    netip.AddrPort // where Run listens
}

// New checks the configuration; it opens nothing.
func New(cfg Config) (*Speaker, error) {
	cfg = withDefaults(cfg)
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Speaker{cfg: cfg, log: cfg.Log, transport: tcpTransport{}}
	s.rib = newRIB(cfg.ASN)
	for i := range cfg.Peers {
		p := newPeer(s, cfg.Peers[i])
		s.peers = append(s.peers, p)
		s.rib.addPeer(p.cfg, &p.stats)
	}
	if err := s.Originate(cfg.Originate...); err != nil {
		return nil, err
	}
	return s, nil
}

// Run speaks until ctx ends: then every neighbour gets a Cease notification,
// all connections are closed, and Run returns nil. It returns an error if it
// cannot listen or runs already.
func (s *Speaker) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("speaker: runs already")
	}
	s.running = true
	s.mu.Unlock()
	var l net.Listener
	if s.cfg.Listen.IsValid() {
		var err error
		if l, err = s.transport.listen(ctx, s.cfg.Listen); err != nil {
			return fmt.Errorf("speaker: listen on %v: %w", s.cfg.Listen, err)
		}
		s.setListenAddr(l.Addr())
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	for _, p := range s.peers {
		wg.Go(func() { p.run(ctx) })
	}
	wg.Go(func() { s.notify(ctx) })
	var err error
	if l != nil {
		err = s.accept(ctx, &wg, l)
	} else {
		<-ctx.Done()
	}
	cancel()
	wg.Wait()
	return err
}

// Originate announces own paths, replacing those with the same prefixes. It
// may be called before Run. Either all paths are taken or none.
func (s *Speaker) Originate(paths ...Path) error {
	own := make([]Path, 0, len(paths))
	for _, p := range paths {
		if !p.Prefix.IsValid() || !p.Prefix.Addr().Is4() || p.Prefix != p.Prefix.Masked() {
			return fmt.Errorf("speaker: originate %v: not an IPv4 prefix without host bits", p.Prefix)
		}
		if p.NextHop.IsValid() && !p.NextHop.Is4() {
			return fmt.Errorf("speaker: originate %v: next hop %v is not an IPv4 address", p.Prefix, p.NextHop)
		}
		p.From, p.Peer = "", netip.Addr{}
		own = append(own, p)
	}
	s.rib.originate(own)
	return nil
}

// Withdraw takes own paths back; prefixes that are not originated are ignored.
func (s *Speaker) Withdraw(prefixes ...netip.Prefix) { s.rib.withdrawOwn(prefixes) }

// Best returns the best set as OnBest gets it.
func (s *Speaker) Best() []Best { return s.rib.best() }

// Received returns what the neighbour has announced and the import kept, sorted
// by prefix: its Adj-RIB-In. Paths that are shielded are among them.
func (s *Speaker) Received(peer string) ([]Path, error) {
	p, err := s.peer(peer)
	if err != nil {
		return nil, err
	}
	return s.rib.received(p.cfg.Name), nil
}

// Announced returns what the neighbour has been told, sorted by prefix, with
// the AS path and next hop that it was told: its Adj-RIB-Out.
func (s *Speaker) Announced(peer string) ([]Path, error) {
	p, err := s.peer(peer)
	if err != nil {
		return nil, err
	}
	return s.rib.announced(p.cfg.Name), nil
}

// Refresh sends ROUTE-REFRESH for IPv4 unicast to the neighbour, or to all
// established ones if peer is empty, as a Route Server does after a change of
// VNet peerings. A neighbour without the route refresh capability gets a hard
// reset instead, which is what Azure does. For a named neighbour it is an
// error if its session is not established.
func (s *Speaker) Refresh(peer string) error {
	if peer == "" {
		for _, p := range s.peers {
			p.command(command{kind: commandRefresh})
		}
		return nil
	}
	p, err := s.peer(peer)
	if err != nil {
		return err
	}
	if state := p.stats.state(); state != Established {
		return fmt.Errorf("speaker: refresh %q: session is %v", peer, state)
	}
	p.command(command{kind: commandRefresh})
	return nil
}

// Restart ends the neighbour's session (all sessions if peer is empty) with
// Cease/Administrative Reset. For the time down the speaker neither connects nor
// accepts, then it comes back by itself.
func (s *Speaker) Restart(peer string, down time.Duration) error {
	c := command{kind: commandRestart, down: down}
	if peer == "" {
		for _, p := range s.peers {
			p.command(c)
		}
		return nil
	}
	p, err := s.peer(peer)
	if err != nil {
		return err
	}
	p.command(c)
	return nil
}

// Addr is where Run listens; invalid before that, or without a listener.
func (s *Speaker) Addr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

func (s *Speaker) peer(name string) (*peer, error) {
	for _, p := range s.peers {
		if p.cfg.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("speaker: no neighbour %q", name)
}

// notify hands the best set to OnBest until ctx ends.
func (s *Speaker) notify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.rib.changedC:
		}
		if s.cfg.OnBest != nil {
			s.cfg.OnBest(s.rib.best())
		}
	}
}
