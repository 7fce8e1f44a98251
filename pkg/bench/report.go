package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

//go:embed report.html.tmpl
var reportTemplate string

// HTML writes the report as one file that needs no other.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report").Parse(reportTemplate)
	if err != nil {
		return fmt.Errorf("parse the report's template: %w", err)
	}
	if err := t.Execute(w, r.view()); err != nil {
		return fmt.Errorf("make the report: %w", err)
	}
	return nil
}

// ours is the subject that the report is about.
const ours = "transitd-vxlan"

// view is what the template shows.
type view struct {
	*Report
	Headline string
	Facts    []string
	Sections []section
	Rows     []row
}

// section is a chart with what a reader has to know of it.
type section struct {
	Title, Note string
	Charts      []template.HTML
}

// row is a line of the table.
type row struct {
	Result
	Raw, Kernel, WireGuard string
}

// Number writes a value as exactly as it is known.
func (row) Number(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func (r *Report) view() view {
	v := view{Report: r, Headline: r.headline(), Facts: r.facts()}
	v.add("Throughput of one TCP flow", "Longer is better. Each wire has its own scale.", r.barCharts(TCP1)...)
	v.add("Throughput of eight TCP flows", "The same with eight flows at once; the sum of them.", r.barCharts(TCP8)...)
	v.add("Small packets", "Packets of 64 bytes in a second, longer is better. “Without loss” is the highest rate that was sent and of which not one was lost (RFC 2544); “received of a flood” is what arrives if the sender goes as fast as it can, which takes the processors from the tunnel.",
		append(r.barCharts(LossFree), r.barCharts(Flood)...)...)
	v.add("A mix of packets", "The same with the usual mix of lengths, IMIX: of twelve packets, seven have 64 bytes, four 570 and one 1,400.",
		append(r.barCharts(IMIXLossFree), r.barCharts(IMIXFlood)...)...)
	v.add("Full packets", "The same with packets of 1,400 bytes, which just fit the tunnels. A million of them in a second are 11.2 Gbit/s.",
		append(r.barCharts(LongLossFree), r.barCharts(LongFlood)...)...)
	v.add("Loss against rate", "Packets of 64 bytes. Each point is a rate that was tried in the last round, the rightmost one as fast as the sender could. The longer a line stays at the bottom, the better. One that ends there: the sender, which shares the processors with the tunnel, could send no more.", r.lossCharts()...)
	v.add("Latency", "Round trips of 64-byte packets, at a tenth of the subject's own loss-free rate. Lower is better; each step to the right is the slowest of ten times as many packets. Both scales are logarithmic.", r.latencyCharts()...)
	v.add("Processor time", "Seconds of all processors together to move a gigabyte at 1 Gbit/s: kernel, tunnel, and both ends of the traffic. Shorter is better.", r.barCharts(CPUPerGB)...)
	for _, x := range r.Results {
		v.Rows = append(v.Rows, row{x, r.ratioText(x, "raw"), r.ratioText(x, "kernel-vxlan"), r.ratioText(x, "wireguard-go")})
	}
	return v
}

func (v *view) add(title, note string, charts ...template.HTML) {
	if len(charts) > 0 {
		v.Sections = append(v.Sections, section{title, note, charts})
	}
}

func (r *Report) ratioText(x Result, versus string) string {
	if v, ok := r.Ratio(x.Subject, versus, x.Profile, x.Test); ok {
		return fmt.Sprintf("%.2f", v)
	}
	return "–"
}

// headline is the answer in a sentence.
func (r *Report) headline() string {
	x := r.Find(ours, Wire, TCP1)
	if x == nil {
		return "Tunnels side by side"
	}
	s := fmt.Sprintf("transitd moves %.1f Gbit/s in one TCP flow through VXLAN", x.Median)
	if v, ok := r.Ratio(ours, "kernel-vxlan", Wire, TCP1); ok {
		s += fmt.Sprintf(", %.2f times what the kernel's own VXLAN does", v)
	}
	if v, ok := r.Ratio(ours, "wireguard-go", Wire, TCP1); ok {
		s += fmt.Sprintf(" and %.1f times wireguard-go", v)
	}
	return s + ", on this machine, in the same run, on a wire without offloads for tunnels."
}

// facts are the other ratios that people ask for.
func (r *Report) facts() (list []string) {
	for _, f := range []struct{ test, text string }{
		{LossFree, "64-byte packets a second without loss: %.2f × kernel-vxlan"},
		{P50, "median round trip: %.2f × kernel-vxlan (less is better)"},
		{CPUPerGB, "processor time for a gigabyte: %.2f × kernel-vxlan (less is better)"},
	} {
		if v, ok := r.Ratio(ours, "kernel-vxlan", Wire, f.test); ok {
			list = append(list, fmt.Sprintf(f.text, v))
		}
	}
	return list
}

// profiles are those that have a result of the test.
func (r *Report) profiles(test string) (list []Profile) {
	for _, x := range r.Results {
		if x.Test == test && !slices.Contains(list, x.Profile) {
			list = append(list, x.Profile)
		}
	}
	return list
}

func (r *Report) barCharts(test string) (charts []template.HTML) {
	profiles := r.profiles(test)
	width := halfWidth
	if len(profiles) > 2 {
		width = thirdWidth
	}
	for _, p := range profiles {
		c := barChart{Title: profileTitle(p) + testTitle(test), Width: width}
		for _, x := range r.Results {
			if x.Test == test && x.Profile == p {
				c.Unit = x.Unit
				c.Bars = append(c.Bars, bar{x.Subject, x.Median, x.Min, x.Max})
			}
		}
		charts = append(charts, c.svg())
	}
	return charts
}

func testTitle(test string) string {
	switch {
	case strings.HasSuffix(test, "-lossfree"):
		return ": without loss"
	case strings.HasSuffix(test, "-flood"):
		return ": received of a flood"
	}
	return ""
}

func profileTitle(p Profile) string {
	switch p {
	case Super:
		return "“super”, a perfect NIC"
	case Wire:
		return "“wire”, a cloud NIC"
	case Bare:
		return "“bare”, no offload"
	case Network:
		return "Between two machines"
	}
	return string(p)
}

func (r *Report) lossCharts() []template.HTML {
	c := lineChart{Title: "Loss", XUnit: "packets sent per second", YUnit: "packets lost"}
	for _, x := range r.Loss {
		points := slices.SortedFunc(slices.Values(x.Points), func(a, b Point) int { return int(a.X - b.X) })
		if len(points) > 0 {
			c.Lines = append(c.Lines, line{x.Subject, points})
		}
	}
	if len(c.Lines) == 0 {
		return nil
	}
	return []template.HTML{c.svg()}
}

// loadTitle names what else used the tunnel.
func loadTitle(load string) string {
	if load == "idle" {
		return "Nothing else in the tunnel"
	}
	return "Latency " + load
}

func (r *Report) latencyCharts() (charts []template.HTML) {
	var loads []string
	for _, x := range r.Latency {
		if !slices.Contains(loads, x.Load) {
			loads = append(loads, x.Load)
		}
	}
	for _, l := range loads {
		c := lineChart{Title: loadTitle(l), XUnit: "percentile: so many of a hundred round trips were as fast or faster", YUnit: "round trip", Percentiles: true}
		for _, x := range r.Latency {
			if x.Load == l && len(x.Points) > 0 {
				c.Lines = append(c.Lines, line{x.Subject, x.Points})
			}
		}
		if len(c.Lines) > 0 {
			charts = append(charts, c.svg())
		}
	}
	return charts
}
