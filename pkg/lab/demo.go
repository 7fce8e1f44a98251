package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Measurement is one thing that a step found out.
type Measurement struct {
	Key   string // for programs
	Value any    // for programs
	Text  string // for people
}

// Step is one finished step of the demonstration.
type Step struct {
	Name     string         `json:"name"`
	OK       bool           `json:"ok"`
	Error    string         `json:"error,omitempty"`
	Seconds  float64        `json:"seconds"`
	Measured map[string]any `json:"measured"`
	// Logs are the last lines of the NVAs' logs, in the first step that failed.
	Logs map[string][]string `json:"logs,omitempty"`
	// Title is what people call the step.
	Title string `json:"-"`
	// Summary is the most telling measurement, for the table at the end.
	Summary string `json:"-"`
}

// Report is the whole demonstration: the contract of "demo -o json".
type Report struct {
	SchemaVersion int    `json:"schema_version"`
	Steps         []Step `json:"steps"`
	OK            bool   `json:"ok"`
}

// Audience is shown the demonstration while it goes on.
type Audience interface {
	Progress
	// Begin announces a step: what it does and what is expected.
	Begin(number int, title, does, expects string)
	// Measured shows a measurement.
	Measured(text string)
	// End shows how a step went.
	End(Step)
}

// act is a step before it is played.
type act struct {
	name, title, does, expects string
	play                       func(context.Context, *findings) error
}

// findings collects what a step measures.
type findings struct {
	audience Audience
	step     *Step
}

// add records a measurement; an empty text is for programs only.
func (f *findings) add(key string, value any, text string) {
	f.step.Measured[key] = value
	if text != "" {
		f.audience.Measured(text)
	}
}

// sum sets the line of the final table.
func (f *findings) sum(format string, args ...any) { f.step.Summary = fmt.Sprintf(format, args...) }

// demoWait is how long the lab may take to become ready.
const demoWait = 60 * time.Second

// Demo plays the demonstration. After a failed step the later ones are still played, as far as they make sense, and
// the lab is taken down in any case, also when ctx ends.
func (l *Lab) Demo(ctx context.Context, o Options, a Audience) (Report, error) {
	o.Name = l.s.name
	if err := o.Check(); err != nil {
		return Report{}, err
	}
	if o.Encapsulation == None {
		return Report{}, errors.New("demo shows both, without encapsulation and with one: give the one with, --encapsulation vxlan, wireguard or ipsec")
	}
	var err error
	if o.Transitd, err = findTransitd(o); err != nil {
		return Report{}, err
	}
	if l.leftovers() {
		return Report{}, fmt.Errorf("lab %q is up: transitlab down --name %s first, or use another --name", l.s.name, l.s.name)
	}
	d := &demo{Lab: l, options: o}
	r := Report{SchemaVersion: 1, OK: true}
	for i, act := range d.acts() {
		last := act.name == "teardown"
		if ctx.Err() != nil && !last {
			continue
		}
		stepCtx := ctx
		if last { // an interrupted demonstration cleans up as well
			stepCtx = context.WithoutCancel(ctx)
		}
		s := perform(stepCtx, i+1, act, a)
		if !s.OK && !last && !r.logged() {
			s.Logs = l.lastWords(d.plan)
		}
		r.Steps = append(r.Steps, s)
		r.OK = r.OK && s.OK
	}
	if ctx.Err() != nil {
		r.OK = false
	}
	return r, nil
}

// logged reports whether a step has the logs already: the first that failed is enough.
func (r Report) logged() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return len(s.Logs) > 0 })
}

// lastWords are the ends of the NVAs' logs, which the teardown takes away.
func (l *Lab) lastWords(p Plan) map[string][]string {
	const lines = 25
	words := map[string][]string{}
	for _, n := range nvas(p) {
		text, err := os.ReadFile(l.s.log(n.Name))
		if err != nil {
			continue
		}
		all := strings.Split(strings.TrimSpace(string(text)), "\n")
		words[n.Name] = all[max(0, len(all)-lines):]
	}
	return words
}

func perform(ctx context.Context, number int, act act, a Audience) Step {
	s := Step{Name: act.name, Title: act.title, Measured: map[string]any{}}
	a.Begin(number, act.title, act.does, act.expects)
	start := time.Now()
	err := act.play(ctx, &findings{audience: a, step: &s})
	s.Seconds = time.Since(start).Seconds()
	s.OK = err == nil
	if err != nil {
		s.Error = err.Error()
	}
	a.End(s)
	return s
}

// demo is one performance.
type demo struct {
	*Lab
	options Options
	plan    Plan
}

func (d *demo) acts() []act {
	return []act{
		{
			"loop", "Without encapsulation, the packet loops",
			"both NVAs speak plain BGP and forward by their own routing table; AVS and on-prem ping each other",
			"BGP looks perfect, yet nothing arrives: the fabric under the NVA's NIC follows the NVA's own announcement",
			d.loop,
		},
		{
			"delivery", "With transitd on both NVAs, it arrives",
			"the same fabric and the same BGP neighbours, now transitd with a " + d.options.Encapsulation.title() + " tunnel; ICMP, UDP and TCP, small and full-size, both ways",
			"no loss, and traceroute names both NVAs",
			d.delivery,
		},
		{
			"default-route", "The default route reaches AVS, and does not reach on-prem",
			"the hub NVA announces 0.0.0.0/0 into the tunnel only; AVS goes to the internet, and the hub NVA masquerades and inspects",
			"AVS learns a default, on-prem does not; one port refused at the hub NVA is refused, the others are not",
			d.defaultRoute,
		},
		{
			"throughput", "Throughput through the tunnel",
			"one TCP stream each way between AVS and on-prem, through both NVAs",
			"it flows; the number is this machine's, with all of the lab on it",
			d.throughput,
		},
		{
			"failure", "The tunnel dies and comes back",
			"the fabric drops everything between the NVAs, then lets it pass again; a steady UDP flow shows what is lost",
			"BFD in the tunnel misses three packets, 300 ms apart; routes are withdrawn within a second, and come back by themselves",
			d.failure,
		},
		{
			"teardown", "Nothing is left",
			"takes the lab down",
			"no namespace, process or file remains",
			d.teardown,
		},
	}
}
