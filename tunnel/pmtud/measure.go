package pmtud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy says that the tunnel is being measured already.
var ErrBusy = errors.New("the tunnel is being measured already")

// ErrDown says that nothing can be sent through the tunnel.
var ErrDown = errors.New("the tunnel is down")

// Limit is what keeps a direction from carrying more.
type Limit string

// The limits.
const (
	LimitOwnCard  Limit = "own_card"  // our card's MTU
	LimitPath     Limit = "path"      // something between the two cards
	LimitPeerCard Limit = "peer_card" // the peer's card's MTU
	LimitUnknown  Limit = "unknown"   // nothing got through, or the peer cannot tell
)

// Direction is what one way carries, in bytes.
type Direction struct {
	Inner int // the largest inner packet; 0: nothing got through
	Outer int // the outer packet that carries it
	Limit Limit
	Hop   Hop // who said so by ICMP, if anybody did
}

// Result is a measurement.
type Result struct {
	Method      Method
	RTT         time.Duration // the fastest of a few
	There, Back Direction     // with MethodEcho both are the same: the smaller of the two
	PeerCard    int           // MTU in bytes; 0: not known
	PeerMTU     int           // what the peer uses towards us; 0: not known
	PeerMost    int           // what it has configured; 0: not known
}

const (
	greetings    = 4
	greetingTime = 300 * time.Millisecond
	tries        = 3
	shortestWait = 250 * time.Millisecond
	longestWait  = time.Second
)

// Measure finds out now what each direction carries, also beyond the configured
// MTU. It calls progress between its rounds and takes a few seconds; ctx ends it.
// Afterwards the tunnel's own search begins anew.
func (s *Session) Measure(ctx context.Context, progress func(string)) (Result, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return Result{}, ErrBusy
	}
	if !s.tunnel.Up() {
		return Result{}, ErrDown
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	m := measurement{s: s, ctx: ctx, in: make(chan reply, 4*rungs*tries), began: time.Now(), result: Result{Method: MethodNone}}
	if err := m.greet(); err != nil || m.result.Method == MethodNone {
		return m.result, err
	}
	progress(fmt.Sprintf("the peer answers by %s in %s", m.result.Method, m.result.RTT.Round(time.Microsecond)))
	if err := m.search(progress); err != nil {
		return m.result, err
	}
	m.conclude()
	s.mu.Lock()
	s.m.restart(time.Now())
	s.mu.Unlock()
	s.wake()
	return m.result, nil
}

// measurement is one run of Measure.
type measurement struct {
	s      *Session
	ctx    context.Context
	in     chan reply
	began  time.Time
	peer   message
	there  ladder
	back   ladder
	result Result
}

// greet learns who answers and how fast.
func (m *measurement) greet() error {
	for range greetings {
		_, errA := m.s.ask(minPacket, 0, m.in)
		_, errB := m.s.echo(minPacket, m.in)
		if errA != nil && errB != nil {
			return fmt.Errorf("measure the path: %w", errA)
		}
		wait := time.NewTimer(greetingTime)
		for waiting := true; waiting; {
			select {
			case <-m.ctx.Done():
				wait.Stop()
				return m.ctx.Err()
			case <-wait.C:
				waiting = false
			case r := <-m.in:
				m.met(r)
				waiting = r.msg == nil // an echo reply may be the faster one
			}
		}
		wait.Stop()
	}
	return nil
}

func (m *measurement) met(r reply) {
	if m.result.RTT == 0 || r.rtt < m.result.RTT {
		m.result.RTT = r.rtt
	}
	if r.msg != nil {
		m.result.Method, m.peer = MethodProbe, *r.msg
	} else if m.result.Method == MethodNone {
		m.result.Method = MethodEcho
	}
}

// search climbs both ladders at once.
func (m *measurement) search(progress func(string)) error {
	c := m.s.cfg
	top := min(maxPacket, max(c.MTU, max(c.CardMTU, int(m.peer.card))-c.Overhead))
	m.there = ladder{low: minPacket, high: top + 1, likely: c.likely()}
	m.back = m.there
	for !m.there.done() || m.result.Method == MethodProbe && !m.back.done() {
		if err := m.round(); err != nil {
			return err
		}
		if m.result.Method == MethodEcho {
			progress(fmt.Sprintf("there and back: %d to %d bytes", m.there.low, m.there.high-1))
			continue
		}
		progress(fmt.Sprintf("there: %d to %d bytes; back: %d to %d", m.there.low, m.there.high-1, m.back.low, m.back.high-1))
	}
	return nil
}

// probing is a probe of a round.
type probing struct {
	size int
	back bool
}

// round probes each ladder's sizes, those that are not answered again.
func (m *measurement) round() error {
	sizes := map[bool][]int{false: m.there.round()}
	if m.result.Method == MethodProbe {
		sizes[true] = m.back.round()
	}
	through := map[bool]map[int]bool{false: {}, true: {}}
	ended := map[bool]map[int]bool{false: {}, true: {}} // answered, or known to be too long
	sent := map[uint64]probing{}
	left := len(sizes[false]) + len(sizes[true])
	wait := min(max(4*m.result.RTT, shortestWait), longestWait)
	for range tries {
		for _, back := range []bool{false, true} {
			for _, n := range sizes[back] {
				if ended[back][n] {
					continue
				}
				token, err := m.send(n, back)
				if errors.Is(err, unix.EMSGSIZE) {
					ended[back][n] = true
					left--
					continue
				}
				sent[token] = probing{n, back}
			}
		}
		timer := time.NewTimer(wait)
		for waiting := left > 0; waiting; {
			select {
			case <-m.ctx.Done():
				timer.Stop()
				return m.ctx.Err()
			case <-timer.C:
				waiting = false
			case r := <-m.in:
				p, ok := sent[r.token]
				if !ok || ended[p.back][p.size] {
					continue
				}
				if r.msg != nil {
					m.peer = *r.msg
				}
				ended[p.back][p.size] = true
				through[p.back][p.size] = r.msg == nil || r.msg.code == codeOK
				left--
				waiting = left > 0
			}
		}
		timer.Stop()
		if left == 0 {
			break
		}
	}
	m.there.judge(sizes[false], through[false])
	m.back.judge(sizes[true], through[true])
	return nil
}

func (m *measurement) send(n int, back bool) (token uint64, err error) {
	switch {
	case m.result.Method == MethodEcho:
		return m.s.echo(n, m.in)
	case back:
		return m.s.ask(minPacket, n, m.in)
	}
	return m.s.ask(n, 0, m.in)
}

// conclude says who limits.
func (m *measurement) conclude() {
	r, c := &m.result, m.s.cfg
	r.PeerCard, r.PeerMTU, r.PeerMost = int(m.peer.card), int(m.peer.using), int(m.peer.most)
	r.There = m.direction(m.there.low, c.CardMTU, LimitOwnCard, r.PeerCard, LimitPeerCard)
	if r.Method == MethodEcho {
		if r.There.Limit == LimitPath {
			r.There.Limit = LimitUnknown
		}
		r.Back = r.There
		return
	}
	r.Back = m.direction(m.back.low, r.PeerCard, LimitPeerCard, c.CardMTU, LimitOwnCard)
	m.s.mu.Lock()
	hop := m.s.hop
	m.s.mu.Unlock()
	if hop.At.After(m.began) && r.There.Limit == LimitPath {
		r.There.Hop = hop
	}
	if m.peer.hopMTU != 0 && r.Back.Limit == LimitPath {
		r.Back.Hop = Hop{Addr: m.peer.hop, MTU: int(m.peer.hopMTU)}
	}
}

// direction describes one way: the card that sends is asked first.
func (m *measurement) direction(inner, sender int, bySender Limit, receiver int, byReceiver Limit) Direction {
	d := Direction{Inner: inner, Outer: inner + m.s.cfg.Overhead, Limit: LimitPath}
	switch next := d.Outer + 1; {
	case sender > 0 && next > sender:
		d.Limit = bySender
	case receiver > 0 && next > receiver:
		d.Limit = byReceiver
	}
	return d
}
