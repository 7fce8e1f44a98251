package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

var update = flag.Bool("update", false, "rewrite what the scripts want to see")

// TestMain makes the real program a command of the scripts; only the folder that
// is searched for sockets is the script's own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"transitctl": func() {
			a := newApp(os.Getenv("SOCKET_DIR"))
			a.root = os.Getenv("WORK") // doctor --fix never writes below the machine's /etc
			os.Exit(a.run(context.Background(), os.Args[1:]))
		},
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SOCKET_DIR", filepath.Join(env.WorkDir, "run"))
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each program under the race detector ends a second late
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"daemon": startDaemon},
	})
}

// startDaemon is the command "daemon SOCKET FOLDER": a control server that answers from the JSON files of a folder.
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: daemon SOCKET FOLDER")
	}
	lock, err := control.Acquire(ts.MkAbs(args[0]))
	ts.Check(err)
	l, err := lock.Listen()
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.NewServer(fixtures(ts.MkAbs(args[1])), nil).Run(ctx, l) }()
	ts.Defer(func() {
		cancel()
		if err := errors.Join(<-done, lock.Release()); err != nil {
			ts.Logf("stop the daemon: %v", err)
		}
	})
}

// fixtures is a folder with status.json, routes.json, …; error.json makes everything but the status fail.
type fixtures string

func (f fixtures) read(name string, into any) error {
	var failure control.Failure
	if b, err := os.ReadFile(filepath.Join(string(f), "error.json")); err == nil {
		if err := json.Unmarshal(b, &failure); err != nil {
			return err
		}
		return &control.Error{Code: failure.Error.Code, Message: failure.Error.Message, Config: failure.Error.Config}
	}
	b, err := os.ReadFile(filepath.Join(string(f), name))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (f fixtures) Status() (s control.Status) {
	if err := f.read("status.json", &s); err != nil {
		s.Warnings = []string{err.Error()}
	}
	return s
}

func (f fixtures) BGPRoutes(q control.BGPRoutesQuery) (r control.BGPRoutes, err error) {
	err = f.read(string(q.Direction)+q.Peer+".json", &r)
	return r, err
}

func (f fixtures) Routes() (r control.Routes, err error) {
	err = f.read("routes.json", &r)
	return r, err
}

func (f fixtures) Explain(_ context.Context, _, _ string) (e control.Explanation, err error) {
	err = f.read("explain.json", &e)
	return e, err
}

func (f fixtures) Reload(_ context.Context, req control.ReloadRequest) (r control.Reload, err error) {
	r.DryRun = req.DryRun
	err = f.read("reload.json", &r)
	return r, err
}

// Events has what events.json says, and no more comes.
func (f fixtures) Events() *events.Log {
	var list []events.Event
	log := &events.Log{}
	if f.read("events.json", &list) == nil {
		for _, e := range list {
			log.Add(e.Time, e)
		}
	}
	return log
}

func (f fixtures) Rekey(_ context.Context, tunnel string, ike bool) (control.IPsecDone, error) {
	d := control.IPsecDone{Version: control.V1(), Tunnel: tunnel, Done: "a new CHILD SA is being made"}
	if ike {
		d.Done = "a new IKE SA is being made"
	}
	return d, nil
}

func (f fixtures) Terminate(_ context.Context, tunnel string) (control.IPsecDone, error) {
	return control.IPsecDone{Version: control.V1(), Tunnel: tunnel, Done: "its SAs are deleted; new ones are being made"}, nil
}

func (f fixtures) Drain(_ context.Context, back bool) (d control.Drained, err error) {
	if back {
		return control.Drained{Version: control.V1(), Drain: control.Drain{State: control.DrainNone}}, nil
	}
	err = f.read("drain.json", &d)
	return d, err
}

func (f fixtures) Ping(_ context.Context, _ control.PingQuery, each func(control.PingRound)) (p control.Pinged, err error) {
	if err = f.read("ping.json", &p); err == nil {
		for _, r := range p.Rounds {
			each(r)
		}
	}
	return p, err
}

func (f fixtures) MeasurePath(_ context.Context, _ string, progress func(string)) (p control.PMTU, err error) {
	if err = f.read("pmtu.json", &p); err == nil {
		progress("the peer answers")
	}
	return p, err
}

func (f fixtures) Trace(_ context.Context, _ control.TraceQuery, each func(control.TraceStep)) (t control.Trace, err error) {
	err = f.read("trace.json", &t)
	for _, s := range t.Steps {
		each(s)
	}
	return t, err
}

// Capture writes three packets whose content is the query.
func (f fixtures) Capture(_ context.Context, q control.CaptureQuery, w io.Writer) (c control.Captured, err error) {
	if err = f.read("capture.json", &c); err != nil {
		return c, err
	}
	ng, err := pcapgo.NewNgWriter(w, layers.LinkTypeRaw)
	if err != nil {
		return c, err
	}
	data := fmt.Appendf(nil, "%s %s %q %d %s %d", q.Tunnel, q.Layer, q.Filter, q.Count, q.Duration, q.Snap)
	for range 3 {
		err = errors.Join(err, ng.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(data), Length: len(data)}, data))
	}
	return c, errors.Join(err, ng.Flush())
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 7*time.Minute + 3*time.Second: "7m03s", 3*time.Hour + 4*time.Minute: "3h04m", 76*time.Hour + time.Minute: "3d04h",
	} {
		if got := duration(uint64(d / time.Second)); got != want {
			t.Errorf("duration(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1549: "1.5 kB", 12_345: "12 kB", 999_600: "1.0 MB", 12_345_678_901: "12 GB", 1 << 63: "9.2 EB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}
