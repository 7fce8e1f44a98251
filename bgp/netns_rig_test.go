package bgp

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// insideEnv is set in the copy of the test binary that runs in the NVA's namespace.
const insideEnv = "TRANSITD_BGP_TEST_INSIDE"

// inside runs the calling test in a namespace of its own, by running this
// binary there: a Speaker's sockets are opened by goroutines of GoBGP, which
// cannot be moved into a namespace one by one. It is true in that copy; in the
// first process the test has passed or failed when it returns.
func inside(t *testing.T) bool {
	t.Helper()
	netnstest.RequireRoot(t)
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	ns := netnstest.New(t, "nva")
	cmd := ns.Command(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=90s")
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in namespace %s: %v\n%s", ns.Name, err, out)
	}
	t.Logf("in namespace %s:\n%s", ns.Name, out)
	return false
}

// The addresses of the rig.
var (
	nic      = netip.MustParseAddr("192.0.2.10")   // the NVA's NIC, in its VNet 192.0.2.0/24
	ars0     = netip.MustParseAddr("192.0.2.4")    // Route Server instances
	ars1     = netip.MustParseAddr("192.0.2.5")    //
	overlay  = netip.MustParseAddr("198.51.100.1") // the NVA's end of the tunnel
	farNVA   = netip.MustParseAddr("198.51.100.2") // and the other
	overlay2 = netip.MustParseAddr("203.0.113.1")  // of a second tunnel
	farNVA2  = netip.MustParseAddr("203.0.113.2")
	overlay6 = netip.MustParseAddr("2001:db8:77::1")
	farNVA6  = netip.MustParseAddr("2001:db8:77::2")
)

const (
	ourASN = 64512
	farASN = 64513
	arsASN = 65515
)

// rig is the NVA's surroundings: a namespace with both instances of a Route
// Server, one with the far NVA.
type rig struct {
	t        *testing.T
	ars, far netns.NS
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, ars: netnstest.New(t, "ars"), far: netnstest.New(t, "far")}
	r.connect("nic0", nic, 24, r.ars, "eth0", ars0, ars1, netip.MustParseAddr("192.0.2.99"))
	r.connect("tr0", overlay, 30, r.far, "eth0", farNVA)
	r.ip("addr", "add", overlay6.String()+"/64", "dev", "tr0", "nodad")
	r.ip("-n", r.far.Name, "addr", "add", farNVA6.String()+"/64", "dev", "eth0", "nodad")
	return r
}

// connect makes a veth between this namespace and another.
func (r *rig) connect(dev string, addr netip.Addr, bits int, other netns.NS, peerDev string, peers ...netip.Addr) {
	r.t.Helper()
	r.ip("link", "add", dev, "type", "veth", "peer", "name", peerDev, "netns", other.Name)
	r.ip("addr", "add", fmt.Sprintf("%s/%d", addr, bits), "dev", dev)
	r.ip("link", "set", dev, "up")
	for _, p := range peers {
		r.ip("-n", other.Name, "addr", "add", fmt.Sprintf("%s/%d", p, bits), "dev", peerDev)
	}
	r.ip("-n", other.Name, "link", "set", peerDev, "up")
}

func (r *rig) ip(args ...string) {
	r.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		r.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// config is the NVA's, for both neighbors of the rig.
func (r *rig) config() Config {
	return Config{
		ASN: ourASN, RouterID: nic, Site: "hub", LocalAddr: nic,
		Neighbors: []Neighbor{
			{Name: "hub-ars", Role: policy.RouteServer, Addrs: []netip.Addr{ars0, ars1}, ASN: arsASN},
			{Name: "tr0", Role: policy.Tunnel, Addrs: []netip.Addr{farNVA}, ASN: farASN, LocalAddr: overlay, Interface: "tr0"},
		},
		Protected: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/30")},
	}
}

// speak runs a Speaker until the test ends.
func (r *rig) speak(c Config) *running {
	r.t.Helper()
	run := &running{t: r.t}
	log := zaptest.NewLogger(r.t, zaptest.Level(zap.InfoLevel))
	s, err := New(c, Options{Log: log, OnRoutes: run.onRoutes})
	if err != nil {
		r.t.Fatal(err)
	}
	run.Speaker = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			r.t.Error("Run did not end")
		}
		noGoroutines(r.t)
	})
	return run
}

// running is a Speaker under test.
type running struct {
	*Speaker
	t *testing.T

	mu    sync.Mutex
	bests []Best
}

func (r *running) onRoutes(b []Best) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bests = b
}

// noGoroutines fails if something of ours or of GoBGP still runs after Run
// has ended. GoBGP ends its watchers a moment later, on their own. It leaves
// the buffer of a session's outgoing messages behind, about one of six times
// that a session is lost: cleanInfiniteChannel (pkg/server/util.go) closes it
// and gives up at once if what is in it is not offered that very moment.
func noGoroutines(t *testing.T) {
	t.Helper()
	eventually(t, 3*time.Second, func() error {
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "osrg/gobgp") || strings.Contains(stack, "(*Speaker).Run") {
				return fmt.Errorf("still running:\n%s", stack)
			}
		}
		return nil
	})
}

// best returns what OnRoutes got last: prefix to role and neighbor.
func (r *running) best() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := map[string]string{}
	for _, b := range r.bests {
		m[b.Prefix.String()] = strings.TrimSpace(b.Role.String() + " " + b.Neighbor)
	}
	return m
}

// established waits until these peers' sessions are up, and says how long it took.
func (r *running) established(within time.Duration, peers ...netip.Addr) time.Duration {
	r.t.Helper()
	start := time.Now()
	eventually(r.t, within, func() error {
		for _, s := range r.Sessions() {
			if slices.Contains(peers, s.Peer) && s.State != "established" {
				return fmt.Errorf("session with %s is %s (%s)", s.Peer, s.State, s.LastError)
			}
		}
		return nil
	})
	return time.Since(start)
}

// eventually polls an external state: another process's, over real TCP.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	ticker := time.NewTicker(50 * time.Millisecond)
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

// daemon is another BGP implementation in a namespace. It lives as long as a
// pipe from this process is open, so an interrupted test leaves none behind.
type daemon struct {
	t    *testing.T
	ns   netns.NS
	dir  string
	argv []string
	cmd  *exec.Cmd
	pipe io.Closer
	log  *os.File
}

func (d *daemon) start() {
	d.t.Helper()
	guard := []string{"-c", `"$@" </dev/null & pid=$!; read -r line; kill -9 $pid; wait`, "sh"}
	d.cmd = d.ns.Command(context.Background(), "sh", append(guard, d.argv...)...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	pipe, err := d.cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.pipe = pipe
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
}

// kill ends the daemon without a word to anybody but what its kernel says.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.pipe.Close()
	_ = d.cmd.Wait()
	d.cmd = nil
}

func newDaemon(t *testing.T, ns netns.NS, dir string, argv ...string) *daemon {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, ns: ns, dir: dir, argv: argv, log: log}
	t.Cleanup(func() {
		d.kill()
		_ = log.Close()
		if t.Failed() {
			if text, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("%s:\n%s", argv[0], text)
			}
		}
	})
	return d
}

// bird is a BIRD 2 with one BGP session, called "nva", to our Speaker.
type bird struct{ *daemon }

// newBIRD starts BIRD at local. Each route is "PREFIX ASN ASN …": the path
// beyond BIRD's own AS; extra is put into the export filter.
func newBIRD(t *testing.T, ns netns.NS, local netip.Addr, asn uint32, peer netip.Addr, routes []string, extra string) *bird {
	t.Helper()
	dir := t.TempDir()
	var static, filter strings.Builder
	for _, r := range routes {
		f := strings.Fields(r)
		fmt.Fprintf(&static, "  route %s unreachable;\n", f[0])
		fmt.Fprintf(&filter, "    if net = %s then {", f[0])
		for _, a := range slices.Backward(f[1:]) {
			fmt.Fprintf(&filter, " bgp_path.prepend(%s);", a)
		}
		filter.WriteString(" }\n")
	}
	multihop := "direct"
	if asn == arsASN {
		multihop = "multihop 8"
	}
	ipv6 := ""
	if asn == farASN {
		ipv6 = fmt.Sprintf("  ipv6 { import all; next hop address %s; export where proto = \"told6\"; };\n", farNVA6)
	}
	conf := fmt.Sprintf(`router id %s;
protocol device { }
protocol static told6 { ipv6; route 2001:db8:50::/48 unreachable; }
protocol static told { ipv4;
%s}
protocol bgp nva {
  local %s port 179 as %d;
  strict bind yes;
  neighbor %s as %d;
  %s;
  hold time 180;
  connect retry time 2;
  connect delay time 1;
  error wait time 1, 2;
  ipv4 {
    import keep filtered;
    import all;
    next hop self;
    export filter {
      if source != RTS_STATIC then reject;
%s%s
      accept;
    };
  };
%s}
`, local, static.String(), local, asn, peer, ourASN, multihop, filter.String(), extra, ipv6)
	path := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bird{newDaemon(t, ns, dir, "bird", "-f", "-c", path, "-s", filepath.Join(dir, "ctl"), "-P", filepath.Join(dir, "pid"))}
	b.start()
	return b
}

// ask runs a birdc command; it waits for a BIRD that is starting.
func (b *bird) ask(args ...string) string {
	b.t.Helper()
	var out []byte
	eventually(b.t, 5*time.Second, func() (err error) {
		out, err = exec.Command("birdc", append([]string{"-s", filepath.Join(b.dir, "ctl")}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("birdc %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// got is one route as BIRD received it from us: the attributes by BIRD's names.
type got map[string]string

// routes returns what BIRD received from us, by prefix.
func (b *bird) routes() map[string]got {
	b.t.Helper()
	routes := map[string]got{}
	var cur got
	head := regexp.MustCompile(`^([0-9a-f.:]+/[0-9]+)\s`)
	for line := range strings.Lines(b.ask("show", "route", "all", "protocol", "nva")) {
		if m := head.FindStringSubmatch(line); m != nil {
			cur = got{}
			routes[m[1]] = cur
		}
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && cur != nil && strings.HasPrefix(k, "BGP.") {
			cur[strings.TrimPrefix(k, "BGP.")] = strings.TrimSpace(v)
		}
		if strings.HasPrefix(strings.TrimSpace(line), "BGP.as_path:") && cur != nil && cur["as_path"] == "" {
			cur["as_path"] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "BGP.as_path:"))
		}
	}
	return routes
}

// paths returns prefix to AS path of what BIRD received from us.
func (b *bird) paths() map[string]string {
	b.t.Helper()
	m := map[string]string{}
	for p, r := range b.routes() {
		m[p] = r["as_path"]
	}
	return m
}

// receives waits until BIRD has exactly these routes from us (prefix to AS path).
func (b *bird) receives(within time.Duration, want map[string]string) {
	b.t.Helper()
	eventually(b.t, within, func() error {
		if have := b.paths(); !maps.Equal(have, want) {
			return fmt.Errorf("BIRD has %v, want %v", have, want)
		}
		return nil
	})
}

// updates is how many announcements and withdrawals BIRD got from us so far.
func (b *bird) updates() (n int) {
	b.t.Helper()
	out := b.ask("show", "protocols", "all", "nva")
	for _, kind := range []string{"Import updates:", "Import withdraws:"} {
		_, rest, ok := strings.Cut(out, kind)
		if !ok {
			b.t.Fatalf("no %q in:\n%s", kind, out)
		}
		count, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			b.t.Fatal(err)
		}
		n += count
	}
	return n
}
