package pump

import (
	"errors"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// restMS is how long a loop leaves alone what fails, in milliseconds.
const restMS = 100

// loop is everything of one queue: a receiver, and that queue of every tunnel's
// device. One thread does both directions, because most of what it delivers is
// answered at once: the acknowledgement of what it just wrote to a device lies in
// the same device's queue when the write returns, and needs no second wake-up.
// (The kernel puts a flow's packets into the queue by which it last heard of
// the flow.)
type loop struct {
	e     *Endpoint
	bell  *bell
	table *table
	in    inbound
	out   []*outbound
	fds   []unix.PollFd // bell, receiver, devices in the order of out
	// failing are descriptors in fds that rest after an error.
	failing []bool
}

func newLoop(e *Endpoint, i int) *loop {
	return &loop{e: e, bell: e.bells[i], in: inbound{i: i, rx: e.receivers[i], reply: make([]byte, 0, 256)}}
}

func (l *loop) run() {
	for {
		if t := l.e.table.Load(); t != l.table {
			l.adopt(t)
		}
		if l.e.stop.Load() {
			return
		}
		if !l.round() {
			l.wait()
		}
	}
}

const (
	bellFD = iota
	receiverFD
	firstDeviceFD
)

// adopt begins to use a table. Of the one before nothing is used any more:
// between two rounds no packet waits anywhere.
func (l *loop) adopt(t *table) {
	l.table = t
	l.in.tunnels, l.in.peers = t.tunnels, t.peers
	l.out = l.out[:0]
	l.fds = append(l.fds[:0], unix.PollFd{Fd: int32(l.bell.fd), Events: unix.POLLIN}, unix.PollFd{Fd: int32(l.in.rx.FD()), Events: unix.POLLIN})
	for _, tn := range t.tunnels {
		l.out = append(l.out, tn.send[l.in.i])
		l.fds = append(l.fds, unix.PollFd{Fd: int32(tn.dev.Queue(l.in.i).FD()), Events: unix.POLLIN})
	}
	l.failing = make([]bool, len(l.fds))
	t.adopted.Done()
}

// round does a bit of everything and reports whether there was anything to do.
func (l *loop) round() (busy bool) {
	busy = l.judge(receiverFD, l.in.round())
	for i, out := range l.out {
		if l.fds[firstDeviceFD+i].Fd >= 0 && l.judge(firstDeviceFD+i, out.round()) {
			busy = true
		}
	}
	return busy
}

// judge looks at the result of one half and reports whether there may be more.
// What fails rests until the next timeout, and says so once.
func (l *loop) judge(fd int, err error) (more bool) {
	switch {
	case err == nil:
		l.failing[fd] = false
		return true
	case errors.Is(err, unix.EAGAIN): // well again, and empty
		l.failing[fd] = false
	case errors.Is(err, unix.EBADFD): // somebody deleted the device: the owner closes the tunnel
		l.fds[fd].Fd = -1
	case !l.failing[fd]: // the device or the card was set down, for example
		l.failing[fd] = true
		l.e.log.Warn("receiving fails; trying on", zap.Stringer("local", l.e.cfg.Local), zap.Bool("from_device", fd != receiverFD), zap.Error(err))
	}
	return false
}

// wait returns when there may be something to do.
func (l *loop) wait() {
	timeout := -1
	for i, failing := range l.failing {
		if failing {
			timeout = restMS
			l.fds[i].Events = 0
		} else {
			l.fds[i].Events = unix.POLLIN
		}
	}
	l.bell.wait(l.fds, timeout)
}
