package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/lab/probe"
)

// standIn is what runs in place of transitd where only the lab is looked at: it does nothing until it is told to end.
func standIn() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	<-ctx.Done()
	stop()
	os.Exit(0)
}

// TestNetnsTwoNVAs: a lab with two NVAs a side, transitd itself left out: namespaces, cards, Route Servers and what can
// be done to them.
func TestNetnsTwoNVAs(t *testing.T) {
	// Not parallel: the nftables library counts its sets in a variable of the process.
	l := openTest(t, "d")
	p, err := NewPlan(Options{Name: l.s.name, NVAs: 2, Transitd: l.Self, Cap: 50, Burst: 100 * time.Millisecond})
	must(t, err)
	must(t, l.create(t.Context(), p, Silent{}))
	must(t, await(t.Context(), 10*time.Second, func() error { return l.sessions(t.Context(), p, false) }))
	for _, n := range nvas(p) {
		if _, ok := l.s.running(n.Name); !ok {
			t.Errorf("%s does not run", n.Name)
		}
	}
	siblings := probe.Ping{From: l.NS("hub-nva"), To: nvaAddress("hub", 1), Count: 3}
	if r, err := siblings.Run(t.Context()); err != nil || r.Received != r.Sent {
		t.Errorf("hub-nva to hub-nva-2: %+v, %v", r, err)
	}
	streamOverACut(t, l)
	moreFromAnMSEE(t, l)
	maintained(t, l)
	must(t, l.Kill("transit-nva-2"))
	must(t, l.Start(t.Context(), "transit-nva-2"))
	if _, err := l.Effective(t.Context(), "transit-nva-2"); err != nil {
		t.Error(err)
	}
}

// streamOverACut: a card that is cut off dies without a word, the others do not notice, and heal undoes it.
func streamOverACut(t *testing.T, l *Lab) {
	t.Helper()
	from, err := l.Inside("hub-nva-2")
	must(t, err)
	spoke := netip.MustParseAddr(SpokeHost)
	start := func(node string) *probe.Flow {
		f, err := probe.StartFlow(t.Context(), l.NS(node), spoke, time.Millisecond)
		must(t, err)
		must(t, answered(t, f))
		return f
	}
	f, beside := start("hub-nva-2"), start("hub-nva")
	before := time.Now()
	must(t, l.CutOff("hub-nva-2"))
	const cut = 300 * time.Millisecond
	<-time.After(cut) // the outage itself, not a wait for something
	if r, err := (probe.Ping{From: from, To: spoke, Count: 2, Timeout: 100 * time.Millisecond}).Run(t.Context()); err != nil || r.Received != 0 || len(r.Errors) > 0 {
		t.Errorf("cut off, which is silent: %+v, %v", r, err)
	}
	must(t, l.Heal("hub-nva"))
	must(t, l.Heal("hub-nva-2"))
	must(t, answered(t, f))
	o, err := f.Stop()
	must(t, err)
	if o.Longest < cut || o.Longest > 5*time.Second || o.Received == 0 || o.Start.Before(before.Add(-100*time.Millisecond)) || o.Start.After(before.Add(cut)) {
		t.Errorf("%+v, cut at %s for at least %v", o, before, cut)
	}
	if o, err := beside.Stop(); err != nil || o.Received != o.Sent || o.Duplicates+o.Reordered != 0 {
		t.Errorf("the NVA beside it: %+v, %v", o, err)
	}
	if err := l.CutOff("onprem"); err == nil {
		t.Error("a node without a NIC in the fabric was cut off")
	}
}

func answered(t *testing.T, f *probe.Flow) error {
	start := time.Now()
	return await(t.Context(), 5*time.Second, func() error {
		if !f.Answered(start) {
			return fmt.Errorf("no answer since %s", start)
		}
		return nil
	})
}

// moreFromAnMSEE: prefixes of an MSEE reach the Route Server by the path that was asked for, and go again.
func moreFromAnMSEE(t *testing.T, l *Lab) {
	t.Helper()
	list := prefixes("172.24.0.0/24", "172.24.1.0/24")
	a := Announcement{Prefixes: list, ASPath: []uint32{64999, 64998}}
	must(t, l.Announce(t.Context(), "msee-onprem", a))
	learned := func(want bool) error {
		return await(t.Context(), 10*time.Second, func() error {
			known, err := l.Known(t.Context(), "hub-ars-1")
			if err != nil {
				return err
			}
			for _, p := range list {
				if path, ok := known.Path(p); ok != want || (ok && path != "12076 64999 64998") {
					return fmt.Errorf("hub-ars-1 knows %s: %v, by %q", p, ok, path)
				}
			}
			return nil
		})
	}
	must(t, learned(true))
	a.Withdraw = true
	must(t, l.Announce(t.Context(), "msee-onprem", a))
	must(t, learned(false))
	if err := l.Announce(t.Context(), "msee-onprem", Announcement{Prefixes: prefixes("172.24.0.1/24")}); err == nil {
		t.Error("a prefix with host bits was announced")
	}
	if err := l.Announce(t.Context(), "hub-nva-2", a); err == nil {
		t.Error("an NVA was told what to announce")
	}
}

// maintained: one instance ends its sessions and comes back, the other one keeps its own.
func maintained(t *testing.T, l *Lab) {
	t.Helper()
	gateway := func(instance string) (sessionState, error) {
		var k knowledge
		if err := l.s.ask(t.Context(), instance, "GET", "/knowledge", &k); err != nil {
			return sessionState{}, err
		}
		i := slices.IndexFunc(k.Sessions, func(s sessionState) bool { return s.Peer == "msee-onprem" })
		return k.Sessions[i], nil
	}
	is := func(state bool) {
		t.Helper()
		must(t, await(t.Context(), 15*time.Second, func() error {
			s, err := gateway("hub-ars-0")
			if err == nil && (s.State == establishedState) != state {
				err = fmt.Errorf("%+v", s)
			}
			return err
		}))
	}
	is(true)
	other, err := gateway("hub-ars-1")
	must(t, err)
	must(t, l.Maintain(t.Context(), "hub-ars-0", time.Second))
	is(false)
	is(true)
	if now, err := gateway("hub-ars-1"); err != nil || now.Established != other.Established || now.State != establishedState {
		t.Errorf("the other instance: %+v, before %+v, %v", now, other, err)
	}
	if err := l.Maintain(t.Context(), "hub-nva-2", time.Second); err == nil {
		t.Error("an NVA is no instance of a Route Server")
	}
	if n, err := l.Counters(); err != nil || n[fabric.CounterCut] == 0 {
		t.Errorf("the fabric counted no packets at the cut: %v", err)
	}
}
