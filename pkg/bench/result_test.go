package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fixture is a report with something of everything.
func fixture() *Report {
	s := newSeries()
	subjects := []string{"raw", "kernel-vxlan", "wireguard-go", "strongswan", "transitd-vxlan"}
	for i, name := range subjects {
		rate := []float64{9.5, 5.6, 1.5, 1.1, 4.8}[i]
		for round := range 3 {
			wobble := 1 + float64(round-1)*0.04
			for _, p := range Profiles() {
				s.add(name, p, round, sample{TCP1, gbps, rate * wobble})
				s.add(name, p, round, sample{TCP8, gbps, rate * wobble * 0.9})
			}
			s.add(name, Wire, round, sample{LossFree, pps, rate * wobble * 25_000})
			s.add(name, Wire, round, sample{Flood, pps, rate * wobble * 28_000})
			s.add(name, Wire, round, sample{IMIXLossFree, pps, rate * wobble * 22_000})
			s.add(name, Wire, round, sample{IMIXFlood, pps, rate * wobble * 24_000})
			s.add(name, Wire, round, sample{LongLossFree, pps, rate * wobble * 18_000})
			s.add(name, Wire, round, sample{LongFlood, pps, rate * wobble * 20_000})
			s.add(name, Wire, round, sample{P50, micro, 150 / rate * wobble})
			s.add(name, Wire, round, sample{P99, micro, 400 / rate * wobble})
			s.add(name, Wire, round, sample{P999, micro, 900 / rate * wobble})
			s.add(name, Wire, round, sample{LoadP50, micro, 300 / rate * wobble})
			s.add(name, Wire, round, sample{LoadP99, micro, 900 / rate * wobble})
			if name != "strongswan" {
				s.add(name, Wire, round, sample{CPUPerGB, cpuGB, 6 / rate * wobble})
			}
		}
	}
	r := &Report{
		Version: schemaVersion,
		Machine: Machine{
			Kernel: "6.18.0", CPU: "Example & Sons <CPU>", Cores: 2, MemoryMB: 8192, Go: "go1.26.0",
			Transitd: "v0.1.0", Iperf3: "iperf 3.12", Peers: map[string]string{"wireguard-go": wireguardGoVersion},
		},
		Settings: Settings{Rounds: 3, DurationS: 2, TunnelMTU: TunnelMTU},
		Results:  s.results(), Ratios: s.ratios(),
		LeftOut: []LeftOut{
			{Subject: "transitd-ipsec", Reason: "transitd-ipsec is missing: make build"},
			{Subject: "strongswan", Profile: Wire, Test: "cpu", Rounds: 3, Reason: "it reaches 0.80 of the 1 Gbit/s at which CPU time is compared"},
			{Subject: "transitd-wireguard", Profile: Bare, Failed: true, Reason: "ping: exit status 1"},
		},
	}
	for i, name := range subjects {
		rate := []float64{240, 140, 40, 25, 120}[i] * 1000
		r.setLoss(Curve{name, Wire, []Point{{rate * 0.8, 0}, {rate, 0}, {rate * 1.3, 0.4}, {rate * 1.8, 22}}})
		slow := 240_000 / rate
		for _, load := range []string{"idle", "beside 1 Gbit/s of TCP"} {
			r.setLatency(LatencyCurve{name, Wire, load, []Point{{0.1, 12 * slow}, {50, 20 * slow}, {90, 30 * slow}, {99, 60 * slow}, {99.9, 200 * slow}, {99.99, 900 * slow}}})
		}
	}
	return r
}

// The JSON is a contract: it only grows.
func TestJSON(t *testing.T) {
	t.Parallel()
	got, err := json.MarshalIndent(fixture(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const name = "testdata/report.json"
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs; if that is meant: go test ./pkg/bench -update\n%s", name, diff)
	}
	back, err := ReadReport(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fixture(), back); diff != "" {
		t.Errorf("read back: %s", diff)
	}
}

func TestReadReportRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "not JSON": "PROFILE TEST", "of another version": `{"schema_version": 2}`, "no report": `{}`, "cut off": `{"schema_version": 1, "results": [{`,
	} {
		if r, err := ReadReport(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestFailedMeansExpectedToWork(t *testing.T) {
	t.Parallel()
	r := &Report{LeftOut: []LeftOut{{Subject: "strongswan", Reason: "missing"}}}
	if r.Failed() {
		t.Error("a missing program is a failure")
	}
	r.LeftOut = append(r.LeftOut, LeftOut{Subject: "raw", Failed: true})
	if !r.Failed() {
		t.Error("a subject without traffic is no failure")
	}
}

func TestLeftOutInWords(t *testing.T) {
	t.Parallel()
	var got []string
	for _, l := range fixture().LeftOut {
		got = append(got, l.String())
	}
	want := []string{
		"skipped transitd-ipsec: transitd-ipsec is missing: make build",
		"no number for strongswan, wire, cpu (3 of the rounds): it reaches 0.80 of the 1 Gbit/s at which CPU time is compared",
		"FAILED transitd-wireguard, bare: ping: exit status 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	result := func(test, unit string, low, mid, high float64) Result {
		return Result{Subject: "raw", Profile: Wire, Test: test, Unit: unit, Min: low, Median: mid, Max: high}
	}
	a := &Report{Results: []Result{
		result("faster", gbps, 1, 2, 3), result("slower", gbps, 4, 5, 6), result("same", gbps, 1, 2, 3),
		result("later", micro, 1, 2, 3), result("sooner", cpuGB, 4, 5, 6), result("gone", gbps, 1, 2, 3),
	}}
	b := &Report{Results: []Result{
		result("new", gbps, 1, 2, 3), result("faster", gbps, 4, 5, 6), result("slower", gbps, 1, 2, 3), result("same", gbps, 3, 4, 5),
		result("later", micro, 4, 5, 6), result("sooner", cpuGB, 1, 2, 3),
	}}
	type row struct {
		Test    string
		Verdict Verdict
		Percent float64
	}
	var got []row
	for _, c := range Compare(a, b) {
		got = append(got, row{c.Test, c.Verdict(), c.Percent()})
	}
	want := []row{
		{"faster", Better, 150},
		{"slower", Worse, -60},
		{"same", Within, 100},
		{"later", Worse, 150},
		{"sooner", Better, -60},
		{"gone", OnlyA, 0},
		{"new", OnlyB, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
