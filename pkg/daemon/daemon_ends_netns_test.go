package daemon

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/transitd/transitd/pkg/control"
)

// tr9 is a tunnel whose device's name the tests take away.
const tr9 = `    bgp: {asn: 64513}
  - {name: tr9, remote: 198.51.100.9, address: 169.254.79.1/30, peer_address: 169.254.79.2, vxlan: {vni: 7709}, bgp: {asn: 64519}}
`

// TestDaemonUnprivileged checks that what is left of the capabilities is enough
// for a reload, also for one that half fails and is put right later, and that
// the service manager is told of everything.
func TestDaemonUnprivileged(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, _ := livingYAML(t)
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }() // nothing is written to it
	t.Setenv("NOTIFY_SOCKET", socket)
	before := machineState(t)
	r, err := begin(t, yaml, func(o *Options) { o.DropPrivileges = true })
	if err != nil {
		t.Fatal(err)
	}
	if has, err := cap.GetBound(cap.SYS_ADMIN); err != nil || has {
		t.Errorf("the daemon could still mount and more: %v, %v", has, err)
	}
	ip(t, "link add tr9 type veth peer name far9")
	got, err := r.reload(edit(t, yaml, "    bgp: {asn: 64513}\n", tr9), control.ReloadRequest{})
	e, ok := errors.AsType[*control.Error](err)
	if !ok || e.Code != control.CodeInternal || !strings.Contains(e.Message, "not all of it could be done") || !strings.Contains(e.Message, "tunnel tr9") {
		t.Errorf("reload with a name that is taken: %+v, %v", got, err)
	}
	// Half a reload is in force: the neighbour and the rules are there, the device is shown as missing.
	s := r.status()
	if len(s.Tunnels) != 2 || len(s.BGP) != 4 || !strings.Contains(ours(t), "iif tr9") ||
		!slices.ContainsFunc(s.Warnings, func(w string) bool {
			return strings.HasPrefix(w, "tunnel tr9: ") && strings.HasSuffix(w, "tried again every second")
		}) {
		t.Errorf("status %+v", s)
	}
	ip(t, "link del tr9")
	eventually(t, 4*time.Second, "tr9 is made as soon as it can be", func() bool { return mustIndex(t, "tr9") != 0 })
	// Taken out again.
	eventually(t, 4*time.Second, "a reload removes tr9", func() bool {
		_, err := r.reload(yaml, control.ReloadRequest{})
		return err == nil && mustIndex(t, "tr9") == 0
	})
	r.end()
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("the daemon left something (-before +after):\n%s", d)
	}
	checkTold(t, manager)
}

// checkTold checks what the service manager was told by a daemon that was reloaded, and has ended.
func checkTold(t *testing.T, manager *net.UnixConn) {
	t.Helper()
	var told []string
	for !slices.Contains(told, "STOPPING") {
		word, _, _ := strings.Cut(receive(t, manager), "=")
		if word != "STATUS" || !slices.Contains(told, word) { // the status comes when it likes
			told = append(told, word)
		}
	}
	want := []string{"READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"}
	if got := slices.DeleteFunc(slices.Clone(told), func(w string) bool { return w == "STATUS" }); diff(want, got) != "" {
		t.Errorf("the service manager was told %q, want %q", told, want)
	}
	if !slices.Contains(told, "STATUS") {
		t.Error("the service manager was told no status")
	}
}

// TestDaemonStopsAtOnce cancels before Run has begun, as a signal in the first moment does.
func TestDaemonStopsAtOnce(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, _ := livingYAML(t)
	before := machineState(t)
	d, err := New(mustParse(t, yaml), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	if err := d.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(start); took > drainTimeout {
		t.Errorf("it took %s: something was waited for that was not there", took)
	}
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("the daemon left something (-before +after):\n%s", d)
	}
	_, err = d.Reload(t.Context(), control.ReloadRequest{})
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeStopping {
		t.Errorf("a stopped daemon reloads: %v", err)
	}
}

// TestDaemonPartFails ends one part and checks that all end, and that Run says which it was.
func TestDaemonPartFails(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, _ := livingYAML(t)
	before := machineState(t)
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.d.listener.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.done:
		if err == nil || !strings.HasPrefix(err.Error(), "control: ") {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Run goes on without its control socket")
	}
	r.stop()
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("the daemon left something (-before +after):\n%s", d)
	}
}
