package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/transitd/transitd/pkg/diag/doctor"
	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// ward is a machine in a network namespace with the card eth0, and a root folder of its own.
type ward struct {
	t    *testing.T
	ns   netns.NS
	root string
	conf string
}

const wardConfig = `node: {name: ward, asn: 64512, site: hub}
underlay: {interface: eth0}
tunnels:
  - name: tr0
    remote: 10.1.2.4
    address: 169.254.77.1/30
    peer_address: 169.254.77.2
    vxlan: {vni: 7700}
    bgp: {asn: 64513}
`

func newWard(t *testing.T) *ward {
	w := &ward{t: t, ns: netnstest.New(t, "ward"), root: t.TempDir()}
	w.conf = filepath.Join(w.root, "ward.yaml")
	if err := os.WriteFile(w.conf, []byte(wardConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	w.sh("ip link add eth0 type veth peer name far0; ip link set eth0 up; ip link set far0 up; ip addr add 192.0.2.4/26 dev eth0; ip route add default via 192.0.2.1")
	return w
}

// sh runs a line of the shell in the namespace, with the machine's own /sys.
func (w *ward) sh(line string) {
	w.t.Helper()
	if out, err := w.ns.Command(w.t.Context(), "sh", "-ec", line).CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// doctor runs the command in the namespace.
func (w *ward) doctor(args ...string) (out string, code int) {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr, env: func(string) string { return "" }, socketDir: w.root, root: w.root}
	err := w.ns.Do(func() error {
		code = a.run(context.Background(), append([]string{"doctor"}, args...))
		return nil
	})
	if err != nil || stderr.Len() > 0 {
		w.t.Fatalf("doctor %v: %v, %s", args, err, stderr.String())
	}
	return stdout.String(), code
}

// findings are what is wrong, but for what depends on where the test runs.
func (w *ward) findings(args ...string) (r doctor.Report, list []doctor.Finding) {
	w.t.Helper()
	out, code := w.doctor(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.SchemaVersion != 1 {
		w.t.Fatalf("%v: %s", err, out)
	}
	if want := map[bool]int{true: exitOK, false: exitDegraded}[r.OK]; code != want {
		w.t.Errorf("exit %d, ok is %v", code, r.OK)
	}
	machine := []doctor.ID{doctor.ClockFree, doctor.KernelOld, doctor.SegmentationBroken}
	for _, f := range r.Findings {
		if f.Severity != doctor.SeverityOK && !slices.Contains(machine, f.ID) {
			list = append(list, f)
		}
	}
	return r, list
}

// TestNetnsDoctor breaks a real machine in one way after the other. The finding
// is named, --fix or the command that is given mends it, and then nothing is left.
func TestNetnsDoctor(t *testing.T) {
	sh := func(line string) func(*ward) { return func(w *ward) { w.sh(line) } }
	cases := map[string]struct {
		do   func(*ward)
		want []doctor.ID
		fix  bool // by --fix
		run  bool // by the command
	}{
		"forwarding off":     {sh("sysctl -qw net.ipv4.ip_forward=0"), []doctor.ID{doctor.ForwardingOff}, true, true},
		"strict filter":      {sh("sysctl -qw net.ipv4.conf.eth0.rp_filter=1"), []doctor.ID{doctor.ReversePathStrict}, true, true},
		"redirects":          {sh("sysctl -qw net.ipv4.conf.all.send_redirects=1"), []doctor.ID{doctor.RedirectsSent}, true, true},
		"redirects accepted": {sh("sysctl -qw net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.eth0.accept_redirects=1"), []doctor.ID{doctor.RedirectsAccepted}, true, true},
		"port 65330":         {sh("sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.ipv4.ip_local_reserved_ports=8080"), []doctor.ID{doctor.ReservedPort}, true, true},
		"networkd": {func(w *ward) {
			dir := filepath.Join(w.root, "etc/systemd/system/multi-user.target.wants")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/lib/systemd/system/systemd-networkd.service", filepath.Join(dir, "systemd-networkd.service")); err != nil {
				t.Fatal(err)
			}
		}, []doctor.ID{doctor.NetworkdDeletes}, true, false},
		"input drops": {
			sh("nft 'add table inet f; add chain inet f in { type filter hook input priority 0; policy drop; }; add rule inet f in ct state established accept'"),
			[]doctor.ID{doctor.FirewallBFD, doctor.FirewallTunnel, doctor.FirewallBGP},
			false, true,
		},
		"input drops, by iptables": {
			sh("iptables-nft -P INPUT DROP; iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"),
			[]doctor.ID{doctor.FirewallBFD, doctor.FirewallTunnel, doctor.FirewallBGP},
			false, true,
		},
		"output drops":             {sh("nft 'add table inet f; add chain inet f out { type filter hook output priority 0; }; add rule inet f out udp dport 4789 drop'"), []doctor.ID{doctor.FirewallTunnel}, false, true},
		"forward drops":            {sh("iptables-nft -P FORWARD DROP"), []doctor.ID{doctor.FirewallForward, doctor.FirewallForward}, false, true},
		"a dead daemon's routes":   {sh("ip route add 10.9.0.0/16 via 192.0.2.1 table 7002 proto 210; ip rule add pref 7040 table 7002 proto 210; ip -6 rule add pref 7041 table 7002 proto 210"), []doctor.ID{doctor.Leftover}, false, true},
		"VXLAN of the kernel":      {sh("ip link add vx0 type vxlan id 1 dstport 4789 dev eth0; ip link set vx0 up"), []doctor.ID{doctor.PortTaken}, false, false},
		"small card":               {sh("ip link set eth0 mtu 1400"), []doctor.ID{doctor.MTUTooSmall}, false, true},
		"small path":               {sh("ip route add 10.1.2.4 via 192.0.2.1 mtu 1400"), []doctor.ID{doctor.PathMTU}, false, false},
		"card down":                {sh("ip link set eth0 down"), []doctor.ID{doctor.CardMissing}, false, true},
		"no card":                  {sh("ip link set eth0 name eth7"), []doctor.ID{doctor.CardMissing}, false, false},
		"tunnel's name is taken":   {sh("ip link add tr0 type veth peer name tr0far"), []doctor.ID{doctor.TunnelName}, false, true},
		"another speaker of BGP":   {listen179, []doctor.ID{doctor.PortTaken}, false, false},
		"nothing that matters":     {sh("ip route add 10.9.0.0/16 via 192.0.2.1; nft add table inet empty"), nil, false, false},
		"two at once, one by hand": {sh("sysctl -qw net.ipv4.ip_forward=0; ip link set eth0 mtu 1400"), []doctor.ID{doctor.MTUTooSmall, doctor.ForwardingOff}, false, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWard(t)
			if _, left := w.findings("-c", w.conf, "--fix"); len(left) > 0 {
				t.Fatalf("a new machine is not well after --fix: %+v", left)
			}
			c.do(w)
			_, got := w.findings("-c", w.conf)
			ids := []doctor.ID{}
			for _, f := range got {
				ids = append(ids, f.ID)
			}
			if !slices.Equal(ids, c.want) && len(ids)+len(c.want) > 0 {
				t.Fatalf("found %+v, want %v", got, c.want)
			}
			switch {
			case c.fix:
				r, left := w.findings("-c", w.conf, "--fix")
				if len(r.Fixed) == 0 || len(left) > 0 {
					t.Errorf("--fix did %q and left %+v", r.Fixed, left)
				}
			case !c.run:
				if r, left := w.findings("-c", w.conf, "--fix"); len(r.Fixed) > 0 || len(left) != len(got) {
					t.Errorf("--fix did %q and left %+v", r.Fixed, left)
				}
			}
			if c.run {
				if c.fix {
					c.do(w) // again, for the command
				}
				for _, f := range got {
					w.sh(f.Mend)
				}
			}
			if c.run || c.fix {
				if _, left := w.findings("-c", w.conf); len(left) > 0 {
					t.Errorf("the second look finds %+v", left)
				}
			}
		})
	}
}

// listen179 takes BGP's port.
func listen179(w *ward) {
	err := w.ns.Do(func() error {
		l, err := net.Listen("tcp", "0.0.0.0:179")
		if err == nil {
			w.t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestNetnsDoctorFixes looks at what --fix writes, and that a file of somebody else is kept.
func TestNetnsDoctorFixes(t *testing.T) {
	w := newWard(t)
	dir := filepath.Join(w.root, "etc/sysctl.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.root, doctor.SysctlFile)
	if err := os.WriteFile(file, []byte("net.core.somaxconn = 5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.sh("sysctl -qw net.ipv4.ip_forward=0")
	out, _ := w.doctor("-c", w.conf, "--fix")
	for _, want := range []string{"fixed: set net/ipv4/ip_forward to 1 (it was 0)\n", "fixed: wrote " + doctor.SysctlFile, "ward: "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"net.core.somaxconn = 5\n", "net/ipv4/ip_forward = 1\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
	// The next boot: sysctl understands the file.
	w.sh("sysctl -qw net.ipv4.ip_forward=0; sed /somaxconn/d " + file + " | sysctl -qp - ; test $(cat /proc/sys/net/ipv4/ip_forward) = 1")
	left, err := filepath.Glob(filepath.Join(dir, ".transitd-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestNetnsDoctorAlone: without a daemon and a configuration it says so, and still names what every node needs.
func TestNetnsDoctorAlone(t *testing.T) {
	w := newWard(t)
	w.sh("sysctl -qw net.ipv4.ip_forward=0; nft 'add table inet f; add chain inet f through { type filter hook forward priority 0; policy drop; }'")
	out, code := w.doctor()
	for _, want := range []string{
		"warning: net.ipv4.ip_forward: net.ipv4.ip_forward is 0", "error: forwarded packets: packets that are not of a known flow are dropped by policy drop of chain inet f through",
		"  the daemon: none runs\n", "only what holds for every node was checked\n", "checks that hold for every node; no daemon answers\n", "mended by: transitctl doctor --fix\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code != exitDegraded {
		t.Errorf("exit %d", code)
	}
}

// TestDoctorOfAHungDaemon: what does not answer is told, and the rest is looked at all the same.
func TestDoctorOfAHungDaemon(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := runApp(t, "", "doctor", "--socket", answer(t, ""), "--timeout", "200ms")
	if code > exitDegraded || !strings.Contains(stdout, "no answer within 200ms") || !strings.Contains(stdout, "no daemon answers\n") || stderr != "" {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
}
