package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// root holds the state of all labs.
const root = "/run/transitlab"

// state is where a lab keeps its files.
type state struct{ name string }

func (s state) dir() string                { return filepath.Join(root, s.name) }
func (s state) file(name string) string    { return filepath.Join(s.dir(), name) }
func (s state) plan() string               { return s.file("lab.json") }
func (s state) pid(node string) string     { return s.file(node + ".pid") }
func (s state) socket(node string) string  { return s.file(node + ".sock") }
func (s state) private(node string) string { return s.file(node) }
func (s state) log(node string) string     { return filepath.Join(s.dir(), "log", node+".log") }
func (s state) ns(node string) netns.NS    { return netns.NS{Name: s.name + "-" + node} }

// ErrNotUp is wrapped when there is no lab with the name.
var ErrNotUp = errors.New("there is no such lab")

func (s state) readPlan() (Plan, error) {
	var p Plan
	b, err := os.ReadFile(s.plan())
	if errors.Is(err, os.ErrNotExist) {
		return p, fmt.Errorf("lab %q: %w (transitlab up)", s.name, ErrNotUp)
	}
	if err != nil {
		return p, fmt.Errorf("read the lab's plan: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("read the lab's plan %s: %w", s.plan(), err)
	}
	return p, nil
}

// writeJSON replaces a file as a whole: a reader sees the old or the new one.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeFile(path, append(b, '\n'))
}

func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// lock keeps a second command from changing the lab at the same time. A command that dies gives it up.
func (s state) lock(wait time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", root, err)
	}
	if err := os.Chmod(root, 0o755); err != nil { // somebody else may have made it: FRR's daemons have to pass
		return nil, fmt.Errorf("open %s to other users: %w", root, err)
	}
	path := filepath.Join(root, "."+s.name+".lock")
	deadline := time.Now().Add(wait)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := tryLock(path)
		if err != nil {
			return nil, fmt.Errorf("lock lab %q: %w", s.name, err)
		}
		if f != nil {
			return func() {
				_ = os.Remove(path) // while it is held: the next one makes a new file
				_ = f.Close()
				_ = os.Remove(root) // stays if another lab is there
			}, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("lab %q is being changed by another transitlab (waited %v)", s.name, wait)
		}
		<-tick.C
	}
}

// tryLock returns nil if somebody else holds the lock.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	// The file may have been removed between open and lock; then this lock is worth nothing.
	held, err1 := f.Stat()
	there, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(held, there) {
		_ = f.Close()
		return nil, nil
	}
	return f, nil
}
