package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// dialTimeout ends an attempt to connect: a lost SYN to a node that was
	// not up yet should not cost the kernel's whole back-off.
	dialTimeout = 3 * time.Second
	// openWait is how long the other end may take to send OPEN. RFC 4271,
	// section 8.2.2 suggests 4 minutes; while we wait we do not connect.
	openWait = 10 * time.Second
)

// peer is one neighbour. Its owner is the goroutine in run.
type peer struct {
	// Constant.
	s     *Speaker
	cfg   Peer
	log   *zap.Logger
	stats peerStats

	acceptC  chan net.Conn
	commandC chan command
	eventC   chan connEvent
	dialC    chan dialResult

	// Owned by run.
	in, out *conn // the connection they made, the one we made
	dialing bool
	idle    bool        // refuse connections until retry fires
	retry   *time.Timer // when to connect next
	wg      sync.WaitGroup
}

type dialResult struct {
	nc  net.Conn
	err error
}

type commandKind uint8

const (
	commandRefresh commandKind = iota
	commandRestart
)

type command struct {
	kind commandKind
	down time.Duration
}

func newPeer(s *Speaker, cfg Peer) *peer {
	return &peer{
		s: s, cfg: cfg, log: s.log.With(zap.String("peer", cfg.Name)),
		acceptC: make(chan net.Conn), commandC: make(chan command, 16),
		eventC: make(chan connEvent), dialC: make(chan dialResult, 1),
	}
}

// command queues a command. A full queue already holds what is asked for, or
// the speaker does not run: then it is dropped.
func (p *peer) command(c command) {
	select {
	case p.commandC <- c:
	default:
	}
}

// run owns the neighbour until ctx ends.
func (p *peer) run(ctx context.Context) {
	p.retry = time.NewTimer(0)
	for ctx.Err() == nil {
		p.step(ctx)
		p.showState()
	}
	p.stopAll(ceaseShutdown, errors.New("speaker was stopped"))
	p.retry.Stop()
	p.wg.Wait()
	select {
	case r := <-p.dialC:
		if r.nc != nil {
			_ = r.nc.Close()
		}
	default:
	}
	p.idle = true
	p.showState()
}

// step waits for one event and handles it.
func (p *peer) step(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-p.retry.C:
		p.idle = false
		p.connect(ctx)
	case r := <-p.dialC:
		p.dialed(r)
	case nc := <-p.acceptC:
		p.accepted(nc)
	case ev := <-p.eventC:
		p.event(ev)
	case c := <-p.commandC:
		p.do(c)
	case <-p.in.holdC():
		p.holdExpired(p.in)
	case <-p.out.holdC():
		p.holdExpired(p.out)
	case <-p.in.keepC():
		p.keepalive(p.in)
	case <-p.out.keepC():
		p.keepalive(p.out)
	}
}

// showState publishes the state of the furthest connection.
func (p *peer) showState() {
	state := Active
	switch {
	case p.in != nil && p.out != nil:
		state = max(p.in.state, p.out.state)
	case p.in != nil:
		state = p.in.state
	case p.out != nil:
		state = p.out.state
	case p.idle:
		state = Idle
	case p.dialing:
		state = Connect
	}
	if p.stats.setState(state) && p.s.cfg.OnState != nil {
		p.s.cfg.OnState(p.cfg.Name, state)
	}
}

// connect begins an attempt, unless there is a connection already.
func (p *peer) connect(ctx context.Context) {
	if p.cfg.Passive || p.dialing || p.in != nil || p.out != nil {
		return
	}
	p.dialing = true
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		nc, err := p.s.transport.dial(ctx, p.cfg.Local, netip.AddrPortFrom(p.cfg.Addr, p.cfg.Port))
		p.dialC <- dialResult{nc: nc, err: err} // never blocks: one attempt at a time
	})
}

func (p *peer) dialed(r dialResult) {
	p.dialing = false
	switch {
	case p.idle && r.err != nil: // retry is planned already
	case r.err != nil:
		if p.in == nil {
			p.stats.failed(fmt.Errorf("connect: %w", r.err))
		}
		p.retryWithJitter(p.s.cfg.ConnectRetry)
	case p.idle || p.established() != nil:
		_ = r.nc.Close()
	default:
		p.out = p.begin(r.nc, true)
	}
}

// accepted takes a connection that the neighbour made.
func (p *peer) accepted(nc net.Conn) {
	switch {
	case p.idle:
		p.refuse(nc, ceaseRejected)
	case p.established() != nil:
		// RFC 4271, section 6.8: the established one stays.
		p.refuse(nc, ceaseCollision)
	default:
		if p.in != nil { // the neighbour has begun again
			p.fail(p.in, newMessageError(codeCease, ceaseCollision, nil, "the neighbour connected again"))
		}
		p.in = p.begin(nc, false)
	}
}

// begin opens a session on a new connection.
func (p *peer) begin(nc net.Conn, outgoing bool) *conn {
	c := newConn(nc, outgoing, p.cfg.Local, &p.stats, p.eventC, &p.wg)
	c.holdTimer.Reset(openWait)
	cfg := p.s.cfg
	// The first message of an empty queue always fits, and New has checked the values.
	_ = c.send(newOpen(cfg.ASN, cfg.RouterID, cfg.HoldTime, cfg.AnnounceIPv6))
	return c
}

func (p *peer) refuse(nc net.Conn, subcode uint8) {
	c := newConn(nc, false, p.cfg.Local, &p.stats, p.eventC, &p.wg)
	c.stop(&Notification{Code: codeCease, Subcode: subcode})
}

func (p *peer) established() *conn {
	for _, c := range []*conn{p.in, p.out} {
		if c != nil && c.state == Established {
			return c
		}
	}
	return nil
}

// event handles what a connection's reader or writer saw.
func (p *peer) event(ev connEvent) {
	if ev.c != p.in && ev.c != p.out {
		return // of a connection that was ended meanwhile
	}
	err := ev.err
	if err == nil {
		err = p.handle(ev.c, ev.msg)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the neighbour closed the connection")
	}
	if err != nil {
		p.fail(ev.c, err)
	}
}

// fail ends a connection because of err, which is told to the neighbour if it
// is a *MessageError.
func (p *peer) fail(c *conn, err error) {
	var final *Notification
	var me *MessageError
	if errors.As(err, &me) {
		final = me.Notification()
	}
	was := c.state
	c.stop(final)
	if c == p.in {
		p.in = nil
	} else {
		p.out = nil
	}
	if was == Established {
		p.s.rib.down(p.cfg.Name)
	}
	if p.in != nil || p.out != nil {
		return // only one of two: no failure of the neighbour
	}
	p.stats.failed(err)
	p.log.Info("session ended", zap.Stringer("state", was), zap.Error(err))
	p.retryWithJitter(p.s.cfg.ConnectRetry)
	if final != nil && final.Code == codeCease && final.Subcode == ceaseMaxPrefixes {
		p.stats.limitExceeded.Add(1)
		p.idle = true
		p.retryIn(p.cfg.LimitIdle)
	}
}

// stopAll ends whatever there is with Cease.
func (p *peer) stopAll(subcode uint8, why error) {
	for _, c := range []*conn{p.in, p.out} {
		if c != nil {
			p.fail(c, newMessageError(codeCease, subcode, nil, "%v", why))
		}
	}
}

// retryIn connects after d; it replaces an earlier plan.
func (p *peer) retryIn(d time.Duration) { p.retry.Reset(d) }

// retryWithJitter connects after three quarters to the whole of d (RFC 4271,
// section 10): two speakers that ended each other's connections at the same
// moment would otherwise meet again, for ever.
func (p *peer) retryWithJitter(d time.Duration) {
	p.retryIn(d*3/4 + rand.N(d/4+1)) //nolint:gosec // nothing secret
}

// do carries out a command.
func (p *peer) do(cmd command) {
	switch cmd.kind {
	case commandRefresh:
		c := p.established()
		if c == nil {
			return
		}
		if !c.open.has(capRouteRefresh) {
			p.fail(c, newMessageError(codeCease, ceaseReset, nil, "hard reset: the neighbour cannot refresh routes"))
			return
		}
		if err := c.send(&RouteRefresh{AFI: afiIPv4, SAFI: safiUnicast}); err != nil {
			p.fail(c, fmt.Errorf("send ROUTE-REFRESH: %w", err))
		}
	case commandRestart:
		p.stopAll(ceaseReset, errors.New("restart was asked for"))
		p.idle = cmd.down > 0
		p.retryIn(max(cmd.down, p.s.cfg.ConnectRetry))
	}
}
