package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/control"
)

// TestDaemonLife runs a whole daemon beside a Route Server that does not answer
// and a tunnel without a far end, and looks at the machine before, meanwhile and after.
func TestDaemonLife(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, socket := livingYAML(t)
	before := machineState(t)
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	checkDown(t, r.status())
	checkMachine(t)
	checkAnswers(t, r)
	r.end()
	if r.logs.FilterMessageSnippet("withdrawing routes").Len() != 1 || r.logs.FilterMessageSnippet("could be withdrawn").Len() != 0 {
		t.Errorf("the end was not orderly: %q", messages(r.logs))
	}
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("the daemon left something (-before +after):\n%s", d)
	}
	if _, err := os.Stat(filepath.Dir(socket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's folder is still there: %v", err)
	}
	if _, err := r.client.Status(t.Context()); err == nil {
		t.Error("the stopped daemon answers")
	}
}

// checkDown checks the status of a node of which nothing works.
func checkDown(t *testing.T, s control.Status) {
	t.Helper()
	if s.Health != control.HealthDown || s.Node.Name != "hub-nva" || s.Node.ASN != 64512 || s.Node.Site != "hub" {
		t.Errorf("health %s of %+v", s.Health, s.Node)
	}
	for _, want := range []string{
		"tunnel tr0: peer MAC not resolved: 169.254.77.2 does not answer inside the tunnel",
		"route server ars: instances 192.0.2.68 and 192.0.2.69 are down (2 of 2)",
		"tunnel tr0: BGP session with 169.254.77.2 is down",
	} {
		if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("no warning %q in %q", want, s.Warnings)
		}
	}
	if len(s.Tunnels) != 1 || s.Tunnels[0].State != control.TunnelDown || len(s.BGP) != 3 {
		t.Errorf("tunnels %+v, sessions %+v", s.Tunnels, s.BGP)
	}
}

// checkMachine checks the kernel's side of a daemon that runs, as a person would.
func checkMachine(t *testing.T) {
	t.Helper()
	have := ours(t)
	for _, want := range []string{
		"7000:	from all fwmark 0x7464 lookup 7001 proto 210",
		"7010:	from all iif tr0 lookup 7002 proto 210",
		"198.51.100.4 via 192.0.2.1 dev eth0 table 7001 proto 210 src 192.0.2.4",
		"192.0.2.64/27 via 192.0.2.1 dev eth0 table 7001",
	} {
		if !strings.Contains(have, want) {
			t.Errorf("no %q in\n%s", want, have)
		}
	}
	if !strings.Contains(ip(t, "-6 rule"), "iif tr0") {
		t.Error("no rules for the IPv6 inside the tunnel")
	}
	if addrs := ip(t, "addr show dev tr0"); !strings.Contains(addrs, "169.254.77.1/30") || !strings.Contains(addrs, "2001:db8:77::1/64") || !strings.Contains(addrs, "mtu 1400") {
		t.Errorf("tr0 is\n%s", addrs)
	}
	for _, s := range wantedSysctls("eth0", []string{"tr0"}, true) {
		if got := sysctl(t, s.Key); got != s.Value {
			t.Errorf("%s is %s, want %s", s.Key, got, s.Value)
		}
	}
}

// checkAnswers asks for everything else that the API has.
func checkAnswers(t *testing.T, r *running) {
	t.Helper()
	routes, err := r.client.Routes(t.Context())
	if err != nil || !slices.Contains(routes.Routes, control.KernelRoute{
		Prefix: "198.51.100.4/32", Table: "underlay", TableID: 7001, Type: "unicast", Device: "eth0", Gateway: "192.0.2.1", Source: "192.0.2.4",
	}) {
		t.Errorf("routes %+v, %v", routes, err)
	}
	// Nothing is announced to a session that is down, but what would be is decided.
	told, err := r.client.BGPRoutes(t.Context(), control.BGPRoutesQuery{Direction: control.DirectionAnnounced, Peer: "tr0"})
	if err != nil || len(told.Routes) != 1 || told.Routes[0].Prefix != "0.0.0.0/0" {
		t.Errorf("announced %+v, %v", told, err)
	}
	x, err := r.client.Explain(t.Context(), "198.51.100.4", "")
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]string{}
	for _, l := range x.Lookups {
		from[l.From] = l.Result + " " + l.Device
	}
	// The own default is a route of the site's: what comes by the tunnel leaves by the card.
	want := map[string]string{"eth0": "unicast eth0", "tr0": "unicast eth0", "this host": "unicast eth0"}
	if d := diff(want, from); d != "" {
		t.Errorf("lookups (-want +got):\n%s\n%+v", d, x)
	}
}

// TestDaemonReload goes through a reload of every kind, of one daemon.
func TestDaemonReload(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, _ := livingYAML(t)
	before := machineState(t)
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	refuseReloads(t, r, yaml)

	// Another VNI on the same sockets, and a second tunnel that shares them.
	second := edit(t, yaml, "vni: 7700", "vni: 7709", "    bgp: {asn: 64513}\n", `    bgp: {asn: 64513}
  - {name: tr1, remote: 198.51.100.5, address: 169.254.78.1/30, peer_address: 169.254.78.2, vxlan: {vni: 7701}, bgp: {asn: 64514}}
`)
	tr0 := mustIndex(t, "tr0")
	dry, err := r.reload(second, control.ReloadRequest{DryRun: true})
	if err != nil || !dry.Changed || !dry.DryRun || mustIndex(t, "tr1") != 0 || mustIndex(t, "tr0") != tr0 {
		t.Errorf("dry run: %+v, %v; tr1 has index %d", dry, err, mustIndex(t, "tr1"))
	}
	got, err := r.reload(second, control.ReloadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := dry
	want.DryRun = false
	if d := diff(want, got); d != "" {
		t.Errorf("the reload did not do what the dry run said (-dry +done):\n%s", d)
	}
	if mustIndex(t, "tr1") == 0 || mustIndex(t, "tr0") == tr0 || !strings.Contains(ours(t), "iif tr1") {
		t.Errorf("devices and rules after the reload:\n%s%s", ip(t, "link"), ours(t))
	}
	if s := r.status(); len(s.Tunnels) != 2 || len(s.BGP) != 4 || s.Tunnels[0].Rebuilt != 0 {
		t.Errorf("status after the reload: %+v", s)
	}
	same, err := r.reload(second, control.ReloadRequest{})
	if err != nil || same.Changed || len(same.Changes) != 0 {
		t.Errorf("the same again: %+v, %v", same, err)
	}

	// Back by signal, with another log level.
	r.write(edit(t, yaml, "level: info", "level: debug"))
	r.hangup <- syscall.SIGHUP
	eventually(t, 5*time.Second, "the reload by signal removes tr1", func() bool { return mustIndex(t, "tr1") == 0 })
	eventually(t, 5*time.Second, "the log level changes", func() bool { return r.level.Level() == zap.DebugLevel })
	eventually(t, 5*time.Second, "the status has one tunnel", func() bool { return len(r.status().Tunnels) == 1 })
	if strings.Contains(ours(t), "tr1") {
		t.Errorf("rules of the removed tunnel:\n%s", ours(t))
	}
	r.end()
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("the daemon left something (-before +after):\n%s", d)
	}
}

// refuseReloads checks that a file that cannot be used changes nothing, and says why.
func refuseReloads(t *testing.T, r *running, yaml string) {
	t.Helper()
	before := machineState(t)
	for _, c := range []struct {
		name, text, path string
		line             bool
	}{
		{"invalid", edit(t, yaml, "{vni: 7700}", "{vni: 7700, colour: red}"), "tunnels[0].vxlan.colour", true},
		{"does not fit the card", edit(t, yaml, "{vni: 7700}", "{vni: 7700}\n    mtu: 1490"), "tunnels[0].mtu", true},
		{"needs a restart", edit(t, yaml, "name: hub-nva", "name: other"), "node.name", false},
	} {
		_, err := r.reload(c.text, control.ReloadRequest{})
		e, ok := errors.AsType[*control.Error](err)
		if !ok || e.Code != control.CodeConfig || len(e.Config) != 1 {
			t.Errorf("%s: %+v", c.name, err)
			continue
		}
		if x := e.Config[0]; x.File != r.file || x.Path != c.path || (x.Line > 0 && x.Column > 0) != c.line {
			t.Errorf("%s: %+v", c.name, x)
		}
		if d := diff(before, machineState(t)); d != "" {
			t.Errorf("%s: the machine was changed (-before +after):\n%s", c.name, d)
		}
		if s := r.status(); s.Node.Name != "hub-nva" || len(s.Tunnels) != 1 {
			t.Errorf("%s: status %+v", c.name, s)
		}
	}
}

// TestDaemonVanishedDevice deletes a tunnel's device behind the daemon's back.
func TestDaemonVanishedDevice(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, _ := livingYAML(t)
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	old := mustIndex(t, "tr0")
	ip(t, "link del tr0")
	eventually(t, 3*time.Second, "tr0 is made again and counted", func() bool {
		s := r.status()
		return mustIndex(t, "tr0") != 0 && s.Tunnels[0].Rebuilt == 1
	})
	if now := mustIndex(t, "tr0"); now == old {
		t.Errorf("tr0 has its old index %d", now)
	}
	// The count comes first: the log's line says that sysctls, routes and BGP are there again too.
	eventually(t, 3*time.Second, "it is logged", func() bool {
		return r.logs.FilterMessage("a tunnel's device had vanished and was made again").Len() == 1
	})
	eventually(t, 3*time.Second, "BGP originates again", func() bool { return strings.Contains(ours(t), "default via") })
	checkMachine(t)
	// A rule that somebody deletes is the keeper's to put back.
	ip(t, "rule del pref 7000")
	eventually(t, 3*time.Second, "the rule is back and counted", func() bool {
		return strings.Contains(ours(t), "7000:") && r.status().Routes.Repaired > 0
	})
	r.end()
}

// TestDaemonSecond checks that a second daemon is refused before it touches what is the first one's.
func TestDaemonSecond(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, socket := livingYAML(t)
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	before := machineState(t)
	_, err = begin(t, yaml)
	if e, ok := errors.AsType[*control.InUseError](err); !ok || e.PID != os.Getpid() {
		t.Errorf("same socket: %v", err)
	}
	_, err = begin(t, edit(t, yaml, socket, socket+"2", "tr0", "tr9", "[tr0]", "[tr9]"))
	if err == nil || !strings.Contains(err.Error(), "owns the routes with protocol 210") {
		t.Errorf("same protocol: %v", err)
	}
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("the first one's machine was changed (-before +after):\n%s", d)
	}
	checkDown(t, r.status())
	r.end()
}

// TestDaemonStartFails checks that a start that fails in its middle leaves nothing, and nobody else's device is touched.
func TestDaemonStartFails(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, socket := livingYAML(t)
	ip(t, "link add tr0 type veth peer name far1")
	before := machineState(t)
	_, err := begin(t, yaml)
	if err == nil || !strings.Contains(err.Error(), "tunnel tr0") {
		t.Errorf("error %v", err)
	}
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("something is left (-before +after):\n%s", d)
	}
	if _, err := os.Stat(filepath.Dir(socket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's folder is still there: %v", err)
	}
	// With the name free the same process can run it: every socket and lock was given back.
	ip(t, "link del tr0")
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	r.end()
}

// TestDaemonAfterCrash starts on what a killed predecessor left: its sysctls, the
// note of their old values, a rule and a stale route.
func TestDaemonAfterCrash(t *testing.T) {
	if !inside(t) {
		return
	}
	yaml, socket := livingYAML(t)
	setSysctl(t, "net/ipv4/ip_forward", "0")
	before := machineState(t)
	setSysctl(t, "net/ipv4/ip_forward", "1")
	ip(t, "rule add pref 7033 lookup 7003 protocol 210")
	ip(t, "route add 203.0.113.0/24 via 192.0.2.1 dev eth0 table 7002 proto 210")
	if err := os.Mkdir(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	left := `{"pid": 1, "undo": {"net/ipv4/ip_forward": "0"}}`
	if err := os.WriteFile(socket+".lock", []byte(left), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := begin(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	// The learned route may be right, BGP has not converged; the rule follows from the configuration.
	if have := ours(t); strings.Contains(have, "7033:") || !strings.Contains(have, "203.0.113.0/24") {
		t.Errorf("after the start:\n%s", have)
	}
	b, err := os.ReadFile(socket + ".lock")
	var lock struct{ Undo map[string]string }
	if err == nil {
		err = json.Unmarshal(b, &lock)
	}
	if err != nil || lock.Undo["net/ipv4/ip_forward"] != "0" || len(lock.Undo) < 3 {
		t.Errorf("a second crash would lose old values: %v, %s", err, b)
	}
	// Somebody else's change survives the stop.
	setSysctl(t, "net/ipv4/conf/eth0/rp_filter", "1")
	before["net/ipv4/conf/eth0/rp_filter"] = "1"
	r.end()
	if d := diff(before, machineState(t)); d != "" {
		t.Errorf("after the stop (-before the predecessor +now):\n%s", d)
	}
}

func setSysctl(t *testing.T, key, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(procSys, key), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}
