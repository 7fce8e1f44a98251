package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPaths looks at paths and packets with transitctl: a hop of 1,400 bytes in
// one direction only, the hops on the way, packets in Wireshark's format.
func TestPaths(t *testing.T) {
	for _, c := range []struct {
		encapsulation string
		suffix        string
		inner         int  // what fits an outer packet of 1,400 bytes, with the most padding that there is
		silent        bool // the hop says nothing, as Azure's network
	}{{"vxlan", "pv", 1350, true}, {"wireguard", "pw", 1340, false}, {"ipsec", "pi", 1335, true}} {
		t.Run(c.encapsulation, func(t *testing.T) {
			l := upLab(t, c.suffix, "--encapsulation", c.encapsulation)
			l.healthy()
			parts := []part{
				{"pmtu of a wide path", func(t *testing.T, l *lab) { testWidePath(t, l, c.inner) }},
				{"a narrow hop in one direction", func(t *testing.T, l *lab) { testNarrowHop(t, l, c.inner, c.silent) }},
				{"ping", testPing},
				{"trace", testTrace},
				{"capture", func(t *testing.T, l *lab) { testCapture(t, l, c.encapsulation) }},
			}
			if c.encapsulation == "ipsec" { // its padding makes one size outside of four inside: where the search ends is not one number
				parts = slices.Delete(parts, 1, 2)
			}
			l.play(t, parts)
		})
	}
}

// pmtu is what "transitctl pmtu -o json" promises.
type pmtu struct {
	Method     string `json:"method"`
	OK         bool   `json:"ok"`
	Directions []struct {
		Direction  string `json:"direction"`
		Inner      int    `json:"inner_mtu"`
		Outer      int    `json:"outer_mtu"`
		InUse      int    `json:"in_use"`
		Limit      string `json:"limit"`
		HopAddress string `json:"hop_address"`
		HopMTU     int    `json:"hop_mtu"`
	} `json:"directions"`
	MSS struct{ IPv4, IPv6 int } `json:"tcp_mss"`
}

func testWidePath(t *testing.T, l *lab, narrow int) {
	var p pmtu
	code := l.ctl("hub-nva", &p, "pmtu", "tr0")
	if code != 0 || !p.OK || p.Method != "probe" || len(p.Directions) != 2 {
		t.Fatalf("exit %d: %+v", code, p)
	}
	for i, want := range []string{"own_card", "peer_card"} {
		if d := p.Directions[i]; d.Inner != narrow+100 || d.Outer != 1500 || d.InUse != 1400 || d.Limit != want {
			t.Errorf("%+v", d)
		}
	}
	if p.MSS.IPv4 != 1360 || p.MSS.IPv6 != 1340 {
		t.Errorf("MSS %+v", p.MSS)
	}
}

// narrow makes the fabric carry at most 1,400 bytes from the transit NVA to the
// hub, and nothing else different; silent drops what it would say about it.
func (l *lab) narrow(silent bool) (undo func()) {
	l.t.Helper()
	table := ""
	for line := range strings.Lines(l.must(l.in("fabric", "ip", "rule"))) {
		if f := strings.Fields(line); len(f) == 7 && f[4] == "transit-nva" {
			table = f[6]
		}
	}
	if table == "" {
		l.t.Fatal("the fabric has no table for the transit NVA's NIC")
	}
	route := func(more ...string) {
		l.t.Helper()
		l.must(l.in("fabric", "ip", append([]string{"route", "replace", hubNIC + "/32", "dev", "hub-nva", "proto", "99", "scope", "link", "table", table}, more...)...))
	}
	if silent {
		for _, rule := range []string{"add table ip quiet", "add chain ip quiet out { type filter hook output priority 0; }", "add rule ip quiet out icmp type destination-unreachable drop"} {
			l.must(l.in("fabric", "nft", rule))
		}
	}
	route("mtu", "1400")
	return func() {
		l.t.Helper()
		route()
		if silent {
			l.must(l.in("fabric", "nft", "delete table ip quiet"))
		}
	}
}

// longFlow is a TCP flow with what it carried in each tenth of a second.
type longFlow struct {
	Intervals []struct {
		Sum struct{ Bytes int64 } `json:"sum"`
	} `json:"intervals"`
	Error string `json:"error"`
}

// stall is the longest time in which nothing arrived, and bytes what arrived in the last two seconds.
func (f longFlow) stall() (longest time.Duration, bytes int64) {
	now := time.Duration(0)
	for i, x := range f.Intervals {
		if now += 100 * time.Millisecond; x.Sum.Bytes > 0 {
			now = 0
		}
		longest = max(longest, now)
		if i >= len(f.Intervals)-20 {
			bytes += x.Sum.Bytes
		}
	}
	return longest, bytes
}

func testNarrowHop(t *testing.T, l *lab, inner int, silent bool) {
	l.serve("onprem", onpremHost)
	var flow longFlow
	done := make(chan error, 1)
	c := l.in("avs", "iperf3", "-c", onpremHost, "-t", "12", "-i", "0.1", "-b", "30M", "--forceflush", "-J")
	go func() {
		out, err := output(c)
		if jerr := json.Unmarshal([]byte(out), &flow); jerr != nil {
			err = fmt.Errorf("%w: %w", jerr, err)
		}
		done <- err
	}()
	mtuOf := func(node string) (mtu int) {
		var s struct {
			Tunnels []struct{ MTU int } `json:"tunnels"`
		}
		l.ctl(node, &s, "tunnel")
		return s.Tunnels[0].MTU
	}
	begun := time.Now()
	undo := l.narrow(silent)
	took := l.eventually("the transit NVA's MTU follows", 11*time.Second, func() error {
		if mtu := mtuOf("transit-nva"); mtu != inner {
			return fmt.Errorf("it is %d", mtu)
		}
		return nil
	})
	t.Logf("the tunnel's MTU is %d after %v", inner, took)
	if link := l.must(l.in("transit-nva", "ip", "-o", "link", "show", "tr0")); !strings.Contains(link, fmt.Sprintf("mtu %d ", inner)) {
		t.Errorf("the device: %s", link)
	}
	if mtu := mtuOf("hub-nva"); mtu != 1400 {
		t.Errorf("the other direction's MTU became %d", mtu)
	}
	// Both ends say the same, each from its side.
	for node, narrow := range map[string]int{"transit-nva": 0, "hub-nva": 1} {
		var p pmtu
		if code := l.ctl(node, &p, "pmtu", "tr0"); code != 1 || p.OK || len(p.Directions) != 2 {
			t.Fatalf("pmtu on %s: exit %d, %+v", node, code, p)
		}
		limited, free := p.Directions[narrow], p.Directions[1-narrow]
		if limited.Inner != inner || limited.Outer != 1400 || limited.InUse != inner || limited.Limit != "path" || free.Inner != inner+100 || free.InUse != 1400 {
			t.Errorf("pmtu on %s: %+v", node, p)
		}
		if said := limited.HopMTU == 1400 && limited.HopAddress != ""; said == silent {
			t.Errorf("pmtu on %s: the hop is %q with %d", node, limited.HopAddress, limited.HopMTU)
		}
		if p.MSS.IPv4 != inner-40 {
			t.Errorf("pmtu on %s: MSS %+v", node, p.MSS)
		}
	}
	// A new connection. Its rate is bounded: the machine has to have time for BFD.
	if r := l.iperfTo(t, "avs", "-t", "1", "-b", "50M", "-p", "5202"); r < 1<<20 {
		t.Errorf("a new connection carried %d bytes in a second", r)
	}
	if err := <-done; err != nil || flow.Error != "" {
		t.Fatalf("the flow: %v %s", err, flow.Error)
	}
	stall, bytes := flow.stall()
	t.Logf("a running flow stood still for %v; the hop was there from %v on", stall, begun.Format(time.TimeOnly))
	if stall > 8*time.Second || bytes < 1<<20 {
		t.Errorf("it stood still for %v, and carried %d bytes in its last two seconds", stall, bytes)
	}
	undo()
	l.ctl("transit-nva", nil, "pmtu", "tr0") // looks for more at once
	l.eventually("the MTU is as configured again", 10*time.Second, func() error {
		if mtu := mtuOf("transit-nva"); mtu != 1400 {
			return fmt.Errorf("it is %d", mtu)
		}
		return nil
	})
}

// iperfTo runs a flow to a server of its own and returns what arrived, in bytes.
func (l *lab) iperfTo(t *testing.T, node string, args ...string) int64 {
	t.Helper()
	server := l.in("onprem", "iperf3", "-s", "-1", "-B", onpremHost, "-p", "5202")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	l.eventually("iperf3 listens", 5*time.Second, func() error {
		out, err := output(l.in("onprem", "ss", "-Hltn", "sport = :5202"))
		if err != nil || out == "" {
			return fmt.Errorf("no listener: %w", err)
		}
		return nil
	})
	return l.iperf(node, onpremHost, args...).End.SumReceived.Bytes
}

func testTrace(t *testing.T, l *lab) {
	type trace struct {
		Tunnel  string
		Reached bool
		Steps   []struct{ Part, Address, Name string }
	}
	var tr trace
	if code := l.ctl("hub-nva", &tr, "trace", avsHost); code != 0 || !tr.Reached || tr.Tunnel != "tr0" {
		t.Fatalf("exit %d: %+v", code, tr)
	}
	want := []string{"kernel", "outer", "outer " + transitNIC + " the peer of tr0", "inner " + transitNIC + " the peer of tr0", "inner " + avsHost}
	for _, s := range tr.Steps {
		if line := strings.TrimSpace(s.Part + " " + s.Address + " " + s.Name); len(want) > 0 && strings.HasPrefix(line, want[0]) {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("no step %q in %+v", want[0], tr.Steps)
	}
	// Packets from the site go the same way, also where this host's own would not.
	if code := l.ctl("hub-nva", &tr, "trace", avsHost, "--from", "hub"); code != 0 || !tr.Reached {
		t.Errorf("from the site: exit %d: %+v", code, tr)
	}
}

func testCapture(t *testing.T, l *lab, encapsulation string) {
	file := filepath.Join(t.TempDir(), "it.pcapng")
	take := func(args ...string) {
		t.Helper()
		_ = os.Remove(file)
		c := l.cmd(append([]string{"exec", "hub-nva", "--", filepath.Join(binDir, "transitctl"), "capture", "tr0", "-w", file}, args...)...)
		c.Args = append([]string{c.Args[0], "--name", l.name}, c.Args[1:len(c.Args)-2]...)
		done := make(chan error, 1)
		go func() { _, err := output(c); done <- err }()
		for running := true; running; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				running = false
			default:
				_, _ = l.ping("onprem", avsHost, 3, 100)
			}
		}
	}
	tshark := func(args ...string) string {
		t.Helper()
		return l.must(exec.Command("tshark", append([]string{"-r", file}, args...)...))
	}
	take("-f", "icmp and src host "+onpremHost, "--count", "5")
	if out := tshark("-T", "fields", "-e", "ip.src", "-e", "icmp.type", "-e", "ip.len"); strings.TrimSpace(strings.ReplaceAll(out, onpremHost+"\t8\t128\n", "x")) != "xxxxx" {
		t.Errorf("inside, five echo requests:\n%s", out)
	}
	take("--layer", "outer", "--count", "6", "-f", "greater 150 and less 260") // pings, and no probes of the path
	out := tshark("-T", "fields", "-e", "frame.protocols")
	want := map[string]string{"vxlan": "eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:icmp:data", "wireguard": "eth:ethertype:ip:udp:wg", "ipsec": "eth:ethertype:ip:udp:udpencap:esp"}[encapsulation]
	if strings.Count(out, want+"\n") != 6 {
		t.Errorf("outside, six packets of %s:\n%s", encapsulation, out)
	}
	if info := l.must(exec.Command("capinfos", "-M", file)); !strings.Contains(info, "eth0") || !strings.Contains(info, "Number of packets:   6") {
		t.Errorf("capinfos:\n%s", info)
	}
}
