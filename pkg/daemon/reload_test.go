package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/pkg/stamp"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/pmtud"
	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// recorder is all that a machine acts upon, and notes in which order it does.
type recorder struct {
	calls []string
	fail  map[string]error // by call
	index map[string]int   // of Linux devices that are there
	made  int
}

func (r *recorder) note(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	r.calls = append(r.calls, call)
	return r.fail[call]
}

// Apply is the BGP speaker's.
func (r *recorder) Apply(_ context.Context, c bgp.Config) (bgp.Changes, error) {
	var names []string
	for _, n := range c.Neighbors {
		names = append(names, n.Name)
	}
	return bgp.Changes{}, r.note("bgp %s", strings.Join(names, " "))
}

// Set is the kernel's.
func (r *recorder) Forget() {}

func (r *recorder) Set(want fib.State, _ bool) error {
	var names []string
	for _, x := range want.Rules {
		// A tunnel's rule that refuses what nothing else matched: one for each tunnel and family.
		if x.Unreachable && x.IifName != "" && !x.IPv6 {
			names = append(names, x.IifName)
		}
	}
	return r.note("kernel %s", strings.Join(names, " "))
}

// device is a tunnel of the recorder's.
type recordedDevice struct {
	r    *recorder
	name string
}

func (d *recordedDevice) Path() pmtud.Status { return pmtud.Status{} }

func (d *recordedDevice) Measure(context.Context, func(string)) (pmtud.Result, error) {
	return pmtud.Result{}, nil
}

func (d *recordedDevice) Close() error {
	delete(d.r.index, d.name)
	return d.r.note("close %s", d.name)
}
func (d *recordedDevice) Stats() tunnel.Stats          { return tunnel.Stats{} }
func (d *recordedDevice) Up() bool                     { return true }
func (d *recordedDevice) WireGuard() *wireguard.Status { return nil }
func (d *recordedDevice) ForeignVNI() uint32           { return 0 }
func (d *recordedDevice) IPsec() *ike.Status           { return nil }
func (d *recordedDevice) Quality() stamp.Stats         { return stamp.Stats{} }
func (d *recordedDevice) Loops() (uint64, *pump.Loop)  { return 0, nil }
func (d *recordedDevice) Reconfigure(TunnelPlan) error { return nil }

func (r *recorder) open(p TunnelPlan) (device, error) {
	if err := r.note("open %s", p.Name); err != nil {
		return nil, err
	}
	r.made++
	r.index[p.Name] = r.made
	return &recordedDevice{r, p.Name}, nil
}

// newMachine makes a machine that runs the plan, with a recorder that has noted nothing yet.
func newMachine(t *testing.T, p *Plan) (*machine, *recorder) {
	t.Helper()
	r := &recorder{fail: map[string]error{}, index: map[string]int{}}
	m := &machine{
		log: zap.NewNop(), speaker: r,
		routes: &routeTable{log: zap.NewNop(), kernel: r, converged: func() bool { return true }},
		tunnels: &tunnelSet{log: zap.NewNop(), open: r.open, index: func(name string) (int, error) {
			return r.index[name], nil
		}},
		settings: func(list []Sysctl) error { return r.note("sysctls %d", len(list)) },
		level:    func(l zapcore.Level) { _ = r.note("level %s", l) },
		origins:  newOrigins(zap.NewNop()), watch: func([]TunnelPlan) {},
	}
	if err := m.routes.setNode(p.FIB); err != nil {
		t.Fatal(err)
	}
	for _, x := range p.Tunnels {
		if err := m.tunnels.add(x); err != nil {
			t.Fatal(err)
		}
	}
	r.calls = nil
	return m, r
}

// TestMachineApplyOrder checks that no session ever is without its tunnel and no tunnel without its rules.
func TestMachineApplyOrder(t *testing.T) {
	t.Parallel()
	both := withTR1(t)
	for _, c := range []struct {
		name, from, to string
		want           []string
	}{
		{"nothing", nodeYAML, nodeYAML, nil},
		{"tunnel added: rules, device, sysctls, session", nodeYAML, both, []string{"kernel tr0 tr1", "open tr1", "sysctls 11", "bgp ars tr0 tr1"}},
		// The status has the tunnels in the file's order, whichever came first.
		{"tunnel added in front", nodeYAML, edit(t, nodeYAML, "tunnels:\n", `tunnels:
  - {name: tr2, remote: 198.51.100.6, address: 169.254.79.1/30, peer_address: 169.254.79.2, vxlan: {vni: 7702}, bgp: {asn: 64515}}
`), []string{"kernel tr2 tr0", "open tr2", "sysctls 9", "bgp ars tr2 tr0"}},
		{"tunnel removed: session, device, rules", both, nodeYAML, []string{"bgp ars tr0", "close tr1", "kernel tr0", "sysctls 7", "bgp ars tr0"}},
		{"remote changed", nodeYAML, edit(t, nodeYAML, "198.51.100.4", "198.51.100.5"), []string{
			"bgp ars", "close tr0", "kernel tr0", "open tr0", "sysctls 7", "bgp ars tr0",
		}},
		// The session has to come back, though its configuration is the one that it had.
		{"VNI changed", nodeYAML, edit(t, nodeYAML, "7700", "7702"), []string{"bgp ars", "close tr0", "open tr0", "sysctls 7", "bgp ars tr0"}},
		{"only BGP", nodeYAML, edit(t, nodeYAML, "64513", "64520"), []string{"bgp ars tr0"}},
		{"only the log", nodeYAML, edit(t, nodeYAML, "level: info", "level: debug"), []string{"level debug"}},
		{"one goes, one comes", nodeYAML, edit(t, nodeYAML, "name: tr0", "name: tr9", "to: [tr0]", "to: [tr9]"), []string{
			"bgp ars", "close tr0", "kernel tr9", "open tr9", "sysctls 7", "bgp ars tr9",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			from, to := mustPlan(t, c.from), mustPlan(t, c.to)
			m, r := newMachine(t, from)
			if err := m.apply(t.Context(), compare(fileName, from, to), from, to); err != nil {
				t.Fatal(err)
			}
			if d := diff(c.want, r.calls); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
			var names, want []string
			for _, v := range m.tunnels.views() {
				names = append(names, v.Plan.Name)
			}
			for _, x := range to.Tunnels {
				want = append(want, x.Name)
			}
			if d := diff(want, names); d != "" {
				t.Errorf("tunnels that run (-want +got):\n%s", d)
			}
		})
	}
}

// TestMachineApplyGoesOn checks that what fails does not stop the rest, and is told.
func TestMachineApplyGoesOn(t *testing.T) {
	t.Parallel()
	from, to := mustPlan(t, nodeYAML), mustPlan(t, withTR1(t))
	for _, failing := range []string{"kernel tr0 tr1", "open tr1", "sysctls 11", "bgp ars tr0 tr1"} {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			m, r := newMachine(t, from)
			boom := errors.New("no memory")
			r.fail[failing] = boom
			if err := m.apply(t.Context(), compare(fileName, from, to), from, to); !errors.Is(err, boom) {
				t.Errorf("error %v", err)
			}
			if d := diff([]string{"kernel tr0 tr1", "open tr1", "sysctls 11", "bgp ars tr0 tr1"}, r.calls); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
		})
	}
}

func TestMachineRebuild(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, nodeYAML)
	boom := errors.New("no memory")
	full := []string{"bgp ars", "close tr0", "open tr0", "sysctls 7", "kernel tr0", "bgp ars tr0"}
	for _, c := range []struct {
		name, failing string
		want          []string
		rebuilt       uint64
	}{
		{"all well", "", full, 1},
		// The old device is gone anyway, so that closing what is left of it fails is no reason to stop.
		{"old one does not close", "close tr0", full, 1},
		{"routes refused", "kernel tr0", full, 1},
		// Without its device there is nothing to route, but BGP gets its neighbour back.
		{"device refused", "open tr0", []string{"bgp ars", "close tr0", "open tr0", "bgp ars tr0"}, 0},
		{"BGP is not there", "bgp ars", []string{"bgp ars"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, r := newMachine(t, p)
			r.fail[c.failing] = boom
			err := m.rebuild(t.Context(), "tr0", p)
			if want := c.failing != "" && c.failing != "close tr0"; errors.Is(err, boom) != want || err != nil != want {
				t.Errorf("error %v", err)
			}
			if d := diff(c.want, r.calls); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
			if got := m.tunnels.views()[0].Rebuilt; got != c.rebuilt {
				t.Errorf("rebuilt %d times, want %d", got, c.rebuilt)
			}
		})
	}
}

func TestWithout(t *testing.T) {
	t.Parallel()
	c := mustPlan(t, edit(t, withTR1(t), "to: [tr0]", "to: [tr0, tr1]\n  - prefix: 203.0.113.0/24\n    to: [tr1]")).BGP
	before := diff(c, bgp.Config{})
	got := without(c, []string{"tr1"})
	want := c
	want.Neighbors = c.Neighbors[:2]
	want.Originate = []bgp.Origination{{Prefix: prefix("0.0.0.0/0"), To: []string{"tr0"}}} // the other one has nobody left
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(c.Originate[0].To) != 2 || diff(c, bgp.Config{}) != before {
		t.Error("without changed the configuration that it was given")
	}
	// What is left has to be a configuration: the speaker refuses an origination to nobody.
	if _, err := bgp.New(got, bgp.Options{}); err != nil {
		t.Error(err)
	}
}

// reloader is a daemon of which only Reload can be used, with the file.
func reloader(t *testing.T, text string) *Daemon {
	t.Helper()
	file := filepath.Join(t.TempDir(), fileName)
	if text != "" {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := &Daemon{file: file, log: zap.NewNop(), notify: &notifier{log: zap.NewNop()}, story: newChronicle(&events.Log{})}
	d.plan.Store(mustPlan(t, nodeYAML))
	return d
}

// TestReloadRefused checks that each kind of refusal says what is wrong; the
// daemon has no machine, so touching anything would panic.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		message    string
		path       string
		line       int
	}{
		{"no file", "", "the configuration is not valid; nothing was changed", "", 0},
		{"invalid", edit(t, nodeYAML, "vni: 7700", "vni: 0"), "the configuration is not valid; nothing was changed", "tunnels[0].vxlan.vni", 14},
		{"no such card", edit(t, nodeYAML, "eth0", "nosuchcard0"), "the new configuration cannot be used; nothing was changed: find network card", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := reloader(t, c.text)
			before := d.plan.Load()
			_, err := d.Reload(t.Context(), control.ReloadRequest{})
			e, ok := errors.AsType[*control.Error](err)
			if !ok || e.Code != control.CodeConfig || !strings.HasPrefix(e.Message, c.message) {
				t.Fatalf("error %v", err)
			}
			if c.name == "no such card" {
				return
			}
			if len(e.Config) != 1 || e.Config[0].File != d.file || e.Config[0].Path != c.path || e.Config[0].Line != c.line {
				t.Errorf("positions %+v", e.Config)
			}
			if d.plan.Load() != before {
				t.Error("the plan was changed")
			}
		})
	}
}

func TestReloadWhileStopping(t *testing.T) {
	t.Parallel()
	d := reloader(t, nodeYAML)
	d.stopping.Store(true)
	_, err := d.Reload(t.Context(), control.ReloadRequest{})
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeStopping {
		t.Errorf("error %v", err)
	}
}

// TestRefusalRestart checks the answer to changes that are valid, but not while running.
func TestRefusalRestart(t *testing.T) {
	t.Parallel()
	from, to := mustPlan(t, nodeYAML), mustPlan(t, nodeYAML)
	to.Node.Name, to.FIB.Mark = "x", 1
	refused := refusedError(compare(fileName, from, to).Refused)
	e := refusal(fmt.Errorf("wrapped: %w", refused))
	if e.Code != control.CodeConfig || e.Message != "the new configuration needs a restart; nothing was changed" || len(e.Config) != 2 || e.Config[1].Path != "routing.mark" {
		t.Errorf("%+v", e)
	}
	want := "node.yaml: node.name: cannot change from hub-nva to x while running (restart transitd)\n" +
		"node.yaml: routing.mark: cannot change from 29796 to 1 while running (restart transitd)"
	if refused.Error() != want {
		t.Errorf("text %q", refused)
	}
}

// TestHangups checks that a bad file at SIGHUP is logged once, by Reload, and is no reason to end.
func TestHangups(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	d := reloader(t, "")
	hup := make(chan os.Signal)
	d.log, d.opts.Hangup = log, hup
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.hangups(ctx) }()
	hup <- os.Interrupt
	hup <- os.Interrupt // received, so the first one has been worked off
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if d := diff([]string{"reload refused; nothing was changed", "reload refused; nothing was changed"}, messages(logs)); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}
