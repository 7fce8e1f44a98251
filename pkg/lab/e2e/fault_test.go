package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var updateFaults = flag.Bool("update-faults", false, "write docs/faults.md from what the commands said")

const faultDocument = "../../../docs/faults.md"

// fault is something that goes wrong in a lab which works.
type fault struct {
	name string
	node string // on which the commands are run
	// wireguard: not in the lab with VXLAN.
	wireguard bool
	// make breaks it and returns what mends it again.
	make func(*lab) (mend func())
	// target is what explain is asked for.
	target string
	// status, doctor and explain have to say this, as regular expressions; an empty one is only shown.
	status, doctor, explain string
}

// in the fabric, packets of the hub's NVA to the other one's tunnel port.
var towardsTransit = []string{"iif", "hub-nva", "to", transitNIC, "ipproto", "udp", "dport", "4789"}

func faults() []fault {
	return []fault{
		{
			name: "1. The peer is down", node: "hub-nva", target: avsHost,
			make:   func(l *lab) func() { return l.lab("stop", "start", "transit-nva") },
			status: `nothing arrives from 10\.1\.2\.4: the peer or its daemon is down`,
		},
		{
			name: "2. Wrong VNI", node: "hub-nva", target: avsHost,
			make: func(l *lab) func() {
				return l.reloaded("transit-nva", func(s string) string { return strings.Replace(s, "vni: 7700", "vni: 7701", 1) })
			},
			status: `wrong VNI: 10\.1\.2\.4 sends VNI 7701, this end has 7700`,
		},
		{
			name: "3. Wrong key", node: "hub-nva", target: avsHost, wireguard: true,
			make: func(l *lab) func() {
				key := filepath.Join(l.t.TempDir(), "wrong.key")
				l.must(exec.Command(filepath.Join(binDir, "transitctl"), "keygen", key))
				return l.reloaded("transit-nva", func(s string) string {
					return regexp.MustCompile(`private_key_file: [^,}]*`).ReplaceAllString(s, "private_key_file: "+key)
				})
			},
			status: `the peer has the public key .*, which is not the one that is configured`,
		},
		{
			name: "4. The UDP port is blocked one way", node: "hub-nva", target: avsHost,
			make:   func(l *lab) func() { return l.fabricRule(append(slices.Clone(towardsTransit), "blackhole")...) },
			status: `packets of 10\.1\.2\.4 arrive, but it does not hear us: UDP port 4789 is blocked on the way there`,
		},
		{
			name: "5. A hop with an MTU of 1,400 in the middle, in one direction", node: "hub-nva", target: avsHost,
			make: func(l *lab) func() {
				l.must(l.in("fabric", "ip", "link", "set", "transit-nva", "mtu", "1400"))
				return func() { l.must(l.in("fabric", "ip", "link", "set", "transit-nva", "mtu", "1500")) }
			},
			status: `the way to 10\.1\.2\.4 carries inner packets of 1350 bytes only, 1400 are configured`,
		},
		{
			name: "6. One instance of the Route Server is down", node: "hub-nva", target: onpremHost,
			make:   func(l *lab) func() { return l.lab("stop", "start", "hub-ars-1") },
			status: `route server .*: instance 10\.0\.1\.5 is down \(1 of 2\)`,
		},
		{
			name: "7. A user-defined route sends the peer's address to the NVA", node: "hub-nva", target: avsHost,
			make: func(l *lab) func() {
				l.must(l.in("fabric", "ip", "route", "add", transitNIC, "via", hubNIC, "dev", "hub-nva", "onlink", "table", "9999"))
				mend := l.fabricRule("iif", "hub-nva", "to", transitNIC, "lookup", "9999")
				return func() {
					mend()
					l.must(l.in("fabric", "ip", "route", "flush", "table", "9999"))
				}
			},
			status: `what is sent to 10\.1\.2\.4 comes back to this node's card: a route of the fabric \(a user-defined route`,
		},
		{
			name: "8. Forwarding is switched off", node: "hub-nva", target: avsHost,
			make: func(l *lab) func() {
				l.must(l.in("hub-nva", "sysctl", "-qw", "net.ipv4.ip_forward=0"))
				return func() {}
			},
			status: `another program changes kernel settings .* net\.ipv4\.ip_forward=0`,
		},
		{
			name: "9. On-prem leaks a more specific prefix of AVS", node: "hub-nva", target: avsHost,
			make:    func(l *lab) func() { return l.tell("onprem", "10.50.1.0/25") },
			status:  `route 10\.50\.1\.0/25 of hub-ars takes packets from 10\.50\.1\.0/24 of tr0, in which it lies`,
			explain: `10\.50\.1\.0/25`,
		},
		{
			name: "10. Another program deletes routes", node: "hub-nva", target: avsHost,
			make: func(l *lab) func() {
				l.must(l.in("hub-nva", "ip", "route", "flush", "table", "all", "proto", "210"))
				return func() {}
			},
			status: `another program changes our routes or rules: [1-9][0-9]* put right`,
		},
	}
}

// lab is a command of transitlab about a node, undone by another one.
func (l *lab) lab(do, undo, node string) func() {
	l.must(l.cmd(do, node))
	return func() { l.must(l.cmd(undo, node)) }
}

// reloaded edits a node's configuration and lets the daemon take it.
func (l *lab) reloaded(node string, change func(string) string) func() {
	undo := l.edit(node, change)
	reload := func() {
		if code := l.ctl(node, nil, "reload"); code > 1 {
			l.t.Fatalf("reload: exit %d", code)
		}
	}
	reload()
	return func() { undo(); reload() }
}

// fabricRule adds a rule to the fabric that goes before its own.
func (l *lab) fabricRule(rule ...string) func() {
	rule = append(rule, "pref", "1")
	l.must(l.in("fabric", "ip", append([]string{"rule", "add"}, rule...)...))
	return func() { l.must(l.in("fabric", "ip", append([]string{"rule", "del"}, rule...)...)) }
}

// said is what the commands said of a fault.
type said struct{ status, doctor, explain string }

// TestFaults breaks ten things, one after the other. An operator who runs
// "transitctl status" is told the cause, in words.
func TestFaults(t *testing.T) {
	labs := map[bool]*lab{false: upLab(t, "fltv"), true: upLab(t, "fltw", "--encapsulation", "wireguard")}
	all := map[string]said{}
	for _, f := range faults() {
		ok := t.Run(f.name, func(t *testing.T) {
			l := &lab{t: t, name: labs[f.wireguard].name}
			l.healthy()
			mend := f.make(l)
			all[f.name] = l.say(f)
			mend()
			l.healthy()
			l.eventually("traffic", 10*time.Second, func() error { return l.reaches("avs", onpremHost) })
		})
		if !ok {
			labs[f.wireguard].t.Fatalf("stopped after %q", f.name)
		}
	}
	if !*updateFaults || t.Failed() {
		return
	}
	if err := os.WriteFile(faultDocument, []byte(faultText(all)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// say waits until all commands name the cause.
func (l *lab) say(f fault) (s said) {
	l.t.Helper()
	text := func(args ...string) string {
		out, _ := output(l.ctlCommand(f.node, args...)) // the exit code says that something is wrong, and it is
		return out
	}
	for _, c := range []struct {
		what, want string
		into       *string
		args       []string
	}{
		{"status", f.status, &s.status, []string{"status"}},
		{"doctor", f.doctor, &s.doctor, []string{"doctor"}},
		{"explain", f.explain, &s.explain, []string{"explain", f.target}},
	} {
		want := regexp.MustCompile(c.want)
		l.eventually(c.what+" names the cause", 20*time.Second, func() error {
			*c.into = text(c.args...)
			if !want.MatchString(*c.into) {
				return fmt.Errorf("%s says\n%s", c.what, *c.into)
			}
			return nil
		})
		l.t.Logf("%s:\n%s", c.what, *c.into)
	}
	return s
}

func faultText(all map[string]said) string {
	var b strings.Builder
	b.WriteString(`<!-- Written by: go test ./pkg/lab/e2e -run TestFaults -update-faults -->

# What transitd says when something is wrong

Ten faults, each made in the [lab](lab.md), and what the commands say on the node that is named. The test makes every
fault again and fails if the cause is no longer named. The first command is always ` + "`transitctl status`" + `: it names the cause in
words, and the command that tells more.

| fault | node | transitctl status | transitctl doctor |
|---|---|---|---|
`)
	for _, f := range faults() {
		s := all[f.name]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.name, f.node, cell(s.status, f.status), cell(s.doctor, f.doctor))
	}
	b.WriteString("\nWhat follows is the whole output of the last run with `-update-faults`.\n")
	for _, f := range faults() {
		s := all[f.name]
		fmt.Fprintf(&b, "\n## %s\n\n```\n%s# transitctl status\n%s\n%s# transitctl explain %s\n%s\n```\n", f.name, f.node, strings.TrimSpace(s.status), f.node, f.target, strings.TrimSpace(s.explain))
		if s.doctor != "" {
			fmt.Fprintf(&b, "\n```\n%s# transitctl doctor\n%s\n```\n", f.node, strings.TrimSpace(s.doctor))
		}
	}
	return b.String()
}

// cell is the line that names the cause.
func cell(text, want string) string {
	if want == "" {
		return "–"
	}
	re := regexp.MustCompile(want)
	for line := range strings.Lines(text) {
		if re.MatchString(line) {
			return strings.ReplaceAll(strings.TrimLeft(strings.TrimSpace(line), "!⚠- "), "|", "\\|")
		}
	}
	return "–"
}
