package lab

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAProcessIsItsStartTimeToo(t *testing.T) {
	t.Parallel()
	me, ok := identify(os.Getpid())
	if !ok || !me.alive() {
		t.Fatalf("this process is not alive: %+v", me)
	}
	other := me
	other.Start++ // the same number, another process
	if other.alive() {
		t.Error("a process with another start time passes for this one")
	}
	// Were it sent, it would end this test.
	if err := other.signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
}

// A signal of the runtime's own interrupts what asks the kernel; that is no news of the process.
func TestAliveWhileSignalsCome(t *testing.T) {
	t.Parallel()
	p, ok := identify(os.Getpid())
	if !ok {
		t.Fatal("this process cannot be identified")
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Kill(p.PID, unix.SIGURG)
			}
		}
	}()
	for i := range 20_000 {
		if !p.alive() {
			t.Errorf("this process was taken for dead, asked for the %dth time", i)
			break
		}
	}
	close(stop)
	<-done
}

func TestGoneReapsAndForces(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, ok := identify(cmd.Process.Pid)
	if !ok {
		t.Fatal("a process that was just started is not there")
	}
	if left := gone([]process{p}, 20*time.Millisecond); len(left) != 1 {
		t.Error("a running process counts as gone")
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if left := gone([]process{p}, 5*time.Second); len(left) != 0 {
		t.Errorf("still there: %v", left)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", p.PID)); err == nil {
		t.Error("a zombie is left")
	}
}

func TestLockIsExclusiveAndLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to write to /run")
	}
	t.Parallel()
	s := state{"locktest"}
	unlock, err := s.lock(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lock(60 * time.Millisecond); err == nil {
		t.Error("locked twice")
	}
	unlock()
	unlock, err = s.lock(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := os.Stat(root + "/.locktest.lock"); err == nil {
		t.Error("the lock's file is left")
	}
}
