package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/transitd/transitd/bgp/policy"
)

// fakes stands in for GoBGP: it notes what each engine is told, in one list,
// and lets the test be the peers.
type fakes struct {
	mu      sync.Mutex
	engines map[string]*fakeEngine
	calls   []string // "tr0: announce 10.0.0.0/8 [65010]", "kernel: …"
	refuse  map[string]error
	// refreshed is how many ROUTE-REFRESH every engine has seen.
	refreshed uint64
}

type fakeEngine struct {
	all  *fakes
	name string
	to   sink
}

func newFakes() *fakes { return &fakes{engines: map[string]*fakeEngine{}, refuse: map[string]error{}} }

func (f *fakes) start(_ Config, n Neighbor, to sink) (engine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refuse[n.Name]; err != nil {
		return nil, err
	}
	f.calls = append(f.calls, n.Name+": start")
	f.engines[n.Name] = &fakeEngine{all: f, name: n.Name, to: to}
	return f.engines[n.Name], nil
}

func (f *fakes) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

// take returns what was called since the last time.
func (f *fakes) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (e *fakeEngine) announce(routes []policy.Route) error {
	for _, r := range routes {
		if r.Prefix == netip.MustParsePrefix("10.66.0.0/16") {
			return errors.New("the engine refuses 10.66.0.0/16")
		}
		e.all.note("%s: announce %s [%s]", e.name, r.Prefix, r.PathString())
	}
	return nil
}

func (e *fakeEngine) withdraw(prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		e.all.note("%s: withdraw %s", e.name, p)
	}
	return nil
}

func (e *fakeEngine) recycle(peer netip.Addr) error {
	e.all.note("%s: recycle %s", e.name, peer)
	return nil
}

func (e *fakeEngine) refreshes() uint64 {
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	return e.all.refreshed
}

func (e *fakeEngine) stop() { e.all.note("%s: stop", e.name) }

// bench is a Speaker with fake engines in a bubble of its own time.
type bench struct {
	*Speaker
	*fakes
	t       *testing.T
	changes *[]SessionChange // what OnSession was told; read it when the bubble is idle
}

// bubble runs f with a running Speaker in a synctest bubble.
func bubble(t *testing.T, c Config, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fk := newFakes()
		var changes []SessionChange
		s, err := New(c, Options{engines: fk, OnRoutes: func(bests []Best) {
			var list []string
			for _, b := range bests {
				list = append(list, fmt.Sprintf("%s %s %s", b.Prefix, b.Role, b.Neighbor))
			}
			fk.note("kernel: %s", strings.Join(list, ", "))
		}, OnSession: func(c SessionChange) { changes = append(changes, c) }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		f(&bench{Speaker: s, fakes: fk, t: t, changes: &changes})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (b *bench) state(name string, peer netip.Addr, state State, reason string) {
	b.fakes.engines[name].to.event(event{peer: peer, state: &stateChange{state: state, reason: reason}})
	synctest.Wait()
}

func (b *bench) up(name string, peers ...netip.Addr) {
	for _, p := range peers {
		b.state(name, p, Established, "")
	}
}

// tell has a peer announce "PREFIX ASN …" or withdraw "-PREFIX".
func (b *bench) tell(name string, peer netip.Addr, routes ...string) {
	b.t.Helper()
	ev := event{peer: peer}
	conf := b.config().Neighbors
	n := conf[slices.IndexFunc(conf, func(n Neighbor) bool { return n.Name == name })]
	for _, text := range routes {
		f := strings.Fields(strings.TrimPrefix(text, "-"))
		u := update{withdrawn: strings.HasPrefix(text, "-"), route: policy.Route{
			Prefix: netip.MustParsePrefix(f[0]), NextHop: peer,
			From: policy.Source{Neighbor: name, Role: n.Role, ASN: n.ASN, Peer: peer},
		}}
		for _, a := range f[1:] {
			var asn uint32
			if _, err := fmt.Sscan(a, &asn); err != nil {
				b.t.Fatal(err)
			}
			u.route.ASPath = append(u.route.ASPath, asn)
		}
		ev.updates = append(ev.updates, u)
	}
	b.fakes.engines[name].to.event(ev)
	synctest.Wait()
}
