package bench

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// Charts are drawn by hand, so that the report needs nothing from elsewhere. Colours are the
// style sheet's, by subject: class "s-NAME".

const (
	halfWidth  = 466 // a chart of which two fit beside each other
	thirdWidth = 304 // three
	labelWidth = 106
	valueWidth = 58
	barHeight  = 22
	barGap     = 8
)

type bar struct {
	Subject          string
	Median, Min, Max float64
}

type barChart struct {
	Title, Unit string
	Width       int
	Bars        []bar
}

func (c barChart) svg() template.HTML {
	var top float64
	for _, b := range c.Bars {
		top = max(top, b.Max)
	}
	step := niceStep(top, (c.Width-labelWidth-valueWidth)/45)
	top = max(top, step)
	plot := float64(c.Width - labelWidth - valueWidth)
	x := func(v float64) float64 { return labelWidth + v/top*plot }
	height := len(c.Bars)*(barHeight+barGap) + 60
	d := newDrawing("", c.Width, height, c.Title)
	bottom := float64(height - 34)
	for v := 0.0; v <= top*1.0001; v += step {
		d.line("grid", x(v), 26, x(v), bottom)
		d.text("tick", x(v), bottom+14, "middle", short(v))
	}
	d.text("axis", labelWidth+plot/2, bottom+29, "middle", c.Unit)
	for i, b := range c.Bars {
		y := float64(30 + i*(barHeight+barGap))
		d.text(labelClass(b.Subject), labelWidth-8, y+barHeight*0.7, "end", b.Subject)
		d.printf(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d" rx="2"/>`, seriesClass(b.Subject), x(0), y, x(b.Median)-x(0), barHeight)
		mid := y + barHeight/2
		d.line("whisker", x(b.Min), mid, x(b.Max), mid)
		d.line("whisker", x(b.Min), mid-4, x(b.Min), mid+4)
		d.line("whisker", x(b.Max), mid-4, x(b.Max), mid+4)
		d.text("value", x(b.Max)+8, y+barHeight*0.7, "start", short(b.Median))
	}
	return d.end()
}

// seriesClass is the style sheet's class of a subject, which has its colour.
func seriesClass(subject string) string { return "s-" + template.HTMLEscapeString(subject) }

func labelClass(subject string) string {
	if subject == ours {
		return "label ours"
	}
	return "label"
}

type line struct {
	Subject string
	Points  []Point
}

type lineChart struct {
	Title, XUnit, YUnit string
	Lines               []line
	// Percentiles spreads the right end of the x axis; the y axis is then of
	// times in microseconds. Else it is of losses in per cent.
	Percentiles bool
}

const (
	lineWidth, lineHeight  = 952, 360
	left, right, up, below = 62, 24, 48, 68
)

func (c lineChart) svg() template.HTML {
	d := newDrawing("wide", lineWidth, lineHeight, c.Title)
	x, y := c.scales(d)
	legend := float64(left)
	for _, l := range c.Lines {
		var path strings.Builder
		for i, p := range l.Points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], x(p.X), y(p.Y))
		}
		d.printf(`<path class="%s line" d="%s"/>`, seriesClass(l.Subject), path.String())
		for _, p := range l.Points {
			d.printf(`<circle class="%s" cx="%.1f" cy="%.1f" r="3"/>`, seriesClass(l.Subject), x(p.X), y(p.Y))
		}
		d.printf(`<path class="%s line" d="M%.1f %dh26"/>`, seriesClass(l.Subject), legend, lineHeight-12)
		d.printf(`<circle class="%s" cx="%.1f" cy="%d" r="3"/>`, seriesClass(l.Subject), legend+13, lineHeight-12)
		d.text(labelClass(l.Subject), legend+32, lineHeight-8, "start", l.Subject)
		legend += 54 + 7.2*float64(len(l.Subject))
	}
	return d.end()
}

// scales draws the axes and returns how values become places.
func (c lineChart) scales(d *drawing) (x, y func(float64) float64) {
	var xs, ys []float64
	for _, l := range c.Lines {
		for _, p := range l.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y)
		}
	}
	d.text("axis", left+plotWidth/2, lineHeight-below+36, "middle", c.XUnit)
	d.text("axis", 4, up-12, "start", c.YUnit)
	if c.Percentiles {
		return percentileAxis(d), timeAxis(d, slices.Min(ys), slices.Max(ys))
	}
	return rateAxis(d, slices.Max(xs)), lossAxis(d)
}

const plotWidth, plotHeight = float64(lineWidth - left - right), float64(lineHeight - up - below)

func (d *drawing) xTick(at float64, label string) {
	d.line("grid", at, up, at, up+plotHeight)
	d.text("tick", at, up+plotHeight+16, "middle", label)
}

func (d *drawing) yTick(at float64, label string) {
	d.line("grid", left, at, left+plotWidth, at)
	d.text("tick", left-7, at+4, "end", label)
}

// percentileAxis is as long as there are nines.
func percentileAxis(d *drawing) func(float64) float64 {
	const most = 99.99
	nines := func(q float64) float64 { return -math.Log10(1 - min(q, most)/100) }
	x := func(q float64) float64 { return left + nines(q)/nines(most)*plotWidth }
	for _, q := range []float64{0, 50, 90, 99, 99.9, most} {
		d.xTick(x(q), fmt.Sprint(q))
	}
	return x
}

// timeAxis is logarithmic, of microseconds.
func timeAxis(d *drawing, least, most float64) func(float64) float64 {
	low := math.Floor(math.Log10(max(least, 1)))
	top := max(math.Ceil(math.Log10(max(most, 1))), low+1)
	y := func(v float64) float64 { return up + plotHeight - (math.Log10(max(v, 1))-low)/(top-low)*plotHeight }
	for e := low; e <= top; e++ {
		d.yTick(y(math.Pow(10, e)), duration(math.Pow(10, e)))
	}
	return y
}

func duration(micros float64) string {
	switch {
	case micros >= 1e6:
		return short(micros/1e6) + " s"
	case micros >= 1e3:
		return short(micros/1e3) + " ms"
	}
	return short(micros) + " µs"
}

func rateAxis(d *drawing, most float64) func(float64) float64 {
	step := niceStep(most, 8)
	most = max(math.Ceil(most/step), 1) * step
	x := func(v float64) float64 { return left + v/most*plotWidth }
	for v := 0.0; v <= most*1.0001; v += step {
		d.xTick(x(v), short(v))
	}
	return x
}

// lossAxis is logarithmic, of per cents, with zero at the bottom.
func lossAxis(d *drawing) func(float64) float64 {
	const least, decades = 0.001, 5 // up to 100
	y := func(v float64) float64 {
		if v <= 0 {
			return up + plotHeight
		}
		return up + plotHeight - (1+math.Log10(max(v, least)/least))/(decades+1)*plotHeight
	}
	d.yTick(y(0), "none")
	for e := range decades + 1 {
		v := least * math.Pow(10, float64(e))
		d.yTick(y(v), fmt.Sprintf("%.4g %%", v))
	}
	return y
}

// niceStep divides an axis into about n steps of 1, 2 or 5 times a power of ten.
func niceStep(most float64, n int) float64 {
	if most <= 0 {
		return 1
	}
	raw := most / float64(n)
	base := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*base >= raw {
			return m * base
		}
	}
	return 10 * base
}

// short writes a number with three digits that matter at the most.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return trim(fmt.Sprintf("%.2f", v/1e6)) + " M"
	case v >= 1e4:
		return trim(fmt.Sprintf("%.0f", v/1e3)) + " k"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return trim(fmt.Sprintf("%.1f", v))
	}
	return trim(fmt.Sprintf("%.2f", v))
}

func trim(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// drawing collects SVG. What it gets is numbers and names of ours; text is escaped.
type drawing struct{ b strings.Builder }

func newDrawing(class string, width, height int, title string) *drawing {
	d := &drawing{}
	d.printf(`<svg class="%s" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`, class, width, height, width, height, template.HTMLEscapeString(title))
	if title != "" {
		d.text("title", 4, 15, "start", title)
	}
	return d
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	d.printf(`<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x1, y1, x2, y2)
}

func (d *drawing) text(class string, x, y float64, anchor, s string) {
	d.printf(`<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, template.HTMLEscapeString(s))
}

func (d *drawing) end() template.HTML {
	d.b.WriteString("</svg>")
	return template.HTML(d.b.String())
}
