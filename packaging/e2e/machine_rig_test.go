package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// suite and include say what is in the root: what a small Debian server has, and what looks at networks.
const (
	suite   = "bookworm"
	include = "systemd,systemd-sysv,iproute2,iputils-ping"
)

// debian returns a Debian root that is never written to; the first call on a machine makes it (half a minute).
func debian(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(cache, "transitd", suite+"-"+strings.ReplaceAll(include, ",", "-"))
	if _, err := os.Stat(root); err == nil {
		return root
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	half := root + ".half"
	if err := os.RemoveAll(half); err != nil { // of a run that was interrupted
		t.Fatal(err)
	}
	run(t, exec.CommandContext(t.Context(), "mmdebstrap", "--quiet", "--variant=minbase", "--include="+include, suite, half))
	if err := os.Rename(half, root); err != nil {
		t.Fatal(err)
	}
	return root
}

// overlay is a script that makes a root to write to at $1/root, in the mount namespace that it is run in.
const overlay = `set -e
mkdir "$1/root" "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
`

// boot starts systemd in the root: $3 network namespace, $4 a name, $5 folder with the packages. Every machine needs
// control groups of its own: their units have the same names.
const boot = overlay + `
for g in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
	[ ! -e "$g/cgroup.procs" ] || { mkdir -p "$g/$4"; echo $$ >"$g/$4/cgroup.procs"; }
done
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --boot --directory="$1/root" --machine="$4" --register=no --keep-unit --console=pipe \
	--network-namespace-path="$3" --capability=CAP_NET_ADMIN --bind-ro="$5:/packages"
`

// machine is a Debian that runs.
type machine struct {
	t      *testing.T
	name   string
	ns     netns.NS
	leader int // its process 1, as seen from here
}

func newMachine(t *testing.T, name string, ns netns.NS, packages string) *machine {
	t.Helper()
	sweep(t)
	m := &machine{t: t, name: name, ns: ns}
	group := ns.Name // unique
	// A process namespace around nspawn, which by itself leaves what it started alive when it is killed.
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "-p", "--fork", "--kill-child", "--mount-proc", "sh", "-c", boot, "sh", t.TempDir(), debian(t), ns.Path(), group, packages)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the test is killed
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the thread's end would be the parent's death
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.leader != 0 {
			_ = syscall.Kill(m.leader, syscall.SIGKILL)
		} else {
			_ = cmd.Process.Kill()
		}
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
		removeGroups(t, group)
	})
	soon(t, name+" has a process 1", 20*time.Second, func() error { return m.findLeader(cmd.Process.Pid) })
	soon(t, name+" answers", 20*time.Second, func() error {
		out, err := m.try("systemctl is-system-running --wait")
		if s := strings.TrimSpace(out); s != "running" && s != "degraded" {
			return fmt.Errorf("%q: %w", s, errors.Join(err, errors.New("it does not run")))
		}
		return nil
	})
	return m
}

// findLeader looks for systemd among a process's descendants.
func (m *machine) findLeader(of int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", of, of))
	if err != nil {
		return err
	}
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		if comm, err := os.ReadFile("/proc/" + f + "/comm"); err == nil && strings.TrimSpace(string(comm)) == "systemd" {
			m.leader = pid
			return nil
		}
		if m.findLeader(pid) == nil {
			return nil
		}
	}
	return fmt.Errorf("process %d has no systemd below it, but %q", of, b)
}

// hierarchies are where control groups may be: the unified hierarchy alone, or it and systemd's of version 1.
var hierarchies = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"}

// sweep removes the control groups of machines whose test was killed. netnstest has put its process id into the name.
func sweep(t *testing.T) {
	t.Helper()
	for _, g := range hierarchies {
		found, err := filepath.Glob(g + "/tdt-*")
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range found {
			parts := strings.Split(filepath.Base(dir), "-")
			if pid, err := strconv.Atoi(parts[1]); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				removeGroups(t, filepath.Base(dir))
			}
		}
	}
}

// removeGroups removes the control groups of a machine that has ended, and what nspawn leaves in /run.
func removeGroups(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll("/run/systemd/nspawn/propagate/" + name); err != nil {
		t.Error(err)
	}
	for _, g := range hierarchies {
		var found []string
		_ = filepath.WalkDir(filepath.Join(g, name), func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, p)
			}
			return nil
		})
		for i := len(found) - 1; i >= 0; i-- {
			soon(t, "the control group "+found[i]+" goes", 10*time.Second, func() error { return os.Remove(found[i]) })
		}
	}
}

// command runs a shell's line inside.
func (m *machine) command(ctx context.Context, line string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(m.leader), "-a", "--", "sh", "-c", line)
}

func (m *machine) try(line string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	out, err := m.command(ctx, line).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", m.name, line, err, out)
	}
	return string(out), err
}

// do runs a shell's line that has to succeed, and returns what it said.
func (m *machine) do(line string) string {
	m.t.Helper()
	out, err := m.try(line)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *machine) write(file, text string) {
	m.t.Helper()
	cmd := m.command(m.t.Context(), "cat >"+file)
	cmd.Stdin = strings.NewReader(text)
	run(m.t, cmd)
}

// wire joins two namespaces by cards named eth0.
func wire(t *testing.T) [2]netns.NS {
	t.Helper()
	a, b := netnstest.New(t, "a"), netnstest.New(t, "b")
	run(t, a.Command(t.Context(), "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.Name))
	for ns, addr := range map[netns.NS]string{a: "192.0.2.1", b: "192.0.2.2"} {
		run(t, ns.Command(t.Context(), "ip", "addr", "add", addr+"/24", "dev", "eth0"))
		for _, dev := range []string{"lo", "eth0"} {
			run(t, ns.Command(t.Context(), "ip", "link", "set", dev, "up"))
		}
		run(t, ns.Command(t.Context(), "ip", "route", "add", "default", "via", "192.0.2.254"))
	}
	return [2]netns.NS{a, b}
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// soon polls an external program until it is as wanted.
func soon(t *testing.T, what string, within time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-tick.C
	}
}
