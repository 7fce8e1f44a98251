package bfd

import "golang.org/x/sys/unix"

// raise lets the calling thread run before others, as far as we may: a session
// that waits a second for the CPU takes a healthy tunnel down. The thread must
// never come back to the Go scheduler.
//
// Niceness, not a real-time policy: a thread of the Go runtime spins for locks
// that an ordinary thread may hold. With more real-time threads than CPUs nobody
// ordinary runs to give the lock back, until the kernel throttles them all for
// a while: four NVAs on one machine stood still that way, a second at a time.
func raise() {
	const self = 0
	_ = unix.Setpriority(unix.PRIO_PROCESS, self, -15) // without the privilege we run like everybody else
}
