package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVXLAN runs what changes and breaks a running pair of NVAs, one after the
// other in one lab; each part leaves the lab healthy.
func TestVXLAN(t *testing.T) {
	l := upLab(t, "v", "--encapsulation", "vxlan")
	l.healthy()
	l.play(t, []part{
		{"traffic", testTraffic},
		{"reload without a change", testReloadNoChange},
		{"reload adds a prefix", testReloadAddsPrefix},
		{"invalid reload", testReloadInvalid},
		{"garbage to the tunnel port", testGarbage},
		{"routes flushed by another program", testFlush},
		{"kill -9", testKill},
		{"route server restarts", testRouteServerRestart},
		{"route refresh", testRouteRefresh},
	})
}

// testTraffic: ICMP of all sizes, TCP and UDP, both directions; traceroute names both NVAs.
func testTraffic(t *testing.T, l *lab) {
	l.clean("avs", onpremHost, 0, 56, 1000, 1372)
	l.clean("onprem", avsHost, 0, 56, 1000, 1372)
	out := l.must(l.in("avs", "traceroute", "-n", "-q", "1", "-w", "2", onpremHost))
	if !strings.Contains(out, transitNIC) || !strings.Contains(out, hubNIC) || !strings.Contains(out, onpremHost) {
		t.Errorf("traceroute names not both NVAs and the target:\n%s", out)
	}
	l.serve("onprem", onpremHost)
	for _, dir := range [][]string{nil, {"-R"}} {
		if r := l.iperf("avs", onpremHost, append([]string{"-t", "2"}, dir...)...); r.End.SumReceived.Bytes < 10<<20 {
			t.Errorf("tcp %v: only %d bytes in 2 s", dir, r.End.SumReceived.Bytes)
		} else {
			t.Logf("tcp %v: %.0f Mbit/s", dir, r.End.SumReceived.Bps/1e6)
		}
		r := l.iperf("avs", onpremHost, append([]string{"-u", "-l", "1300", "-b", "20M", "-t", "2"}, dir...)...)
		if r.End.Sum.Lost != 0 || r.End.Sum.Packets < 1000 {
			t.Errorf("udp %v: lost %d of %d", dir, r.End.Sum.Lost, r.End.Sum.Packets)
		}
	}
}

// configFile is where the lab keeps a node's configuration.
func (l *lab) configFile(node string) string {
	return filepath.Join("/run/transitlab", l.name, node+".yaml")
}

// edit changes a node's configuration and gives the way back.
func (l *lab) edit(node string, change func(string) string) (undo func()) {
	l.t.Helper()
	file := l.configFile(node)
	old, err := os.ReadFile(file)
	if err != nil {
		l.t.Fatal(err)
	}
	changed := change(string(old))
	if changed == string(old) {
		l.t.Fatalf("the edit of %s changes nothing:\n%s", file, old)
	}
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return func() {
		l.t.Helper()
		if err := os.WriteFile(file, old, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
}

// bgpMessages are BGP messages other than KEEPALIVE, which run by their own clock.
const bgpMessages = "bgp && (bgp.type == 1 || bgp.type == 2 || bgp.type == 3 || bgp.type == 5)"

// testReloadNoChange: no BGP message, no lost packet under 1,000 packets a second.
func testReloadNoChange(t *testing.T, l *lab) {
	l.serve("onprem", onpremHost)
	caps := []*capture{l.capture("hub-nva", "any", "tcp port 179", atOnce), l.capture("transit-nva", "any", "tcp port 179", atOnce)}
	f := l.startFlow("avs", onpremHost, 6*time.Second)
	for range 3 {
		for _, node := range []string{"hub-nva", "transit-nva"} {
			if code := l.ctl(node, nil, "reload"); code != 0 {
				t.Errorf("reload on %s: exit %d", node, code)
			}
		}
	}
	lost, sent := f.wait()
	if lost != 0 || sent < 4000 {
		t.Errorf("lost %d of %d packets", lost, sent)
	}
	for _, c := range caps {
		c.stop()
		if m := c.find(bgpMessages, "ip.src", "ip.dst", "bgp.type"); len(m) > 0 {
			t.Errorf("a reload without a change sent BGP messages:\n%s", strings.Join(m, "\n"))
		}
	}
}

// testReloadAddsPrefix: one new origination, and nothing else is announced or withdrawn.
func testReloadAddsPrefix(t *testing.T, l *lab) {
	const prefix = "198.51.100.0/24"
	c := l.capture("hub-nva", "tr0", "tcp port 179", atOnce)
	undo := l.edit("hub-nva", func(s string) string {
		return strings.Replace(s, "originate:\n", "originate:\n  - prefix: "+prefix+"\n    to: [tr0]\n", 1)
	})
	if code := l.ctl("hub-nva", nil, "reload"); code != 0 {
		t.Fatalf("reload: exit %d", code)
	}
	l.eventually("the new prefix reaches AVS' edge", 15*time.Second, func() error { return l.routeAt("avs-edge", prefix, true) })
	undo()
	if code := l.ctl("hub-nva", nil, "reload"); code != 0 {
		t.Fatalf("reload: exit %d", code)
	}
	l.eventually("the prefix is gone again", 15*time.Second, func() error { return l.routeAt("avs-edge", prefix, false) })
	c.stop()
	updates := c.find("bgp.type == 2 && ip.src == "+overlayHub, "bgp.update.path_attribute.as_path_segment.as4", "bgp.nlri_prefix", "bgp.withdrawn_prefix")
	if len(updates) != 2 {
		t.Errorf("want one announcement and one withdrawal on the wire, got:\n%s", strings.Join(updates, "\n"))
	}
	for _, u := range updates {
		if !strings.Contains(u, "198.51.100.0") {
			t.Errorf("an update about something else: %q", u)
		}
	}
}

// routeAt asks a node's kernel whether a prefix is (or is not) in its main table.
func (l *lab) routeAt(node, prefix string, want bool) error {
	out, err := output(l.in(node, "ip", "route", "show", "exact", prefix))
	if err != nil {
		return err
	}
	if (strings.TrimSpace(out) != "") != want {
		return fmt.Errorf("route %s at %s: %q, wanted there: %v", prefix, node, out, want)
	}
	return nil
}

// testReloadInvalid: an invalid file changes nothing and the answer says where it is wrong.
func testReloadInvalid(t *testing.T, l *lab) {
	undo := l.edit("hub-nva", func(s string) string { return strings.Replace(s, "asn: 64512", "asn: 65515", 1) })
	defer undo()
	c := l.cmd("exec", "hub-nva", "--", filepath.Join(binDir, "transitctl"), "reload")
	c.Args = []string{c.Args[0], "--name", l.name, "exec", "hub-nva", "--", filepath.Join(binDir, "transitctl"), "reload"}
	_, err := output(c)
	if err == nil {
		t.Fatal("an invalid configuration was accepted")
	}
	if !strings.Contains(err.Error(), "hub-nva.yaml:") || !strings.Contains(err.Error(), "65515") {
		t.Errorf("the answer does not say where and what is wrong: %v", err)
	}
	if err := l.reaches("avs", onpremHost); err != nil {
		t.Error(err)
	}
}

// testFlush: another program removes our routes and rules; they are back within a second, and counted.
func testFlush(t *testing.T, l *lab) {
	node := "transit-nva"
	want := l.rulesAndRoutes(node)
	for _, remove := range [][]string{
		{"ip", "route", "flush", "table", "7003"},
		{"ip", "route", "flush", "table", "7002"},
		{"ip", "route", "flush", "table", "7001"},
		{"ip", "rule", "flush", "protocol", "210"},
		// what systemd-networkd does at its restart with ManageForeign…=yes
		{"sh", "-c", "ip rule flush protocol 210; ip route flush proto 210 table all"},
	} {
		before := l.status(node).Routes.Repaired
		l.must(l.in(node, remove[0], remove[1:]...))
		took := l.eventually(strings.Join(remove, " ")+" is repaired", time.Second, func() error {
			if have := l.rulesAndRoutes(node); have != want {
				return fmt.Errorf("want\n%s\nhave\n%s", want, have)
			}
			return nil
		})
		after := l.status(node).Routes.Repaired
		if after <= before {
			t.Errorf("%v: not counted: %d then %d", remove, before, after)
		}
		t.Logf("%v: repaired in %v, %d objects", remove, took, after-before)
	}
	l.clean("avs", onpremHost, 56)
}

// rulesAndRoutes is all that carries our protocol number, as the kernel shows it.
func (l *lab) rulesAndRoutes(node string) string {
	l.t.Helper()
	return l.must(l.in(node, "sh", "-c", "ip rule show protocol 210 | sort; ip -6 rule show protocol 210 | sort; ip route show table all proto 210 | sort"))
}

// testKill: after kill -9 and a new start nothing stale stands, and traffic flows within 5 s of the start.
func testKill(t *testing.T, l *lab) {
	node := "transit-nva"
	want := l.rulesAndRoutes(node)
	l.must(l.cmd("kill", node))
	start := time.Now()
	l.must(l.cmd("start", node))
	l.eventually("traffic flows again", 8*time.Second, func() error { return l.reaches("avs", onpremHost) })
	took := time.Since(start)
	t.Logf("traffic flows %v after the start", took)
	if took > 5*time.Second {
		t.Errorf("traffic took %v after the start, more than 5 s", took)
	}
	l.healthy()
	l.eventually("rules and routes are as before", 30*time.Second, func() error {
		if have := l.rulesAndRoutes(node); have != want {
			return fmt.Errorf("want\n%s\nhave\n%s", want, have)
		}
		return nil
	})
}

// testRouteServerRestart: the session comes back by itself, and traffic by the other instance does not stop.
func testRouteServerRestart(t *testing.T, l *lab) {
	l.serve("onprem", onpremHost)
	f := l.startFlow("avs", onpremHost, 12*time.Second)
	l.must(l.cmd("restart", "transit-ars-0"))
	l.eventually("the session with the instance is back", 20*time.Second, func() error {
		for _, s := range l.status("transit-nva").BGP {
			if s.State != "established" {
				return fmt.Errorf("%s (%s) is %s", s.Peer, s.Name, s.State)
			}
		}
		return nil
	})
	if lost, sent := f.wait(); lost != 0 {
		t.Errorf("lost %d of %d packets while one instance restarted", lost, sent)
	}
	l.healthy()
}

// testRouteRefresh: a peering change makes the Route Server ask for everything again; nothing is lost.
func testRouteRefresh(t *testing.T, l *lab) {
	l.serve("onprem", onpremHost)
	c := l.capture("transit-nva", "eth0", "tcp port 179", atOnce)
	f := l.startFlow("avs", onpremHost, 6*time.Second)
	l.must(l.cmd("refresh", "transit-ars-0"))
	l.must(l.cmd("refresh", "transit-ars-1"))
	if lost, sent := f.wait(); lost != 0 {
		t.Errorf("lost %d of %d packets during the refresh", lost, sent)
	}
	c.stop()
	if asked := c.find("bgp.type == 5", "ip.src"); len(asked) < 2 {
		t.Errorf("want a ROUTE-REFRESH from both instances, saw %v", asked)
	}
	if updates := c.find("bgp.type == 2 && ip.src == "+transitNIC, "bgp.nlri_prefix"); len(updates) == 0 {
		t.Error("the refresh was not answered with updates")
	}
	if down := c.find("bgp.type == 3", "ip.src"); len(down) > 0 {
		t.Errorf("a session was torn down: %v", down)
	}
	l.healthy()
}
