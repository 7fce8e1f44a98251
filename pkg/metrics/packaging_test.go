package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/transitd/transitd/pkg/netns/netnstest"
)

const packaging = "../../packaging/prometheus"

// TestPackagedNamesExist checks that alerts and dashboard ask for metrics, labels and states that there are.
func TestPackagedNamesExist(t *testing.T) {
	t.Parallel()
	known := map[string][]string{}
	for _, s := range allSeries() {
		known[s.name] = append(s.labels, "instance", "job")
	}
	for _, name := range []string{"transitd.rules.yml", "transitd.rules.test.yml", "transitd.dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(packaging, name))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`\b(transitd_[a-z_]+)\b(\{[^}]*\})?`).FindAllStringSubmatch(string(text), -1)
		if len(found) < 15 {
			t.Errorf("%s names %d metrics only", name, len(found))
		}
		for _, m := range found {
			labels, ok := known[m[1]]
			if !ok {
				t.Errorf("%s asks for %s, which there is not", name, m[1])
			}
			for _, l := range regexp.MustCompile(`([a-z_]+)(=~|!=|=)`).FindAllStringSubmatch(m[2], -1) {
				if !strings.Contains(" "+strings.Join(labels, " ")+" ", " "+l[1]+" ") {
					t.Errorf("%s asks for %s%s; its labels are %v", name, m[1], m[2], labels)
				}
			}
		}
	}
}

// TestDashboard checks what Grafana needs to take the file: unique ids, places without overlap, a data source that is asked for.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(packaging, "transitd.dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Inputs []struct{ Name string } `json:"__inputs"`
		Panels []struct {
			ID         int
			Type       string
			Title      string
			Datasource struct{ UID string }
			GridPos    struct{ X, Y, W, H int }
			Targets    []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.GridPos.W < 1 || p.GridPos.H < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q: id %d, place %+v", p.Title, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				taken[at] = p.Title
			}
		}
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${DS_PROMETHEUS}") {
			t.Errorf("panel %q asks nothing, or another data source", p.Title)
		}
	}
	for _, part := range []string{"tunnel", "ipsec", "bfd", "bgp", "route"} {
		if !strings.Contains(string(text), "transitd_"+part+"_") {
			t.Errorf("nothing is shown of %s", part)
		}
	}
	if len(board.Panels) < 15 || len(board.Inputs) != 1 || board.Inputs[0].Name != "DS_PROMETHEUS" {
		t.Errorf("%d panels, inputs %v", len(board.Panels), board.Inputs)
	}
}

// promtool runs Prometheus' checker in the folder of the packaged files.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("promtool is not installed (.ci/install-peers prometheus)")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = packaging
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "transitd.rules.yml")
	promtool(t, "test", "rules", "transitd.rules.test.yml")
}

// TestEveryAlertIsTested checks that each alert fires in one of promtool's tests.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(filepath.Join(packaging, "transitd.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(packaging, "transitd.rules.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		fires := regexp.MustCompile(`(alertname: ` + m[1] + `\n +exp_alerts|alertname="` + m[1] + `"\}', value: 1)`)
		if !fires.Match(tests) {
			t.Errorf("no test in which %s fires", m[1])
		}
	}
}

// TestNetnsPrometheusScrapes lets a real Prometheus scrape a node with the
// packaged scrape job, in a network namespace of its own, and asks it for what it got.
func TestNetnsPrometheusScrapes(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("prometheus is not installed (.ci/install-peers prometheus)")
	}
	ns := netnstest.New(t, "prometheus")
	n := full()
	srv := &http.Server{Handler: http.NewServeMux(), ReadHeaderTimeout: time.Second}
	srv.Handler.(*http.ServeMux).Handle("/metrics", promhttp.HandlerFor(NewRegistry(n), promhttp.HandlerOpts{}))
	var l net.Listener
	listen := func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:9477")
		return err
	}
	if err := ns.Do(listen); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })

	rules, err := filepath.Abs(filepath.Join(packaging, "transitd.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	job, err := os.ReadFile(filepath.Join(packaging, "scrape.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {evaluation_interval: 1s}\nrule_files: [%q]\n%s", rules, strings.ReplaceAll(string(job), "15s", "1s"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	cmd := ns.Command(ctx, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:9090")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); _ = cmd.Wait() })
	for _, want := range []struct{ query, value string }{
		{`transitd_tunnel_sent_bytes_total{tunnel="tr0"}`, "2"},
		{`transitd_route_budget_used / transitd_route_budget_limit`, "0.9523809523809523"},
		{`transitd_tunnel_up * on(tunnel) group_left(remote) transitd_tunnel_info{remote="10.1.2.4"}`, "1"},
		{`count(ALERTS{alertname="TransitdRouteBudgetExceeded", alertstate="firing", route_server="ars"})`, "1"},
		{`up{job="transitd"}`, "1"},
	} {
		var last string
		for deadline := time.Now().Add(40 * time.Second); last != want.value; {
			if time.Now().After(deadline) {
				t.Fatalf("%s is %q, want %s\n%s", want.query, last, want.value, said.String())
			}
			out, _ := ns.Command(t.Context(), "promtool", "query", "instant", "http://127.0.0.1:9090", want.query).Output() // not ready at first
			last = string(out)
			if m := regexp.MustCompile(`=> (\S+) @`).FindStringSubmatch(last); m != nil {
				last = m[1]
			}
		}
	}
}
