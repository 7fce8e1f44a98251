package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// fourNVAs are those of a lab with two a side.
var fourNVAs = []string{"hub-nva", "hub-nva-2", "transit-nva", "transit-nva-2"}

// stream is what "transitlab stream -o json" measured.
type stream struct {
	Sent         int     `json:"sent"`
	Received     int     `json:"received"`
	Lost         int     `json:"lost"`
	LongestGapMS float64 `json:"longest_gap_ms"`
}

// running is a stream that runs beside the test.
type running struct {
	l    *lab
	what string
	done chan struct{}
	r    stream
	err  error
}

func (l *lab) stream(from, to string, d time.Duration) *running {
	f := &running{l: l, what: from + " → " + to, done: make(chan struct{})}
	c := l.cmd("stream", from, to, "--interval", "1ms", "--for", d.String(), "-o", "json")
	go func() {
		defer close(f.done)
		out, err := output(c)
		if jerr := json.Unmarshal([]byte(out), &f.r); jerr != nil {
			f.err = fmt.Errorf("%w: %w", err, jerr)
		}
	}()
	return f
}

func (f *running) wait() stream {
	f.l.t.Helper()
	<-f.done
	if f.err != nil || f.r.Received == 0 {
		f.l.t.Fatalf("stream %s: %v %+v", f.what, f.err, f.r)
	}
	return f.r
}

// allHealthy waits until every NVA says so itself.
func (l *lab) allHealthy(within time.Duration) {
	l.t.Helper()
	for _, node := range fourNVAs {
		l.eventually(node+" is healthy", within, func() error {
			if s := l.status(node); s.Health != "ok" {
				return fmt.Errorf("health %q, warnings %q", s.Health, s.Warnings)
			}
			return nil
		})
	}
}

// hops of the fabric for a prefix, as a node's card sees it.
func (l *lab) effective(node, prefix string) string {
	l.t.Helper()
	for line := range strings.Lines(l.must(l.cmd("effective", node))) {
		if strings.Contains(line, prefix+" ") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

// TestHA: two NVAs a side, active and standby.
func TestHA(t *testing.T) {
	netnstest.RequireRoot(t)
	r := newReleases(t)
	l := upLab(t, "h", "--nvas", "2", "--encapsulation", "vxlan", "--transitd", r.path)
	l.allHealthy(40 * time.Second)
	l.play(t, []part{
		{"silent death", testSilentDeath},
		{"planned work", func(t *testing.T, l *lab) { testPlannedWork(t, l, r) }},
	})
}

// releases is a path at which a lab's transitd is replaced, as a package's upgrade would do.
type releases struct {
	path   string
	builds map[string]string // version to program
}

// newReleases builds two versions, and installs one.
func newReleases(t *testing.T) *releases {
	t.Helper()
	dir := t.TempDir()
	r := &releases{path: filepath.Join(dir, "transitd"), builds: map[string]string{}}
	for _, version := range []string{"v98.0.0-before", "v99.0.0-after"} {
		r.builds[version] = filepath.Join(dir, version)
		build := exec.Command("go", "build", "-o", r.builds[version],
			"-ldflags", "-X github.com/transitd/transitd/pkg/version.linkedVersion="+version, "../../../cmd/transitd")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if _, err := output(build); err != nil {
			t.Fatal(err)
		}
	}
	r.install(t, "v98.0.0-before")
	return r
}

// install puts another program in the place of the one that may be running.
func (r *releases) install(t *testing.T, version string) {
	t.Helper()
	if err := errors.Join(os.Link(r.builds[version], r.path+".new"), os.Rename(r.path+".new", r.path)); err != nil {
		t.Fatal(err)
	}
}

// other is a version that is not this one.
func (r *releases) other(t *testing.T, version string) string {
	t.Helper()
	if r.builds[version] == "" {
		t.Fatalf("version %q runs, want one of %v", version, r.builds)
	}
	for v := range r.builds {
		if v != version {
			return v
		}
	}
	return ""
}

// attempts plays a part until it goes well, three times at most: on a machine
// that others use too a figure needs more rounds, not a lower bar.
func attempts(t *testing.T, play func() error) {
	t.Helper()
	for i := 1; ; i++ {
		err := play()
		if err == nil {
			return
		}
		if i == 3 {
			t.Fatal(err)
		}
		t.Logf("once more: %v", err)
	}
}

// testSilentDeath: the active hub NVA is cut off without a word. Traffic is back
// within 1.2 s in both directions, and nothing is lost when it comes back.
func testSilentDeath(t *testing.T, l *lab) { attempts(t, func() error { return silentDeath(t, l) }) }

func silentDeath(t *testing.T, l *lab) (err error) {
	there, back := l.stream("avs", onpremHost, 8*time.Second), l.stream("onprem", avsHost, 8*time.Second)
	time.Sleep(2 * time.Second) // streams are up; there is nothing to wait for
	l.must(l.cmd("cut", "hub-nva"))
	for _, f := range []*running{there, back} {
		r := f.wait()
		t.Logf("%s: %d of %d lost, longest gap %.0f ms", f.what, r.Lost, r.Sent, r.LongestGapMS)
		if r.LongestGapMS > 1200 || r.LongestGapMS < 300 {
			err = fmt.Errorf("%s: a gap of %.0f ms, want at most 1,200 (and some: the NVA was cut off)", f.what, r.LongestGapMS)
		}
	}
	if e := l.effective("spoke", "10.50.1.0/24"); !strings.Contains(e, "10.0.2.5") || strings.Contains(e, hubNIC) {
		t.Errorf("the hub's fabric sends to %q, want the other NVA alone", e)
	}
	there, back = l.stream("avs", onpremHost, 20*time.Second), l.stream("onprem", avsHost, 20*time.Second)
	time.Sleep(time.Second)
	l.must(l.cmd("heal"))
	l.allHealthy(20 * time.Second)
	for _, f := range []*running{there, back} {
		if r := f.wait(); r.Lost > 0 {
			err = fmt.Errorf("%s: %d of %d lost when the NVA came back", f.what, r.Lost, r.Sent)
		}
	}
	l.eventually("the best NVA carries again", 10*time.Second, func() error {
		if e := l.effective("spoke", "10.50.1.0/24"); !strings.Contains(e, hubNIC) || strings.Contains(e, "10.0.2.5") {
			return fmt.Errorf("the fabric sends to %q", e)
		}
		return nil
	})
	return err
}

// testPlannedWork: drain, restart with another version, undrain under 10,000
// packets a second and 20 TCP transfers: nothing is lost.
func testPlannedWork(t *testing.T, l *lab, r *releases) {
	l.serve("onprem", onpremHost)
	attempts(t, func() error { return plannedWork(t, l, r) })
}

func plannedWork(t *testing.T, l *lab, releases *releases) (err error) {
	const seconds = 25
	was := l.status("hub-nva").Node.Version
	next := releases.other(t, was)
	tcp := make(chan string, 1)
	go func() {
		out, err := output(l.in("avs", "iperf3", "-c", onpremHost, "-P", "20", "-b", "5M", "-t", fmt.Sprint(seconds), "-J"))
		var r iperf
		if jerr := json.Unmarshal([]byte(out), &r); jerr != nil || err != nil || r.Error != "" {
			tcp <- fmt.Sprintf("%v %v %s", err, jerr, r.Error)
			return
		}
		tcp <- ""
	}()
	c := l.cmd("stream", "avs", onpremHost, "--interval", "100us", "--for", fmt.Sprintf("%ds", seconds), "-o", "json")
	udp := make(chan stream, 1)
	go func() {
		var r stream
		out, err := output(c)
		if jerr := json.Unmarshal([]byte(out), &r); jerr != nil {
			fmt.Fprintln(os.Stderr, err, out)
		}
		udp <- r
	}()
	time.Sleep(2 * time.Second)
	start := time.Now()
	if out, err := output(l.ctlCommand("hub-nva", "drain", "--wait", "30s")); err != nil {
		t.Fatalf("drain: %v %s", err, out)
	}
	t.Logf("drained after %s", time.Since(start).Round(time.Millisecond))
	releases.install(t, next)
	l.must(l.cmd("restart", "hub-nva"))
	l.eventually("the new one answers, drained", 15*time.Second, func() error {
		var s struct {
			Node  struct{ Version string }
			Drain struct{ State string }
			BGP   []struct{ State string }
		}
		out, _ := output(l.ctlCommand("hub-nva", "status", "-o", "json")) // degraded is exit status 1
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			return err
		}
		for _, b := range s.BGP {
			if b.State != "established" {
				return fmt.Errorf("%+v", s)
			}
		}
		if s.Drain.State != "drained" || s.Node.Version != next {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	t.Logf("%s was replaced by %s", was, next)
	l.must(l.ctlCommand("hub-nva", "undrain"))
	r := <-udp
	t.Logf("UDP: %d sent, %d lost, longest gap %.1f ms", r.Sent, r.Lost, r.LongestGapMS)
	if r.Sent < seconds*8000 || r.Lost > 0 {
		err = fmt.Errorf("UDP: %d of %d lost", r.Lost, r.Sent)
	}
	if msg := <-tcp; msg != "" {
		t.Errorf("TCP: %s", msg)
	}
	l.allHealthy(20 * time.Second)
	return err
}

// ctlCommand is transitctl in a node, with its words for people.
func (l *lab) ctlCommand(node string, args ...string) *exec.Cmd {
	c := l.cmd(append([]string{"exec", node, "--", "transitctl"}, args...)...)
	c.Args = append([]string{c.Args[0], "--name", l.name}, c.Args[1:len(c.Args)-2]...)
	return c
}

// TestECMP: NVAs of the same priority share the traffic; when one dies, its
// flows are back within 1.2 s and the others notice nothing.
func TestECMP(t *testing.T) {
	l := upLab(t, "q", "--nvas", "2", "--ha", "ecmp")
	attempts(t, func() error { return ecmp(t, l) })
}

func ecmp(t *testing.T, l *lab) (err error) {
	l.must(l.cmd("heal"))
	l.allHealthy(40 * time.Second)
	if out := l.must(l.in("transit-nva", "ip", "route", "show", "172.16.0.0/16", "table", "7003")); !strings.Contains(out, "hub1 weight 1") || !strings.Contains(out, "hub2 weight 1") {
		t.Errorf("transit-nva does not spread:\n%s", out)
	}
	var flows []*running
	for range 4 { // each with a source port of its own
		flows = append(flows, l.stream("avs", onpremHost, 6*time.Second), l.stream("onprem", avsHost, 6*time.Second))
	}
	time.Sleep(2 * time.Second)
	l.must(l.cmd("cut", "hub-nva-2"))
	whole := 0
	for _, f := range flows {
		r := f.wait()
		if r.LongestGapMS > 1200 {
			err = fmt.Errorf("%s: a gap of %.0f ms", f.what, r.LongestGapMS)
		}
		if r.Lost == 0 {
			whole++
		}
	}
	t.Logf("%d of %d flows lost nothing", whole, len(flows))
	if whole == len(flows) {
		err = errors.New("no flow used the NVA that died")
	}
	if e := l.effective("spoke", "10.50.1.0/24"); strings.Contains(e, "10.0.2.5") {
		t.Errorf("the hub's fabric still sends to %q", e)
	}
	return err
}
