package bfd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stoppedEnv is set in the copy of the test binary that is stopped.
const stoppedEnv = "TRANSITD_BFD_TEST_STOPPED"

// TestStoppedProcessKeepsItsSession stops a whole process for longer than its
// detection time (SIGSTOP), as a machine without CPU does. The peer is patient
// and has gone on talking: what is in the socket has to be read before the
// silence is judged.
func TestStoppedProcessKeepsItsSession(t *testing.T) {
	t.Parallel()
	near, far := netip.MustParseAddr("127.0.3.1"), netip.MustParseAddr("127.0.3.2")
	c := Config{Name: "stopped", Local: near, Peer: far, Multihop: true, Interval: 100 * ms}
	if os.Getenv(stoppedEnv) != "" {
		stoppedChild(t, c)
		return
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestStoppedProcessKeepsItsSession$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), stoppedEnv+"=1")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	c.Local, c.Peer = far, near
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "up" {
		t.Fatalf("the child says %q, not that it is up", lines.Text())
	}
	heard := func(more uint64) { // packets of the child's
		t.Helper()
		before := s.Status().Rx
		eventually(t, 10*time.Second, func() error {
			if st := s.Status(); st.Rx < before+more {
				return fmt.Errorf("%+v", st)
			}
			return nil
		})
	}
	heard(5)
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if sig == unix.SIGSTOP {
			<-time.After(800 * ms)
		}
	}
	heard(5)
	_ = in.Close()
	if !lines.Scan() || lines.Text() != "up, 0 flaps, 0 graces" {
		t.Errorf("the child says %q", lines.Text())
	}
}

// stoppedChild runs a session until the standard input ends, and says how it went.
func stoppedChild(t *testing.T, c Config) {
	up := make(chan struct{})
	c.Multiplier = 50 // the peer's patience
	c.OnState = func(ch Change) {
		if ch.To == Up && ch.From != Up {
			select {
			case <-up: // again: the flaps tell
			default:
				close(up)
			}
		}
	}
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	<-up
	fmt.Println("up")
	_, _ = io.Copy(new(strings.Builder), os.Stdin)
	st := s.Status()
	fmt.Printf("%s, %d flaps, %d graces\n", st.State, st.Flaps, st.Graces)
}
