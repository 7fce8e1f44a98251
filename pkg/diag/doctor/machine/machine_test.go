package machine

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/diag/doctor"
)

func TestParseSockets(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:00B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41 1 0
   1: 0402000A:00B3 0102000A:C000 01 00000000:00000000 00:00000000 00000000     0        0 42 1 0
   2: B80D0120000000000000000004000000:12B5 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 43 1
   3: 0000000000000000FFFF00000402000A:12B5 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 44 1
   4: nonsense:00B3 00000000:0000 0A 0 0 0 0 0 45 1
   5: 01007F:00B3 00000000:0000 0A 0 0 0 0 0 46 1
   6: 0100007F 00000000:0000 0A 0 0 0 0 0 47 1
   7: cut
`
	addrs := cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })
	want := map[string]netip.AddrPort{
		"41": netip.MustParseAddrPort("127.0.0.1:179"), "43": netip.MustParseAddrPort("[2001:db8::4]:4789"), "44": netip.MustParseAddrPort("10.0.2.4:4789"),
	}
	if d := cmp.Diff(want, parseSockets(table, listening), addrs); d != "" {
		t.Error(d)
	}
	want["42"] = netip.MustParseAddrPort("10.0.2.4:179")
	if d := cmp.Diff(want, parseSockets(table, ""), addrs); d != "" {
		t.Error(d)
	}
}

// A configuration is found by the command line of a process that really runs.
func TestConfigOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for args, want := range map[string]string{
		"run -c /etc/transitd/hub.yaml":         "/etc/transitd/hub.yaml",
		"run -c hub.yaml":                       filepath.Join(dir, "hub.yaml"),
		"run --config=/x.yaml --keylog /tmp":    "/x.yaml",
		"run --keylog=/tmp --config conf/x.yml": filepath.Join(dir, "conf/x.yml"),
		"run -c/x.yaml":                         "/x.yaml",
		"run":                                   "",
	} {
		// The shell says that it runs by then, and waits for its input to end.
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-s", "--"}, strings.Fields(args)...)...)
		cmd.Dir = dir
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(in, "echo up")
		if _, err := out.Read(make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		got, err := ConfigOf(cmd.Process.Pid)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", args, got, err, want)
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if _, err := ConfigOf(1 << 30); err == nil {
		t.Error("a process that is not there has a configuration")
	}
}

// TestNetworkdOrder: a drop-in of /etc hides one of the same name in /usr, and the last by name wins.
func TestNetworkdOrder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("[Network]\n"+text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func() map[string]string {
		r := &reader{q: Query{Root: root}}
		r.networkd()
		if len(r.h.Unread) > 0 {
			t.Fatalf("%+v", r.h.Unread)
		}
		return r.h.Networkd.Deletes
	}
	const key, next = "ManageForeignRoutes", "ManageForeignNextHops"
	put("usr/lib/systemd/networkd.conf", key+"=no") // not read: /etc has one
	put("etc/systemd/networkd.conf", next+"=no")
	put("usr/lib/systemd/networkd.conf.d/50-x.conf", key+"=no")
	if d := cmp.Diff(map[string]string{"ManageForeignRoutingPolicyRules": ""}, read()); d != "" {
		t.Error(d)
	}
	put("etc/systemd/networkd.conf.d/50-x.conf", key+"=yes")
	put("run/systemd/networkd.conf.d/60-y.conf", "ManageForeignRoutingPolicyRules=no")
	if d := cmp.Diff(map[string]string{key: "/etc/systemd/networkd.conf.d/50-x.conf"}, read()); d != "" {
		t.Error(d)
	}
	if _, err := Apply(root, []doctor.Fix{{}}); err != nil {
		t.Error(err)
	}
	if read()[key] == "" {
		t.Error("a drop-in that comes after ours does not win")
	}
}

// What cannot be set is told, and the rest is done.
func TestApplyGoesOn(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	did, err := Apply(root, []doctor.Fix{{Key: "net/ipv4/no_such_thing", Value: "1", Volatile: true}, {}})
	if err == nil || len(did) != 1 {
		t.Errorf("did %q, %v", did, err)
	}
	if _, err := os.Stat(filepath.Join(root, doctor.SysctlFile)); err == nil {
		t.Error("a setting for now only is kept for the next boot")
	}
}
