package fib

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// node is a namespace with a card "eth0" and a device "tr0" (both ends of veths,
// so that a rule can be tried with packets of either), and a keeper.
type node struct {
	t  testing.TB
	ns netns.NS
	k  *Keeper
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{t: t, ns: netnstest.New(t, "fib")}
	n.run("ip link add eth0 type veth peer name far0")
	n.run("ip link add tr0 type veth peer name far1")
	for _, dev := range []string{"lo", "eth0", "far0", "tr0", "far1"} {
		n.run("ip link set " + dev + " up")
	}
	n.run("ip addr add 192.0.2.4/26 dev eth0")
	n.run("ip addr add 169.254.77.1/30 dev tr0")
	n.run("ip addr add 2001:db8::4/64 dev eth0 nodad")
	n.run("ip addr add 2001:db8:77::1/64 dev tr0 nodad")
	n.run("ip route add default via 192.0.2.1 dev eth0")
	n.start()
	return n
}

func (n *node) start() {
	n.t.Helper()
	err := n.ns.Do(func() (err error) {
		n.k, err = New(KeeperConfig{Protocol: 210, Tables: testNode().Tables})
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	k := n.k
	n.t.Cleanup(func() {
		if err := k.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
			n.t.Error(err)
		}
	})
}

// crash forgets the keeper without removing anything.
func (n *node) crash() {
	n.k.mu.Lock()
	defer n.k.mu.Unlock()
	n.k.closed = true
	if err := errors.Join(n.k.mon.close(), n.k.k.close()); err != nil {
		n.t.Error(err)
	}
}

func (n *node) run(line string) string {
	n.t.Helper()
	f := strings.Fields(line)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := n.ns.Command(ctx, f[0], f[1:]...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// background runs the keeper until the test ends.
func (n *node) background() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.k.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	})
}

func (n *node) set(sweep bool, routes ...Learned) State {
	n.t.Helper()
	want, _ := Plan(ipv6Node(), routes)
	if err := n.k.Set(want, sweep); err != nil {
		n.t.Fatal(err)
	}
	return want
}

func ipv6Node() Node {
	n := testNode()
	n.Address6, n.Gateway6, n.Subnet6 = addr("2001:db8::4"), addr("2001:db8::1"), prefix("2001:db8::/64")
	return n
}

var learnt = []Learned{
	{Prefix: prefix("198.51.100.0/24")},
	{Prefix: prefix("203.0.113.0/24"), Tunnels: []string{"tr0"}},
	{Prefix: prefix("0.0.0.0/0"), Tunnels: []string{"tr0"}},
	{Prefix: prefix("2001:db8:5::/48")},
	{Prefix: prefix("2001:db8:6::/48"), Tunnels: []string{"tr0"}},
}

// what reads back what the kernel holds, by another program.
func (n *node) what() string {
	n.t.Helper()
	return n.rules("-4") + n.rules("-6") + n.run("ip route show table all proto 210") + n.run("ip -6 route show table all proto 210")
}

// rules are those of our protocol number, as iproute2 shows them.
func (n *node) rules(family string) (out string) {
	n.t.Helper()
	for line := range strings.Lines(n.run("ip " + family + " rule show")) {
		if strings.Contains(line, "proto 210") {
			out += line
		}
	}
	return out
}

func TestKeeperWrites(t *testing.T) {
	n := newNode(t)
	n.set(true, learnt...)
	const want4 = `7000:	from all fwmark 0x7464 lookup 7001 proto 210
7001:	from all fwmark 0x7464 unreachable proto 210
7010:	from all iif tr0 lookup 7002 proto 210
7011:	from all iif tr0 unreachable proto 210
7020:	from all lookup main suppress_prefixlength 0 proto 210
7025:	from all lookup 7001 suppress_prefixlength 0 proto 210
7030:	not from all iif lo lookup 7003 proto 210
7040:	not from all iif lo lookup 7002 proto 210
7050:	from all iif lo lookup 7003 suppress_prefixlength 0 proto 210
7060:	from all iif lo lookup 7002 suppress_prefixlength 0 proto 210
`
	for _, family := range []string{"-4", "-6"} {
		if diff := cmp.Diff(want4, n.rules(family)); diff != "" {
			t.Errorf("ip %s rule (-want +got):\n%s", family, diff)
		}
	}
	all := n.what()
	for _, line := range []string{
		"198.51.100.0/24 via 192.0.2.1 dev eth0 table 7002 src 192.0.2.4",
		"203.0.113.0/24 dev tr0 table 7003 scope link src 192.0.2.4",
		"default dev tr0 table 7003 scope link src 192.0.2.4",
		"2001:db8:5::/48 via 2001:db8::1 dev eth0 table 7002 src 2001:db8::4",
		"2001:db8:6::/48 dev tr0 table 7003 src 2001:db8::4",
	} {
		if !strings.Contains(all, line) {
			t.Errorf("no %q in\n%s", line, all)
		}
	}
	if site, remote := n.k.Counts(); site != 2 || remote != 3 {
		t.Errorf("counts %d and %d, want 2 and 3", site, remote)
	}
	if done, err := n.enforceAgain(); err != nil || done.Len() > 0 {
		t.Errorf("a second look changes %+v, %v", done, err)
	}
	if err := n.k.Flush(); err != nil {
		t.Fatal(err)
	}
	if left := n.what(); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if !strings.Contains(n.run("ip route"), "default via 192.0.2.1") {
		t.Error("the box's own default is gone")
	}
}

func (n *node) enforceAgain() (Changes, error) {
	n.k.mu.Lock()
	defer n.k.mu.Unlock()
	return n.k.enforceLocked()
}

// The kernel is the judge of the rules.
func TestLookup(t *testing.T) {
	n := newNode(t)
	n.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	n.set(true, learnt...)
	for _, test := range []struct {
		what, dst, iif string
		mark           uint32
		want           string
	}{
		{"forwarded to the other side", "203.0.113.9", "eth0", 0, "unicast tr0 7003 203.0.113.0/24"},
		{"forwarded to this side", "198.51.100.9", "eth0", 0, "unicast eth0 7003 198.51.100.0/24"},
		{"by the learned default", "8.8.8.8", "eth0", 0, "unicast tr0 7003 0.0.0.0/0"},
		{"out of the tunnel to this side", "198.51.100.9", "tr0", 0, "unicast eth0 7002 198.51.100.0/24"},
		{"out of the tunnel and never back", "203.0.113.9", "tr0", 0, "unreachable"},
		{"out of the tunnel, no default", "8.8.8.8", "tr0", 0, "unreachable"},
		{"outer packets to a pinned peer", "203.0.113.4", "", 0x7464, "unicast eth0 7001 203.0.113.4/32"},
		{"outer packets to nobody else", "203.0.113.9", "", 0x7464, "unreachable"},
		{"a pin against a covering route", "203.0.113.4", "eth0", 0, "unicast eth0 7001 203.0.113.4/32"},
		{"the box to the other side", "203.0.113.9", "", 0, "unicast tr0 7003 203.0.113.0/24"},
		{"the box does not use the learned default", "8.8.8.8", "", 0, "unicast eth0 254 0.0.0.0/0"},
		{"the overlay", "169.254.77.2", "", 0, "unicast tr0 254 169.254.77.0/30"},
		{"ourselves", "192.0.2.4", "tr0", 0, "local eth0 255 192.0.2.4/32"},
		{"IPv6 forwarded to the other side", "2001:db8:6::1", "eth0", 0, "unicast tr0 7003 2001:db8:6::/48"},
		{"IPv6 out of the tunnel", "2001:db8:5::1", "tr0", 0, "unicast eth0 7002 2001:db8:5::/48"},
		{"IPv6 never back", "2001:db8:6::1", "tr0", 0, "unreachable"},
	} {
		l, err := n.k.Lookup(addr(test.dst), test.iif, test.mark)
		got := l.Type
		if l.Device != "" && l.Type != "unreachable" {
			got = fmt.Sprintf("%s %s %d %s", l.Type, l.Device, l.Table, l.Prefix)
		}
		if err != nil || got != test.want {
			t.Errorf("%s: %s from %q: %q, %v; want %q", test.what, test.dst, test.iif, got, err, test.want)
		}
	}
}

// What another program removes is back within a second, and counted.
func TestRepair(t *testing.T) {
	n := newNode(t)
	n.run("ip route add 198.51.100.128/25 via 192.0.2.1 dev eth0 table 7002 proto 99")
	n.set(true, learnt...)
	n.background()
	before := n.what()
	for _, test := range []struct {
		what  string
		lines []string
		least uint64
	}{
		{"flush of a table", []string{"ip route flush table 7002"}, 1},
		{"flush of all tables and rules", []string{
			"ip route flush table 7001", "ip route flush table 7003", "ip rule flush", "ip -6 rule del pref 7000",
		}, 10},
		{"a route changed", []string{"ip route replace unreachable 198.51.100.0/24 table 7002 proto 99"}, 1},
		{"the device down and up", []string{"ip link set tr0 down", "ip link set tr0 up"}, 2},
	} {
		repaired := n.k.Repaired()
		for _, line := range test.lines {
			n.run(line)
		}
		started := time.Now()
		deadline := started.Add(3 * time.Second)
		tick := time.NewTicker(5 * time.Millisecond)
		for n.what() != before && time.Now().Before(deadline) {
			<-tick.C
		}
		tick.Stop()
		took := time.Since(started)
		if diff := cmp.Diff(before, n.what()); diff != "" {
			t.Fatalf("%s: not repaired:\n%s", test.what, diff)
		}
		if took > time.Second {
			t.Errorf("%s: repaired after %s", test.what, took)
		}
		if got := n.k.Repaired() - repaired; got < test.least {
			t.Errorf("%s: %d repairs counted, want at least %d", test.what, got, test.least)
		}
	}
}

// What a killed daemon left stays until BGP has converged, then goes.
func TestAdopt(t *testing.T) {
	n := newNode(t)
	n.set(true, learnt...)
	n.crash()
	n.run("ip rule add pref 7099 lookup 7002 proto 210") // of an older configuration
	n.start()
	n.set(false, learnt[0])
	all := n.what()
	if !strings.Contains(all, "203.0.113.0/24 dev tr0") || strings.Contains(all, "7099") {
		t.Errorf("want the route kept and the rule gone:\n%s", all)
	}
	// One that was told again and then withdrawn goes at once.
	n.set(false, learnt[0], learnt[1])
	n.set(false, learnt[0])
	if all := n.what(); strings.Contains(all, "203.0.113.0/24 dev tr0") || !strings.Contains(all, "2001:db8:6::/48") {
		t.Errorf("want the withdrawn route gone and the others kept:\n%s", all)
	}
	n.set(true, learnt[0])
	if all := n.what(); strings.Contains(all, "2001:db8:6::/48") || !strings.Contains(all, "198.51.100.0/24 via") {
		t.Errorf("want stale routes swept:\n%s", all)
	}
}

// Equal tunnels share the traffic; what is read back is what was written, and
// a tunnel that goes leaves the other.
func TestMultipath(t *testing.T) {
	n := newNode(t)
	n.run("ip link add tr1 type veth peer name far2")
	for _, dev := range []string{"tr1", "far2"} {
		n.run("ip link set " + dev + " up")
	}
	node := testNode()
	node.Tunnels = append(node.Tunnels, "tr1")
	node.Address6, node.Gateway6, node.Subnet6 = addr("2001:db8::4"), addr("fe80::1"), prefix("2001:db8::/64")
	want, refused := Plan(node, []Learned{
		{Prefix: prefix("203.0.112.0/24"), Tunnels: []string{"tr0", "tr1"}}, {Prefix: prefix("2001:db8:6::/48"), Tunnels: []string{"tr0", "tr1"}},
	})
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	if err := n.k.Set(want, true); err != nil {
		t.Fatal(err)
	}
	if out := n.run("ip route show table 7003"); !strings.Contains(out, "dev tr0 weight 1") || !strings.Contains(out, "dev tr1 weight 1") {
		t.Errorf("want two next hops:\n%s", out)
	}
	have, err := n.k.k.state()
	if err != nil {
		t.Fatal(err)
	}
	if c := Diff(have, want); c.Len() > 0 {
		t.Errorf("the kernel holds something else: %+v", c)
	}
	walls, _ := Plan(node, []Learned{{Prefix: prefix("198.51.101.0/24"), Nowhere: true}, {Prefix: prefix("2001:db8:9::/48"), Nowhere: true}})
	if err := n.k.Set(walls, true); err != nil {
		t.Fatal(err)
	}
	if have, err = n.k.k.state(); err != nil {
		t.Fatal(err)
	}
	if c := Diff(have, walls); c.Len() > 0 {
		t.Errorf("the kernel holds something else: %+v", c)
	}
	if out := n.run("ip route show table 7003"); !strings.Contains(out, "unreachable 198.51.101.0/24") {
		t.Errorf("want it refused:\n%s", out)
	}
	one, _ := Plan(node, []Learned{{Prefix: prefix("203.0.112.0/24"), Tunnels: []string{"tr1"}}, {Prefix: prefix("2001:db8:6::/48"), Tunnels: []string{"tr1"}}})
	if err := n.k.Set(one, true); err != nil {
		t.Fatal(err)
	}
	if out := n.run("ip route show table 7003") + n.run("ip -6 route show table 7003"); strings.Contains(out, "tr0") || strings.Count(out, "dev tr1") != 2 {
		t.Errorf("want tr1 alone:\n%s", out)
	}
}

// A device that is missing does not keep the other routes out.
func TestMissingDevice(t *testing.T) {
	n := newNode(t)
	n.run("ip link del tr0")
	want, _ := Plan(testNode(), learnt[:3])
	err := n.k.Set(want, true)
	if !errors.Is(err, unix.ENODEV) {
		t.Errorf("error %v, want no such device", err)
	}
	if !strings.Contains(n.what(), "198.51.100.0/24 via 192.0.2.1 dev eth0") {
		t.Errorf("the card's routes are missing:\n%s", n.what())
	}
}

func TestManyRoutes(t *testing.T) {
	n := newNode(t)
	var many []Learned
	for i := range 20000 {
		many = append(many, Learned{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(i>>13), byte(i >> 5), byte(i << 3)}), 29), Tunnels: [][]string{nil, {"tr0"}}[i%2]})
	}
	n.set(true, many...)
	if site, remote := n.k.Counts(); site != 10000 || remote != 10000 {
		t.Errorf("counts %d and %d", site, remote)
	}
	if got := strings.Count(n.run("ip route show table all proto 210"), "\n"); got < 20000 {
		t.Errorf("the kernel has %d routes", got)
	}
	n.set(true, many[:10]...)
	if got := strings.Count(n.run("ip route show table 7002"), "\n"); got != 5 {
		t.Errorf("the kernel has %d site routes, want 5", got)
	}
}

// BenchmarkTunnelDies takes one of two tunnels from 10,000 routes.
func BenchmarkTunnelDies(b *testing.B) {
	n := newNode(b)
	n.run("ip link add tr1 type veth peer name far2")
	for _, dev := range []string{"tr1", "far2"} {
		n.run("ip link set " + dev + " up")
	}
	node := testNode()
	node.Tunnels = append(node.Tunnels, "tr1")
	both, one := make([]Learned, 10_000), make([]Learned, 10_000)
	for i := range both {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128 + byte(i>>8), byte(i), 0}), 24)
		both[i], one[i] = Learned{Prefix: p, Tunnels: []string{"tr0", "tr1"}}, Learned{Prefix: p, Tunnels: []string{"tr0"}}
	}
	var planning time.Duration
	set := func(routes []Learned) {
		start := time.Now()
		want, _ := Plan(node, routes)
		planning += time.Since(start)
		if err := n.k.Set(want, true); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		set(both)
		planning = 0
		b.StartTimer()
		set(one)
	}
	b.ReportMetric(float64(planning.Milliseconds()), "ms-plan")
}
