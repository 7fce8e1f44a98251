package pump

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/tun"
	"github.com/transitd/transitd/tunnel/udp"
)

const (
	defaultLanes = 64
	// solicitFast and solicitSlow are how often the peer's link-layer address is asked for, while it is in doubt and otherwise.
	solicitFast = time.Second
	solicitSlow = 30 * time.Second
)

// Codec is what an encapsulation has to do; *vxlan.Codec and *wireguard.Device
// do. Seal and Open are called from several goroutines at once and must not
// allocate.
type Codec interface {
	// Overhead is how many bytes Seal puts in front of a packet, and Trailer how
	// many at most behind it.
	Overhead() int
	Trailer() int
	// Seal encapsulates the IP packet buf[off:off+n] in place; off is at least
	// Overhead, and Trailer bytes behind the packet are free. The datagram is
	// then buf[start:end]: equally long for packets that are equally long.
	Seal(buf []byte, off, n int) (start, end int, r tunnel.DropReason)
	// Open finds the IP packet in a datagram, a part of the same memory.
	// DropWrongVNI says that another tunnel of the peer may know the datagram.
	Open(datagram []byte) (inner []byte, info packet.Info, kind tunnel.Kind, r tunnel.DropReason)
	// Control takes what Open called tunnel.Control, and appends an answer to dst if one is due.
	Control(dst, message []byte) (reply []byte, r tunnel.DropReason)
	// Resolved reports whether the peer has been found: packets can be sent.
	Resolved() bool
}

// solicitor is a codec whose peer's overlay addresses have to be asked for.
type solicitor interface {
	// Solicit appends a datagram that asks where the peer's overlay address
	// number i is, or nothing.
	Solicit(dst []byte, i int) []byte
}

// protocol is a codec with messages and timers of its own: handshakes. Run does
// them until the context ends; what it sends leaves by the endpoint's own port.
type protocol interface {
	Run(ctx context.Context, send func(datagram []byte) error)
}

// DSCP is the code point of outer packets, 0 to 63, or CopyDSCP.
type DSCP int8

// CopyDSCP takes the inner packet's code point (RFC 2983, section 3.1).
const CopyDSCP DSCP = -1

// outer returns the outer TOS for an inner one. ECN is copied (RFC 6040, section 4.1, normal mode).
func (d DSCP) outer(inner uint8) uint8 {
	if d == CopyDSCP {
		return inner
	}
	return uint8(d)<<2 | inner&3
}

// TunnelConfig describes a tunnel.
type TunnelConfig struct {
	Name        string         // of the TUN device
	Remote      netip.AddrPort // the peer, in the underlay
	Addrs       []netip.Prefix // our overlay addresses
	PeerAddrs   []netip.Addr   // the peer's overlay addresses
	MTU         int            // of inner packets, in bytes; SetMTU lowers it
	Codec       Codec
	DSCP        DSCP
	SourcePorts int // outer source ports, 0: 64
	// FromEndpoint sends all from the endpoint's own port instead: what a peer
	// expects that answers to where a packet came from.
	FromEndpoint bool
}

// Tunnel is a running tunnel.
type Tunnel struct {
	cfg   TunnelConfig
	e     *Endpoint
	log   *zap.Logger
	dev   *tun.Device
	lanes *udp.Lanes
	own   *udp.Lanes // from the endpoint's own port: what is not a packet
	mtu   atomic.Int64
	icmp4 netip.Addr // who tells senders that a packet is too big
	icmp6 netip.Addr
	in    []tunnel.Counters // by receiver
	out   []tunnel.Counters // by TUN queue
	join  []*joiner         // what the endpoint's loops have of this tunnel, by loop
	send  []*outbound

	cancel context.CancelFunc // of solicit
	ended  sync.WaitGroup
}

func newTunnel(e *Endpoint, cfg TunnelConfig) (*Tunnel, error) {
	if cfg.SourcePorts <= 0 {
		cfg.SourcePorts = defaultLanes
	}
	if front, behind := cfg.Codec.Overhead(), cfg.Codec.Trailer(); front > headroom || behind > tailroom {
		return nil, fmt.Errorf("tunnel %s: the encapsulation takes %d and %d bytes around a packet, there are %d and %d", cfg.Name, front, behind, headroom, tailroom)
	}
	t := &Tunnel{cfg: cfg, e: e, log: e.log.With(zap.String("tunnel", cfg.Name))}
	t.mtu.Store(int64(cfg.MTU))
	// The message enters by the device, where the kernel takes no source address of its own for true.
	for _, a := range cfg.PeerAddrs {
		if a.Is4() {
			t.icmp4 = a
		} else {
			t.icmp6 = a
		}
	}
	t.in = make([]tunnel.Counters, e.cfg.Queues)
	t.out = make([]tunnel.Counters, e.cfg.Queues)
	var err error
	t.own = e.receivers[0].Lane(cfg.Remote)
	if cfg.FromEndpoint || e.cfg.Protocol != 0 {
		t.lanes = t.own
	} else if t.lanes, err = udp.Connect(e.socket(), cfg.Remote, cfg.SourcePorts); err != nil {
		return nil, err
	}
	if e.cfg.PlainSends {
		t.lanes.SendPlainly()
	}
	if t.dev, err = tun.Open(tun.Config{Name: cfg.Name, Queues: e.cfg.Queues, MTU: cfg.MTU, Addrs: cfg.Addrs}); err != nil {
		return nil, errors.Join(err, t.lanes.Close())
	}
	for i := range e.cfg.Queues {
		t.join = append(t.join, newJoiner(t.dev.Queue(i), &t.in[i], t.dev.USO()))
		t.send = append(t.send, newOutbound(t, i))
	}
	return t, nil
}

func (t *Tunnel) start() {
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	if p, ok := t.cfg.Codec.(protocol); ok {
		t.ended.Go(func() { p.Run(ctx, t.own.Send) })
	}
	t.ended.Go(func() { t.watch(ctx) })
}

// Name is the name of the tunnel and its device.
func (t *Tunnel) Name() string { return t.cfg.Name }

// Codec is what encapsulates.
func (t *Tunnel) Codec() Codec { return t.cfg.Codec }

// Up reports whether the device is there and the peer has been found.
func (t *Tunnel) Up() bool { return t.cfg.Codec.Resolved() && t.dev.Present() }

// Stats counts what the tunnel carried and dropped since it was made.
func (t *Tunnel) Stats() (s tunnel.Stats) {
	for i := range t.in {
		s.AddRX(&t.in[i])
	}
	for i := range t.out {
		s.AddTX(&t.out[i])
	}
	if n := t.dev.Dropped(); n > 0 {
		s.Drops[tunnel.DropTUNQueue.String()] += n
	}
	return s
}

// Close ends the tunnel and removes its device. It may be called again.
func (t *Tunnel) Close() error {
	if !t.e.remove(t) {
		return nil
	}
	t.cancel()
	t.ended.Wait()
	return errors.Join(t.dev.Close(), t.lanes.Close())
}

// watch says when the peer has been found. A codec that has to ask for the
// peer's link-layer address asks each second while it is not known or nothing
// comes from the peer, which may have been replaced (compare RFC 4861, section
// 7.3), and now and then otherwise.
func (t *Tunnel) watch(ctx context.Context) {
	ticker := time.NewTicker(solicitFast)
	defer ticker.Stop()
	var heard uint64
	var resolved bool
	plain := t.lanes.Plain()
	var asked time.Time
	for {
		now, was := time.Now(), heard
		heard = t.heard()
		if t.cfg.Codec.Resolved() && !resolved {
			resolved = true
			t.log.Info("the peer has been found", zap.Stringer("remote", t.cfg.Remote.Addr()))
		}
		if t.lanes.Plain() && !plain {
			plain = true
			t.log.Warn("datagrams are sent one by one from now on, which is slower: the card or a policy on the route refuses UDP_SEGMENT")
		}
		if !resolved || heard == was || now.Sub(asked) >= solicitSlow {
			t.ask()
			asked = now
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// ask sends one question for each overlay address of the peer. An error is not
// worth a word: the next second asks again, and Up tells.
func (t *Tunnel) ask() {
	var buf [256]byte
	s, ok := t.cfg.Codec.(solicitor)
	if !ok {
		return
	}
	for i := range t.cfg.PeerAddrs {
		if b := s.Solicit(buf[:0], i); len(b) > 0 {
			_ = t.lanes.Send(b)
		}
	}
}

// heard counts packets from the peer.
func (t *Tunnel) heard() (n uint64) {
	for i := range t.in {
		n += t.in[i].Packets()
	}
	return n
}
