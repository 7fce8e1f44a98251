package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/lab/probe"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// TestMain lets the nodes of the tests' labs be this test binary: "node KIND --name LAB --config FILE".
func TestMain(m *testing.M) {
	if len(os.Args) == 7 && os.Args[1] == "node" {
		if err := RunNode(context.Background(), Kind(os.Args[2]), os.Args[6], zap.Must(zap.NewProduction())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 4 && os.Args[1] == "run" && os.Args[2] == "-c" {
		standIn()
	}
	os.Exit(m.Run())
}

// openTest names a lab that belongs to this test, and takes it down whatever happens.
func openTest(t *testing.T, label string) *Lab {
	t.Helper()
	netnstest.RequireRoot(t)
	l, err := Open(fmt.Sprintf("tl%d%s", os.Getpid(), label))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, l)
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		if l.leftovers() || len(l.processes()) > 0 {
			t.Errorf("down left something: %v", l.processes())
		}
	})
	return l
}

func dumpLogs(t *testing.T, l *Lab) {
	for _, node := range allNodes() {
		if b, err := os.ReadFile(l.s.log(node)); err == nil {
			t.Logf("log of %s:\n%s", node, b[max(0, len(b)-2000):])
		}
	}
}

func TestNetnsLoopWithoutEncapsulation(t *testing.T) {
	// Not parallel: the nftables library counts its sets in a variable of the process.
	l := openTest(t, "a")
	must(t, l.Up(t.Context(), Options{Encapsulation: None}, 30*time.Second, Silent{}))
	before, err := l.Counters()
	must(t, err)
	r, err := probe.Ping{From: l.NS("avs"), To: netip.MustParseAddr(OnPremHost), Count: 3}.Run(t.Context())
	must(t, err)
	after, err := l.Counters()
	must(t, err)
	if r.Received != 0 || countErrors(r.Errors, "time exceeded") != r.Sent {
		t.Errorf("%+v, want an expired TTL for each packet", r)
	}
	// TTL 64: avs-edge, msee-avs and the fabric take one each; then every second one is a hairpin.
	if n := after[fabric.HairpinPrefix+"transit-nva"] - before[fabric.HairpinPrefix+"transit-nva"]; n != uint64(r.Sent)*30 {
		t.Errorf("%d hairpins for %d packets, want 30 each", n, r.Sent)
	}
	known, err := l.Known(t.Context(), "onprem")
	must(t, err)
	if path, ok := known.Path(netip.MustParsePrefix("10.50.1.0/24")); !ok || path != "12076" {
		t.Errorf("on-prem knows AVS by path %q, %v", path, ok)
	}
	restartKeepsTheOtherInstance(t, l)
	st, err := l.Status(t.Context())
	must(t, err)
	if !st.OK {
		t.Errorf("status: %+v", st)
	}
}

// restartKeepsTheOtherInstance: routes stand while one Route Server instance is away, and its sessions come back.
func restartKeepsTheOtherInstance(t *testing.T, l *Lab) {
	t.Helper()
	must(t, l.Kill("transit-ars-0"))
	p, err := l.Plan()
	must(t, err)
	start := time.Now()
	err = l.wait(t.Context(), p, time.Minute, Silent{})
	if err == nil || !strings.Contains(err.Error(), "transit-ars-0 has ended") || !strings.Contains(err.Error(), "session established") {
		t.Errorf("waited for a lab whose node has ended: %v, want its name and the end of its log", err)
	}
	if waited := time.Since(start); waited > 30*time.Second {
		t.Errorf("waited %v for a node that has ended", waited)
	}
	if err := await(t.Context(), 5*time.Second, func() error {
		s, err := l.fabric().State(t.Context())
		if err == nil && len(s.Learned["transit-ars"]) != 1 {
			err = fmt.Errorf("the agent still believes %d instances", len(s.Learned["transit-ars"]))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	must(t, l.hasRoutes("avs-edge", true, onPremPrefixes()...))
	must(t, l.programmed("transit-nva", onPremPrefixes()[0], []netip.Addr{nvaAddress("transit", 0)}).check(t.Context()))
	must(t, l.Start(t.Context(), "transit-ars-0"))
	must(t, await(t.Context(), 15*time.Second, func() error { return l.sessions(t.Context(), p, true) }))
	must(t, l.Refresh(t.Context(), "transit-ars"))
	if err := l.Refresh(t.Context(), "no-ars"); err == nil {
		t.Error("a Route Server that does not exist was refreshed")
	}
}

func TestNetnsDefaultRouteScenario(t *testing.T) {
	// Not parallel: the nftables library counts its sets in a variable of the process.
	l := openTest(t, "b")
	must(t, l.Up(t.Context(), Options{Scenario: DefaultRoute, Encapsulation: None, FilterDefault: true}, 30*time.Second, Silent{}))
	byDefault := netip.MustParsePrefix("0.0.0.0/0")
	must(t, l.hasRoutes("avs-edge", true, byDefault))
	must(t, l.hasRoutes("onprem", false, byDefault))
	undo, err := refusePort(l.NS("hub-nva"), probe.HTTPAltPort)
	must(t, err)
	inet := netip.MustParseAddr(InternetHost)
	if err := probe.Connect(t.Context(), l.NS("avs"), netip.AddrPortFrom(inet, probe.HTTPAltPort), time.Second); err == nil {
		t.Error("the refused port is open")
	}
	must(t, probe.Connect(t.Context(), l.NS("avs"), netip.AddrPortFrom(inet, probe.HTTPPort), time.Second))
	must(t, undo())
	must(t, probe.Connect(t.Context(), l.NS("avs"), netip.AddrPortFrom(inet, probe.HTTPAltPort), time.Second))
}

func TestNetnsInterruptedUpIsCleanedByDown(t *testing.T) {
	// Not parallel: the nftables library counts its sets in a variable of the process.
	l := openTest(t, "c")
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Up(ctx, Options{Encapsulation: None}, 30*time.Second, &interrupter{after: 2, cancel: cancel})
	if err == nil {
		t.Fatal("up was interrupted and says nothing")
	}
	if !l.leftovers() || len(l.processes()) == 0 {
		t.Fatal("nothing was there when up was interrupted: the test shows nothing")
	}
	if err := l.Up(t.Context(), Options{Encapsulation: None}, time.Second, Silent{}); err == nil {
		t.Error("up on top of a half-built lab")
	}
	// A process whose pid file was never written is found by its namespace.
	must(t, os.Remove(l.s.pid("spoke")))
	must(t, l.Down())
	if l.leftovers() || len(l.processes()) > 0 {
		t.Error("down left something")
	}
	must(t, l.Down()) // nothing there is no error
}

// interrupter ends the context when so many pieces of work are done.
type interrupter struct {
	Silent
	after  int
	cancel context.CancelFunc
}

func (i *interrupter) Done(string) {
	if i.after--; i.after == 0 {
		i.cancel()
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
