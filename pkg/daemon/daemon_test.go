package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transitd/transitd/pkg/config"
)

// TestUndoList checks the order, and that an error does not keep the rest from being undone.
func TestUndoList(t *testing.T) {
	t.Parallel()
	var u undoList
	var order []int
	first, second := errors.New("first"), errors.New("second")
	for i, err := range []error{first, nil, second} {
		u.add(func() error { order = append(order, i); return err })
	}
	if err := u.run(); !errors.Is(err, first) || !errors.Is(err, second) {
		t.Errorf("error %v", err)
	}
	if d := diff([]int{2, 1, 0}, order); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
	var nothing undoList
	if err := nothing.run(); err != nil {
		t.Errorf("nothing to undo: %v", err)
	}
}

// TestLockProtocol takes a number that no route protocol has, so that a daemon on this machine does not matter.
func TestLockProtocol(t *testing.T) {
	t.Parallel()
	number := 1<<20 + os.Getpid()
	first, err := lockProtocol(number)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockProtocol(number); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("owns the routes with protocol %d", number)) {
		t.Errorf("second lock: %v", err)
	}
	other, err := lockProtocol(number + 1<<22)
	if err != nil {
		t.Fatalf("another number: %v", err)
	}
	if err := errors.Join(first.release(), other.release()); err != nil {
		t.Fatal(err)
	}
	again, err := lockProtocol(number)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	if err := again.release(); err != nil {
		t.Fatal(err)
	}
	if err := again.release(); err == nil {
		t.Error("a second release is no error")
	}
}

// TestCheck checks a file without a machine that fits: "transitd -check" on a desk.
func TestCheck(t *testing.T) {
	t.Parallel()
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), fileName)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	elsewhere := edit(t, nodeYAML, "eth0", "nosuchcard0")
	notes, err := Check(write(elsewhere))
	if err != nil || len(notes) != 1 || !strings.HasPrefix(notes[0], "not checked against a machine: ") {
		t.Errorf("a valid file of another machine: notes %q, error %v", notes, err)
	}
	if _, err := Check(write(edit(t, elsewhere, "7700", "0"))); len(config.AsErrors(err)) != 1 {
		t.Errorf("an invalid file: %v", err)
	}
	if _, err := Check(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := New(mustParse(t, elsewhere), Options{}); err == nil || !strings.Contains(err.Error(), "nosuchcard0") {
		t.Errorf("New without the card: %v", err)
	}
}
