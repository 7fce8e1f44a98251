package bfd

import "golang.org/x/sys/unix"

// raise lets the calling thread run before others, as far as we may: a session
// that waits a second for the CPU takes a healthy tunnel down. The least
// real-time priority is enough to come before everything ordinary; where that
// is forbidden, or a container has no real-time share, niceness helps a little.
//
// The thread must never come back to the Go scheduler; threads that are made
// from it do not inherit the priority. It spends microseconds for each packet
// and the kernel keeps 5 % of the time from all real-time threads together, so
// it cannot take the machine.
func raise() {
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}
	const self = 0
	if unix.SchedSetAttr(self, &attr, 0) == nil {
		return
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, self, -10) // without the privilege we run like everybody else
}
