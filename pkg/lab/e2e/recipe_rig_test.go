package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	transitlab "github.com/transitd/transitd/pkg/lab"
)

// recipeSide is one NVA as the published recipes build it: BIRD, a VXLAN
// device of the kernel, everything in the main table.
type recipeSide struct {
	Node, NIC, Gateway string
	ASN                int
	Instances          [2]string // of its Route Server
	Subnet             string    // the RouteServerSubnet
	Remote             string    // of the VXLAN device
	Overlay            string
	Peer, PeerNIC      string
	PeerASN            int
	Default            bool   // originates a default route
	NoPin              bool   // without the static route to the other NVA
	OnlyFirst          bool   // a filter that stands at the second instance only: not AVS' first half
	KeepPath           bool   // without emptying the AS path
	Device             string // that the VXLAN device is bound to
}

// recipePair is the pair of the recipe, to be spoiled by a test.
func recipePair() (hub, transit *recipeSide) {
	hub = &recipeSide{
		Node: "hub-nva", NIC: hubNIC, Gateway: "10.0.2.1", ASN: 64512, Instances: [2]string{"10.0.1.4", "10.0.1.5"},
		Subnet: "10.0.1.0/27", Remote: transitNIC, Overlay: "10.92.0.1", Peer: "10.92.0.2", PeerNIC: transitNIC, PeerASN: 64513,
	}
	transit = &recipeSide{
		Node: "transit-nva", NIC: transitNIC, Gateway: "10.1.2.1", ASN: 64513, Instances: [2]string{"10.1.1.4", "10.1.1.5"},
		Subnet: "10.1.1.0/27", Remote: hubNIC, Overlay: "10.92.0.2", Peer: "10.92.0.1", PeerNIC: hubNIC, PeerASN: 64512,
	}
	return hub, transit
}

// recipeConfig follows AzureCAT-AVS' deploy-routing-bird: the AS path is emptied
// on import, everything is exported, the kernel's main table takes all. Only the timers of
// reconnection are shorter, so that the test need not wait.
var recipeConfig = template.Must(template.New("bird").Parse(`log stderr all;
router id {{.NIC}};
protocol device {}
protocol direct { ipv4; interface "vxlan0"; }
protocol static pins { ipv4;
  route {{.Subnet}} via {{.Gateway}};
{{- if not .NoPin}}
  route {{.PeerNIC}}/32 via {{.Gateway}};{{end}}
{{- if .Default}}
  route 0.0.0.0/0 via {{.Gateway}};{{end}}
}
protocol kernel { merge paths on; ipv4 { import none; export all; }; }
{{- $s := .}}
{{- range $i, $a := .Instances}}
protocol bgp ars{{$i}} { local as {{$s.ASN}}; neighbor {{$a}} as 65515; multihop;
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  ipv4 { next hop self;
    import {{if $s.KeepPath}}all{{else}}filter { bgp_path.empty; bgp_path.prepend({{$s.ASN}}); accept; }{{end}};
    export {{if and $s.OnlyFirst (eq $i 1)}}where net !~ [ 10.50.0.0/23+ ]{{else}}all{{end}}; };
}
{{- end}}
protocol bgp tunnel { local {{.Overlay}} as {{.ASN}}; neighbor {{.Peer}} as {{.PeerASN}}; hold time 6;
  connect delay time 1; connect retry time 2; error wait time 1, 2;
  ipv4 { import all; export all; next hop self; };
}
`))

// bird is a running BIRD of a recipe.
type bird struct {
	l    *lab
	side *recipeSide
	ctl  string
	cmd  *exec.Cmd
	log  *bytes.Buffer // complete once it has been stopped
}

// startRecipe builds one NVA; stop takes it away again.
func (l *lab) startRecipe(s *recipeSide) *bird {
	l.t.Helper()
	dir, err := os.MkdirTemp(l.t.TempDir(), "bird")
	if err != nil {
		l.t.Fatal(err)
	}
	var conf bytes.Buffer
	if err := recipeConfig.Execute(&conf, s); err != nil {
		l.t.Fatal(err)
	}
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, conf.Bytes(), 0o600); err != nil {
		l.t.Fatal(err)
	}
	vxlan := []string{"ip", "link", "add", "vxlan0", "type", "vxlan", "id", "1", "remote", s.Remote, "dstport", "4789"}
	if s.Device != "" {
		vxlan = append(vxlan, "dev", s.Device)
	}
	for _, args := range [][]string{
		vxlan,
		{"ip", "address", "add", s.Overlay + "/30", "dev", "vxlan0"},
		{"ip", "link", "set", "vxlan0", "up"},
		{"sysctl", "-qw", "net.ipv4.conf.vxlan0.rp_filter=0"},
	} {
		l.must(l.in(s.Node, args[0], args[1:]...))
	}
	b := &bird{l: l, side: s, ctl: filepath.Join(dir, "ctl"), log: &bytes.Buffer{}}
	b.cmd = l.in(s.Node, "bird", "-f", "-c", file, "-s", b.ctl, "-P", filepath.Join(dir, "pid"))
	b.cmd.Stderr = b.log
	if err := b.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(b.stop)
	return b
}

// startPair starts both NVAs of a recipe.
func (l *lab) startPair(hub, transit *recipeSide) (h, t *bird) {
	l.t.Helper()
	return l.startRecipe(hub), l.startRecipe(transit)
}

func (b *bird) stop() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	_ = b.cmd.Wait()
	b.cmd = nil
	if out, err := output(b.l.in(b.side.Node, "ip", "link", "del", "vxlan0")); err != nil {
		b.l.t.Errorf("%s %v", out, err)
	}
}

func (b *bird) ask(args ...string) string {
	b.l.t.Helper()
	return b.l.must(exec.Command("birdc", append([]string{"-s", b.ctl}, args...)...))
}

// state is what BIRD says of a session: the last column of "show protocols".
func (b *bird) state(protocol string) string {
	out, err := output(exec.Command("birdc", "-s", b.ctl, "show", "protocols", protocol))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 6 && f[0] == protocol {
			return strings.Join(f[5:], " ")
		}
	}
	return out
}

// device is where a node's kernel sends its own packets for an address.
func (l *lab) device(node, addr string, more ...string) string {
	l.t.Helper()
	f := strings.Fields(l.must(l.in(node, "ip", append([]string{"route", "get", addr}, more...)...)))
	for i := range f[:len(f)-1] {
		if f[i] == "dev" {
			return f[i+1]
		}
	}
	return strings.Join(f, " ")
}

// known is a route at one of the lab's routers.
type known struct {
	Prefix string `json:"prefix"`
	ASPath string `json:"as_path"`
	From   string `json:"from"`
}

// knows returns what a router of the lab learned, by prefix; from leaves out other neighbours.
func (l *lab) knows(node, from string) map[string]string {
	l.t.Helper()
	var a struct{ Routes []known }
	out := l.must(l.cmd("routes", node, "-o", "json"))
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		l.t.Fatalf("%v %s", err, out)
	}
	m := map[string]string{}
	for _, r := range a.Routes {
		if from == "" || r.From == from {
			m[r.Prefix] = r.ASPath
		}
	}
	return m
}

// has waits until a router has a prefix (or has it no more) and returns its AS path.
func (l *lab) has(node, from, prefix string, want bool) (path string) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("%s has %s: %v", node, prefix, want), 15*time.Second, func() error {
		var ok bool
		if path, ok = l.knows(node, from)[prefix]; ok != want {
			return fmt.Errorf("it knows %v", l.knows(node, from))
		}
		return nil
	})
	return path
}

// tell lets a router of the lab announce prefixes of any length; the test's end withdraws them.
func (l *lab) tell(node string, list ...string) (undo func()) {
	l.t.Helper()
	var prefixes []netip.Prefix
	for _, p := range list {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	x, err := transitlab.Open(l.name)
	if err == nil {
		err = x.Announce(l.t.Context(), node, transitlab.Announcement{Prefixes: prefixes})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return func() {
		l.t.Helper()
		if err := x.Announce(l.t.Context(), node, transitlab.Announcement{Prefixes: prefixes, Withdraw: true}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// hairpins counts packets that the fabric led back into the NIC they came from.
func (l *lab) hairpins() uint64 {
	l.t.Helper()
	x, err := transitlab.Open(l.name)
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := x.Counters()
	if err != nil {
		l.t.Fatal(err)
	}
	return c["hairpin"]
}

// lossy streams for d while f does something, and says how much of it was lost.
func (l *lab) lossy(from, to string, d time.Duration, f func()) stream {
	l.t.Helper()
	r := l.stream(from, to, d)
	time.Sleep(500 * time.Millisecond) // the stream runs; there is nothing to wait for
	f()
	return r.wait()
}

// check runs "transitd check" on an edited copy of a node's configuration; it
// returns what is refused, without the file's name, or "ok".
func (l *lab) check(node, old, changed string) string {
	l.t.Helper()
	b, err := os.ReadFile(l.configFile(node))
	if err != nil {
		l.t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		l.t.Fatalf("%s has no %q", node, old)
	}
	file := filepath.Join(l.t.TempDir(), "check.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), old, changed, 1)), 0o600); err != nil {
		l.t.Fatal(err)
	}
	c := l.in(node, filepath.Join(binDir, "transitd"), "check", "-c", file)
	out, err := c.CombinedOutput()
	text := strings.TrimSpace(strings.ReplaceAll(string(out), file+":", ""))
	if err == nil {
		return "ok"
	}
	return text
}

// explained is what is read of "transitctl explain".
type explained struct {
	Received, Announced []struct {
		Neighbor, Peer, Rule, Reason string
		Accepted                     bool
	}
	Lookups []struct{ From, Device, Table, Result string }
	Outer   []struct {
		Tunnel string
		Lookup struct{ Device, Table string }
	}
}

// refused waits until a node refuses a prefix from (or, with announced, to) a
// neighbour by a rule, and returns its sentence.
func (l *lab) refused(node, prefix, neighbor, rule string, announced bool) string {
	l.t.Helper()
	var reason string
	l.eventually(fmt.Sprintf("%s refuses %s by %s", node, prefix, rule), 15*time.Second, func() error {
		var x explained
		l.ctl(node, &x, "explain", prefix)
		list := x.Received
		if announced {
			list = x.Announced
		}
		for _, r := range list {
			if r.Neighbor == neighbor && r.Rule == rule && !r.Accepted {
				reason = fmt.Sprintf("%s: %s (%s)", node, r.Reason, rule)
				return nil
			}
		}
		return fmt.Errorf("%+v", x)
	})
	return reason
}

// sendFrames sends VXLAN frames that are right, but for who sends them.
func (l *lab) sendFrames(node, src, dst, to string, vni uint16, n int) error {
	f := goodFrame()
	binary.BigEndian.PutUint16(f[5:], vni)
	mac, err := net.ParseMAC(to)
	if err != nil {
		return fmt.Errorf("inner address: %w", err)
	}
	copy(f[8:], mac)
	ip := f[22:]
	ip[20] = 8 // echo request, and nothing but zeros behind
	binary.BigEndian.PutUint16(ip[22:], ^uint16(0x0800))
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16)) // RFC 1071
	return l.ns(node).Do(func() error {
		c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(src), 0)),
			net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(dst), 4789)))
		if err != nil {
			return fmt.Errorf("dial from %s: %w", node, err)
		}
		defer func() { _ = c.Close() }()
		for i := range n {
			if _, err := c.Write(f); err != nil {
				return fmt.Errorf("send frame %d from %s: %w", i, node, err)
			}
		}
		return nil
	})
}

// echoes is how many echo requests a node has received.
func (l *lab) echoes(node string) int {
	l.t.Helper()
	out := l.must(l.in(node, "nstat", "-asz", "IcmpInEchos"))
	f := strings.Fields(out)
	for i := range f[:len(f)-1] {
		if f[i] == "IcmpInEchos" {
			n, err := strconv.Atoi(f[i+1])
			if err == nil {
				return n
			}
		}
	}
	l.t.Fatalf("nstat: %q", out)
	return 0
}
