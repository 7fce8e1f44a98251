package daemon

import (
	"errors"
	"net/netip"
	"testing"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
)

// fakeKernel notes what it is given, and refuses while err is set.
type fakeKernel struct {
	sweeps []bool
	want   fib.State
	err    error
}

func (k *fakeKernel) Forget() {}

func (k *fakeKernel) Set(want fib.State, sweep bool) error {
	k.sweeps, k.want = append(k.sweeps, sweep), want
	return k.err
}

// newRoutes makes a table for nodeYAML and the switch that says whether BGP has converged.
func newRoutes(t *testing.T, log *zap.Logger) (*routeTable, *fakeKernel, *bool) {
	t.Helper()
	k, converged := &fakeKernel{}, new(bool)
	r := &routeTable{log: log, kernel: k, converged: func() bool { return *converged }}
	if err := r.setNode(mustPlan(t, nodeYAML).FIB); err != nil {
		t.Fatal(err)
	}
	return r, k, converged
}

// someBests are one route of each kind.
func someBests() []bgp.Best {
	return []bgp.Best{
		{Prefix: prefix("198.51.100.0/25"), Role: policy.Tunnel, Neighbor: "tr0"},
		{Prefix: prefix("203.0.113.0/24"), Role: policy.RouteServer, Neighbor: "ars"},
		{Prefix: prefix("0.0.0.0/0"), Role: policy.Local},
	}
}

// TestRouteTableSweep checks that a predecessor's routes stay until BGP has
// converged, are swept by the next tick after that, and only once.
func TestRouteTableSweep(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	r, k, converged := newRoutes(t, log)
	r.onRoutes(someBests())
	r.tick()
	r.tick()
	if d := diff([]bool{false, false}, k.sweeps); d != "" {
		t.Errorf("sweeps before BGP has converged, or ticks that had nothing to do (-want +got):\n%s", d)
	}
	*converged = true
	r.tick()
	r.tick()
	if d := diff([]bool{false, false, true}, k.sweeps); d != "" {
		t.Errorf("sweeps after BGP has converged (-want +got):\n%s", d)
	}
	if !r.view().Swept {
		t.Error("the view does not say that it was swept")
	}
	// Once swept there is nothing stale, also when a session has ended since.
	*converged = false
	r.onRoutes(nil)
	if d := diff([]bool{false, false, true, true}, k.sweeps); d != "" {
		t.Errorf("sweeps of later changes (-want +got):\n%s", d)
	}
	if d := diff([]string{"BGP has converged: nothing stale is left in the kernel"}, messages(logs)); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

// TestRouteTableSweepByChange checks that the sweep does not need a tick.
func TestRouteTableSweepByChange(t *testing.T) {
	t.Parallel()
	r, k, converged := newRoutes(t, zap.NewNop())
	*converged = true
	r.onRoutes(someBests())
	r.tick()
	if d := diff([]bool{false, true}, k.sweeps); d != "" {
		t.Errorf("sweeps (-want +got):\n%s", d)
	}
}

// TestRouteTableRetry checks that an error is kept for the status and tried again by every tick, and told once.
func TestRouteTableRetry(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	r, k, converged := newRoutes(t, log)
	*converged = true
	k.err = errors.New("no buffer space")
	r.onRoutes(someBests())
	r.tick()
	r.tick()
	if v := r.view(); !errors.Is(v.Err, k.err) || v.Swept {
		t.Errorf("view while the kernel refuses: %v, swept %v", v.Err, v.Swept)
	}
	k.err = nil
	r.tick()
	r.tick()
	if v := r.view(); v.Err != nil || !v.Swept || len(k.sweeps) != 5 {
		t.Errorf("view afterwards: %v, swept %v, after %d calls", v.Err, v.Swept, len(k.sweeps))
	}
	k.err = errors.New("busy")
	if err := r.again(); !errors.Is(err, k.err) {
		t.Errorf("again returned %v", err)
	}
	if err := r.setNode(r.view().Node); !errors.Is(err, k.err) {
		t.Errorf("setNode returned %v", err)
	}
	want := []string{"the kernel does not take the routes; they are tried again every second", "the kernel takes the routes again"}
	if d := diff(want, messages(logs)); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

// TestRouteTableFirstErrorInTick checks that an error that only a tick sees is told.
func TestRouteTableFirstErrorInTick(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	r, k, converged := newRoutes(t, log)
	*converged = true
	k.err = errors.New("busy")
	r.tick()
	r.tick()
	if d := diff([]string{"the kernel does not take the routes; they are tried again every second"}, messages(logs)); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

// TestRouteTableView checks that what BGP chose is led where it belongs, and
// that a refused route is told once and stays in the view.
func TestRouteTableView(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	r, k, _ := newRoutes(t, log)
	bad := bgp.Best{Prefix: prefix("198.51.100.4/32"), Role: policy.Tunnel, Neighbor: "tr0"} // the tunnel's own remote
	bests := append(someBests(), bad)
	r.onRoutes(bests)
	r.onRoutes(bests)
	type at struct {
		Prefix netip.Prefix
		Table  uint32
		Device string
	}
	// What came out of a tunnel and belongs behind it does not fall to the card's default.
	want := []at{
		{prefix("198.51.100.0/25"), 7003, "tr0"},
		{prefix("203.0.113.0/24"), 7002, "eth0"},
		{prefix("0.0.0.0/0"), 7002, "eth0"},
		{prefix("198.51.100.0/25"), 7002, ""},
		{prefix("198.51.100.0/25"), 7003, ""},
	}
	var got []at
	for _, x := range r.view().Want.Routes {
		if x.Table != 7001 {
			got = append(got, at{x.Prefix, x.Table, x.Device})
		}
	}
	if d := diff(want, got); d != "" {
		t.Errorf("routes (-want +got):\n%s", d)
	}
	v := r.view()
	if d := diff(k.want, v.Want); d != "" {
		t.Errorf("the view is not what the kernel was given (-kernel +view):\n%s", d)
	}
	if len(v.Refused) != 1 || v.Refused[0].Prefix != bad.Prefix || v.Refused[0].Rule != "covers-pinned" {
		t.Errorf("refused %+v", v.Refused)
	}
	if d := diff(bests, v.Bests); d != "" {
		t.Errorf("bests (-want +got):\n%s", d)
	}
	if d := diff([]string{"a route is not put into the kernel"}, messages(logs)); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

func TestLearned(t *testing.T) {
	t.Parallel()
	want := []fib.Learned{
		{Prefix: prefix("198.51.100.0/25"), Tunnels: []string{"tr0"}},
		{Prefix: prefix("203.0.113.0/24")}, // a Route Server's name is no device's
		{Prefix: prefix("0.0.0.0/0")},
	}
	if d := diff(want, learned(someBests())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
