// Package netnstest makes network namespaces that belong to one test.
//
// Names carry the process id of the test binary, so tests of several packages
// run at once on a machine that has namespaces of its own, and namespaces that
// an interrupted run left behind are known by their dead process and removed
// by the next run.
package netnstest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/transitd/transitd/pkg/netns"
)

const prefix = "tdt-"

// serial tells the namespaces of one test binary apart.
var serial atomic.Uint32

// New makes a namespace that t.Cleanup removes. Without root the test is
// skipped under -short and fails otherwise: a missing privilege is not a pass.
func New(t testing.TB, label string) netns.NS {
	t.Helper()
	RequireRoot(t)
	sweep(t)
	ns, err := netns.New(fmt.Sprintf("%s%d-%d-%s", prefix, os.Getpid(), serial.Add(1), label))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Delete(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

// RequireRoot skips under -short (what "make check" runs) and fails without root otherwise.
func RequireRoot(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs root and network namespaces: left out by -short")
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root to make network namespaces: run as root, or with -short for the tests that need none")
	}
}

// sweep removes namespaces of test processes that are gone.
func sweep(t testing.TB) {
	names, err := netns.List(prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || syscall.Kill(n, 0) != syscall.ESRCH {
			continue
		}
		if err := (netns.NS{Name: name}).Delete(); err != nil {
			t.Logf("remove a namespace that a dead test left: %v", err)
		}
	}
}
