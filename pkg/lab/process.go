package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// process identifies a process for good: a process id alone may be somebody else's by now.
type process struct {
	PID int `json:"pid"`
	// Start is the time of its start in clock ticks since boot, field 22 of /proc/PID/stat.
	Start uint64 `json:"start"`
}

// identify reads a process's start time; ok is false when it is gone or a zombie.
func identify(pid int) (p process, ok bool) {
	p, state, ok := stat(pid)
	return p, ok && state != "Z" && state != "X"
}

func stat(pid int) (p process, state string, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, "", false
	}
	// The command in parentheses may itself have spaces and parentheses: fields count from the last one.
	_, rest, found := bytes.Cut(b[max(bytes.LastIndexByte(b, ')'), 0):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !found || len(fields) < 20 {
		return process{}, "", false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return process{PID: pid, Start: start}, fields[0], err == nil
}

// alive reports whether exactly this process still runs. A process whose first thread is a zombie still does while
// other threads of it end, and with them its locks and sockets: its pidfd tells when the last one has.
func (p process) alive() bool {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is buffered
	if now, _, ok := stat(p.PID); !ok || now != p {
		return false
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) { // which the runtime's own signals cause now and then
			return n == 0
		}
	}
}

// signal sends to exactly this process; one that is gone is no error.
func (p process) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is buffered
	if !p.alive() {
		return nil
	}
	// The descriptor stands for the process that was just identified, whatever happens to the number.
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// gone waits until none of the processes runs, and reaps those that are children of this one.
func gone(procs []process, wait time.Duration) (left []process) {
	deadline := time.Now().Add(wait)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left = left[:0]
		for _, p := range procs {
			if p.alive() {
				left = append(left, p)
				continue
			}
			// Another error means that it is no child of ours: init reaps it.
			for _, err := unix.Wait4(p.PID, nil, unix.WNOHANG, nil); errors.Is(err, unix.EINTR); {
				_, err = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		<-tick.C
	}
}

// start runs a program in a node's namespace with its output in the node's log. It becomes a session of its own, so
// neither the end of this command nor a Ctrl-C reaches it.
func (s state) start(node string, argv ...string) error {
	if p, ok := s.running(node); ok {
		return fmt.Errorf("%s runs already (process %d)", node, p.PID)
	}
	log, err := os.OpenFile(s.log(node), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", node, err)
	}
	defer log.Close()
	// Not bound to a context: the process is to stay when this command ends.
	cmd := s.ns(node).Command(context.Background(), argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s in %s: %w", argv[0], node, err)
	}
	// "ip netns exec" becomes the program: the process id stays.
	p, ok := identify(cmd.Process.Pid)
	if !ok {
		return fmt.Errorf("%s in %s ended at once; see %s", argv[0], node, s.log(node))
	}
	return writeJSON(s.pid(node), p)
}

// running reads who runs in a node, if it still does.
func (s state) running(node string) (process, bool) {
	var p process
	b, err := os.ReadFile(s.pid(node))
	if err != nil || json.Unmarshal(b, &p) != nil {
		return process{}, false
	}
	return p, p.alive()
}

// stop ends a node's process and everything it started, by force if it does not end within the time; no time at all
// means by force at once.
func (s state) stop(node string, grace time.Duration) error {
	p, ok := s.running(node)
	if !ok {
		return nil
	}
	if grace > 0 {
		if err := p.signal(unix.SIGTERM); err != nil {
			return err
		}
		if len(gone([]process{p}, grace)) == 0 {
			return s.forget(node)
		}
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	if len(gone([]process{p}, 5*time.Second)) > 0 {
		return fmt.Errorf("process %d of %s does not end", p.PID, node)
	}
	return s.forget(node)
}

func (s state) forget(node string) error {
	if err := os.Remove(s.pid(node)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the process of %s: %w", node, err)
	}
	return nil
}

// inside lists the processes that run in a namespace, this one excepted.
func inside(ns netns.NS) []process {
	var want unix.Stat_t
	if unix.Stat(ns.Path(), &want) != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var procs []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var have unix.Stat_t
		if unix.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &have) != nil || have.Ino != want.Ino || have.Dev != want.Dev {
			continue
		}
		if p, ok := identify(pid); ok {
			procs = append(procs, p)
		}
	}
	return procs
}
