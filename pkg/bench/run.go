package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"time"
)

// Options are what to measure.
type Options struct {
	Subjects []Subject
	Profiles []Profile
	Tests    []string
	Rounds   int
	Duration time.Duration // of one measurement
	// Progress is told what is going on: done of total steps, and which one begins.
	Progress func(done, total int, what string)
}

// main is the profile in which everything is measured: "wire", or the first.
func (o Options) main() Profile {
	if slices.Contains(o.Profiles, Wire) {
		return Wire
	}
	return o.Profiles[0]
}

// testsOf says which tests are measured in a profile: tcp in all, with eight
// flows and the others, which take longer, in the main one only.
func (o Options) testsOf(p Profile) (list []string) {
	for _, t := range o.Tests {
		if t == "tcp" || p == o.main() {
			list = append(list, t)
		}
	}
	return list
}

// Estimate is about how long it will take.
func (o Options) Estimate() time.Duration {
	d := o.Duration
	whole := max((d + time.Second - 1).Truncate(time.Second), time.Second) // as iperf3 has it
	search := 12 * (d/searchTrials + 180*time.Millisecond)                 // some of them twice
	cost := map[string]time.Duration{
		"tcp": 2*whole + 600*time.Millisecond, "cpu": whole + 300*time.Millisecond, "latency": d + whole + 600*time.Millisecond,
		"pps": search, "pps-imix": search, "pps-1400": search,
	}
	var total time.Duration
	for _, p := range o.Profiles {
		total += 6 * time.Second
		for _, t := range o.testsOf(p) {
			total += time.Duration(o.Rounds*len(o.Subjects)) * cost[t]
			if t == "tcp" && p != o.main() {
				total -= time.Duration(o.Rounds*len(o.Subjects)) * (whole + 300*time.Millisecond)
			}
		}
	}
	return total
}

// Run measures. It returns a report also with an error, of what was measured until then.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := tools(); err != nil {
		return nil, err
	}
	r := &runner{o: o, series: newSeries(), report: &Report{
		Version: schemaVersion, Machine: ThisMachine(), Settings: Settings{Rounds: o.Rounds, DurationS: o.Duration.Seconds(), TunnelMTU: TunnelMTU},
		Results: []Result{}, Ratios: []Ratio{},
	}}
	for _, s := range o.Subjects {
		if err := s.Prepare(ctx); err != nil {
			_, missing := errors.AsType[*MissingError](err)
			r.leaveOut(LeftOut{Subject: s.Name(), Failed: !missing}, err)
			continue
		}
		r.subjects = append(r.subjects, s)
	}
	if len(r.subjects) == 0 {
		return r.report, errors.New("no subject could be brought up")
	}
	for _, p := range o.Profiles {
		r.total += o.Rounds * len(r.subjects) * len(o.testsOf(p))
	}
	var err error
	for _, p := range o.Profiles {
		if err = r.profile(ctx, p); err != nil {
			break
		}
	}
	r.report.Results, r.report.Ratios = r.series.results(), r.series.ratios()
	return r.report, err
}

type runner struct {
	o           Options
	subjects    []Subject
	series      *series
	report      *Report
	done, total int
}

func (r *runner) leaveOut(l LeftOut, err error) {
	for i := range r.report.LeftOut {
		if x := &r.report.LeftOut[i]; l.Test != "" && x.Subject == l.Subject && x.Profile == l.Profile && x.Test == l.Test {
			x.Rounds++
			x.Failed = x.Failed || l.Failed
			return
		}
	}
	l.Reason = err.Error()
	if l.Test != "" {
		l.Rounds = 1
	}
	r.report.LeftOut = append(r.report.LeftOut, l)
}

// profile measures all subjects on one wire.
func (r *runner) profile(ctx context.Context, p Profile) (err error) {
	bed, err := NewTestbed(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	paths, down, err := r.bringUp(ctx, bed)
	defer func() { err = errors.Join(err, down()) }()
	if err != nil {
		return err
	}
	for round := range r.o.Rounds {
		for i := range paths { // none, if nobody could be brought up: the report says why
			// Another one begins each round: nobody has a favourite place.
			x := paths[(i+round)%len(paths)]
			for _, test := range r.o.testsOf(p) {
				if err := ctx.Err(); err != nil {
					return err
				}
				r.step(fmt.Sprintf("%s, round %d of %d: %s %s", p, round+1, r.o.Rounds, x.name, test))
				samples, err := x.measure(ctx, test)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					_, slow := errors.AsType[*tooSlowError](err)
					r.leaveOut(LeftOut{Subject: x.name, Profile: p, Test: test, Failed: !slow}, err)
				}
				for _, s := range samples {
					r.series.add(x.name, p, round, s)
				}
				r.done++
			}
		}
	}
	return nil
}

func (r *runner) step(what string) {
	if r.o.Progress != nil {
		r.o.Progress(r.done, r.total, what)
	}
}

// bringUp starts all subjects and their iperf3 servers; down ends them.
func (r *runner) bringUp(ctx context.Context, bed *Testbed) (paths []*path, down func() error, err error) {
	var started []Subject
	var servers processes
	down = func() error {
		errs := []error{servers.stop()}
		for _, s := range started {
			errs = append(errs, s.Down())
		}
		return errors.Join(errs...)
	}
	for _, s := range r.subjects {
		r.step(fmt.Sprintf("%s: bringing up %s", bed.Profile, s.Name()))
		started = append(started, s)
		in, err := s.Up(ctx, bed)
		if err == nil {
			err = reachable(ctx, bed, in)
		}
		if err == nil {
			err = judge(ctx, &servers, bed, in[1])
		}
		if ctx.Err() != nil {
			return nil, down, ctx.Err()
		}
		if err != nil {
			r.leaveOut(LeftOut{Subject: s.Name(), Profile: bed.Profile, Failed: true}, err)
			continue
		}
		paths = append(paths, &path{name: s.Name(), bed: bed, in: in, duration: r.o.Duration, eight: bed.Profile == r.o.main(), curves: r.report})
	}
	return paths, down, nil
}

// judge starts an iperf3 server at the far end of a subject.
func judge(ctx context.Context, servers *processes, bed *Testbed, addr netip.Addr) error {
	far := &bed.Ends[1]
	if err := servers.start(bed, far, nil, "iperf3", "-s", "-p", iperfPort, "-B", addr.String()); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		out, err := far.Output(ctx, "ss", "-Hltn", "src", addr.String()+":"+iperfPort)
		if err == nil && out == "" {
			err = fmt.Errorf("iperf3 does not listen on %s", addr)
		}
		return err
	})
}

// tools looks for the programs that every run needs.
func tools() error {
	for name, pkg := range map[string]string{"ip": "iproute2", "ss": "iproute2", "ethtool": "ethtool", "ping": "iputils-ping", "iperf3": "iperf3"} {
		if _, err := exec.LookPath(name); err != nil {
			return &MissingError{What: name, Install: "apt-get install " + pkg}
		}
	}
	return nil
}
