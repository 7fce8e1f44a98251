package pump

import (
	"errors"
	"fmt"

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

// wait blocks until fd can be read, the bell was rung, or the timeout in
// milliseconds is over (-1: never).
func (b *bell) wait(fd, timeout int) {
	fds := [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(b.fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds[:], timeout); errors.Is(err, unix.EINTR) {
		return // the loop comes back
	}
	if fds[1].Revents != 0 {
		var buf [8]byte
		_, _ = unix.Read(b.fd, buf[:])
	}
}

func (b *bell) close() error { return unix.Close(b.fd) }
