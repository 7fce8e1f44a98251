// Package netns makes, enters and removes named Linux network namespaces.
//
// The names are those of iproute2 (bind mounts in /run/netns), so that a
// person can look into a namespace with "ip netns exec NAME …" while a lab or
// a test runs. It is used by the lab, the tests and the benchmark; the daemon
// itself never changes its namespace.
//
// Do runs a function on an operating system thread of its own that is inside
// the namespace and ends with the function, so a thread never comes back to
// the Go scheduler in the wrong namespace. Sockets and netlink handles opened
// inside stay in the namespace for their whole life, whichever thread uses
// them later.
package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// dir is where iproute2 keeps named namespaces.
const dir = "/run/netns"

// NS names one network namespace.
type NS struct {
	// Name is the namespace's name as "ip netns" shows it.
	Name string
}

// New makes the namespace name with its loopback up. It fails if the name is taken.
func New(name string) (NS, error) {
	ns := NS{Name: name}
	if err := shareDir(); err != nil {
		return ns, fmt.Errorf("create network namespace %q: %w", name, err)
	}
	err := onThread(func() error {
		h, err := vnetns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("create network namespace %q: %w", name, err)
		}
		defer h.Close()
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find loopback in network namespace %q: %w", name, err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set loopback up in network namespace %q: %w", name, err)
		}
		return nil
	})
	return ns, err
}

// shareDir makes the folder a mount of its own, as the first "ip netns add" of a
// machine does: a namespace made before that would be mounted twice afterwards,
// once where nobody can reach it, and could not be removed.
func shareDir() error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of namespaces: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the folder of namespaces: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { // until f is closed; iproute2 takes the same one
		return fmt.Errorf("lock the folder of namespaces: %w", err)
	}
	share := func() error { return unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err = share()
	if errors.Is(err, unix.EINVAL) { // no mount of its own
		if err = unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("make %s a mount of its own: %w", dir, err)
	}
	return nil
}

// List returns the names of all namespaces with the prefix.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Exists reports whether the namespace is there.
func (n NS) Exists() bool {
	_, err := os.Stat(n.Path())
	return err == nil
}

// Path is the file that stands for the namespace.
func (n NS) Path() string { return filepath.Join(dir, n.Name) }

// Delete removes the namespace and every device in it; one that is gone already is no error.
func (n NS) Delete() error {
	if err := vnetns.DeleteNamed(n.Name); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("delete network namespace %q: %w", n.Name, err)
	}
	// DeleteNamed leaves the file where the mount was lost (a reboot of the mount namespace, say).
	if err := os.Remove(n.Path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete network namespace %q: %w", n.Name, err)
	}
	return nil
}

// Do runs f inside the namespace, on a thread of its own, and waits for it.
// Goroutines that f starts are not inside.
func (n NS) Do(f func() error) error {
	return onThread(func() error {
		h, err := vnetns.GetFromPath(n.Path())
		if err != nil {
			return fmt.Errorf("open network namespace %q: %w", n.Name, err)
		}
		defer h.Close()
		if err := vnetns.Set(h); err != nil {
			return fmt.Errorf("enter network namespace %q: %w", n.Name, err)
		}
		return f()
	})
}

// Command makes a command that runs inside the namespace; it is not started.
// It goes through "ip netns exec", which also mounts the namespace's /sys.
func (n NS) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
}

// Handle opens a netlink handle inside the namespace; the caller closes it.
func (n NS) Handle() (*netlink.Handle, error) {
	h, err := vnetns.GetFromPath(n.Path())
	if err != nil {
		return nil, fmt.Errorf("open network namespace %q: %w", n.Name, err)
	}
	defer h.Close()
	nl, err := netlink.NewHandleAt(h)
	if err != nil {
		return nil, fmt.Errorf("open netlink in network namespace %q: %w", n.Name, err)
	}
	return nl, nil
}

// onThread runs f on a locked thread which is thrown away afterwards:
// returning from a goroutine that is still locked ends its thread. All but the
// first thread of the process, which would stay in the namespace for good, and
// with it, for who looks into /proc, the whole process; so it is passed over.
func onThread(f func() error) error {
	errC := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			errC <- onThread(f) // this thread is held meanwhile, so it is another one
			runtime.UnlockOSThread()
			return
		}
		errC <- f()
	}()
	return <-errC
}
