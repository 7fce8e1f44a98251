// Package azure_test checks what deploys transitd to Azure as far as it can be without Azure: syntax and names of the
// Bicep files, cloud-init's own judgement, and that the configuration they write is one.
package azure_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/transitd/transitd/pkg/config"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// bicep runs the check of .ci/bicep, and installs it first if it is not there.
func bicep(t *testing.T, files ...string) (string, error) {
	t.Helper()
	const check = "../../.ci/bicep"
	if _, err := os.Stat(check + "/node_modules/web-tree-sitter"); err != nil {
		cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = check
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), "node", append([]string{check + "/check.mjs"}, files...)...).CombinedOutput()
	return string(out), err
}

func TestBicep(t *testing.T) {
	if testing.Short() {
		t.Skip("needs npm and its registry: left out by -short")
	}
	files, err := filepath.Glob("modules/*.bicep")
	if err != nil || len(files) != 5 {
		t.Fatalf("%q, %v", files, err)
	}
	if out, err := bicep(t, append(files, "main.bicep")...); err != nil || !strings.HasPrefix(out, "6 files, 0 mistakes") {
		t.Errorf("%v\n%s", err, out)
	}
	// The check has to see what it is for.
	for name, c := range map[string]struct{ old, new, want string }{
		"a bracket":           {"dependsOn: [\n    peering\n  ]", "dependsOn: [\n    peering\n  }", "cannot be understood"},
		"a name":              {"peerAddresses: transitAddresses", "peerAddresses: transitAdresses", "transitAdresses is not declared"},
		"a parameter":         {"peerAsn: hub.asn", "peerAsnn: hub.asn", "takes no peerAsnn"},
		"a parameter forgone": {"    auditRoleId: auditRole.outputs.roleId\n", "", "wants auditRoleId"},
		"a file":              {"modules/edge.bicep", "modules/egde.bicep", "is not there"},
	} {
		text := read(t, "main.bicep")
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: main.bicep has no %q", name, c.old)
		}
		dir := t.TempDir()
		if err := os.CopyFS(dir+"/modules", os.DirFS("modules")); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "main.bicep")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, c.old, c.new)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := bicep(t, file); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

var capitals = regexp.MustCompile(`__[A-Z0-9_]+__`)

// TestCapitals checks that nvas.bicep fills in all that the two texts leave open, and nothing else.
func TestCapitals(t *testing.T) {
	t.Parallel()
	set := func(text string) []string {
		list := capitals.FindAllString(text, -1)
		slices.Sort(list)
		return slices.Compact(list)
	}
	open := set(read(t, "nva.yaml") + read(t, "cloud-init.yaml"))
	if filled := set(read(t, "modules/nvas.bicep")); !slices.Equal(open, filled) {
		t.Errorf("open are %q, filled in %q", open, filled)
	}
}

// filled is nva.yaml as nvas.bicep fills it in, with the tunnels' lines of that file.
func filled(t *testing.T, nvas int) string {
	t.Helper()
	bicep := read(t, "modules/nvas.bicep")
	line := func(name string, values ...string) string {
		t.Helper()
		found := regexp.MustCompile(`'(- \{name: ` + name + `.*\})'`).FindStringSubmatch(bicep)
		if found == nil {
			t.Fatalf("nvas.bicep has no line of a tunnel %s", name)
		}
		text := regexp.MustCompile(`\$\{[^}]*\}`).ReplaceAllStringFunc(found[1], func(string) string {
			if len(values) == 0 {
				t.Fatalf("more is left open in %s", found[1])
			}
			v := values[0]
			values = values[1:]
			return v
		})
		if len(values) != 0 {
			t.Fatalf("%q are not in %s", values, found[1])
		}
		return text
	}
	tunnels := []string{line("tr", "0", "10.1.2.4", "1", "2", "7700", "64513")}
	values := []string{
		"__NODE__", "transitd-hub-nva-1", "__ASN__", "64512", "__SITE__", "hub", "__PRIORITY__", "0", "__ROUTE_SERVER_ADDRESSES__", "10.0.1.4, 10.0.1.5",
		"__ROUTE_SERVER_SUBNET__", "10.0.1.0/26", "__MAX_GATEWAY_ROUTES__", "1000", "__VNET__", "10.0.0.0/16",
	}
	if nvas == 2 {
		tunnels = append(tunnels, line("tr", "1", "10.1.2.5", "5", "6", "7701", "64513"), line("ha0", "10.0.2.5", "1", "2", "64512"))
		health := regexp.MustCompile(`'(ha: \{.*\})'`).FindStringSubmatch(bicep)
		values = append(values, "__NEXT_HOP__", "next_hop: 10.0.2.6", "__HA__", strings.Replace(health[1], "${probePort}", "8474", 1))
	} else {
		values = append(values, "__NEXT_HOP__", "", "__HA__", "")
	}
	return strings.NewReplacer(append(values, "__TUNNELS__", strings.Join(tunnels, "\n  "))...).Replace(read(t, "nva.yaml"))
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for nvas, tunnels := range map[int]int{1: 1, 2: 3} {
		text := filled(t, nvas)
		c, err := config.Parse("nva.yaml", []byte(text))
		if err != nil {
			t.Errorf("%d NVAs: %v\n%s", nvas, err, text)
			continue
		}
		if len(c.Tunnels) != tunnels || c.RouteServers[0].NextHop.IsValid() != (nvas == 2) || c.HA.ProbeListen.IsValid() != (nvas == 2) {
			t.Errorf("%d NVAs: %+v", nvas, c)
		}
	}
}

// TestCloudInit asks cloud-init itself, before and after it is filled in.
func TestCloudInit(t *testing.T) {
	if testing.Short() {
		t.Skip("needs cloud-init: left out by -short")
	}
	template := read(t, "cloud-init.yaml")
	configuration := strings.ReplaceAll(filled(t, 2), "\n", "\n      ")
	text := strings.NewReplacer("__CONFIGURATION__", configuration, "__NODE__", "transitd-hub-nva-1", "__PACKAGE_URL__", "https://192.0.2.1/transitd.deb?sv=1&sig=a%2Bb",
		"__PACKAGE_SHA256__", strings.Repeat("0", 64)).Replace(template)
	file := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"cloud-init.yaml", file} {
		if out, err := exec.CommandContext(t.Context(), "cloud-init", "schema", "--config-file", f).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if capitals.MatchString(text) {
		t.Errorf("left open: %q", capitals.FindAllString(text, -1))
	}
	// The script that runs on the machine is sh's.
	_, script, found := strings.Cut(text, "runcmd:\n  - |\n")
	if !found {
		t.Fatal("no script")
	}
	cmd := exec.CommandContext(t.Context(), "dash", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the script: %v %s", err, out)
	}
}
