package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// insideVariable tells the test binary that it is the copy inside the namespace.
const insideVariable = "TRANSITD_DAEMON_TEST_INSIDE"

// inside reports whether the test runs inside a network namespace with the card
// eth0, 192.0.2.4/26. If not, it makes one, runs this test again in it by
// another process and passes on the result: a daemon asks the kernel from many
// threads, so a single thread in the namespace is not enough.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) == t.Name() {
		return true
	}
	ns := netnstest.New(t, "daemon")
	for _, args := range []string{
		"link add eth0 type veth peer name far0", "link set eth0 up", "link set far0 up",
		"addr add 192.0.2.4/26 dev eth0", "route add default via 192.0.2.1 dev eth0",
	} {
		if out, err := ns.Command(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.timeout=120s", "-test.count=1", "-test.v"}
	// The coverage of the process inside is added to ours by way of the folder that "go test" gave us.
	if f := flag.Lookup("test.gocoverdir"); f != nil && f.Value.String() != "" {
		args = append(args, "-test.gocoverdir="+f.Value.String())
	}
	cmd := ns.Command(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), insideVariable+"="+t.Name())
	// A process that finds no test of the name succeeds too, so the pass has to be said.
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("inside the namespace: %v\n%s", err, out)
	}
	return false
}

// ip runs iproute2 and returns what it prints.
func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// ours is what carries the daemon's protocol number, one a line.
func ours(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, args := range []string{"rule", "-6 rule", "-4 route show table all", "-6 route show table all"} {
		for line := range strings.Lines(ip(t, args)) {
			if strings.Contains(line, " proto 210") {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// machineState is everything that a daemon changes, for a comparison of before
// and after. Of IPv6 it has what is ours only: the kernel's own routes come and
// go with the detection of duplicate addresses.
func machineState(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{
		"rules": ip(t, "rule"), "rules6": ip(t, "-6 rule"), "routes": ip(t, "-4 route show table all"), "ours": ours(t),
	}
	for line := range strings.Lines(ip(t, "-o link")) {
		state["link "+strings.Fields(line)[1]] = "there"
	}
	for _, s := range wantedSysctls("eth0", nil, true) {
		b, err := os.ReadFile(filepath.Join(procSys, s.Key))
		if err != nil {
			t.Fatal(err)
		}
		state[s.Key] = strings.TrimSpace(string(b))
	}
	return state
}

// running is a daemon that runs, and those who talk to it.
type running struct {
	t      *testing.T
	d      *Daemon
	file   string
	client *control.Client
	level  zap.AtomicLevel
	hangup chan os.Signal
	logs   *observer.ObservedLogs
	stop   context.CancelFunc
	done   chan error
}

// livingYAML is nodeYAML with IPv6 inside the tunnel and a socket in a folder that is not there yet.
func livingYAML(t *testing.T) (yaml, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "run", "hub.sock")
	return edit(t, nodeYAML, "/run/transitd/hub-nva.sock", socket,
		"    peer_address: 169.254.77.2\n", "    peer_address: 169.254.77.2\n    address6: 2001:db8:77::1/64\n    peer_address6: 2001:db8:77::2\n"), socket
}

// begin writes the file and runs a daemon; the error is of New, or of Run before it was ready.
func begin(t *testing.T, yaml string, options ...func(*Options)) (*running, error) {
	t.Helper()
	log, logs := observed()
	r := &running{
		t: t, file: filepath.Join(t.TempDir(), fileName), level: zap.NewAtomicLevel(), logs: logs,
		hangup: make(chan os.Signal, 1), done: make(chan error, 1),
	}
	r.write(yaml)
	c, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.client = control.NewClient(c.Control.Socket)
	o := Options{File: r.file, Log: log, Level: &r.level, Hangup: r.hangup}
	for _, set := range options {
		set(&o)
	}
	r.d, err = New(c, o)
	if err != nil {
		return r, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r.stop = stop
	go func() { r.done <- r.d.Run(ctx) }()
	select {
	case <-r.d.Ready():
		// BGP tells of the originated default a little later; a test that compares states needs it to be there.
		eventually(t, 5*time.Second, "the originated default is in the kernel", func() bool {
			return strings.Contains(ours(t), "default via 192.0.2.1 dev eth0 table 7002")
		})
		return r, nil
	case err := <-r.done:
		stop()
		return r, errors.Join(errors.New("not ready"), err)
	case <-time.After(10 * time.Second):
		t.Fatal("neither ready nor an error after 10 s")
		return nil, nil
	}
}

func (r *running) write(yaml string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(yaml), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// end stops the daemon and waits until it has.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
	case <-time.After(20 * time.Second):
		r.t.Fatal("Run does not end")
	}
}

// reload writes a file and reloads.
func (r *running) reload(yaml string, req control.ReloadRequest) (control.Reload, error) {
	r.t.Helper()
	r.write(yaml)
	return r.client.Reload(r.t.Context(), req)
}

func (r *running) status() control.Status {
	r.t.Helper()
	s, err := r.client.Status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// eventually waits until a condition holds, at most for a time.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// sysctl reads a setting of this namespace.
func sysctl(t *testing.T, key string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(procSys, key))
	if err != nil {
		return fmt.Sprint(err)
	}
	return strings.TrimSpace(string(b))
}

func mustIndex(t *testing.T, device string) int {
	t.Helper()
	i, err := deviceIndex(device)
	if err != nil {
		t.Fatal(err)
	}
	return i
}
