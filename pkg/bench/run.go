package bench

import (
	"context"
	"errors"
	"fmt"
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

// testsOf says which tests are measured in a profile: tcp in all, the others,
// which take longer, in "wire" only, or the first profile where it is missing.
func (o Options) testsOf(p Profile) (list []string) {
	main := Wire
	if !slices.Contains(o.Profiles, Wire) {
		main = o.Profiles[0]
	}
	for _, t := range o.Tests {
		if t == "tcp" || p == main {
			list = append(list, t)
		}
	}
	return list
}

// Estimate is about how long it will take.
func (o Options) Estimate() time.Duration {
	d := o.Duration
	cost := map[string]time.Duration{"tcp": 2*d + 2*time.Second, "pps": 14 * (d/4 + 200*time.Millisecond), "latency": 2*d + 1200*time.Millisecond, "cpu": d + 500*time.Millisecond}
	var total time.Duration
	for _, p := range o.Profiles {
		total += 6 * time.Second
		for _, t := range o.testsOf(p) {
			total += time.Duration(o.Rounds*len(o.Subjects)) * cost[t]
		}
	}
	return total
}

// Run measures. It returns a report also with an error, of what was measured until then.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := &runner{o: o, series: newSeries(), report: &Report{
		Version: 1, Machine: ThisMachine(), Settings: Settings{Rounds: o.Rounds, DurationS: o.Duration.Seconds(), TunnelMTU: TunnelMTU},
	}}
	for _, s := range o.Subjects {
		if err := s.Prepare(ctx); err != nil {
			_, missing := errors.AsType[*MissingError](err)
			r.leaveOut(s.Name(), "", err, !missing)
			continue
		}
		r.subjects = append(r.subjects, s)
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

func (r *runner) leaveOut(subject string, p Profile, err error, failed bool) {
	r.report.LeftOut = append(r.report.LeftOut, LeftOut{Subject: subject, Profile: p, Reason: err.Error(), Failed: failed})
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
		for i := range paths {
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
					r.leaveOut(x.name, p, fmt.Errorf("%s, round %d: %w", test, round+1, err), true)
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
			err = servers.start(bed, &bed.Ends[1], nil, "iperf3", "-s", "-p", iperfPort, "-B", in[1].String())
		}
		if ctx.Err() != nil {
			return nil, down, ctx.Err()
		}
		if err != nil {
			r.leaveOut(s.Name(), bed.Profile, err, true)
			continue
		}
		paths = append(paths, &path{name: s.Name(), bed: bed, in: in, duration: r.o.Duration, curves: r.report})
	}
	if len(paths) == 0 {
		return nil, down, errors.New("no subject could be brought up")
	}
	return paths, down, nil
}
