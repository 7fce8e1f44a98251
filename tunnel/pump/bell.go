package pump

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bell interrupts a loop that waits for a file descriptor.
type bell struct{ fd int }

func newBell() (*bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return &bell{fd: fd}, nil
}

// ring makes the present wait return, or the next one.
func (b *bell) ring() {
	one := [8]byte{7: 1} // any number but 0 does, in either byte order
	_, _ = unix.Write(b.fd, one[:])
}

// linger is how long a loop waits without telling the Go scheduler, in nanoseconds.
//
// A system call that the scheduler knows to block gives the thread's processor
// away, and on its return has to find another: at 4 Gbit/s that was 7 context
// switches for each 64 KB (docs/performance.md). While packets flow the gaps are
// shorter than this, and the thread just sleeps in the kernel. It is short enough
// for the garbage collector, which has to wait for it.
const linger = 5 * 1000 * 1000

// wait blocks until one of fds, of which the first is the bell's, can be read, or
// the timeout in milliseconds is over (-1: never). It may also return for nothing.
func (b *bell) wait(fds []unix.PollFd, timeout int) {
	pause := unix.Timespec{Nsec: linger}
	n, _, _ := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)), uintptr(unsafe.Pointer(&pause)), 0, 0, 0)
	if n == 0 {
		if _, err := unix.Poll(fds, timeout); errors.Is(err, unix.EINTR) {
			return
		}
	}
	if fds[bellFD].Revents != 0 {
		var buf [8]byte
		_, _ = unix.Read(b.fd, buf[:])
	}
}

func (b *bell) close() error { return unix.Close(b.fd) }
