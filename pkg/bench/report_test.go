package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
)

func TestReportHasEveryChart(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := fixture().HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	charts := regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(page, -1)
	// Two of TCP for three wires, two of packets for three lengths, CPU; losses; two of latency.
	if want := 2*3 + 2*3 + 1 + 1 + 2; len(charts) != want {
		t.Errorf("%d charts, want %d", len(charts), want)
	}
	for i, c := range charts {
		if err := wellFormed(c); err != nil {
			t.Errorf("chart %d: %v\n%s", i, err, c)
		}
		if regexp.MustCompile(`="[^"]*(NaN|Inf)`).MatchString(c) {
			t.Errorf("chart %d has numbers that are none:\n%s", i, c)
		}
		for _, name := range []string{"raw", "kernel-vxlan", "wireguard-go", "transitd-vxlan"} {
			if !strings.Contains(c, `class="s-`+name) {
				t.Errorf("chart %d is without %s", i, name)
			}
		}
	}
	for _, want := range []string{
		"0.86 times", "3.2 times wireguard-go", // the headline
		"FAILED transitd-wireguard, bare: ping", "skipped transitd-ipsec", "no number for strongswan, wire, cpu",
		"Example &amp; Sons &lt;CPU&gt;", "iperf 3.12", "Gbit/s", "packets/s", "µs", "CPU s/GB",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if found := regexp.MustCompile(`(?i)(src|href)=|url\(|@import|<script|https?://`).FindString(page); found != "" {
		t.Errorf("the report needs something from elsewhere: %q", found)
	}
}

func wellFormed(s string) error {
	for d := xml.NewDecoder(strings.NewReader(s)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// What was not measured has no chart, and nothing breaks.
func TestReportOfLittle(t *testing.T) {
	t.Parallel()
	one := Result{Subject: "lo", Profile: Network, Test: LossFree, Unit: pps}
	for name, r := range map[string]*Report{
		"nothing":           {},
		"a zero":            {Results: []Result{one}, Loss: []Curve{{"lo", Network, []Point{{0, 0}}}}},
		"an empty curve":    {Loss: []Curve{{Subject: "lo"}}, Latency: []LatencyCurve{{Subject: "lo"}}},
		"one point":         {Latency: []LatencyCurve{{"lo", Network, "idle", []Point{{50, 0.4}}}}},
		"a total loss":      {Loss: []Curve{{"lo", Network, []Point{{1000, 100}, {500, 100}}}}},
		"a hundred percent": {Latency: []LatencyCurve{{"lo", Network, "idle", []Point{{100, 4}}}}},
	} {
		var b bytes.Buffer
		if err := r.HTML(&b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if regexp.MustCompile(`="[^"]*(NaN|Inf)`).Match(b.Bytes()) {
			t.Errorf("%s: numbers that are none: %s", name, b.String())
		}
	}
}

func TestNiceStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		most float64
		n    int
		want float64
	}{{10, 4, 5}, {9.5, 4, 5}, {4, 4, 1}, {240_000, 6, 50_000}, {0.7, 4, 0.2}, {0, 4, 1}} {
		if got := niceStep(c.most, c.n); got < c.want*0.999 || got > c.want*1.001 {
			t.Errorf("niceStep(%v, %d) is %v, want %v", c.most, c.n, got, c.want)
		}
	}
}
