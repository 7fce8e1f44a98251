package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/bench"
	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// Ctrl-C at any step ends at once and leaves nothing: no namespace (with it go
// its links), no process, no folder, no socket.
func TestNetnsInterrupted(t *testing.T) {
	netnstest.RequireRoot(t)
	transitd := filepath.Join(t.TempDir(), "transitd")
	build := exec.Command("go", "build", "-o", transitd, "../transitd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build transitd: %v\n%s", err, out)
	}
	var subjects []string
	for _, s := range bench.Subjects(transitd) {
		if err := s.Prepare(t.Context()); err != nil {
			t.Logf("without %s: %v", s.Name(), err)
			continue
		}
		subjects = append(subjects, s.Name())
	}
	for _, step := range []string{
		"bringing up kernel-vxlan", "bringing up wireguard-go", "bringing up strongswan",
		"raw cpu", "strongswan pps", "transitd-vxlan tcp", "transitd-vxlan latency",
	} {
		bringUp, f := strings.Contains(step, "bringing up"), strings.Fields(strings.TrimPrefix(step, "bringing up "))
		at := slices.Index(subjects, f[0])
		if at < 0 {
			continue
		}
		t.Run(step, func(t *testing.T) {
			list, args := subjects, []string{"--transitd", transitd}
			if !bringUp { // its turn comes first
				list = append(append([]string{f[0]}, subjects[:at]...), subjects[at+1:]...)
				args = append(args, "--tests", f[1])
			}
			interrupt(t, step, append(args, "--subjects", strings.Join(list, ","))...)
		})
	}
}

// interrupt starts the program as a shell would, and does what Ctrl-C in its terminal does when a step begins.
func interrupt(t *testing.T, step string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "transitbench", append([]string{"run", "--profile", "bare", "--rounds", "1", "--duration", "1s"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what it starts has this session too
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var began time.Time
	var said strings.Builder
	for s := bufio.NewScanner(io.TeeReader(stderr, &said)); s.Scan(); {
		if strings.HasSuffix(s.Text(), step) {
			began = time.Now()
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitInterrupted || !strings.Contains(said.String(), "interrupted") {
		t.Errorf("it ends with %v:\n%s", err, said.String())
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	if names, err := netns.List("tdb-" + pid + "-"); err != nil || len(names) > 0 {
		t.Errorf("namespaces are left: %v, %v", names, err)
	}
	if left := session(t, pid); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
	for _, pattern := range []string{dir + "/*", "/var/run/wireguard/wg?" + pid + ".sock", "/sys/class/net/*" + pid} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
	}
}

// session are the processes of a session but zombies, which wait for somebody else.
func session(t *testing.T, id string) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(b), ") ") // pid (name) state ppid pgrp session …
		if f := strings.Fields(rest); len(f) > 3 && f[3] == id && f[0] != "Z" {
			list = append(list, string(b))
		}
	}
	return list
}
