package pmtud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Tunnel is what a session measures; *pump.Tunnel is.
type Tunnel interface {
	// Probe sends an IP packet past the device and its MTU and says how long the
	// outer packet is; unix.EMSGSIZE if our own card does not take it.
	Probe(pkt []byte) (outer int, err error)
	// SetMTU changes the largest inner packet, in bytes.
	SetMTU(mtu int) error
	// Up reports whether packets can be sent.
	Up() bool
}

// Config describes a session.
type Config struct {
	Device string     // the tunnel's Linux device
	Local  netip.Addr // our overlay address, IPv4
	Peer   netip.Addr // the peer's
	// From and To are the underlay addresses, and Card the card: for what routers say.
	From, To netip.Addr
	Card     string
	CardMTU  int // bytes
	Overhead int // of the encapsulation with the outer IP header, in bytes
	MTU      int // the configured one, of inner packets: never exceeded
	// Fixed says that the tunnel stays at MTU whatever is measured: only questions are answered.
	Fixed bool
	Log   *zap.Logger // nil discards
}

// Method is how the path is measured.
type Method string

// The methods.
const (
	MethodNone  Method = "none"  // nothing answers
	MethodProbe Method = "probe" // the peer is transitd: each direction by itself
	MethodEcho  Method = "echo"  // ICMP echo: the way there and back in one
)

// Status is what a session knows.
type Status struct {
	MTU    int // in use, bytes of inner packets
	Phase  Phase
	Method Method
	// PeerMTU is what the peer uses towards us, PeerMost what it has configured; 0 if not known.
	PeerMTU, PeerMost int
	Hop               Hop
}

// Hop is a router that said a packet was too long; the zero Hop is none.
type Hop struct {
	Addr netip.Addr
	MTU  int // of outer packets, in bytes
	At   time.Time
}

// Session measures one tunnel; make it with Start.
type Session struct {
	cfg    Config
	log    *zap.Logger
	tunnel Tunnel
	udp    *net.UDPConn
	icmp   *net.IPConn // of the tunnel
	hints  *net.IPConn // of the card; nil if it could not be had
	woken  chan struct{}
	closed context.Context // done when Close is called
	cancel context.CancelFunc
	ended  sync.WaitGroup
	busy   chan struct{} // a place for one Measure; Close takes it for good

	mu       sync.Mutex
	m        *machine
	method   Method
	pending  map[uint64]pending // by token
	peer     message            // the last answer
	hop      Hop
	applied  int
	answered bucket
}

// pending is a probe that is under way.
type pending struct {
	size  int
	at    time.Time
	reply chan<- reply // nil: the machine's
}

// reply is what came back for a probe.
type reply struct {
	token uint64
	rtt   time.Duration
	n     int      // length of the answer, an IP packet
	msg   *message // nil: an echo reply
}

const (
	// forget is after how long a probe is not waited for any more.
	forget = 10 * time.Second
	// idle is how often a tunnel that is down is looked at.
	idle = time.Second
)

// Start begins to measure. It needs CAP_NET_RAW.
func Start(t Tunnel, c Config) (*Session, error) {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	now := time.Now()
	s := &Session{
		cfg: c, log: c.Log, tunnel: t, woken: make(chan struct{}, 1), busy: make(chan struct{}, 1),
		m: newMachine(c.MTU, c.likely(), now), method: MethodNone, pending: map[uint64]pending{}, applied: c.MTU,
	}
	if err := s.listen(); err != nil {
		return nil, errors.Join(err, s.closeSockets())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.closed, s.cancel = ctx, cancel
	s.ended.Go(s.readUDP)
	s.ended.Go(s.readICMP)
	if s.hints != nil {
		s.ended.Go(s.readHints)
	}
	if !c.Fixed {
		s.ended.Go(func() { s.run(ctx) })
	}
	return s, nil
}

// likely are the inner sizes that Azure's paths leave (azure: 1,400 behind
// gateways, 1,500 by default, 3,900 and 9,000 inside a VNet).
func (c Config) likely() (sizes []int) {
	for _, outer := range [...]int{1400, 1500, 3900, 9000} {
		sizes = append(sizes, outer-c.Overhead)
	}
	return sizes
}

func (s *Session) listen() error {
	device := func(name string, more func(fd int) error) func(string, string, syscall.RawConn) error {
		return func(_, _ string, raw syscall.RawConn) error {
			var err error
			cerr := raw.Control(func(fd uintptr) {
				if err = unix.BindToDevice(int(fd), name); err == nil {
					err = more(int(fd))
				}
			})
			return errors.Join(cerr, err)
		}
	}
	lc := net.ListenConfig{Control: device(s.cfg.Device, func(fd int) error {
		// No router has forwarded what counts (RFC 5082, section 3).
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, ttl)
	})}
	ctx := context.Background()
	p, err := lc.ListenPacket(ctx, "udp4", netip.AddrPortFrom(s.cfg.Local, Port).String())
	if err != nil {
		return fmt.Errorf("listen for probes of the path in %s: %w", s.cfg.Device, err)
	}
	s.udp = p.(*net.UDPConn)
	lc.Control = device(s.cfg.Device, func(fd int) error { return filterICMP(fd, icmpEchoReply) })
	if p, err = lc.ListenPacket(ctx, "ip4:icmp", s.cfg.Local.String()); err != nil {
		return fmt.Errorf("listen for echo replies in %s: %w", s.cfg.Device, err)
	}
	s.icmp = p.(*net.IPConn)
	lc.Control = device(s.cfg.Card, func(fd int) error { return filterICMP(fd, icmpUnreachable) })
	network := "ip4:icmp"
	if s.cfg.From.Is6() {
		network, lc.Control = "ip6:ipv6-icmp", device(s.cfg.Card, func(int) error { return nil })
	}
	if p, err = lc.ListenPacket(ctx, network, s.cfg.From.String()); err != nil {
		s.log.Info("what routers say of packets that are too long is not heard", zap.Error(err))
		return nil
	}
	s.hints = p.(*net.IPConn)
	return nil
}

// filterICMP lets a raw ICMP socket have one type only (raw(7)).
func filterICMP(fd, typ int) error {
	const icmpFilter = 1
	return unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, int(^uint32(1<<typ)))
}

// run does what the machine says until ctx is done.
func (s *Session) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.woken:
		}
		s.follow()
		if !s.tunnel.Up() {
			timer.Reset(idle)
			continue
		}
		s.mu.Lock()
		size, again := s.m.tick(time.Now())
		s.mu.Unlock()
		s.follow()
		if size > 0 {
			s.probe(size)
		}
		timer.Reset(time.Until(again))
	}
}

// follow lets the tunnel have the MTU that the machine has found.
func (s *Session) follow() {
	s.mu.Lock()
	was, now, phase := s.applied, s.m.now, s.m.stands()
	s.applied = now
	s.mu.Unlock()
	if was == now {
		return
	}
	if err := s.tunnel.SetMTU(now); err != nil {
		s.log.Warn("cannot change the tunnel's MTU", zap.Int("mtu", now), zap.Error(err))
		return
	}
	s.log.Info("the tunnel's MTU follows the path", zap.Int("from", was), zap.Int("to", now), zap.Stringer("phase", phase))
}

func (s *Session) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// probe asks the peer whether a size gets through. What cannot be sent is a
// probe that was lost on its way.
func (s *Session) probe(size int) {
	s.mu.Lock()
	echo := s.method != MethodProbe || s.m.phase == Base || s.m.phase == Lost
	s.mu.Unlock()
	_, _ = s.ask(size, 0, nil)
	if echo {
		_, _ = s.echo(size, nil)
	}
}

// expect notes that an answer may come.
func (s *Session) expect(size int, to chan<- reply) (token uint64) {
	token = rand.Uint64()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, p := range s.pending {
		if now.Sub(p.at) > forget {
			delete(s.pending, t)
		}
	}
	s.pending[token] = pending{size: size, at: now, reply: to}
	return token
}

// ask sends a request of n bytes that wants an answer of want bytes, 0 for a short one.
func (s *Session) ask(n, want int, to chan<- reply) (token uint64, err error) {
	token = s.expect(n, to)
	m := s.introduce(request)
	m.token, m.want = token, uint16(want)
	_, err = s.tunnel.Probe(m.datagram(s.cfg.Local, s.cfg.Peer, n))
	return token, err
}

// echo sends an ICMP echo request of n bytes.
func (s *Session) echo(n int, to chan<- reply) (token uint64, err error) {
	token = s.expect(n, to)
	_, err = s.tunnel.Probe(echoRequest(s.cfg.Local, s.cfg.Peer, token, n))
	return token, err
}

// introduce makes a message that says who we are.
func (s *Session) introduce(k kind) message {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := message{kind: k, using: uint16(s.applied), most: uint16(s.cfg.MTU), card: uint16(min(s.cfg.CardMTU, 0xffff))}
	if time.Since(s.hop.At) < forget && s.hop.Addr.Is4() {
		m.hop, m.hopMTU = s.hop.Addr, uint16(min(s.hop.MTU, 0xffff))
	}
	return m
}

// heard takes an answer, or an echo reply.
func (s *Session) heard(r reply) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pending[r.token]
	if !ok {
		return
	}
	delete(s.pending, r.token)
	if r.msg != nil {
		s.method, s.peer = MethodProbe, *r.msg
	} else if s.method != MethodProbe || s.m.phase == Base || s.m.phase == Lost { // the peer may be another one now
		s.method = MethodEcho
	}
	if p.reply == nil {
		s.m.answered(p.size, now)
		s.wake()
		return
	}
	r.rtt = now.Sub(p.at)
	select {
	case p.reply <- r:
	default: // it has stopped listening
	}
}

func (s *Session) readUDP() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || from.Addr().Unmap() != s.cfg.Peer || from.Port() != Port {
			continue // an ICMP error that the kernel tells; or somebody else
		}
		m, ok := parseMessage(buf[:n])
		switch {
		case !ok:
		case m.kind == request:
			s.respond(m, n+ipHeader+udpHeader)
		default:
			s.heard(reply{token: m.token, n: n + ipHeader + udpHeader, msg: &m})
		}
	}
}

func (s *Session) readICMP() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.icmp.ReadFromIP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || addrOf(from) != s.cfg.Peer {
			continue
		}
		if token, size, ok := echoReply(buf[:n]); ok {
			s.heard(reply{token: token, n: size})
		}
	}
}

// readHints hears what routers say to our outer packets.
func (s *Session) readHints() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.hints.ReadFromIP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		mtu, ok := tooBig(buf[:n], s.cfg.From, s.cfg.To)
		if !ok {
			continue
		}
		now := time.Now()
		s.mu.Lock()
		s.hop = Hop{Addr: addrOf(from), MTU: mtu, At: now}
		s.m.hinted(mtu-s.cfg.Overhead, now)
		s.mu.Unlock()
		s.wake()
	}
}

func addrOf(a *net.IPAddr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	b, _ := netip.AddrFromSlice(a.IP)
	return b.Unmap()
}

// Status tells what is known.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		MTU: s.applied, Phase: s.m.stands(), Method: s.method, PeerMTU: int(s.peer.using), PeerMost: int(s.peer.most), Hop: s.hop,
	}
}

// Close ends the session and what it measures; the tunnel keeps its MTU. It can be called once.
func (s *Session) Close() error {
	if s == nil {
		return nil
	}
	s.cancel()
	s.busy <- struct{}{}
	err := s.closeSockets()
	s.ended.Wait()
	return err
}

func (s *Session) closeSockets() error {
	var errs []error
	if s.udp != nil {
		errs = append(errs, s.udp.Close())
	}
	for _, c := range []*net.IPConn{s.icmp, s.hints} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the sockets of path probes in %s: %w", s.cfg.Device, err)
	}
	return nil
}
