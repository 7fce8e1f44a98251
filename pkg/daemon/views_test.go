package daemon

import (
	"errors"
	"testing"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
)

// TestBGPRoute checks what becomes of a route's attributes.
func TestBGPRoute(t *testing.T) {
	t.Parallel()
	zero := uint32(0)
	for _, c := range []struct {
		name string
		in   policy.Route
		want control.BGPRoute
	}{
		// An empty path is a list, and MED 0 is not "no MED".
		{"bare", policy.Route{Prefix: prefix("203.0.113.0/24")}, control.BGPRoute{Prefix: "203.0.113.0/24", ASPath: []uint32{}}},
		{"full", policy.Route{
			Prefix: prefix("203.0.113.0/24"), NextHop: addr("192.0.2.68"), ASPath: []uint32{65515, 64520}, HasMED: true,
			Communities: []uint32{65535<<16 | 65282}, Large: []policy.LargeCommunity{{Global: 64512, Local1: 1, Local2: 4294967295}},
		}, control.BGPRoute{
			Prefix: "203.0.113.0/24", NextHop: "192.0.2.68", ASPath: []uint32{65515, 64520}, MED: &zero,
			Communities: []string{"65535:65282", "64512:1:4294967295"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := diff(c.want, bgpRoute(c.in)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// fakeLister answers for every neighbour, and notes what it was asked.
type fakeLister struct {
	asked []string
	err   error
}

func (f *fakeLister) Received(who string) ([]bgp.ReceivedRow, error) {
	f.asked = append(f.asked, "received "+who)
	return []bgp.ReceivedRow{{Neighbor: who, Peer: addr("192.0.2.68"), Route: policy.Route{Prefix: prefix("203.0.113.0/24")}, Accept: true, Best: true, Rule: "r", Reason: "why"}}, f.err
}

func (f *fakeLister) Announced(who string, refused bool) ([]bgp.AnnouncedRow, error) {
	f.asked = append(f.asked, "announced "+who)
	if !refused {
		return nil, errors.New("the refused ones are wanted too")
	}
	// As the rib does: a refused row has no route of its own.
	return []bgp.AnnouncedRow{{Neighbor: who, Prefix: prefix("198.51.100.0/24"), Rule: "r", Reason: "why"}}, f.err
}

func TestBGPRoutesDirections(t *testing.T) {
	t.Parallel()
	received := control.BGPRoute{Prefix: "203.0.113.0/24", Neighbor: "ars", Peer: "192.0.2.68", ASPath: []uint32{}, Accepted: true, Best: true, Rule: "r", Reason: "why"}
	announced := control.BGPRoute{Prefix: "198.51.100.0/24", Neighbor: "ars", ASPath: []uint32{}, Rule: "r", Reason: "why"}
	for _, c := range []struct {
		direction control.Direction
		asked     string
		want      control.BGPRoute
	}{
		{control.DirectionReceived, "received ars", received},
		{control.DirectionAnnounced, "announced ars", announced},
		{"", "received ars", received}, // the API's default
	} {
		t.Run(string(c.direction), func(t *testing.T) {
			t.Parallel()
			f := &fakeLister{}
			got, err := bgpRoutes(f, c.direction, "ars")
			if err != nil {
				t.Fatal(err)
			}
			if d := diff([]control.BGPRoute{c.want}, got) + diff([]string{c.asked}, f.asked); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			f.err = errors.New("unknown")
			if _, err := bgpRoutes(f, c.direction, "ars"); !errors.Is(err, f.err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestDaemonBGPRoutes asks a real speaker that does not run: it knows its neighbours, but no routes.
func TestDaemonBGPRoutes(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, nodeYAML)
	s, err := bgp.New(p.BGP, bgp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{speaker: s}
	d.plan.Store(p)
	for _, peer := range []string{"", "ars", "tr0", "192.0.2.68"} {
		got, err := d.BGPRoutes(control.BGPRoutesQuery{Direction: control.DirectionReceived, Peer: peer})
		if err != nil {
			t.Errorf("peer %q: %v", peer, err)
		}
		want := control.BGPRoutes{Version: control.V1(), Direction: control.DirectionReceived, Routes: []control.BGPRoute{}}
		if d := diff(want, got); d != "" {
			t.Errorf("peer %q (-want +got):\n%s", peer, d)
		}
	}
	_, err = d.BGPRoutes(control.BGPRoutesQuery{Peer: "tr9"})
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeNotFound {
		t.Errorf("unknown peer: %v", err)
	}
}

func TestKernelRoutes(t *testing.T) {
	t.Parallel()
	n := mustPlan(t, nodeYAML).FIB
	bests := []bgp.Best{
		{Prefix: prefix("203.0.113.0/24"), Role: policy.RouteServer, Neighbor: "ars"},
		{Prefix: prefix("198.51.100.4/32"), Role: policy.Tunnel, Neighbor: "tr0"},
		{Prefix: prefix("0.0.0.0/0"), Role: policy.Local},
	}
	got := kernelRoutes(routeView{
		Node: n, Bests: bests,
		Want: fib.State{Routes: []fib.Route{
			{Prefix: prefix("203.0.113.0/24"), Table: 7002, Device: "eth0", Gateway: addr("192.0.2.1"), Source: addr("192.0.2.4")},
			{Prefix: prefix("0.0.0.0/0"), Table: 7002, Device: "eth0", Gateway: addr("192.0.2.1")},
			{Prefix: prefix("198.51.100.4/32"), Table: 7001, Device: "eth0", Gateway: addr("192.0.2.1")},
		}},
		Refused: []fib.Refused{{Prefix: prefix("198.51.100.4/32"), Rule: "covers-pinned", Reason: "no"}},
	})
	want := control.Routes{
		Version: control.V1(),
		Routes: []control.KernelRoute{ // by table, and within it as they came
			// A pin is nobody's route, also if somebody announced the same prefix.
			{Prefix: "198.51.100.4/32", Table: "underlay", TableID: 7001, Type: "unicast", Device: "eth0", Gateway: "192.0.2.1"},
			{Prefix: "203.0.113.0/24", Table: "site", TableID: 7002, Type: "unicast", Device: "eth0", Gateway: "192.0.2.1", Source: "192.0.2.4", Neighbor: "ars"},
			{Prefix: "0.0.0.0/0", Table: "site", TableID: 7002, Type: "unicast", Device: "eth0", Gateway: "192.0.2.1", Neighbor: "(originated here)"},
		},
		Refused: []control.RefusedRoute{{Prefix: "198.51.100.4/32", Rule: "covers-pinned", Reason: "no"}},
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if empty := kernelRoutes(routeView{}); empty.Routes == nil || empty.Refused == nil {
		t.Error("a list is null")
	}
}
