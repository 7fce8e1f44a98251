package daemon

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp/bfd"
)

// fakeBFD notes what happens to a session.
type fakeBFD struct {
	calls *[]string
	c     bfd.Config
}

func (f *fakeBFD) Status() bfd.Status { return bfd.Status{Name: f.c.Name, State: bfd.Up} }
func (f *fakeBFD) Shutdown()          { *f.calls = append(*f.calls, "shutdown "+f.c.Name) }
func (f *fakeBFD) Close() error       { *f.calls = append(*f.calls, "close "+f.c.Name); return nil }

func TestLiveness(t *testing.T) {
	t.Parallel()
	var calls []string
	started := map[string]*fakeBFD{}
	index := map[string]int{"tr0": 5}
	l := newLiveness(zap.NewNop())
	l.index = func(name string) (int, error) { return index[name], nil }
	l.start = func(c bfd.Config) (bfdSession, error) {
		calls = append(calls, fmt.Sprintf("start %s %s-%s %s x%d", c.Name, c.Local, c.Peer, c.Interval, c.Multiplier))
		f := &fakeBFD{&calls, c}
		started[c.Name] = f
		return f, nil
	}
	wants := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(calls, want) {
			t.Errorf("%s: %q, want %q", what, calls, want)
		}
		calls = nil
	}
	const startTR0 = "start tr0 169.254.77.1-169.254.77.2 300ms x3"
	plan := mustPlan(t, withTR1(t)).Tunnels
	l.sync(plan)
	wants("tr1's device is not there yet", startTR0)
	index["tr1"] = 6
	l.sync(plan)
	wants("now it is", "start tr1 169.254.78.1-169.254.78.2 300ms x3")
	l.sync(plan)
	wants("nothing new")
	index["tr0"] = 9
	l.sync(plan)
	wants("another device of that name", "close tr0", startTR0)
	faster := *plan[0].BFD
	faster.Multiplier = 5
	plan = slices.Clone(plan)
	plan[0].BFD = &faster
	plan[1].BFD = nil
	l.sync(plan)
	slices.Sort(calls)
	wants("other timers, and none", "close tr0", "close tr1", "start tr0 169.254.77.1-169.254.77.2 300ms x5")

	// Only a failure of what was up is one.
	said := started["tr0"].c.OnState
	said(bfd.Change{From: bfd.Down, To: bfd.Init})
	said(bfd.Change{From: bfd.Up, To: bfd.Down, PeerAdminDown: true})
	said(bfd.Change{From: bfd.Up, To: bfd.Down, Diagnostic: bfd.DetectionTimeExpired})
	ctx, cancel := context.WithCancel(t.Context())
	var down []string
	err := l.run(ctx, func(_ context.Context, tunnel, reason string) error {
		down = append(down, tunnel+" "+reason)
		cancel()
		return nil
	})
	if err != nil || !slices.Equal(down, []string{"tr0 BFD: control detection time expired"}) {
		t.Errorf("%q, %v", down, err)
	}
	l.goodbye()
	wants("a stop on purpose", "shutdown tr0")
}
