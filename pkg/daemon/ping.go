package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/stamp"
)

// stragglers is how long is waited for the last answers of a ping.
const stragglers = 2 * time.Second

// Ping probes a tunnel's peer inside the tunnel and on the underlay, side by
// side: what is lost inside only is the tunnel's, what is lost in both the fabric's.
func (d *Daemon) Ping(ctx context.Context, q control.PingQuery, each func(control.PingRound)) (control.Pinged, error) {
	t, err := d.tunnelPlan(q.Tunnel)
	if err != nil {
		return control.Pinged{}, err
	}
	inside, under := t.Quality, stamp.Path{
		Device: d.plan.Load().Underlay.Interface, Mark: t.Endpoint.Mark,
		Local: t.Endpoint.Local.Addr(), Peer: t.Pump.Remote.Addr(), EchoOnly: true,
	}
	return ping(ctx, t.Name, [2]stamp.Path{inside, under}, q, each)
}

// round collects the answers of one number.
type round struct {
	seq [2]uint32
	rtt [2]*uint64
}

// pinger collects the answers of all rounds.
type pinger struct {
	mu     sync.Mutex
	rounds []round
}

// told takes an answer of one side.
func (p *pinger) told(side int, a stamp.Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.rounds {
		if r := &p.rounds[i]; r.seq[side] == a.Seq && r.rtt[side] == nil {
			us := micros(a.RTT)
			r.rtt[side] = &us
			return
		}
	}
}

// at is a round as it stands; whole says that nothing is missing.
func (p *pinger) at(i int) (r control.PingRound, whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.rounds[i]
	return control.PingRound{Number: i + 1, TunnelUS: x.rtt[0], UnderlayUS: x.rtt[1]}, x.rtt[0] != nil && x.rtt[1] != nil
}

func ping(ctx context.Context, tunnel string, paths [2]stamp.Path, q control.PingQuery, each func(control.PingRound)) (done control.Pinged, err error) {
	var p pinger
	var probers [2]*stamp.Prober
	for i, path := range paths {
		path.Window, path.Size = q.Count, q.Size
		if probers[i], err = stamp.NewProber(path, func(a stamp.Answer) { p.told(i, a) }); err != nil {
			return done, err
		}
		defer func() { err = errors.Join(err, probers[i].Close()) }()
	}
	tick := time.NewTicker(q.Interval)
	defer tick.Stop()
	for i := range q.Count {
		p.mu.Lock() // an answer may come before both numbers are known
		p.rounds = append(p.rounds, round{seq: [2]uint32{probers[0].Send(), probers[1].Send()}})
		p.mu.Unlock()
		if i == q.Count-1 {
			break
		}
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-tick.C:
		}
		r, _ := p.at(i)
		each(r)
	}
	if err := p.last(ctx, q.Count-1); err != nil {
		return done, err
	}
	r, _ := p.at(q.Count - 1)
	each(r)
	done = control.Pinged{Version: control.V1(), Tunnel: tunnel, Rounds: []control.PingRound{}}
	for i := range p.rounds {
		r, _ := p.at(i)
		done.Rounds = append(done.Rounds, r)
	}
	done.Inside, done.Underlay = pingSide(paths[0], probers[0].Stats(), q.Count), pingSide(paths[1], probers[1].Stats(), q.Count)
	done.OK, done.Verdict = verdict(done.Inside, done.Underlay)
	return done, nil
}

// last waits until the last round is whole, or until nothing can come any more.
func (p *pinger) last(ctx context.Context, i int) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.NewTimer(stragglers)
	defer late.Stop()
	for {
		if _, whole := p.at(i); whole {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return nil
		case <-look.C:
		}
	}
}

func pingSide(p stamp.Path, s stamp.Stats, sent int) control.PingSide {
	// What is not due yet when the last answer has come is lost: there is no more waiting.
	s.Sent = sent
	s.Loss = 1 - float64(s.Received)/float64(sent)
	return control.PingSide{Target: p.Peer.String(), Loss: s.Loss, MedianUS: micros(s.Median), Quality: *qualityStatus(s)}
}

// verdict says whose fault it is.
func verdict(inside, under control.PingSide) (ok bool, words string) {
	in, out := inside.Loss, under.Loss
	switch {
	case in == 0 && out == 0:
		return true, "all came back, inside the tunnel and on the underlay"
	case in == 0:
		return true, fmt.Sprintf("all came back inside the tunnel; %.0f %% of the pings on the underlay did not: %s, or the fabric, does not answer ICMP", 100*out, under.Target)
	case in == 1 && out == 0:
		return false, fmt.Sprintf("%s answers on the underlay, and nothing comes back inside the tunnel: the other NVA's daemon, the tunnel's UDP port or its keys", under.Target)
	case in == 1 && out == 1:
		return false, fmt.Sprintf("nothing comes back at all: %s is down, or the fabric does not lead there (ICMP may be blocked as well)", under.Target)
	case out > 0:
		return false, "packets are lost on the underlay as well: it is the fabric"
	case inside.Quality.There != nil && inside.Quality.There.Loss > 0 && inside.Quality.Back.Loss == 0:
		return false, "packets are lost inside the tunnel only, on the way there"
	case inside.Quality.There != nil && inside.Quality.Back.Loss > 0 && inside.Quality.There.Loss == 0:
		return false, "packets are lost inside the tunnel only, on the way back"
	}
	return false, "packets are lost inside the tunnel only"
}
