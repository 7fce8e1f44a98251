package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

const (
	nodeNIC  = "192.0.2.4" // the card of transitd's node
	nodeHost = "10.60.0.1" // what is behind it, of the prefix that it originates
)

// farLink is the tunnel to far NVA number n, from 0: tr0, tr1, …
type farLink struct {
	n   int
	bgp string // further keys of tunnels[].bgp: ", ttl_security: true"
	bfd string // of tunnels[].bfd; empty: the defaults, 300 ms x 3
}

func (f farLink) name() string { return fmt.Sprintf("tr%d", f.n) }
func (f farLink) nic() string  { return fmt.Sprintf("192.0.2.%d", 10+f.n) }
func (f farLink) ours() string { return fmt.Sprintf("169.254.%d.1", 77+f.n) }
func (f farLink) peer() string { return fmt.Sprintf("169.254.%d.2", 77+f.n) }
func (f farLink) asn() int     { return 64513 + f.n }
func (f farLink) vni() int     { return 7700 + f.n }

// prefix is one of the 2,048 that the far NVA may announce, host an address of the first.
func (f farLink) prefix(i int) string { return fmt.Sprintf("10.%d.%d.0/24", 64+8*f.n+i/256, i%256) }
func (f farLink) host() string        { return fmt.Sprintf("10.%d.0.1", 64+8*f.n) }

// farRig is transitd in a namespace, and far NVAs in others, on one switch. The
// tunnels end in the kernel's vxlan device there.
type farRig struct {
	t       *testing.T
	sw, nva netns.NS
	far     []netns.NS
	links   []farLink
	dir     string
	daemon  *farProgram
	more    string // of transitd's configuration
}

// newPair makes everything but what speaks BGP at the far ends.
func newPair(t *testing.T, links ...farLink) *farRig {
	t.Helper()
	return newPairWith(t, "", links...)
}

// newPairWith is newPair with more in transitd's configuration.
func newPairWith(t *testing.T, more string, links ...farLink) *farRig {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Parallel() // each in its own namespaces, and most of the time is waiting
	p := &farRig{t: t, dir: t.TempDir(), links: links, more: more}
	p.sw, p.nva = netnstest.New(t, "sw"), netnstest.New(t, "nva")
	p.ip(p.sw, "link add br0 type bridge", "addr add 192.0.2.1/26 dev br0", "link set br0 up")
	p.plug(p.nva, "nva", nodeNIC)
	p.ip(p.nva, "route add default via 192.0.2.1", "addr add "+nodeHost+"/32 dev lo")
	for i, f := range links {
		if f.n != i {
			t.Fatalf("link %d has number %d", i, f.n)
		}
		ns := netnstest.New(t, "far")
		p.far = append(p.far, ns)
		p.plug(ns, fmt.Sprintf("far%d", i), f.nic())
		p.ip(ns,
			fmt.Sprintf("link add vx0 mtu 1400 type vxlan id %d local %s remote %s dstport 4789 nolearning dev eth0", f.vni(), f.nic(), nodeNIC),
			"addr add "+f.peer()+"/30 dev vx0", "link set vx0 up",
			"addr add "+f.host()+"/32 dev lo")
	}
	p.daemon = &farProgram{t: t, ns: p.nva, dir: p.dir, name: "transitd"}
	p.daemon.argv = []string{filepath.Join(binDir, "transitd"), "run", "-c", p.configure()}
	p.daemon.start()
	soon(t, "transitd answers", 10*time.Second, func() error { return p.ask(nil, "status") })
	return p
}

// plug connects a namespace's eth0 to the switch's port.
func (p *farRig) plug(ns netns.NS, port, addr string) {
	p.t.Helper()
	p.ip(p.sw, "link add "+port+" type veth peer name eth0 netns "+ns.Name, "link set "+port+" master br0 up")
	p.ip(ns, "addr add "+addr+"/26 dev eth0", "link set eth0 up")
	// A veth leaves checksums to nobody, also those inside a tunnel, which transitd then passes on as they are.
	if _, err := output(ns.Command(context.Background(), "ethtool", "-K", "eth0", "tx", "off")); err != nil {
		p.t.Fatal(err)
	}
}

func (p *farRig) ip(ns netns.NS, commands ...string) {
	p.t.Helper()
	for _, c := range commands {
		if _, err := output(ns.Command(context.Background(), "ip", strings.Fields(c)...)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// cut takes the cable of a far NVA's card out of the switch; nobody is told.
func (p *farRig) cut(n int, out bool) {
	p.t.Helper()
	p.ip(p.sw, fmt.Sprintf("link set far%d %s", n, map[bool]string{true: "nomaster", false: "master br0"}[out]))
}

// configure writes transitd's configuration and returns its file.
func (p *farRig) configure() string {
	p.t.Helper()
	var tunnels strings.Builder
	var names []string
	for _, f := range p.links {
		bfd := f.bfd
		if bfd == "" {
			bfd = "interval: 300ms, multiplier: 3"
		}
		fmt.Fprintf(&tunnels, `  - name: %s
    remote: %s
    address: %s/30
    peer_address: %s
    vxlan: {vni: %d}
    bgp: {asn: %d%s}
    bfd: {%s}
`, f.name(), f.nic(), f.ours(), f.peer(), f.vni(), f.asn(), f.bgp, bfd)
		names = append(names, f.name())
	}
	file := filepath.Join(p.dir, "transitd.yaml")
	writeFile(p.t, file, fmt.Sprintf(`node: {name: near, asn: 64512, site: near}
underlay: {interface: eth0}
tunnels:
%soriginate:
  - {prefix: 10.60.0.0/24, to: [%s]}
control: {socket: %s}
log: {format: console}
%s`, tunnels.String(), strings.Join(names, ", "), p.socket(), p.more))
	return file
}

func (p *farRig) socket() string { return filepath.Join(p.dir, "ctl.sock") }

// ask runs transitctl and decodes its answer into a value, unless that is nil.
// Exit status 1 says that something is down, and is no error here.
func (p *farRig) ask(into any, args ...string) error {
	out, err := output(exec.Command(filepath.Join(binDir, "transitctl"), append(args, "--socket", p.socket(), "-o", "json")...))
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1 || !json.Valid([]byte(out))) {
		return err
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal([]byte(out), into)
}

// bgpStatus and bfdStatus are parts of "transitctl status -o json".
type bgpStatus struct {
	Peer, Name, State   string
	Received, Announced int
	Malformed           int
	UptimeS             float64 `json:"uptime_s"`
	LastError           string  `json:"last_error"`
}

type bfdStatus struct {
	State string
	Flaps uint64
}

type nearStatus struct {
	Health  string
	Tunnels []struct {
		Name, State string
		BFD         *bfdStatus
	}
	BGP      []bgpStatus
	Refused  struct{ Control, BGP uint64 }
	Warnings []string
}

func (p *farRig) status() (s nearStatus) {
	p.t.Helper()
	if err := p.ask(&s, "status"); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// session is transitd's view of the session with a far NVA, and of its BFD.
func (p *farRig) session(n int) (bgpStatus, bfdStatus) {
	p.t.Helper()
	s := p.status()
	var bfd bfdStatus
	for _, t := range s.Tunnels {
		if t.Name == p.links[n].name() && t.BFD != nil {
			bfd = *t.BFD
		}
	}
	for _, b := range s.BGP {
		if b.Name == p.links[n].name() {
			return b, bfd
		}
	}
	p.t.Fatalf("no session of %s in %+v", p.links[n].name(), s)
	return bgpStatus{}, bfd
}

// routes returns table 7003 by prefix.
func (p *farRig) routes() map[string]string {
	p.t.Helper()
	// The table does not exist before its first route: that is an error of ip.
	out, _ := output(p.nva.Command(context.Background(), "ip", "route", "show", "table", "7003"))
	m := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 && f[0] != "unreachable" {
			m[f[0]] = line
		}
	}
	return m
}

// hasRoutes waits until the kernel has exactly these of the far NVA's prefixes, or none.
func (p *farRig) hasRoutes(n int, want bool, within time.Duration) time.Duration {
	p.t.Helper()
	return soon(p.t, fmt.Sprintf("routes through %s in the kernel: %t", p.links[n].name(), want), within, func() error {
		have := p.routes()
		for i := range 2 {
			line := have[p.links[n].prefix(i)]
			if (line != "") != want || want && !strings.Contains(line, " dev "+p.links[n].name()+" ") {
				return fmt.Errorf("table 7003 has %v", have)
			}
		}
		return nil
	})
}

// up waits for everything to be right with a far NVA as both ends see it.
func (p *farRig) up(n int, peer farPeer, within time.Duration) time.Duration {
	p.t.Helper()
	start := time.Now()
	soon(p.t, p.links[n].name()+" is up as transitd sees it", within, func() error {
		bgp, bfd := p.session(n)
		if bgp.State != "established" || bfd.State != "up" || bgp.Received < 2 || bgp.Announced == 0 {
			return fmt.Errorf("BGP %+v BFD %+v", bgp, bfd)
		}
		return nil
	})
	p.hasRoutes(n, true, 3*time.Second)
	soon(p.t, peer.kind()+" agrees", max(time.Second, within-time.Since(start)), func() error {
		v, err := peer.view()
		if err != nil {
			return err
		}
		if !v.established || !v.bfdUp || !slices.Contains(v.routes, "10.60.0.0/24") {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	// What it learned is in its kernel too, and packets get through.
	soon(p.t, "a packet there and back", 5*time.Second, func() error {
		_, err := output(p.nva.Command(context.Background(), "ping", "-n", "-q", "-c", "1", "-W", "1", "-I", nodeHost, p.links[n].host()))
		return err
	})
	return time.Since(start)
}

// dump prints what a person would ask first when a test failed.
func (p *farRig) dump(n int) {
	for _, ns := range []netns.NS{p.nva, p.far[n]} {
		for _, args := range []string{"-br addr", "rule", "route show table all type unicast", "neigh", "-s link"} {
			out, err := output(ns.Command(context.Background(), "ip", strings.Fields(args)...))
			p.t.Logf("%s# ip %s\n%s%v", ns.Name, args, out[:min(len(out), 6000)], err)
		}
	}
}

func soon(t testing.TB, what string, within time.Duration, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-tick.C
	}
}

func writeFile(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// farProgram is a process in a namespace. It lives as long as a pipe from this
// process is open, so an interrupted test leaves none behind.
type farProgram struct {
	t    *testing.T
	ns   netns.NS
	dir  string
	name string
	argv []string

	cmd  *exec.Cmd
	pipe io.Closer
	log  *os.File
	pid  int
}

func (d *farProgram) start() {
	d.t.Helper()
	if d.log == nil {
		var err error
		if d.log, err = os.Create(filepath.Join(d.dir, d.name+".log")); err != nil {
			d.t.Fatal(err)
		}
		d.t.Cleanup(func() {
			d.kill()
			_ = d.log.Close()
			if text, err := os.ReadFile(d.log.Name()); err == nil && d.t.Failed() {
				d.t.Logf("%s:\n%s", d.argv[0], text[max(0, len(text)-6000):])
			}
		})
	}
	guard := []string{"-c", `"$@" </dev/null >&2 & pid=$!; echo $pid; read -r line; kill -9 $pid; wait`, "sh"}
	d.cmd = d.ns.Command(context.Background(), "sh", append(guard, d.argv...)...)
	d.cmd.Stderr = d.log
	stdin, err := d.cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.pipe = stdin
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		d.t.Fatal(err)
	}
	if d.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		d.t.Fatal(err)
	}
}

// kill is kill -9.
func (d *farProgram) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.pipe.Close()
	_ = d.cmd.Wait()
	d.cmd = nil
}

// alive reports whether the process is the one that was started.
func (d *farProgram) alive() error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.pid))
	if err != nil || !strings.HasPrefix(string(b), d.argv[0]+"\x00") {
		return fmt.Errorf("%s, process %d, is gone: %q %w", d.name, d.pid, b, err)
	}
	return nil
}

// farOptions are what a test wants of the far NVA.
type farOptions struct {
	passive, graceful, gtsm bool
	password                string
	prefixes                int      // announced; 0: two
	these                   []string // announced in place of the link's own
}

// farView is what the far NVA says of its session with us.
type farView struct {
	established, bfdUp bool
	routes             []string // it has from us
}

// farPeer is another implementation.
type farPeer interface {
	kind() string
	start()
	kill() // without a word
	view() (farView, error)
	shutdown(down bool) // the operator's, of the BGP session
	restart()           // gracefully
	ended() string      // why its session ended last
	count(n int)        // announces that many prefixes from now on
}

// withPeers runs a test with each implementation.
func withPeers(t *testing.T, f func(t *testing.T, make func(*farRig, int, farOptions) farPeer)) {
	netnstest.RequireRoot(t)
	t.Run("bird", func(t *testing.T) { f(t, newBIRD) })
	t.Run("frr", func(t *testing.T) { f(t, newFRR) })
}

func (o farOptions) nets(f farLink) (list []string) {
	if len(o.these) > 0 {
		return o.these
	}
	for i := range max(2, o.prefixes) {
		list = append(list, f.prefix(i))
	}
	return list
}
