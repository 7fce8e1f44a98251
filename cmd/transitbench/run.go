package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/transitd/transitd/pkg/bench"
)

func runCommand() *cobra.Command {
	var subjects, profiles, tests []string
	var output, report, transitd string
	o := bench.Options{}
	c := &cobra.Command{
		Use: "run", Short: "measure in namespaces on this machine (root)", Args: noArgs,
		Long: `Measure in two network namespaces on this machine. Results are medians of the rounds, in which the
subjects take turns. Profiles of the wire: "super" is a perfect NIC that carries packets of 64 KB whole, "wire" makes
checksums and segments in software and joins them again (a cloud NIC), "bare" has no offload.

Tests: tcp (iperf3, 1 flow in every profile, and 8); pps (64-byte packets: what arrives of a flood, and the highest
rate without loss by RFC 2544; pps-imix and pps-1400 are the same with other lengths), latency (round trips at 10 % of
that rate, and beside 1 Gbit/s of TCP) and cpu (CPU seconds of the whole machine for a gigabyte at 1 Gbit/s) in
"wire", or the first profile without it. Durations of TCP are rounded up to whole seconds, which is what iperf3 knows.

Results: tcp-1, tcp-8 (Gbit/s); pps-64-lossfree, pps-64-flood, pps-imix-…, pps-1400-… (packets/s); latency-p50,
latency-p99, latency-p99.9, latency-loaded-p50, latency-loaded-p99 (µs); cpu-per-gb (CPU s/GB).

Exit codes: 0 all was measured, or skipped for want of its software; 1 something failed; 2 usage; 130 interrupted.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError{fmt.Errorf("--output %q: it is table or json", output)}
			}
			if err := choose(&o, subjects, profiles, tests, transitd); err != nil {
				return usageError{err}
			}
			if os.Geteuid() != 0 {
				return errors.New("it makes network namespaces, which needs root: sudo transitbench run")
			}
			p := newProgress(cmd.ErrOrStderr())
			others, err := bench.Others()
			if err != nil {
				return err
			}
			for _, pid := range others {
				p.say("process %d measures here as well: do not trust the numbers of either", pid)
			}
			p.say("about %s", o.Estimate().Round(10*time.Second))
			o.Progress = p.step
			r, err := bench.Run(cmd.Context(), o)
			p.end()
			if r == nil || cmd.Context().Err() != nil { // half a run is not to be taken for a whole one
				return err
			}
			// What could not be measured is told in the report too.
			return errors.Join(err, deliver(cmd.OutOrStdout(), r, output, report))
		},
	}
	f := c.Flags()
	f.StringSliceVar(&subjects, "subjects", bench.SubjectNames(), "what to measure")
	f.StringSliceVar(&profiles, "profile", names(bench.Profiles()), "wires")
	f.StringSliceVar(&tests, "tests", bench.DefaultTests(), "measurements; also "+strings.Join(bench.Tests()[len(bench.DefaultTests()):], ", "))
	f.DurationVar(&o.Duration, "duration", 2*time.Second, "of one measurement")
	f.IntVar(&o.Rounds, "rounds", 5, "how often each is measured")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	f.StringVar(&report, "report", "", "write an HTML report to this file")
	f.StringVar(&transitd, "transitd", beside("transitd"), "the daemon's binary")
	return c
}

func names(profiles []bench.Profile) (list []string) {
	for _, p := range profiles {
		list = append(list, string(p))
	}
	return list
}

// choose turns names into what they stand for.
func choose(o *bench.Options, subjects, profiles, tests []string, transitd string) error {
	if o.Rounds < 1 || o.Duration < 200*time.Millisecond {
		return fmt.Errorf("%d rounds of %s: at least 1 of 200ms", o.Rounds, o.Duration)
	}
	all := bench.Subjects(transitd)
	for _, name := range subjects {
		i := slices.IndexFunc(all, func(s bench.Subject) bool { return s.Name() == name })
		if i < 0 {
			return fmt.Errorf("there is no subject %q (there are %s)", name, strings.Join(bench.SubjectNames(), ", "))
		}
		o.Subjects = append(o.Subjects, all[i])
	}
	for _, name := range profiles {
		if !slices.Contains(bench.Profiles(), bench.Profile(name)) {
			return fmt.Errorf("there is no profile %q (there are %s)", name, strings.Join(names(bench.Profiles()), ", "))
		}
		o.Profiles = append(o.Profiles, bench.Profile(name))
	}
	for _, name := range tests {
		if !slices.Contains(bench.Tests(), name) {
			return fmt.Errorf("there is no test %q (there are %s)", name, strings.Join(bench.Tests(), ", "))
		}
	}
	o.Tests = tests
	if len(o.Subjects) == 0 || len(o.Profiles) == 0 || len(o.Tests) == 0 {
		return errors.New("nothing to measure: name at least one subject, profile and test")
	}
	return nil
}

// deliver writes the report's forms.
func deliver(w io.Writer, r *bench.Report, output, report string) error {
	if report != "" {
		f, err := os.Create(report)
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		if err := errors.Join(r.HTML(f), f.Close()); err != nil {
			return fmt.Errorf("write the report %s: %w", report, err)
		}
	}
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
	} else {
		table(w, r)
	}
	return failed(r)
}

// failed names what should have worked and did not; nil if there is nothing.
func failed(r *bench.Report) error {
	if !r.Failed() {
		return nil
	}
	var list []string
	for _, l := range r.LeftOut {
		if l.Failed {
			list = append(list, l.String())
		}
	}
	return errors.New("not everything could be measured: " + strings.Join(list, "; "))
}

// table prints medians with spread and ratios.
func table(w io.Writer, r *bench.Report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROFILE\tTEST\tSUBJECT\tMEDIAN\tMIN\tMAX\tUNIT\tx RAW\tx KERNEL-VXLAN\tx WIREGUARD-GO")
	for _, x := range r.Results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s", x.Profile, x.Test, x.Subject, number(x.Median), number(x.Min), number(x.Max), x.Unit)
		for _, versus := range []string{"raw", "kernel-vxlan", "wireguard-go"} {
			if v, ok := r.Ratio(x.Subject, versus, x.Profile, x.Test); ok {
				fmt.Fprintf(t, "\t%.2f", v)
			} else {
				fmt.Fprint(t, "\t-")
			}
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // to a terminal or a pipe: nobody is left to tell
	for _, l := range r.LeftOut {
		fmt.Fprintln(w, l)
	}
}

// number is short and exact enough.
func number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// progress is one line on a terminal, and a line for each step elsewhere.
type progress struct {
	w     io.Writer
	line  bool
	began time.Time
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, line: ok && term.IsTerminal(int(f.Fd())), began: time.Now()}
}

func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p.w, "transitbench: "+format+"\n", args...)
}

func (p *progress) step(done, total int, what string) {
	text := fmt.Sprintf("%3d %% %5s  %s", done*100/max(total, 1), time.Since(p.began).Round(time.Second), what)
	if p.line {
		fmt.Fprintf(p.w, "\r\033[K%s", text)
	} else {
		fmt.Fprintln(p.w, text)
	}
}

func (p *progress) end() {
	if p.line {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
