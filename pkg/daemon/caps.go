package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// kept are the capabilities that a running daemon needs, also for what a reload opens anew.
func kept() []cap.Value {
	return []cap.Value{
		cap.NET_ADMIN,        // TUN devices, routes, rules, the mark of the outer sockets, sysctls of the network
		cap.NET_RAW,          // binding sockets to an interface, ESP without UDP
		cap.NET_BIND_SERVICE, // BGP's port 179
	}
}

// niceLimit is 20 minus the lowest niceness, -15 (getrlimit(2)).
const niceLimit = 35

// dropPrivileges leaves the process, all its threads, with the kept
// capabilities only, and without a way to get others: no_new_privs, empty
// inheritable and ambient sets and a bounding set cut down to the same. Its
// memory, which has the keys, is not for others of its user and not for a core file.
//
// A process that runs as root keeps what its user id gives without a
// capability: files of root can be read and the socket removed. A configuration
// file that only CAP_DAC_OVERRIDE could read is not readable on reload.
func dropPrivileges() error {
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// What a reload starts anew may still run before others, as BFD does. Where
	// the limit cannot be raised it is the service manager's (LimitNICE=).
	_ = unix.Setrlimit(unix.RLIMIT_NICE, &unix.Rlimit{Cur: niceLimit, Max: niceLimit})
	have := cap.GetProc()
	if err := dropBounding(have); err != nil {
		return err
	}
	want := cap.NewSet()
	for _, v := range kept() {
		if ok, err := have.GetFlag(cap.Permitted, v); err != nil || !ok {
			continue // started without it: what needs it has said so by now
		}
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			if err := want.SetFlag(flag, true, v); err != nil {
				return fmt.Errorf("keep capability %s: %w", v, err)
			}
		}
	}
	if err := want.SetProc(); err != nil {
		return fmt.Errorf("drop capabilities to %s: %w", want, err)
	}
	// Of the whole process, and last: a change of capabilities may set it anew (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep the memory to ourselves: %w", err)
	}
	return nil
}

// dropBounding cuts the bounding set down, if the process may (CAP_SETPCAP).
func dropBounding(have *cap.Set) error {
	if ok, err := have.GetFlag(cap.Effective, cap.SETPCAP); err != nil || !ok {
		return nil // systemd's CapabilityBoundingSet did it
	}
	keep := map[cap.Value]bool{}
	for _, v := range kept() {
		keep[v] = true
	}
	for v := range cap.MaxBits() {
		if keep[v] {
			continue
		}
		if err := cap.DropBound(v); err != nil {
			return fmt.Errorf("drop %s from the bounding set: %w", v, err)
		}
	}
	return nil
}
