package bfd

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// wire is two namespaces and a veth, whose ends are called tr0.
type wire struct {
	t            *testing.T
	ours, theirs netns.NS
}

func local6() netip.Addr  { return netip.MustParseAddr("2001:db8::1") }
func remote6() netip.Addr { return netip.MustParseAddr("2001:db8::2") }

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{t: t, ours: netnstest.New(t, "ours"), theirs: netnstest.New(t, "theirs")}
	w.ip("-n", w.ours.Name, "link", "add", "tr0", "type", "veth", "peer", "name", "tr0", "netns", w.theirs.Name)
	for _, e := range []struct {
		ns     netns.NS
		v4, v6 netip.Addr
	}{{w.ours, local(), local6()}, {w.theirs, remote(), remote6()}} {
		w.ip("-n", e.ns.Name, "addr", "add", e.v4.String()+"/29", "dev", "tr0")
		w.ip("-n", e.ns.Name, "addr", "add", e.v6.String()+"/64", "dev", "tr0", "nodad")
		w.ip("-n", e.ns.Name, "link", "set", "tr0", "up")
	}
	return w
}

func (w *wire) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// cut loses every control packet on the way to us, as a bad path does: no device goes down, nobody is told.
func (w *wire) cut() {
	w.t.Helper()
	cmd := w.theirs.Command(w.t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet cut { chain out { type filter hook output priority 0; udp dport { 3784, 4784 } drop; }; }\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// watched is a session whose changes are kept.
type watched struct {
	*Session
	t *testing.T

	mu      sync.Mutex
	changes []Change
	news    chan struct{} // something was added
}

// start runs a session at one end until the test is over.
func start(t *testing.T, ns netns.NS, c Config) *watched {
	t.Helper()
	w := &watched{t: t, news: make(chan struct{}, 1)}
	c.OnState = func(ch Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changes = append(w.changes, ch)
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
	c.Log = zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)).Named(ns.Name)
	err := ns.Do(func() (err error) {
		w.Session, err = Start(c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// reaches waits for a change to a state after a moment and returns it.
func (w *watched) reaches(s State, after time.Time, within time.Duration) Change {
	w.t.Helper()
	timeout := time.After(within)
	for {
		w.mu.Lock()
		list := w.changes
		w.mu.Unlock()
		for _, c := range list {
			if c.To == s && !c.At.Before(after) {
				return c
			}
		}
		select {
		case <-w.news:
		case <-timeout:
			w.t.Fatalf("not %s within %s: %+v, %+v", s, within, list, w.Status())
		}
	}
}

// eventually polls what only a look can tell.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", within, err)
		}
		<-ticker.C
	}
}

// drops waits for a reason's counter.
func (w *watched) drops(d Drop) {
	w.t.Helper()
	eventually(w.t, 2*time.Second, func() error {
		if s := w.Status(); s.Dropped[d] == 0 {
			return fmt.Errorf("nothing was dropped as %s: %v", d, s.Dropped)
		}
		return nil
	})
}

func TestNetnsTwoSessions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		a, b     netip.Addr
		device   string
		multihop bool
		linkDown bool
	}{
		{"IPv4", local(), remote(), "tr0", false, false},
		{"IPv6", local6(), remote6(), "tr0", false, false},
		{"IPv4 multihop without device", local(), remote(), "", true, false},
		{"IPv6 multihop without device", local6(), remote6(), "", true, false},
		{"link down", local(), remote(), "tr0", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			began := time.Now()
			a := start(t, w.ours, Config{Name: "a", Local: c.a, Peer: c.b, Interface: c.device, Multihop: c.multihop, Mark: 7})
			b := start(t, w.theirs, Config{Name: "b", Local: c.b, Peer: c.a, Interface: c.device, Multihop: c.multihop})
			a.reaches(Up, began, 4*time.Second)
			b.reaches(Up, began, 4*time.Second)
			eventually(t, 3*time.Second, func() error {
				for _, s := range []Status{a.Status(), b.Status()} {
					if s.DetectionTime != 900*ms || s.TxInterval != 300*ms || s.RemoteState != Up {
						return fmt.Errorf("%+v", s)
					}
				}
				return nil
			})
			t.Logf("up after %s", time.Since(began))

			at := time.Now()
			want := NeighborSignaledDown // the other end still hears us, and what we say then
			if c.linkDown {
				want = DetectionTimeExpired
				w.ip("-n", w.theirs.Name, "link", "set", "tr0", "down")
			} else {
				w.cut()
			}
			ca := a.reaches(Down, at, 3*time.Second)
			cb := b.reaches(Down, at, 3*time.Second)
			t.Logf("detected after %s (%s), at the other end after %s (%s)", ca.At.Sub(at), ca.Diagnostic, cb.At.Sub(at), cb.Diagnostic)
			if !ca.Failure() || !cb.Failure() || ca.Diagnostic != DetectionTimeExpired || cb.Diagnostic != want {
				t.Errorf("%+v, %+v", ca, cb)
			}
			if late := max(ca.At.Sub(at), cb.At.Sub(at)); late > 1300*ms {
				t.Errorf("detected after %s", late)
			}
			if c.linkDown { // and the session comes back by itself
				at = time.Now()
				w.ip("-n", w.theirs.Name, "link", "set", "tr0", "up")
				a.reaches(Up, at, 6*time.Second)
				b.reaches(Up, at, 6*time.Second)
			}
		})
	}
}

func TestNetnsShutdownIsNoFailure(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	began := time.Now()
	a := start(t, w.ours, Config{Name: "a", Local: local(), Peer: remote(), Interface: "tr0"})
	b := start(t, w.theirs, Config{Name: "b", Local: remote(), Peer: local(), Interface: "tr0"})
	a.reaches(Up, began, 4*time.Second)
	b.reaches(Up, began, 4*time.Second)
	at := time.Now()
	a.Shutdown()
	if took := time.Since(at); took > time.Second {
		t.Errorf("shutdown took %s", took)
	}
	a.reaches(AdminDown, at, time.Second)
	if c := b.reaches(Down, at, time.Second); !c.PeerAdminDown || c.Failure() {
		t.Errorf("%+v", c)
	}
	if s := b.Status(); s.Flaps != 0 || s.RemoteState != AdminDown || s.RemoteDiagnostic != AdministrativelyDown {
		t.Errorf("%+v", s)
	}
	// The next process is another session, of the same addresses.
	at = time.Now()
	again := start(t, w.ours, Config{Name: "a", Local: local(), Peer: remote(), Interface: "tr0"})
	again.reaches(Up, at, 4*time.Second)
	b.reaches(Up, at, 4*time.Second)
}

func TestNetnsSecondSessionOnADevice(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	c := Config{Local: local(), Peer: remote(), Interface: "tr0"}
	start(t, w.ours, c)
	err := w.ours.Do(func() error {
		s, err := Start(c)
		if err == nil {
			_ = s.Close()
		}
		return err
	})
	if err == nil {
		t.Error("a second session has the same address, port and device")
	}
	c.Multihop = true // another port
	start(t, w.ours, c)
}

// TestNetnsSharedAddress: one address, two peers; each session gets its own.
func TestNetnsSharedAddress(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	third := netip.MustParseAddr("198.51.100.3")
	w.ip("-n", w.theirs.Name, "addr", "add", third.String()+"/29", "dev", "tr0")
	began := time.Now()
	var all []*watched
	for _, p := range []netip.Addr{remote(), third} {
		all = append(all, start(t, w.ours, Config{Name: "to " + p.String(), Local: local(), Peer: p, Multihop: true}),
			start(t, w.theirs, Config{Name: "from " + p.String(), Local: p, Peer: local(), Multihop: true}))
	}
	for _, s := range all {
		s.reaches(Up, began, 4*time.Second)
	}
	for _, s := range all {
		if got := s.Status().Dropped; got != [DropReasons]uint64{} {
			t.Errorf("%s dropped %v", s.Status().Name, got)
		}
	}
}
