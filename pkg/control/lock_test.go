package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLockSecondInstance(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "transitd")
	socket := filepath.Join(dir, "hub.sock")
	first, err := Acquire(socket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(socket)
	inUse, ok := errors.AsType[*InUseError](err)
	if !ok || inUse.PID != os.Getpid() {
		t.Fatalf("a second instance got %v, want an InUseError with our pid", err)
	}
	if other, err := Acquire(filepath.Join(dir, "transit.sock")); err != nil {
		t.Errorf("another node on the machine: %v", err)
	} else if err := other.Release(); err != nil {
		t.Error(err)
	}
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder that was made is still there: %v", err)
	}
}

func TestLockAfterCrash(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "hub.sock")
	dead, err := Acquire(socket)
	if err != nil {
		t.Fatal(err)
	}
	undo := map[string]string{"net/ipv4/ip_forward": "0"}
	if err := dead.Remember(undo); err != nil {
		t.Fatal(err)
	}
	l, err := dead.Listen()
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	l.Close()
	dead.file.Close()

	next, err := Acquire(socket)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(undo, next.Left()); diff != "" {
		t.Errorf("what the dead owner remembered (-want +got):\n%s", diff)
	}
	l, err = next.Listen()
	if err != nil {
		t.Fatalf("in place of the dead owner's socket: %v", err)
	}
	fi, err := os.Stat(socket)
	if err != nil || fi.Mode().Perm() != socketMode {
		t.Errorf("the socket has mode %v (%v), want %o", fi.Mode(), err, socketMode)
	}
	l.Close()
	if err := next.Release(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(socket + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLockSparesWhatIsNoSocket(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "hub.sock")
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := Acquire(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	})
	if _, err := lock.Listen(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("Listen in place of a file: %v", err)
	}
	if b, err := os.ReadFile(socket); err != nil || string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}
