package daemon

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// loopMemory is how long a loop is told of after its last packet.
const loopMemory = time.Minute

// looped is when a tunnel's count of looping packets last rose.
type looped struct {
	count uint64
	at    time.Time
}

// loopsOf lists the tunnels that were part of a loop; recent says of which that is now.
func loopsOf(tunnels []TunnelView, bests []bgp.Best, recent map[string]bool) (l control.Loops) {
	l.Tunnels = []control.TunnelLoop{}
	for _, t := range tunnels {
		l.Detected += t.Loops
		if t.Loops == 0 || t.Loop == nil {
			continue
		}
		x := control.TunnelLoop{
			Tunnel: t.Plan.Name, Detected: t.Loops, Now: recent[t.Plan.Name],
			Source: t.Loop.Source.String(), Destination: t.Loop.Destination.String(),
		}
		if b, ok := covering(bests, t.Loop.Destination); ok {
			x.Route, x.Neighbor = b.Prefix.String(), b.Neighbor
		}
		l.Tunnels = append(l.Tunnels, x)
	}
	return l
}

// covering is the longest route for an address.
func covering(bests []bgp.Best, a netip.Addr) (best bgp.Best, ok bool) {
	for _, b := range bests {
		if b.Prefix.Contains(a) && (!ok || b.Prefix.Bits() > best.Prefix.Bits()) {
			best, ok = b, true
		}
	}
	return best, ok
}

// loopWarning names the two routes that make a loop: ours into the tunnel, and
// the one by which packets come back.
func loopWarning(x control.TunnelLoop) string {
	if !x.Now {
		return ""
	}
	ours := "a route"
	if x.Route != "" {
		ours = fmt.Sprintf("route %s of %s", x.Route, x.Neighbor)
	}
	return fmt.Sprintf("packets go round: from %s to %s enter tunnel %s again and again (%d seen): %s leads into it here, and behind it a route for %s leads back to this node",
		x.Source, x.Destination, x.Tunnel, x.Detected, ours, x.Destination)
}

// loopsLocked notes which tunnels are part of a loop now, and tells when one begins.
func (c *chronicle) loopsLocked(now time.Time, s *snapshot) {
	for _, t := range s.Tunnels {
		was := c.loops[t.Plan.Name]
		if t.Loops <= was.count {
			continue
		}
		c.loops[t.Plan.Name] = looped{t.Loops, now}
		if now.Sub(was.at) > loopMemory {
			for _, x := range loopsOf([]TunnelView{t}, s.Routes.Bests, map[string]bool{t.Plan.Name: true}).Tunnels {
				c.add(events.Tunnel, events.Error, t.Plan.Name, "", "", "%s", loopWarning(x))
			}
		}
	}
}

// looping are the tunnels that are part of a loop now.
func (c *chronicle) looping(now time.Time) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := map[string]bool{}
	for name, l := range c.loops {
		if !l.at.IsZero() && now.Sub(l.at) <= loopMemory {
			m[name] = true
		}
	}
	return m
}
