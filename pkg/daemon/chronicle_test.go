package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/bfd"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// told runs something and returns what was remembered of it, without numbers and times.
func told(f func(*chronicle)) []events.Event {
	var log events.Log
	f(newChronicle(&log))
	list := log.Since(0)
	for i := range list {
		list[i].Seq, list[i].Time = 0, time.Time{}
	}
	return list
}

func TestChronicle(t *testing.T) {
	t.Parallel()
	sess := bgp.SessionChange{Peer: addr("192.0.2.68"), Name: "ars", Role: policy.RouteServer, ASN: 65515, From: bgp.OpenConfirm, To: bgp.Established}
	lost := bgp.SessionChange{Peer: addr("169.254.77.2"), Name: "tr0", Role: policy.Tunnel, ASN: 64513, From: bgp.Established, To: bgp.Idle, Lasted: 61 * time.Second, Reason: "hold timer expired"}
	drain := func(state string, safe bool) control.Drain {
		return control.Drain{State: state, Safe: safe, Note: "note of " + state}
	}
	route := fib.Route{Prefix: prefix("203.0.113.0/24"), Table: 7003, Device: "tr0"}
	for _, c := range []struct {
		name string
		do   func(*chronicle)
		want []events.Event
	}{
		{"a session comes up", func(c *chronicle) { c.session(sess) }, []events.Event{{
			Kind: events.BGP, Severity: events.Info, Subject: "ars", Before: "open-confirm", After: "established",
			Text: "BGP session with route server ars, instance 192.0.2.68 (AS 65515) is up",
		}}},
		{"a session ends", func(c *chronicle) { c.session(lost) }, []events.Event{{
			Kind: events.BGP, Severity: events.Warning, Subject: "tr0", Before: "established", After: "idle",
			Text: "BGP session with the NVA behind tunnel tr0 ended after 1m1s: hold timer expired",
		}}},
		{"BFD fails", func(c *chronicle) {
			c.bfd("tr0", bfd.Change{From: bfd.Up, To: bfd.Down, Diagnostic: bfd.DetectionTimeExpired})
		}, []events.Event{{
			Kind: events.BFD, Severity: events.Warning, Subject: "tr0", Before: "up", After: "down",
			Text: "nothing gets through tunnel tr0 any more: BFD: control detection time expired",
		}}},
		{"BFD on its way up says nothing before it is", func(c *chronicle) {
			c.bfd("tr0", bfd.Change{From: bfd.Down, To: bfd.Init})
			c.bfd("tr0", bfd.Change{From: bfd.Init, To: bfd.Up})
		}, []events.Event{{
			Kind: events.BFD, Severity: events.Info, Subject: "tr0", Before: "init", After: "up",
			Text: "packets get through tunnel tr0 both ways: BFD is up",
		}}},
		{"BFD ends on purpose", func(c *chronicle) {
			c.bfd("tr0", bfd.Change{From: bfd.Up, To: bfd.Down, PeerAdminDown: true})
		}, []events.Event{{
			Kind: events.BFD, Severity: events.Info, Subject: "tr0", Before: "up", After: "down", Text: "BFD in tunnel tr0 was taken down on purpose",
		}}},
		{"routes are repaired", func(c *chronicle) { c.repaired(fib.Changes{SetRoutes: []fib.Route{route}}, 1) }, []events.Event{{
			Kind: events.Routes, Severity: events.Warning,
			Text: "another program changed our routes or rules; 1 repaired: put back " + route.String(),
		}}},
		{"more than fits a line", func(c *chronicle) {
			c.repaired(fib.Changes{SetRoutes: []fib.Route{route}, DelRoutes: []fib.Route{route, route}, DelRules: []fib.Rule{{}}}, 9)
		}, []events.Event{{
			Kind: events.Routes, Severity: events.Warning,
			Text: "another program changed our routes or rules; 9 repaired: put back " + route.String() + "; removed " + route.String() + "; removed " + route.String() + ", …",
		}}},
		{"a drain", func(c *chronicle) {
			c.drain(drain("none", false), drain("avoid", false))
			c.drain(drain("avoid", false), drain("avoid", false))
			c.drain(drain("withdrawn", false), drain("drained", false))
			c.drain(drain("drained", true), drain("none", false))
		}, []events.Event{
			{Kind: events.Drain, Severity: events.Info, Before: "none", After: "avoid", Text: "draining: note of avoid"},
			{Kind: events.Drain, Severity: events.Warning, Before: "withdrawn", After: "drained", Text: "draining: note of drained"},
			{Kind: events.Drain, Severity: events.Info, Before: "drained", After: "none", Text: "not draining any more: routes are announced as ever"},
		}},
		{"a probe", func(c *chronicle) { c.probe("x", true, ""); c.probe("x", false, "refused") }, []events.Event{
			{Kind: events.Probe, Severity: events.Info, Subject: "x", Before: "down", After: "up", Text: "the probe of x succeeds; it is announced"},
			{Kind: events.Probe, Severity: events.Warning, Subject: "x", Before: "up", After: "down", Text: "the probe of x fails, so it is withdrawn: refused"},
		}},
		{"reloads", func(c *chronicle) {
			c.reload(nil, nil)
			c.reload([]string{"a", "b"}, nil)
			c.reload(nil, errors.New("line 7"))
		}, []events.Event{
			{Kind: events.Reload, Severity: events.Info, Text: "the configuration was read again; nothing has changed"},
			{Kind: events.Reload, Severity: events.Info, Text: "the configuration was read again: a; b"},
			{Kind: events.Reload, Severity: events.Error, Text: "reload: line 7"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := diff(c.want, told(c.do)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestWatch follows a node from second to second: each change is told once.
func TestWatch(t *testing.T) {
	t.Parallel()
	got := told(func(c *chronicle) {
		s := healthy()
		s.Tunnels[0].Up = false
		look := func(change func()) {
			change()
			c.watch(s)
			c.watch(s) // nothing new
		}
		look(func() {})
		look(func() { s.Tunnels[0].Up = true })
		look(func() { s.Routes.Err = errors.New("no buffer space") })
		look(func() { s.Routes.Err = nil })
		look(func() {
			s.Budgets = []bgp.BudgetView{{Neighbor: "ars", Level: policy.BudgetWarning, Count: 80, Limit: 100, Reason: "80 of 100"}}
		})
		look(func() { s.Budgets[0].Level, s.Budgets[0].Count = policy.BudgetOK, 70 })
		look(func() { s.Tunnels[0].Present, s.Tunnels[0].Up = false, false })
		look(func() { s.Tunnels = nil })
		look(func() { s.Tunnels = []TunnelView{upTunnel("tr0")} })
	})
	want := []events.Event{
		{Kind: events.Tunnel, Severity: events.Warning, Subject: "tr0", After: "down", Text: "tunnel tr0: peer MAC not resolved: 169.254.77.2 does not answer inside the tunnel"},
		{Kind: events.Tunnel, Severity: events.Info, Subject: "tr0", Before: "down", After: "up", Text: "tunnel tr0 to 198.51.100.4 is up"},
		{Kind: events.Routes, Severity: events.Error, Text: "the kernel does not take the routes: no buffer space"},
		{Kind: events.Routes, Severity: events.Info, Text: "the kernel takes the routes again"},
		{Kind: events.Budget, Severity: events.Warning, Subject: "ars", Before: "ok", After: "warning", Text: "route server ars: 80 of 100"},
		{Kind: events.Budget, Severity: events.Info, Subject: "ars", Before: "warning", After: "ok", Text: "route server ars: 70 of 100 routes"},
		{Kind: events.Tunnel, Severity: events.Warning, Subject: "tr0", Before: "up", After: "down", Text: "tunnel tr0: its device was removed by another program; it is made again"},
		{Kind: events.Tunnel, Severity: events.Info, Subject: "tr0", After: "up", Text: "tunnel tr0 to 198.51.100.4 is up"},
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
