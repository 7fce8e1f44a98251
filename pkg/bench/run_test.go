package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

func TestTestsOfProfiles(t *testing.T) {
	t.Parallel()
	o := Options{Profiles: Profiles(), Tests: DefaultTests()}
	if diff := cmp.Diff(DefaultTests(), o.testsOf(Wire)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"tcp"}, o.testsOf(Super)); diff != "" {
		t.Error(diff)
	}
	// Without "wire", the first takes its place.
	o.Profiles = []Profile{Bare, Super}
	if diff := cmp.Diff(DefaultTests(), o.testsOf(Bare)); diff != "" {
		t.Error(diff)
	}
}

// "make bench" promises to end in under 15 minutes, with installing and building.
func TestEstimateOfTheDefaults(t *testing.T) {
	t.Parallel()
	o := Options{Subjects: Subjects(""), Profiles: Profiles(), Tests: DefaultTests(), Rounds: 5, Duration: 2 * time.Second}
	if d := o.Estimate(); d < 5*time.Minute || d > 14*time.Minute {
		t.Errorf("%s", d)
	}
}

func TestParseIdle(t *testing.T) {
	t.Parallel()
	// user nice system idle iowait irq softirq steal guest guest_nice
	const stat = "cpu  1000 10 200 3000 40 5 60 7 0 0\ncpu0 500 5 100 1500 20 2 30 3 0 0\n"
	if got, err := parseIdle(stat); err != nil || got != 30470*time.Millisecond {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu a b c d e f g h i\n"} {
		if got, err := parseIdle(bad); err == nil {
			t.Errorf("%q is %s", bad, got)
		}
	}
}

// fake is a subject that goes wrong.
type fake struct {
	name        string
	prepare, up error
	down        *int
}

func (f *fake) Name() string                  { return f.name }
func (f *fake) Prepare(context.Context) error { return f.prepare }
func (f *fake) Down() error                   { *f.down++; return nil }

func (f *fake) Up(context.Context, *Testbed) ([2]netip.Addr, error) {
	return [2]netip.Addr{}, f.up
}

// leftovers fails if anything of this process is still there.
func leftovers(t *testing.T) {
	t.Helper()
	names, err := netns.List(bedPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, fmt.Sprintf("%s%d-", bedPrefix, os.Getpid())) {
			t.Errorf("left behind: %s", n)
		}
	}
}

// Not parallel to each other: a process has one testbed at a time.
func TestNetnsRun(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Run("measures what works and names what does not", func(t *testing.T) {
		downs := 0
		o := Options{
			Subjects: []Subject{
				&raw{}, &kernelVXLAN{},
				&fake{name: "missing", prepare: &MissingError{What: "it", Install: "apt-get install it"}, down: &downs},
				&fake{name: "broken", up: errors.New("no such device"), down: &downs},
			},
			Profiles: []Profile{Wire}, Tests: []string{"tcp"}, Rounds: 1, Duration: 300 * time.Millisecond,
		}
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"raw", "kernel-vxlan"} {
			if x := r.Find(s, Wire, TCP1); x == nil || x.Median < 0.1 {
				t.Errorf("%s: %+v", s, x)
			}
		}
		if v, ok := r.Ratio("kernel-vxlan", "raw", Wire, TCP1); !ok || v <= 0 {
			t.Errorf("ratio %v, %v", v, ok)
		}
		want := []LeftOut{
			{Subject: "missing", Reason: "it is missing: apt-get install it"},
			{Subject: "broken", Profile: Wire, Reason: "no such device", Failed: true},
		}
		if diff := cmp.Diff(want, r.LeftOut); diff != "" {
			t.Error(diff)
		}
		if downs != 1 {
			t.Errorf("Down was called %d times", downs)
		}
		leftovers(t)
	})
	t.Run("interrupted, it cleans up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := Options{Subjects: []Subject{&raw{}}, Profiles: []Profile{Bare}, Tests: []string{"tcp"}, Rounds: 1, Duration: time.Minute}
		o.Progress = func(_, _ int, what string) {
			if strings.HasSuffix(what, "raw tcp") {
				time.AfterFunc(200*time.Millisecond, cancel)
			}
		}
		began := time.Now()
		if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("ends with %v", err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s to stop", took)
		}
		leftovers(t)
	})
	t.Run("a killed run is swept up", func(t *testing.T) {
		const dead = bedPrefix + "4194305-a" // above the highest process id
		if _, err := netns.New(dead); err != nil {
			t.Fatal(err)
		}
		others, err := Others()
		if err != nil || slices.Contains(others, 4194305) {
			t.Errorf("a dead process is among %v, %v", others, err)
		}
		if err := sweep(); err != nil {
			t.Fatal(err)
		}
		if (netns.NS{Name: dead}).Exists() {
			t.Error("it is still there")
		}
	})
}

// A subject that carries nothing is an error in every test, not a zero.
func TestNetnsNoTrafficIsAFailure(t *testing.T) {
	netnstest.RequireRoot(t)
	bed, err := NewTestbed(t.Context(), Wire)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(bed.Dir); err == nil {
			t.Errorf("%s is still there", bed.Dir)
		}
		leftovers(t)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := reachable(ctx, bed, inner(1)); err == nil {
		t.Error("an address that nobody has can be reached")
	}
	p := &path{name: "nothing", bed: bed, in: [2]netip.Addr{bed.Ends[0].Addr, bed.Ends[1].Addr}, duration: 100 * time.Millisecond, curves: &Report{}}
	if err := bed.Ends[1].RunAll(t.Context(), "ip link set eth0 down"); err != nil {
		t.Fatal(err)
	}
	if s, err := p.measure(t.Context(), "pps"); err == nil {
		t.Errorf("a wire that is down gives %v", s)
	}
	if s, err := p.measure(t.Context(), "frobs"); err == nil {
		t.Errorf("an unknown test gives %v", s)
	}
}
