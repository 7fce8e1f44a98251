package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEdgeDaemons: the same result with BIRD and with FRR as AVS' and the customer's
// routers, whatever joins the NVAs; the long tests try each with each.
func TestEdgeDaemons(t *testing.T) {
	for _, c := range []struct {
		edge, encapsulation string
		long                bool
	}{{"bird", "ipsec", false}, {"frr", "vxlan", false}, {"bird", "vxlan", true}, {"frr", "ipsec", true}} {
		t.Run(c.edge+" "+c.encapsulation, func(t *testing.T) {
			if c.long && os.Getenv("TRANSITD_LONG") == "" {
				t.Skip("takes longer: set TRANSITD_LONG=1")
			}
			testEdge(t, c.edge, c.encapsulation)
		})
	}
}

func testEdge(t *testing.T, edge, encapsulation string) {
	l := upLab(t, edge+encapsulation[:1], "--encapsulation", encapsulation, "--edge", edge)
	l.healthy()
	l.eventually("AVS reaches on-prem", 30*time.Second, func() error { return l.reaches("avs", onpremHost) })
	l.clean("avs", onpremHost, 0, 1372)
	l.clean("onprem", avsHost, 0, 1372)

	onprem, avs := l.learned("onprem", edge), l.learned("avs-edge", edge)
	t.Logf("on-prem learned %v", onprem)
	t.Logf("AVS' edge learned %v", avs)
	for _, p := range []string{"10.50.0.0/24", "10.50.1.0/24"} {
		path, ok := onprem[p]
		if !ok {
			t.Errorf("on-prem has no route to AVS' %s", p)
		}
		checkCustomerPath(t, p, path)
	}
	for p, path := range onprem {
		checkCustomerPath(t, p, path)
		checkForbidden(t, "on-prem", p)
		if p == "0.0.0.0/0" || strings.HasPrefix(p, "172.") {
			t.Errorf("on-prem was told %s by %v", p, path)
		}
	}
	for _, p := range []string{"0.0.0.0/0", "172.16.0.0/16", "172.20.0.0/16"} {
		if _, ok := avs[p]; !ok {
			t.Errorf("AVS' edge has no route to %s", p)
		}
	}
	for p := range avs {
		checkForbidden(t, "AVS' edge", p)
		if strings.HasPrefix(p, "10.50.") {
			t.Errorf("AVS was told its own %s", p)
		}
	}
	if edge == "bird" {
		testInspection(t, l, edge)
	} else {
		testRestartedDaemon(t, l)
	}
}

// testRestartedDaemon: the lab starts one of FRR's daemons that has died again.
func testRestartedDaemon(t *testing.T, l *lab) {
	pidOf := func() int {
		b, err := os.ReadFile(l.socket("avs-edge", "bgpd.pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	old := pidOf()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.eventually("bgpd runs again", 10*time.Second, func() error {
		if pidOf() == old {
			return fmt.Errorf("process %d was not replaced", old)
		}
		return nil
	})
	l.eventually("AVS reaches on-prem by the new bgpd", 30*time.Second, func() error { return l.reaches("avs", onpremHost) })
}

// checkCustomerPath: without Azure's own numbers, and 12076 once.
func checkCustomerPath(t *testing.T, prefix, path string) {
	t.Helper()
	if n := strings.Count(" "+path+" ", " 12076 "); n != 1 {
		t.Errorf("%s: AS path %q has 12076 %d times", prefix, path, n)
	}
	for _, asn := range []string{"65515", "398656"} {
		if strings.Contains(" "+path+" ", " "+asn+" ") {
			t.Errorf("%s: AS path %q has %s", prefix, path, asn)
		}
	}
}

// checkForbidden: no overlay, Route Server or endpoint prefix is ever announced. A VNet's own prefix, which holds the subnets, may be.
func checkForbidden(t *testing.T, who, prefix string) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	for _, f := range []string{"169.254.0.0/16", "10.0.1.0/27", "10.1.1.0/27", "10.0.2.4/32", "10.1.2.4/32"} {
		if q := netip.MustParsePrefix(f); q.Contains(p.Addr()) && p.Bits() >= q.Bits() {
			t.Errorf("%s was told %s, which lies in %s", who, prefix, f)
		}
	}
}

// learned is what an edge daemon itself says that it learned by BGP: prefix to AS path.
func (l *lab) learned(node, edge string) map[string]string {
	l.t.Helper()
	if edge == "bird" {
		return birdRoutes(l.must(l.in(node, "birdc", "-s", l.socket(node, "bird.ctl"), "show", "route", "all")))
	}
	return frrRoutes(l.must(l.in(node, "vtysh", "--vty_socket", l.socket(node, ""), "-c", "show ip bgp")))
}

func (l *lab) socket(node, file string) string {
	return filepath.Join("/run/transitlab", l.name, node, file)
}

var (
	birdPrefix = regexp.MustCompile(`^([0-9.]+/[0-9]+)\s`)
	birdPath   = regexp.MustCompile(`BGP\.as_path: (.*)`)
	frrRoute   = regexp.MustCompile(`^\*[> =]\s+([0-9./]+)\s+(\S+)\s+(.*)$`)
)

// birdRoutes reads "show route all"; a route without an AS path is the router's own.
func birdRoutes(out string) map[string]string {
	routes, prefix := map[string]string{}, ""
	for line := range strings.Lines(out) {
		if m := birdPrefix.FindStringSubmatch(line); m != nil {
			prefix = m[1]
		}
		if m := birdPath.FindStringSubmatch(line); m != nil && strings.TrimSpace(m[1]) != "" {
			routes[prefix] = strings.TrimSpace(m[1])
		}
	}
	return routes
}

// frrRoutes reads "show ip bgp": the path stands between the weight and the origin code.
func frrRoutes(out string) map[string]string {
	routes := map[string]string{}
	for line := range strings.Lines(out) {
		m := frrRoute.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil || m[2] == "0.0.0.0" {
			continue
		}
		prefix := m[1]
		if !strings.Contains(prefix, "/") { // a classful network is shown without its length
			prefix = classful(prefix)
		}
		fields := strings.Fields(m[3])
		var path []string
		for i, f := range fields {
			if f == "0" && i < len(fields)-1 { // the weight; metric and local preference stand before it
				path = fields[i+1 : len(fields)-1]
			}
		}
		routes[prefix] = strings.Join(path, " ")
	}
	return routes
}

func classful(addr string) string {
	a := netip.MustParseAddr(addr).As4()
	switch {
	case a == [4]byte{}:
		return "0.0.0.0/0"
	case a[0] < 128:
		return addr + "/8"
	case a[0] < 192:
		return addr + "/16"
	default:
		return addr + "/24"
	}
}

// testInspection: AVS goes to the internet by the announced default through both
// NVAs; a rule in the hub NVA's own nftables refuses exactly one TCP port; and
// without its origination the default is withdrawn.
func testInspection(t *testing.T, l *lab, edge string) {
	l.eventually("AVS reaches the internet", 10*time.Second, func() error { return l.reaches("avs", internet) })
	trace := l.must(l.in("avs", "traceroute", "-n", "-q", "1", "-w", "2", internet))
	if !strings.Contains(trace, transitNIC) || !strings.Contains(trace, hubNIC) {
		t.Errorf("the way to the internet names not both NVAs:\n%s", trace)
	}
	l.serve("internet", internet) // port 5201
	if r := l.iperf("avs", internet, "-t", "1"); r.End.SumReceived.Bytes == 0 {
		t.Error("no TCP to the internet")
	}
	l.must(l.in("hub-nva", "nft", "add table ip inspect; add chain ip inspect forward { type filter hook forward priority 0; }; add rule ip inspect forward tcp dport 5201 reject with tcp reset"))
	if out, err := output(l.in("avs", "iperf3", "-c", internet, "-t", "1", "--connect-timeout", "2000")); err == nil {
		t.Errorf("the port is not refused: %s", out)
	} else if !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "reset") {
		t.Errorf("want a refusal, got: %v", err)
	}
	l.clean("avs", internet, 56)
	l.must(l.in("hub-nva", "nft", "delete", "table", "ip", "inspect"))
	l.must(l.in("avs", "iperf3", "-c", internet, "-t", "1"))

	undo := l.edit("hub-nva", func(s string) string {
		return strings.Replace(s, "- prefix: 0.0.0.0/0", "- prefix: 198.51.100.0/24", 1)
	})
	l.ctl("hub-nva", nil, "reload")
	l.eventually("the default is withdrawn from AVS", 15*time.Second, func() error {
		if path, ok := l.learned("avs-edge", edge)["0.0.0.0/0"]; ok {
			return fmt.Errorf("AVS still has a default, path %q", path)
		}
		return nil
	})
	undo()
	l.ctl("hub-nva", nil, "reload")
	l.eventually("AVS reaches the internet again", 15*time.Second, func() error { return l.reaches("avs", internet) })
}
