package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/transitd/transitd/pkg/bench/load"
)

// DefaultTests are what is measured if nobody says otherwise.
func DefaultTests() []string { return []string{"tcp", "pps", "latency", "cpu"} }

// Tests are what can be measured: DefaultTests first.
func Tests() []string { return append(DefaultTests(), "pps-imix", "pps-1400") }

// Names and units of the results.
const (
	TCP1     = "tcp-1"
	TCP8     = "tcp-8"
	LossFree = "pps-64-lossfree"
	Flood    = "pps-64-flood"
	// The same of longer packets.
	IMIXLossFree = "pps-imix-lossfree"
	IMIXFlood    = "pps-imix-flood"
	LongLossFree = "pps-1400-lossfree"
	LongFlood    = "pps-1400-flood"

	P50      = "latency-p50"
	P99      = "latency-p99"
	P999     = "latency-p99.9"
	LoadP50  = "latency-loaded-p50"
	LoadP99  = "latency-loaded-p99"
	CPUPerGB = "cpu-per-gb"

	gbps  = "Gbit/s"
	pps   = "packets/s"
	micro = "µs"
	cpuGB = "CPU s/GB"
)

// path is a subject that is up.
type path struct {
	name     string
	bed      *Testbed
	in       [2]netip.Addr
	duration time.Duration
	eight    bool // tcp is measured with eight flows too
	// lossFree is the rate that the round's search found; 0 before.
	lossFree float64
	curves   *Report // gets the curves of the last round
}

const (
	iperfPort  = "5201"
	loadPort   = 7777
	smallBytes = 64
	// fixedRate is what the cpu test sends: all subjects can do it.
	fixedRate = "1G"
	fixedBps  = 1e9
	// searchTrials is how many rates a search tries in the time of another measurement.
	searchTrials = 5
	// latencyRate is used where no loss-free rate was measured, in packets per second.
	latencyRate = 2000
)

// measure runs one test.
func (p *path) measure(ctx context.Context, test string) ([]sample, error) {
	switch test {
	case "tcp":
		return p.tcp(ctx)
	case "pps":
		return p.pps(ctx)
	case "pps-imix":
		_, samples, err := p.search(ctx, test, load.IMIX())
		return samples, err
	case "pps-1400":
		_, samples, err := p.search(ctx, test, load.Fixed(TunnelMTU))
		return samples, err
	case "latency":
		return p.latency(ctx)
	case "cpu":
		return p.cpu(ctx)
	}
	return nil, fmt.Errorf("there is no test %q (there are %s)", test, strings.Join(Tests(), ", "))
}

// iperf is what is read of iperf3's JSON.
type iperf struct {
	End struct {
		SumReceived struct {
			Bytes float64 `json:"bytes"`
			Bps   float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
	Error string `json:"error"`
}

// iperf3 runs a client at the first end. The congestion control is fixed: some
// machines default to BBR, which would be measured instead. iperf3 knows whole
// seconds only, and takes 0 (also "0.5") for ever, so d is rounded up.
func (p *path) iperf3(ctx context.Context, d time.Duration, args ...string) (r iperf, err error) {
	d = max((d + time.Second - 1).Truncate(time.Second), time.Second)
	ctx, cancel := context.WithTimeout(ctx, d+20*time.Second)
	defer cancel()
	args = append([]string{"-c", p.in[1].String(), "-p", iperfPort, "-J", "-C", "cubic", "-t", strconv.Itoa(int(d.Seconds()))}, args...)
	for {
		r, err = p.iperf3Once(ctx, args)
		// The server may not be done with the client before: it says so, and its word can be overtaken by the end of the connection.
		if err == nil || !strings.Contains(r.Error, "busy") && !strings.Contains(r.Error, "unable to receive control message") {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *path) iperf3Once(ctx context.Context, args []string) (r iperf, err error) {
	out, err := p.bed.Ends[0].Output(ctx, "iperf3", args...)
	if jerr := json.Unmarshal([]byte(out), &r); jerr != nil && err == nil {
		err = fmt.Errorf("read iperf3's answer: %w", jerr)
	}
	switch {
	case r.Error != "":
		return r, fmt.Errorf("iperf3: %s", r.Error)
	case err != nil:
		return r, err
	case r.End.SumReceived.Bytes == 0:
		return r, errors.New("iperf3: no byte arrived")
	}
	return r, nil
}

func (p *path) tcp(ctx context.Context) ([]sample, error) {
	one, err := p.iperf3(ctx, p.duration)
	if err != nil {
		return nil, err
	}
	if !p.eight {
		return []sample{{TCP1, gbps, one.End.SumReceived.Bps / 1e9}}, nil
	}
	eight, err := p.iperf3(ctx, p.duration, "-P", "8")
	if err != nil {
		return nil, err
	}
	return []sample{{TCP1, gbps, one.End.SumReceived.Bps / 1e9}, {TCP8, gbps, eight.End.SumReceived.Bps / 1e9}}, nil
}

func (p *path) load() load.Load {
	return load.Load{
		From: load.Endpoint{NS: p.bed.Ends[0].NS, Addr: p.in[0]}, To: load.Endpoint{NS: p.bed.Ends[1].NS, Addr: p.in[1]},
		Port: loadPort, Flows: 1, Sizes: load.Fixed(smallBytes), Duration: p.duration,
	}
}

// pps also keeps the curve of losses, and the rate for the latency test.
func (p *path) pps(ctx context.Context) ([]sample, error) {
	trials, samples, err := p.search(ctx, "pps-64", load.Fixed(smallBytes))
	if err != nil {
		return nil, err
	}
	p.lossFree = samples[0].value
	p.curves.setLoss(lossCurve(p.name, p.bed.Profile, trials))
	return samples, nil
}

// search looks for the highest rate without loss; what arrives of a flood comes with it.
func (p *path) search(ctx context.Context, name string, sizes []load.Size) ([]load.Trial, []sample, error) {
	s := load.Search{Load: p.load(), Resolution: 0.05, Trial: p.duration / searchTrials, Retries: 1}
	s.Load.Sizes = sizes
	best, flood, trials, err := s.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	return trials, []sample{{name + "-lossfree", pps, best}, {name + "-flood", pps, flood}}, nil
}

func lossCurve(subject string, p Profile, trials []load.Trial) Curve {
	c := Curve{Subject: subject, Profile: p}
	for _, t := range trials {
		c.Points = append(c.Points, Point{t.PPS, t.Loss * 100})
	}
	return c
}

func (p *path) latency(ctx context.Context) ([]sample, error) {
	l := p.load()
	l.PPS = p.lossFree / 10
	if l.PPS == 0 {
		l.PPS = latencyRate
	}
	idle, err := load.Latency(ctx, l)
	if err != nil {
		return nil, err
	}
	p.keepCurve("idle", idle.Hist)
	l.Duration = p.duration * 3 / 4 // so that the flow outlasts it
	loaded, err := p.beside(ctx, func() (load.LatencyResult, error) { return load.Latency(ctx, l) })
	if err != nil {
		return nil, err
	}
	p.keepCurve("beside 1 Gbit/s of TCP", loaded.Hist)
	at := func(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return []sample{
		{P50, micro, at(idle.Hist, 50)},
		{P99, micro, at(idle.Hist, 99)},
		{P999, micro, at(idle.Hist, 99.9)},
		{LoadP50, micro, at(loaded.Hist, 50)},
		{LoadP99, micro, at(loaded.Hist, 99)},
	}, nil
}

// beside runs f while a TCP flow uses the tunnel.
func (p *path) beside(ctx context.Context, f func() (load.LatencyResult, error)) (load.LatencyResult, error) {
	flow := make(chan error, 1)
	go func() {
		_, err := p.iperf3(ctx, p.duration, "-b", fixedRate)
		flow <- err
	}()
	r, err := f()
	return r, errors.Join(err, <-flow)
}

func (p *path) keepCurve(name string, h *hdrhistogram.Histogram) {
	c := LatencyCurve{Subject: p.name, Profile: p.bed.Profile, Load: name}
	for _, q := range []float64{0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99} {
		c.Points = append(c.Points, Point{q, float64(h.ValueAtQuantile(q)) / 1000})
	}
	p.curves.setLatency(c)
}

func (r *Report) setLoss(c Curve) {
	for i := range r.Loss {
		if r.Loss[i].Subject == c.Subject && r.Loss[i].Profile == c.Profile {
			r.Loss[i] = c
			return
		}
	}
	r.Loss = append(r.Loss, c)
}

func (r *Report) setLatency(c LatencyCurve) {
	for i := range r.Latency {
		if x := r.Latency[i]; x.Subject == c.Subject && x.Profile == c.Profile && x.Load == c.Load {
			r.Latency[i] = c
			return
		}
	}
	r.Latency = append(r.Latency, c)
}

// tooSlowError says that a test does not apply: a result of its own, not a failure.
type tooSlowError struct{ why string }

// Error says how slow.
func (e *tooSlowError) Error() string { return e.why }

// cpu is what the whole machine spends on a gigabyte at a rate that all can do.
func (p *path) cpu(ctx context.Context) ([]sample, error) {
	idle, err := idleTime()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r, err := p.iperf3(ctx, p.duration, "-b", fixedRate)
	if err != nil {
		return nil, err
	}
	after, err := idleTime()
	if err != nil {
		return nil, err
	}
	busy := time.Since(began)*time.Duration(runtime.NumCPU()) - (after - idle)
	if r.End.SumReceived.Bps < fixedBps*0.95 {
		return nil, &tooSlowError{fmt.Sprintf("it reaches %.2f of the %.0f Gbit/s at which CPU time is compared", r.End.SumReceived.Bps/1e9, fixedBps/1e9)}
	}
	return []sample{{CPUPerGB, cpuGB, busy.Seconds() / (r.End.SumReceived.Bytes / 1e9)}}, nil
}

// idleTime is how long all processors together have had nothing to do, or were
// not given to this machine, since it started. It is exact, while the times by
// kind of work are counted by the timer's tick (proc_stat(5)), which a sender
// that is paced by timers hits or misses as a whole.
func idleTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the processors' time: %w", err)
	}
	return parseIdle(string(b))
}

func parseIdle(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("read the processors' time: %q", line)
	}
	var ticks uint64
	for _, i := range []int{4, 5, 8} { // idle, iowait, steal
		n, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the processors' time: %w", err)
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, the same on all of Linux's architectures that Go has
	return time.Duration(ticks) * time.Second / perSecond, nil
}
