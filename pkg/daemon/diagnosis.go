package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/bfd"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
)

// symptoms are what a tunnel that does not work showed in the last seconds.
type symptoms struct {
	For      time.Duration // how long it has been watched, at most symptomWindow
	Arrived  uint64        // datagrams from the peer's address
	WrongVNI uint64        // of those
	CameBack int           // datagrams to the peer that the fabric gave back to us
}

// silence is how long nothing may come before it is called so.
const silence = 3 * time.Second

// diagnosis says in words why nothing gets through a tunnel whose device is
// there, as far as this end can know; why WireGuard or IPsec is not up is its own to say.
// It is empty if something does get through: BGP alone is at fault then.
func diagnosis(t TunnelView, x symptoms, b bfd.Status) string {
	peer, now := t.Plan.Pump.Remote, time.Now()
	switch {
	case x.CameBack > 0:
		return fmt.Sprintf("what is sent to %s comes back to this node's card: a route of the fabric (a user-defined route, or one that is learned) leads the peer's address to this NVA", peer.Addr())
	case x.WrongVNI > 0 && t.Plan.VXLAN != nil:
		return fmt.Sprintf("wrong VNI: %s sends VNI %d, this end has %d", peer.Addr(), t.ForeignVNI, t.Plan.VXLAN.VNI)
	case t.WireGuard != nil && !t.WireGuard.Up:
		return t.WireGuard.Why(now)
	case t.WireGuard != nil && t.WireGuard.Refusal(now) != "":
		return t.WireGuard.Refusal(now)
	case t.IPsec != nil && !t.IPsec.Up:
		return t.IPsec.Why(now)
	case t.IPsec != nil && t.IPsec.Refusal(now) != "":
		return t.IPsec.Refusal(now)
	case x.Arrived == 0 && x.For >= silence:
		return fmt.Sprintf("nothing arrives from %s: the peer or its daemon is down, or %s is blocked on the way here", peer.Addr(), t.Plan.passage(t.Plan.Endpoint.Local.Port()))
	case x.Arrived > 0 && x.For >= silence && (!t.Up || deaf(b)):
		return fmt.Sprintf("packets of %s arrive, but it does not hear us: %s is blocked on the way there (a firewall or network security group), or it does not take this address for its peer", peer.Addr(), t.Plan.passage(peer.Port()))
	case !t.Up:
		return fmt.Sprintf("peer MAC not resolved: %s does not answer inside the tunnel", t.Plan.Pump.PeerAddrs[0])
	case failed(b):
		return fmt.Sprintf("BFD is %s (%s): nothing gets through", b.State, b.Diagnostic)
	}
	return ""
}

// failed reports whether BFD was up once and is not now, and the peer did not want it so.
func failed(b bfd.Status) bool {
	return b.State != bfd.Up && b.Flaps > 0 && b.RemoteState != bfd.AdminDown
}

// deaf reports whether the peer's BFD says that it hears nothing of ours, while we hear it.
func deaf(b bfd.Status) bool {
	return b.State == bfd.Init || b.DetectionTime > 0 && b.RemoteState == bfd.Down
}

// doubtful reports whether it is not known that packets get through a tunnel.
// BFD that was never up says nothing: the peer may not speak it.
func (s *snapshot) doubtful(t TunnelView) bool {
	b, watched := s.BFD[t.Plan.Name]
	return !t.Up || watched && (failed(b) || deaf(b)) || slices.ContainsFunc(s.Sessions, func(x bgp.Session) bool {
		return x.Name == t.Plan.Name && x.Role != policy.RouteServer && x.State != control.SessionEstablished
	})
}

// symptomWindow is how far back symptoms go.
const symptomWindow = 10 * time.Second

// patient follows one tunnel while it does not work.
type patient struct {
	remote  netip.Addr
	watch   comebacks // nil: it works, or cannot be watched
	samples []sample  // one a round, oldest first; of symptomWindow
}

type sample struct {
	at                time.Time
	arrived, wrongVNI uint64 // so far
	cameBack          int    // since the sample before
}

// comebacks counts our own packets that come back to us; *hairpin.Watch does.
type comebacks interface {
	Take() int
	Close() error
}

// clinic follows the tunnels that may not work. Its methods are called by the
// supervisor only; symptoms come out as values.
type clinic struct {
	// open begins to watch for packets to the peer that come back.
	open func(to netip.Addr) (comebacks, error)
	list map[string]*patient
}

// round looks at all tunnels and returns the symptoms of those that may not work.
func (c *clinic) round(now time.Time, s *snapshot) map[string]symptoms {
	out := map[string]symptoms{}
	seen := map[string]bool{}
	for _, t := range s.Tunnels {
		if !t.Present || !s.doubtful(t) {
			continue
		}
		seen[t.Plan.Name] = true
		p := c.list[t.Plan.Name]
		if p == nil || p.remote != t.Plan.Pump.Remote.Addr() {
			p.end()
			p = &patient{remote: t.Plan.Pump.Remote.Addr()}
			p.watch, _ = c.open(p.remote) // without it there is one diagnosis less
			c.list[t.Plan.Name] = p
		}
		out[t.Plan.Name] = p.look(now, t)
	}
	for name, p := range c.list {
		if !seen[name] {
			p.end()
			delete(c.list, name)
		}
	}
	return out
}

func (p *patient) look(now time.Time, t TunnelView) symptoms {
	x := sample{at: now, arrived: t.Stats.Arrived, wrongVNI: t.Stats.Drops["wrong_vni"]}
	if p.watch != nil {
		x.cameBack = p.watch.Take()
	}
	p.samples = append(p.samples, x)
	for len(p.samples) > 1 && now.Sub(p.samples[0].at) > symptomWindow {
		p.samples = p.samples[1:]
	}
	first := p.samples[0]
	s := symptoms{For: now.Sub(first.at), Arrived: x.arrived - min(x.arrived, first.arrived), WrongVNI: x.wrongVNI - min(x.wrongVNI, first.wrongVNI)}
	for _, x := range p.samples {
		s.CameBack += x.cameBack
	}
	return s
}

func (p *patient) end() {
	if p != nil && p.watch != nil {
		_ = p.watch.Close() // nothing was written to it
	}
}

// close ends all watches.
func (c *clinic) close() {
	for _, p := range c.list {
		p.end()
	}
	clear(c.list)
}
