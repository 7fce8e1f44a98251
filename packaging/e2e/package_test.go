package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// TestNetnsPackages builds two versions, and looks at what each kind of package does.
func TestNetnsPackages(t *testing.T) {
	netnstest.RequireRoot(t)
	dir := t.TempDir()
	for _, version := range []string{"0.0.1", "0.0.2"} {
		cmd := exec.CommandContext(t.Context(), "../build", runtime.GOARCH)
		cmd.Env = append(os.Environ(), "VERSION="+version, "DIST="+dir, "PACKAGES=transitd", "GOFLAGS=")
		run(t, cmd)
	}
	debian(t) // the root, before two want it at once
	for name, f := range map[string]func(*testing.T, string){"deb": life, "rpm": rpm} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, dir)
		})
	}
}

func file(version, format string) string {
	return fmt.Sprintf("transitd_%s_%s.%s", version, runtime.GOARCH, format)
}

// everything lists what is on a machine and may change by a package, by kind.
func (m *machine) everything() map[string]string {
	m.t.Helper()
	return map[string]string{
		// Left out: what dpkg and passwd(5)'s tools note about every package and user.
		"files": m.do(`find / -xdev \( -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /var/backups -o -path /packages -o -path /root \) -prune -o -print |
			grep -vE '^/etc/(passwd-|shadow-|group-|gshadow-|\.pwd\.lock|\.updated|\.#.*)$|^/var/(tmp|\.updated)|^/tmp' | sort`),
		"run":   m.do("ls -A /run | grep -v '^log$'; ls -A /etc/systemd/system /etc/systemd/system/*.wants"),
		"users": m.do("cat /etc/passwd /etc/group"),
		// Left out: what the kernel adds for a card some time after it is up.
		"net": m.do(`ip -o link | cut -d' ' -f2; ip rule; ip -6 rule; cat /proc/sys/net/ipv4/ip_forward
			ip -4 route show table all; ip -6 route show table all | grep -vE '^(fe80|local fe80|multicast ff00).* dev eth0'`),
		"units": m.do("systemctl list-units --all --plain --no-legend 'transitd*'"),
	}
}

const configuration = `# yaml-language-server: $schema=/usr/share/doc/transitd/schema.json
node: {name: %[1]s, asn: %[2]d, site: %[1]s}
underlay: {interface: eth0}
tunnels:
  - {name: vx0, remote: %[3]s, address: 169.254.77.%[4]d/30, peer_address: 169.254.77.%[5]d, vxlan: {vni: 7700}, bgp: {asn: %[6]d}}
  - name: wg0
    remote: %[3]s
    address: 169.254.78.%[4]d/30
    peer_address: 169.254.78.%[5]d
    encapsulation: wireguard
    wireguard: {private_key_file: /etc/transitd/wg0.key, peer_public_key: %[7]s}
    bgp: {asn: %[6]d}
originate:
  - {prefix: 198.51.100.%[8]d/25, to: [vx0]}
`

// life is a package's life on two machines: installed where nothing
// of ours is, started under its unit's restrictions, carrying traffic, upgraded
// under traffic, refused, removed, purged.
func life(t *testing.T, dir string) {
	t.Helper()
	ns := wire(t)
	a, b := newMachine(t, "a", ns[0], dir), newMachine(t, "b", ns[1], dir)
	clean := a.everything()
	for _, m := range []*machine{a, b} {
		if said := m.do("dpkg -i /packages/" + file("0.0.1", "deb")); !strings.Contains(said, "systemctl enable --now transitd@NODE") {
			t.Errorf("the installation does not say what comes next: %s", said)
		}
	}
	startBoth(t, a, b)
	checkRestrictions(t, a)
	carries(t, a)
	upgrade(t, a)
	refused(t, a)
	removed(t, a, clean)
}

func startBoth(t *testing.T, a, b *machine) {
	t.Helper()
	keyA, keyB := strings.TrimSpace(a.do("transitctl keygen /etc/transitd/wg0.key")), strings.TrimSpace(b.do("transitctl keygen /etc/transitd/wg0.key"))
	if got := a.do("stat -c '%a %U:%G' /etc/transitd /etc/transitd/wg0.key"); got != "2750 root:transitd\n640 root:transitd\n" {
		t.Errorf("the folder and a key are %q", got)
	}
	a.write("/etc/transitd/a.yaml", fmt.Sprintf(configuration, "a", 64512, "192.0.2.2", 1, 2, 64513, keyB, 0))
	b.write("/etc/transitd/b.yaml", fmt.Sprintf(configuration, "b", 64513, "192.0.2.1", 2, 1, 64512, keyA, 128))
	for _, m := range []*machine{a, b} {
		if said := m.do("systemd-analyze verify transitd@" + m.name + ".service 2>&1"); said != "" {
			t.Errorf("the unit: %s", said)
		}
		if _, err := m.try("systemctl enable --now transitd@" + m.name); err != nil {
			t.Fatalf("%v\n%s", err, m.do("journalctl --no-pager -u 'transitd@*'"))
		}
	}
}

// pid is the daemon's process, as seen inside.
func (m *machine) pid() string {
	m.t.Helper()
	return strings.TrimSpace(m.do("systemctl show -p MainPID --value transitd@" + m.name))
}

// checkRestrictions looks at the process that runs, not at the unit that asks for it.
func checkRestrictions(t *testing.T, m *machine) {
	t.Helper()
	pid := m.pid()
	user := strings.TrimSpace(m.do("id -u transitd"))
	// NET_BIND_SERVICE is bit 10, NET_ADMIN 12, NET_RAW 13 (capabilities(7)).
	const three, none = "0000000000003400", "0000000000000000"
	want := map[string]string{"Uid": user, "CapEff": three, "CapPrm": three, "CapBnd": three, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"}
	got := map[string]string{}
	for line := range strings.Lines(m.do("cat /proc/" + pid + "/status")) {
		f := strings.Fields(line)
		if key := strings.TrimSuffix(f[0], ":"); want[key] != "" {
			got[key] = f[1]
		}
	}
	if d := cmp.Diff(want, got); d != "" || user == "0" {
		t.Errorf("the process of user %s (-want +got):\n%s", user, d)
	}
	inside := "nsenter -t " + pid + " -m -- "
	if out, err := m.try(inside + "touch /usr/written /etc/transitd/written"); err == nil || strings.Count(out, "Read-only file system") != 2 {
		t.Errorf("it can write: %s, %v", out, err)
	}
	if out := m.do(inside + "ls -A /home /root"); out != "/home:\n\n/root:\n" {
		t.Errorf("it sees %q", out)
	}
	if said := m.do("journalctl --no-pager -o cat -p warning -u transitd@" + m.name); strings.Contains(said, "ermi") || strings.Contains(said, "denied") {
		t.Errorf("it was refused something: %s", said)
	}
	if said := m.do("setpriv --reuid=nobody --regid=nogroup --groups=transitd transitctl status --socket /run/transitd/" + m.name + ".sock -o json || true"); !json.Valid([]byte(said)) {
		t.Errorf("who is in the group transitd cannot ask: %s", said)
	}
	if said, err := m.try("setpriv --reuid=nobody --regid=nogroup --clear-groups transitctl status --socket /run/transitd/" + m.name + ".sock"); err == nil || !strings.Contains(said, "permission denied") {
		t.Errorf("who is not in it can: %s, %v", said, err)
	}
}

type status struct {
	Health  string
	Node    struct{ Version string }
	Tunnels []struct {
		Name, State string
		RxPackets   uint64 `json:"rx_packets"`
	}
	BGP    []struct{ State string }
	Routes struct{ Remote int }
}

func (m *machine) status() (s status, err error) {
	out, err := m.try("transitctl status --socket /run/transitd/" + m.name + ".sock -o json 2>/dev/null || true")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// up waits until both tunnels and their sessions are, and the route of the other side is there.
func (m *machine) up() status {
	m.t.Helper()
	var s status
	soon(m.t, "tunnels and sessions are up", 30*time.Second, func() (err error) {
		if s, err = m.status(); err != nil {
			return err
		}
		if s.Health != "ok" || len(s.Tunnels) != 2 || len(s.BGP) != 2 || s.Routes.Remote != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	return s
}

func carries(t *testing.T, m *machine) {
	t.Helper()
	before := m.up()
	for _, to := range []string{"169.254.77.2", "169.254.78.2"} {
		if out := m.do("ping -q -i 0.02 -c 50 -W 1 " + to); !strings.Contains(out, "50 received") {
			t.Errorf("through a tunnel: %s", out)
		}
	}
	after, err := m.status()
	if err != nil {
		t.Fatal(err)
	}
	for i, tunnel := range after.Tunnels {
		if tunnel.State != "up" || tunnel.RxPackets < before.Tunnels[i].RxPackets+50 {
			t.Errorf("%s is %s and received %d packets after %d", tunnel.Name, tunnel.State, tunnel.RxPackets, before.Tunnels[i].RxPackets)
		}
	}
}

var received = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// upgrade installs the next version while packets go through both tunnels.
func upgrade(t *testing.T, m *machine) {
	t.Helper()
	pid, conf := m.pid(), m.do("cat /etc/transitd/a.yaml")
	var pings []*exec.Cmd
	var said [2]strings.Builder
	for i, to := range []string{"169.254.77.2", "169.254.78.2"} {
		cmd := m.command(t.Context(), fmt.Sprintf("echo $$ >/tmp/ping%d; exec ping -q -i 0.01 %s", i, to))
		cmd.Stdout = &said[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pings = append(pings, cmd)
	}
	upgraded := m.do("dpkg -i /packages/" + file("0.0.2", "deb"))
	for i, cmd := range pings {
		m.do(fmt.Sprintf("kill -INT $(cat /tmp/ping%d)", i)) // nsenter would keep the signal to itself
		_ = cmd.Wait()                                       // 1 if something was lost
		f := received.FindStringSubmatch(said[i].String())
		if f == nil {
			t.Fatalf("ping said %q", said[i].String())
		}
		sent, _ := strconv.Atoi(f[1])
		back, _ := strconv.Atoi(f[2])
		if sent < 20 || back < sent-1 { // the last may be on its way
			t.Errorf("tunnel %d: %d of %d packets came back during the upgrade", i, back, sent)
		}
	}
	if got := m.pid(); got != pid {
		t.Errorf("the upgrade restarted the daemon: process %s after %s", got, pid)
	}
	if !strings.Contains(upgraded, "a goes on with the version before") || !strings.Contains(upgraded, "systemctl restart transitd@a.service") {
		t.Errorf("the upgrade does not say what comes next: %s", upgraded)
	}
	if s := m.up(); s.Node.Version != "0.0.1" {
		t.Errorf("version %s runs", s.Node.Version)
	}
	m.do("systemctl restart transitd@a")
	if s := m.up(); s.Node.Version != "0.0.2" {
		t.Errorf("after the restart version %s runs", s.Node.Version)
	}
	if got := m.do("cat /etc/transitd/a.yaml"); got != conf {
		t.Errorf("the configuration has become %s", got)
	}
}

// refused installs a version that does not take the configuration: the running daemon must not be touched.
func refused(t *testing.T, m *machine) {
	t.Helper()
	pid := m.pid()
	m.do("cp /etc/transitd/a.yaml /root/a.yaml; echo 'no_such_key: 1' >>/etc/transitd/a.yaml")
	said := m.do("dpkg -i /packages/" + file("0.0.2", "deb"))
	if !strings.Contains(said, "WARNING: do not restart transitd@a.service") || !strings.Contains(said, "no_such_key") {
		t.Errorf("the upgrade does not warn: %s", said)
	}
	if got := m.pid(); got != pid {
		t.Errorf("the daemon was restarted: process %s after %s", got, pid)
	}
	m.up()
	m.do("cp /root/a.yaml /etc/transitd/a.yaml; systemctl reload transitd@a")
	m.up()
}

func removed(t *testing.T, m *machine, clean map[string]string) {
	t.Helper()
	m.do("dpkg -r transitd")
	left := m.everything()
	for _, kind := range []string{"run", "net", "units"} {
		if d := cmp.Diff(clean[kind], left[kind]); d != "" {
			t.Errorf("removed, it leaves in %s (-before +after):\n%s", kind, d)
		}
	}
	if said := m.do("dpkg -P transitd"); !strings.Contains(said, "/etc/transitd is not empty") {
		t.Errorf("the purge does not say that keys are left: %s", said)
	}
	if got := m.do("ls /etc/transitd"); got != "a.yaml\nwg0.key\n" {
		t.Errorf("the purge left %q of the configuration and the key", got)
	}
	m.do("dpkg -i /packages/" + file("0.0.2", "deb") + " && rm /etc/transitd/* && dpkg -P transitd")
	if d := cmp.Diff(clean, m.everything()); d != "" {
		t.Errorf("purged, it leaves (-before +after):\n%s", d)
	}
}

// rpm runs the scripts of the other kind of package, in a Debian root as rpm itself sees it: no such system boots here.
func rpm(t *testing.T, dir string) {
	t.Helper()
	first, second := filepath.Join(dir, file("0.0.1", "rpm")), filepath.Join(dir, file("0.0.2", "rpm"))
	listed := run(t, exec.Command("rpm", "-qlp", first))
	for _, want := range []string{
		"/usr/bin/transitd", "/usr/bin/transitctl", "/usr/lib/systemd/system/transitd@.service", "/usr/lib/sysusers.d/transitd.conf",
		"/usr/lib/tmpfiles.d/transitd.conf", "/usr/share/zsh/site-functions/_transitctl", "/usr/share/doc/transitd/examples/hub-nva.yaml",
	} {
		if !strings.Contains(listed, want+"\n") {
			t.Errorf("no %s in\n%s", want, listed)
		}
	}
	if strings.Contains(listed, "/etc/") {
		t.Errorf("it has files of Debian's: %s", listed)
	}
	// The rest in a mount namespace that takes the root away with it.
	const script = overlay + `
r="$1/root"
mount -t proc proc "$r/proc"
rpm --root "$r" --initdb 2>/dev/null
# Debian's rpm begins with two lines that warn of itself.
try() { rpm --root "$r" --nodeps "$@" 2>&1 | grep -vE '^rpm: (RPM should|However)|^Creating (user|group)' || true; }
try -i "$3"
chroot "$r" id -un transitd
chroot "$r" stat -c '%a %G' /etc/transitd
echo 'node: {}' >"$r/etc/transitd/x.yaml"
try -U "$4"
"$r/usr/bin/transitd" version | cut -d' ' -f1,2
try -e transitd
ls "$r/etc/transitd"
chroot "$r" id -un transitd
try -i "$3"
rm "$r/etc/transitd/x.yaml"
try -e transitd
[ ! -e "$r/etc/transitd" ] && [ ! -e "$r/usr/bin/transitd" ] && ! chroot "$r" id transitd 2>/dev/null
`
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", t.TempDir(), debian(t), first, second)
	got := run(t, cmd)
	want := "transitd\n2750 transitd\ntransitd 0.0.2\ntransitd: /etc/transitd is not empty and stays, with the user transitd: rm -r /etc/transitd; userdel transitd\nx.yaml\ntransitd\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("rpm's run (-want +got):\n%s", d)
	}
}
