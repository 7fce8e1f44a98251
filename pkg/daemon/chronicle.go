package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/bfd"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// chronicle turns what the parts report into events, in words. Its methods are
// called by the parts' own goroutines and never wait.
type chronicle struct {
	log *events.Log

	mu      sync.Mutex
	tunnels map[string]bool               // by name: up; of those that were seen
	mtus    map[string]int                // of tunnels, by name
	loops   map[string]looped             // alike
	keys    map[string]keysSeen           // alike
	budgets map[string]policy.BudgetLevel // by Route Server
	kernel  bool                          // the kernel refuses routes
	meddler []meddling                    // what other programs did lately
}

func newChronicle(log *events.Log) *chronicle {
	return &chronicle{log: log, tunnels: map[string]bool{}, mtus: map[string]int{}, loops: map[string]looped{}, keys: map[string]keysSeen{}, budgets: map[string]policy.BudgetLevel{}}
}

func (c *chronicle) add(k events.Kind, s events.Severity, subject, before, after, format string, args ...any) {
	c.log.Add(time.Now(), events.Event{Kind: k, Severity: s, Subject: subject, Before: before, After: after, Text: fmt.Sprintf(format, args...)})
}

// session is a bgp.Options.OnSession.
func (c *chronicle) session(s bgp.SessionChange) {
	who := "route server " + s.Name + ", instance " + s.Peer.String()
	if s.Role != policy.RouteServer {
		who = "the NVA behind tunnel " + s.Name
	}
	if s.To == bgp.Established {
		c.add(events.BGP, events.Info, s.Name, s.From.String(), s.To.String(), "BGP session with %s (AS %d) is up", who, s.ASN)
		return
	}
	c.add(events.BGP, events.Warning, s.Name, s.From.String(), s.To.String(), "BGP session with %s ended after %s: %s",
		who, s.Lasted.Round(time.Second), cmp.Or(s.Reason, "no reason was given"))
}

// bfd tells of a change of a tunnel's BFD session.
func (c *chronicle) bfd(tunnel string, x bfd.Change) {
	before, after := x.From.String(), x.To.String()
	switch {
	case x.Failure():
		c.add(events.BFD, events.Warning, tunnel, before, after, "nothing gets through tunnel %s any more: BFD: %s", tunnel, x.Diagnostic)
	case x.From == bfd.Up:
		c.add(events.BFD, events.Info, tunnel, before, after, "BFD in tunnel %s was taken down on purpose", tunnel)
	case x.To == bfd.Up:
		c.add(events.BFD, events.Info, tunnel, before, after, "packets get through tunnel %s both ways: BFD is up", tunnel)
	}
}

// keysLogged tells that a tunnel's secrets are written to a file.
func (c *chronicle) keysLogged(tunnel string) {
	c.add(events.Tunnel, events.Warning, tunnel, "", "", "%s", keyLogText(tunnel))
}

// repaired is a fib.KeeperConfig.OnRepair.
func (c *chronicle) repaired(last fib.Changes, n int) {
	var what []string
	for _, r := range last.SetRoutes {
		what = append(what, "put back "+r.String())
	}
	for _, r := range last.DelRoutes {
		what = append(what, "removed "+r.String())
	}
	for _, r := range last.AddRules {
		what = append(what, "put back rule "+r.String())
	}
	for _, r := range last.DelRules {
		what = append(what, "removed rule "+r.String())
	}
	const shown = 3
	more := ""
	if n > min(len(what), shown) {
		more = ", …"
	}
	text := strings.Join(what[:min(len(what), shown)], "; ") + more
	c.meddle(time.Now(), "our routes or rules", n, text)
	c.add(events.Routes, events.Warning, "", "", "", "another program changed our routes or rules; %d repaired: %s", n, text)
}

// meddling is what another program did and we put right.
type meddling struct {
	what string // "our routes or rules"
	n    int
	last string
	at   time.Time
}

// lately is how long meddling is shown in the status.
const lately = 5 * time.Minute

func (c *chronicle) meddle(now time.Time, what string, n int, last string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.meddler, func(m meddling) bool { return m.what == what })
	switch {
	case i < 0:
		c.meddler = append(c.meddler, meddling{what, n, last, now})
	case now.Sub(c.meddler[i].at) > lately:
		c.meddler[i] = meddling{what, n, last, now}
	default:
		c.meddler[i] = meddling{what, c.meddler[i].n + n, last, now}
	}
}

// meddled says what other programs did lately.
func (c *chronicle) meddled(now time.Time) (notes []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.meddler {
		if age := now.Sub(m.at); age <= lately {
			notes = append(notes, fmt.Sprintf("another program changes %s: %d put right, the last %s ago: %s", m.what, m.n, age.Truncate(time.Second), m.last))
		}
	}
	return notes
}

// settings tells that kernel settings had been changed and were set again.
func (c *chronicle) settings(keys []string) {
	last := strings.Join(keys, ", ")
	c.meddle(time.Now(), "kernel settings that forwarding needs", len(keys), last)
	c.add(events.Node, events.Warning, "", "", "", "another program changed kernel settings that forwarding needs; set again: %s", last)
}

// drain tells of the steps of planned work.
func (c *chronicle) drain(from, to control.Drain) {
	if from.State == to.State {
		return
	}
	if to.State == control.DrainNone {
		c.add(events.Drain, events.Info, "", from.State, to.State, "not draining any more: routes are announced as ever")
		return
	}
	severity := events.Info
	if to.State == control.DrainDone && !to.Safe {
		severity = events.Warning
	}
	c.add(events.Drain, severity, "", from.State, to.State, "draining: %s", to.Note)
}

// probe tells of the check of an originated prefix.
func (c *chronicle) probe(name string, up bool, reason string) {
	if up {
		c.add(events.Probe, events.Info, name, "down", "up", "the probe of %s succeeds; it is announced", name)
		return
	}
	c.add(events.Probe, events.Warning, name, "up", "down", "the probe of %s fails, so it is withdrawn: %s", name, reason)
}

// reload tells what a reload did, or that it was refused.
func (c *chronicle) reload(changes []string, err error) {
	switch {
	case err != nil:
		c.add(events.Reload, events.Error, "", "", "", "reload: %v", err)
	case len(changes) == 0:
		c.add(events.Reload, events.Info, "", "", "", "the configuration was read again; nothing has changed")
	default:
		c.add(events.Reload, events.Info, "", "", "", "the configuration was read again: %s", strings.Join(changes, "; "))
	}
}

// watch compares the node with what it was a second ago.
func (c *chronicle) watch(s *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range s.Tunnels {
		c.tunnelLocked(s, t)
		c.mtuLocked(t)
		c.keysLocked(t, time.Now())
	}
	c.loopsLocked(time.Now(), s)
	for name := range c.tunnels {
		if !slices.ContainsFunc(s.Tunnels, func(t TunnelView) bool { return t.Plan.Name == name }) {
			delete(c.tunnels, name) // the reload said so
			delete(c.mtus, name)
			delete(c.keys, name)
		}
	}
	for _, b := range s.Budgets {
		c.budgetLocked(b)
	}
	switch err := s.Routes.Err; {
	case err != nil && !c.kernel:
		c.add(events.Routes, events.Error, "", "", "", "the kernel does not take the routes: %v", err)
	case err == nil && c.kernel:
		c.add(events.Routes, events.Info, "", "", "", "the kernel takes the routes again")
	}
	c.kernel = s.Routes.Err != nil
}

func (c *chronicle) tunnelLocked(s *snapshot, t TunnelView) {
	name := t.Plan.Name
	was, seen := c.tunnels[name]
	if seen && was == t.Up {
		return
	}
	c.tunnels[name] = t.Up
	before := ""
	if seen {
		before = upDown(was)
	}
	if t.Up {
		c.add(events.Tunnel, events.Info, name, before, control.TunnelUp, "tunnel %s to %s is up", name, t.Plan.Pump.Remote.Addr())
		return
	}
	c.add(events.Tunnel, events.Warning, name, before, control.TunnelDown, "%s", s.tunnelWarning(t))
}

// mtuLocked tells that a tunnel's MTU followed the path.
func (c *chronicle) mtuLocked(t TunnelView) {
	name, mtu, most := t.Plan.Name, t.Path.MTU, t.Plan.Pump.MTU
	if mtu == 0 {
		return // there is no device
	}
	was := cmp.Or(c.mtus[name], most)
	c.mtus[name] = mtu
	switch before, after := strconv.Itoa(was), strconv.Itoa(mtu); {
	case mtu < was:
		c.add(events.Tunnel, events.Warning, name, before, after, "the path of tunnel %s carries inner packets of %d bytes only: its MTU falls from %d (transitctl pmtu %s)", name, mtu, was, name)
	case mtu > was:
		c.add(events.Tunnel, events.Info, name, before, after, "the path of tunnel %s carries inner packets of %d bytes (%d are configured): its MTU rises from %d", name, mtu, most, was)
	}
}

func upDown(up bool) string {
	if up {
		return control.TunnelUp
	}
	return control.TunnelDown
}

func (c *chronicle) budgetLocked(b bgp.BudgetView) {
	was := c.budgets[b.Neighbor] // zero: ok
	if was == b.Level {
		return
	}
	c.budgets[b.Neighbor] = b.Level
	severity, text := events.Warning, b.Reason
	switch b.Level {
	case policy.BudgetOK:
		severity, text = events.Info, fmt.Sprintf("%d of %d routes", b.Count, b.Limit)
	case policy.BudgetExceeded:
		severity = events.Error
	case policy.BudgetWarning:
	}
	c.add(events.Budget, severity, b.Neighbor, was.String(), b.Level.String(), "route server %s: %s", b.Neighbor, text)
}
