package metrics

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/transitd/transitd/pkg/control"
)

// scrape is what Prometheus would read of a node: all lines, and those of ours.
func scrape(t *testing.T, n Node) (all, ours string) {
	t.Helper()
	families, err := NewRegistry(n).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	var o strings.Builder
	for line := range strings.Lines(b.String()) {
		// Of the events only those that there were; the build is another one each time.
		quiet := strings.HasPrefix(line, "transitd_events_total") && strings.HasSuffix(line, " 0\n")
		if strings.HasPrefix(line, "transitd_") && !strings.HasPrefix(line, "transitd_build_info") && !quiet {
			o.WriteString(line)
		}
	}
	return b.String(), o.String()
}

// TestValues checks each value: every figure of the node has a number of its own.
func TestValues(t *testing.T) {
	t.Parallel()
	_, got := scrape(t, full())
	want, err := os.ReadFile("testdata/full.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("(-want +got):\n%s\n%s", d, got)
	}
}

// A node without tunnels and sessions has metrics of itself only, and does not fail.
func TestEmptyNode(t *testing.T) {
	t.Parallel()
	_, got := scrape(t, &node{})
	if strings.Contains(got, "tunnel=") || strings.Contains(got, "peer=") || !strings.Contains(got, "transitd_ready 0") {
		t.Errorf("got\n%s", got)
	}
}

// The first scrape must have all names that the documentation has, and no other.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(transitd_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\| ([^|]*) \\|$").FindAllStringSubmatch(string(doc), -1) {
		rows[m[1]] = m[2:]
	}
	for _, s := range allSeries() {
		kind, labels := "gauge", ""
		if s.kind == prometheus.CounterValue {
			kind = "counter"
		}
		if len(s.labels) > 0 {
			labels = "`" + strings.Join(s.labels, "`, `") + "`"
		}
		if d := cmp.Diff([]string{kind, labels, s.help}, rows[s.name]); d != "" {
			t.Errorf("docs/observability.md has another row for %s (-collector +document):\n%s\nwant: | `%s` | %s | %s | %s |", s.name, d, s.name, kind, labels, s.help)
		}
		delete(rows, s.name)
	}
	for name := range rows {
		t.Errorf("docs/observability.md has %s, the collector has not", name)
	}
}

// promtool is Prometheus' own judge of names, types and help texts.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("promtool is not installed (.ci/install-peers prometheus)")
	}
	_, ours := scrape(t, full())
	all, _ := scrape(t, full())
	if !strings.Contains(all, "go_goroutines ") || ours == "" {
		t.Fatal("the scrape is not whole")
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(all)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestStateNumber(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]float64{"idle": 1, "active": 3, control.SessionEstablished: 6, "confused": 0, "": 0} {
		if got := stateNumber(state); got != want {
			t.Errorf("%q is %v, want %v", state, got, want)
		}
	}
}
