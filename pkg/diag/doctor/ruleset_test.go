package doctor

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// judged prints what the firewall's checks say of a ruleset on the healthy machine.
func judged(t *testing.T, rules, save []byte, seen map[ID]bool) string {
	t.Helper()
	r, err := ParseRuleset(rules)
	if err != nil {
		t.Fatal(err)
	}
	if r.NeedsIptables("ip") != (len(save) > 0) {
		t.Errorf("needs iptables-save: %v", r.NeedsIptables("ip"))
	}
	r.AddIptables("ip", string(save))
	n, h := healthyNode(), healthyHost()
	h.Firewall = r
	var b strings.Builder
	for _, f := range Run(n, h).Findings {
		if f.Severity != SeverityOK {
			fmt.Fprintf(&b, "%s %s %s: %s\n  %s\n", f.Severity, f.ID, f.Subject, f.Sentence, f.Mend)
		} else if strings.HasPrefix(string(f.ID), "conntrack") {
			fmt.Fprintf(&b, "ok %s: %.60s\n", f.ID, f.Sentence)
		}
		if seen != nil {
			seen[f.ID] = true
		}
	}
	return b.String()
}

// archives are rulesets: as a person writes them (rules.nft, or
// rules.iptables for iptables-restore), as nft -j prints them (rules.json), and
// what doctor says (want). -update as root makes the last two.
func archives(t *testing.T) map[string]*txtar.Archive {
	t.Helper()
	files, err := filepath.Glob("testdata/rulesets/*.txtar")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d rulesets, %v", len(files), err)
	}
	m := map[string]*txtar.Archive{}
	for _, f := range files {
		if m[f], err = txtar.ParseFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func member(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func put(a *txtar.Archive, name string, data []byte) {
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	a.Files = append(a.Files, txtar.File{Name: name, Data: data})
}

func write(t *testing.T, file string, a *txtar.Archive, want string) {
	t.Helper()
	put(a, "want", []byte(want))
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRulesets(t *testing.T) {
	t.Parallel()
	seen := map[ID]bool{}
	for file, a := range archives(t) {
		if *update {
			continue // TestNetnsRulesets does
		}
		if d := cmp.Diff(string(member(a, "want")), judged(t, member(a, "rules.json"), member(a, "rules.iptables"), seen)); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
	for _, id := range IDs() {
		if !*update && strings.HasPrefix(string(id), "firewall-") && !seen[id] {
			t.Errorf("no ruleset is found to be %s", id)
		}
	}
}

// TestNetnsRulesets gives the rules to the kernel and judges what the installed nft says of them.
func TestNetnsRulesets(t *testing.T) {
	for file, a := range archives(t) {
		if member(a, "rules.nft") == nil && member(a, "rules.iptables") == nil { // what not every kernel has
			if *update {
				write(t, file, a, judged(t, member(a, "rules.json"), nil, nil))
			}
			continue
		}
		ns := netnstest.New(t, "rules")
		in := func(stdin []byte, name string, args ...string) []byte {
			t.Helper()
			var out, problem bytes.Buffer
			err := ns.Do(func() error {
				cmd := exec.CommandContext(t.Context(), name, args...)
				cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &problem
				return cmd.Run()
			})
			if err != nil {
				t.Fatalf("%s: %s: %v\n%s", file, name, err, problem.String())
			}
			return out.Bytes()
		}
		in(nil, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
		if rules := member(a, "rules.nft"); rules != nil {
			in(rules, "nft", "-f", "-")
		} else {
			in(member(a, "rules.iptables"), "iptables-nft-restore")
		}
		listed := in(nil, "nft", "-j", "list", "ruleset")
		var save []byte
		if member(a, "rules.iptables") != nil {
			save = in(nil, "iptables-nft-save")
		}
		got := judged(t, listed, save, nil)
		if *update {
			put(a, "rules.json", listed)
			write(t, file, a, got)
			continue
		}
		if d := cmp.Diff(string(member(a, "want")), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT":    {"related", "established"},
		"-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT": {"new"},
		"-A INPUT -m conntrack ! --ctstate NEW -j ACCEPT":                  nil,
		"-A INPUT -m conntrack --ctstate NEW --ctdir ORIGINAL -j ACCEPT":   nil,
		"-A INPUT -m conntrack --ctproto 17 -j ACCEPT":                     nil,
		"-A INPUT -m conntrack --ctstate":                                  nil,
		"":                                                                 nil,
	} {
		if got := states(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// FuzzRuleset: no ruleset makes it panic or run for long.
func FuzzRuleset(f *testing.F) {
	files, err := filepath.Glob("testdata/rulesets/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(member(a, "rules.json"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRuleset(data)
		if err != nil {
			return
		}
		r.AddIptables("ip", string(data))
		n, h := healthyNode(), healthyHost()
		h.Firewall = r
		for _, x := range Run(n, h).Findings {
			if x.Severity != SeverityOK && x.Mend == "" {
				t.Errorf("%+v", x)
			}
		}
	})
}

// ESP without UDP has no port: what drops it is told from what drops its IKE, and each is mended for itself.
func TestRawESP(t *testing.T) {
	all := archives(t)
	for file, want := range map[string][]string{
		"input-closed": {
			`nft insert rule inet filter input iifname "eth0" ip saddr 10.1.2.4 meta l4proto esp accept # and in the file that is loaded at boot`,
			`nft insert rule inet filter input iifname "eth0" ip saddr 10.1.2.4 udp dport 500 accept # and in the file that is loaded at boot`,
		},
		"ufw": {"ufw allow in on eth0 proto esp from 10.1.2.4 to 10.0.2.4", "ufw allow in on eth0 proto udp from 10.1.2.4 to 10.0.2.4 port 500"},
		"iptables": {
			"iptables -I INPUT -i eth0 -s 10.1.2.4 -d 10.0.2.4 -p esp -j ACCEPT # and in the file that is loaded at boot",
			"iptables -I INPUT -i eth0 -s 10.1.2.4 -d 10.0.2.4 -p udp --dport 500 -j ACCEPT # and in the file that is loaded at boot",
		},
	} {
		a := all["testdata/rulesets/"+file+".txtar"]
		r, err := ParseRuleset(member(a, "rules.json"))
		if err != nil {
			t.Fatal(err)
		}
		r.AddIptables("ip", string(member(a, "rules.iptables")))
		n, h := healthyNode(), healthyHost()
		n.Tunnels = n.Tunnels[:1]
		n.Tunnels[0].Raw, n.Tunnels[0].Port, n.Tunnels[0].PeerPort = true, config.IKEPort, config.IKEPort
		h.Firewall = r
		var got []string
		for _, f := range Run(n, h).Findings {
			if f.ID == FirewallTunnel && f.Severity == SeverityError {
				got = append(got, f.Mend)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
}
