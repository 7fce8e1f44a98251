package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
)

// The screen is drawn again and again, also while there is no daemon, until it is interrupted.
func TestStatusLive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	status := `{"schema_version":1,"node":{"name":"hub-nva"},"health":"degraded","warnings":["tunnel tr0: no"],
		"advice":[{"warning":"tunnel tr0: no","run":"transitctl ping tr0"}]}`
	if err := os.WriteFile(filepath.Join(dir, "status.json"), []byte(status), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "hub-nva.sock")
	lock, err := control.Acquire(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Release() })
	l, err := lock.Listen()
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- control.NewServer(fixtures(dir), nil).Run(serving, l) }()

	for _, terminal := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		screens := &until{stop: cancel, screens: 3, mark: "hub-nva: degraded"}
		a := &app{stdout: screens, stderr: screens, env: func(string) string { return "" }, socket: socket, output: "table", terminal: terminal}
		if err := a.watchStatus(ctx, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		text := screens.String()
		if !strings.Contains(text, "warning: tunnel tr0: no") || !strings.Contains(text, "  more: transitctl ping tr0") {
			t.Errorf("no warning with the next command:\n%q", text)
		}
		if strings.Contains(text, "\x1b[H") != terminal {
			t.Errorf("terminal %v:\n%q", terminal, text)
		}
	}

	stop()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	screens := &until{stop: cancel, screens: 2, mark: "error:"}
	a := &app{stdout: screens, stderr: screens, env: func(string) string { return "" }, socket: socket, output: "table"}
	if err := a.watchStatus(ctx, time.Millisecond); err != nil || !strings.Contains(screens.String(), "trying again") {
		t.Errorf("%v: %s", err, screens)
	}
}

// until interrupts after some screens.
type until struct {
	bytes.Buffer
	stop    func()
	screens int
	mark    string
}

func (u *until) Write(b []byte) (int, error) {
	n, err := u.Buffer.Write(b)
	if strings.Count(u.String(), u.mark) >= u.screens {
		u.stop()
	}
	return n, err
}
