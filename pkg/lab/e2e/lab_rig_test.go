package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// binDir holds the programs under test, built once a run by TestMain.
var binDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 { // the tests themselves say what is missing
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "transitd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	build := exec.Command("go", "build", "-o", dir, "../../../cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs under test: %v\n%s", err, out)
		return 1
	}
	sweepDeadLabs()
	// An interrupted run tears its labs down as well.
	sigC := make(chan os.Signal, 1)
	signal.Notify(sigC, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-sigC
		downOwnLabs()
		os.Exit(130)
	}()
	defer downOwnLabs()
	return m.Run()
}

var labName = regexp.MustCompile(`^(e2e([0-9]+)[a-z]*)-`)

// downOwnLabs removes labs of this process, sweepDeadLabs those of processes that are gone.
func downOwnLabs() { downLabs(func(pid int) bool { return pid == os.Getpid() }) }

func sweepDeadLabs() {
	downLabs(func(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}

func downLabs(which func(pid int) bool) {
	names, err := netns.List("e2e")
	if err != nil {
		return
	}
	done := map[string]bool{}
	for _, n := range names {
		m := labName.FindStringSubmatch(n)
		if m == nil || done[m[1]] {
			continue
		}
		if pid, err := strconv.Atoi(m[2]); err != nil || !which(pid) {
			continue
		}
		done[m[1]] = true
		_ = exec.Command(filepath.Join(binDir, "transitlab"), "down", "--name", m[1]).Run()
	}
}

// lab is one running laboratory.
type lab struct {
	t    testing.TB
	name string
}

// upLab brings a lab up and takes it down with the test.
func upLab(t *testing.T, suffix string, args ...string) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("needs root and network namespaces: left out by -short")
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root: run as root, or with -short for the tests that need none")
	}
	l := &lab{t: t, name: fmt.Sprintf("e2e%d%s", os.Getpid(), suffix)}
	t.Cleanup(func() {
		if t.Failed() {
			l.dump()
		}
		l.must(l.cmd("down"))
		l.checkNothingLeft()
	})
	l.must(l.cmd(append([]string{"up"}, args...)...))
	return l
}

// part is one of several things that are tried in the same lab.
type part struct {
	name string
	f    func(*testing.T, *lab)
}

// play tries one part after the other, each as a test of its own, up to the first that fails.
func (l *lab) play(t *testing.T, parts []part) {
	t.Helper()
	for _, p := range parts {
		ok := t.Run(p.name, func(t *testing.T) {
			sub := &lab{t: t, name: l.name}
			p.f(t, sub)
			if t.Failed() {
				sub.dump()
			}
		})
		if !ok {
			l.t.Fatalf("stopped after %q: the lab is no longer as the next part expects it", p.name)
		}
	}
}

func (l *lab) cmd(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(binDir, "transitlab"), append(args, "--name", l.name)...)
}

func (l *lab) ns(node string) netns.NS { return netns.NS{Name: l.name + "-" + node} }

// in makes a command inside a node.
func (l *lab) in(node, name string, args ...string) *exec.Cmd {
	return l.ns(node).Command(context.Background(), name, args...)
}

// must runs a command and returns its standard output.
func (l *lab) must(c *exec.Cmd) string {
	l.t.Helper()
	out, err := output(c)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func output(c *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(c.Args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// eventually polls an outside condition, which has no event to wait for, and shows its last answer.
func (l *lab) eventually(what string, within time.Duration, f func() error) time.Duration {
	l.t.Helper()
	start := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			l.t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-tick.C
	}
}

// ctl asks a node's daemon and decodes the JSON answer; the exit code is returned, not judged.
func (l *lab) ctl(node string, into any, args ...string) int {
	l.t.Helper()
	c := l.cmd(append([]string{"exec", node, "--", filepath.Join(binDir, "transitctl")}, append(args, "-o", "json")...)...)
	// transitlab's own flags must stand before the node's command.
	c.Args = append([]string{c.Args[0], "--name", l.name}, c.Args[1:len(c.Args)-2]...)
	out, err := output(c)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		l.t.Fatal(err)
	}
	if into == nil {
		return code
	}
	if jerr := json.Unmarshal([]byte(out), into); jerr != nil {
		l.t.Fatalf("transitctl %v on %s: %v\n%s %v", args, node, jerr, out, err)
	}
	return code
}

// status is what design 8 promises of "transitctl status -o json".
type status struct {
	SchemaVersion int    `json:"schema_version"`
	Health        string `json:"health"`
	Node          struct {
		Version string `json:"version"`
	} `json:"node"`
	Tunnels []struct {
		Name      string            `json:"name"`
		State     string            `json:"state"`
		RXPackets uint64            `json:"rx_packets"`
		TXPackets uint64            `json:"tx_packets"`
		Drops     map[string]uint64 `json:"drops"`
	} `json:"tunnels"`
	BGP []struct {
		Peer  string `json:"peer"`
		Name  string `json:"name"`
		Role  string `json:"role"`
		State string `json:"state"`
	} `json:"bgp"`
	Routes struct {
		Site, Remote int
		Repaired     uint64
	} `json:"routes"`
	Warnings []string `json:"warnings"`
}

func (l *lab) status(node string) status {
	l.t.Helper()
	var s status
	l.ctl(node, &s, "status")
	return s
}

// healthy waits until both NVAs say so themselves.
func (l *lab) healthy() {
	l.t.Helper()
	for _, node := range []string{"hub-nva", "transit-nva"} {
		l.eventually(node+" is healthy", 30*time.Second, func() error {
			if s := l.status(node); s.Health != "ok" {
				return fmt.Errorf("health %q, warnings %q", s.Health, s.Warnings)
			}
			return nil
		})
	}
}

// dump prints what a person would ask first when a test failed.
func (l *lab) dump() {
	for _, node := range []string{"hub-nva", "transit-nva"} {
		for _, args := range [][]string{{"ip", "rule"}, {"ip", "route", "show", "table", "all"}, {"ip", "-br", "addr"}} {
			out, err := output(l.in(node, args[0], args[1:]...))
			l.t.Logf("%s# %s\n%s%v", node, strings.Join(args, " "), out, err)
		}
	}
	logs, _ := filepath.Glob(filepath.Join("/run/transitlab", l.name, "log", "*"))
	for _, f := range logs {
		b, _ := os.ReadFile(f)
		if len(b) == 0 {
			continue
		}
		l.t.Logf("%s\n%s", f, b[max(0, len(b)-4000):])
	}
}

// checkNothingLeft holds "transitlab down" to its promise.
func (l *lab) checkNothingLeft() {
	l.t.Helper()
	if names, err := netns.List(l.name + "-"); err != nil || len(names) > 0 {
		l.t.Errorf("namespaces left after down: %v %v", names, err)
	}
	if _, err := os.Stat(filepath.Join("/run/transitlab", l.name)); !errors.Is(err, os.ErrNotExist) {
		l.t.Errorf("state folder left after down: %v", err)
	}
	if out, err := exec.Command("pgrep", "-af", l.name+"[-/]").Output(); err == nil {
		l.t.Errorf("processes left after down:\n%s", out)
	}
}
