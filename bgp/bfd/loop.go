package bfd

import (
	"errors"
	"runtime"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// drainMost is how many datagrams are read before the timers get their
	// turn: more than fit into the socket's buffer, so that all that had arrived
	// is read, and a flood cannot keep us from sending.
	drainMost = 2 * receiveBuffer / 512

	// goodbyes is how often AdminDown is sent, goodbyeGap apart: together longer
	// than a burst of loss in a queue, shorter than anybody waits for a stop.
	goodbyes   = 3
	goodbyeGap = 25 * time.Millisecond

	// idle is the longest sleep, for a session that has no timer at all.
	idle = time.Minute
)

// run is the session's goroutine. It owns the sockets and closes them.
func (s *Session) run() {
	defer close(s.done)
	defer s.release()
	// Never unlocked: the thread has a priority that is not for others, and ends with the goroutine.
	runtime.LockOSThread()
	raise()
	fds := []unix.PollFd{
		{Fd: int32(s.bell.fd), Events: unix.POLLIN},
		{Fd: int32(s.reader.fd), Events: unix.POLLIN},
	}
	for {
		due := s.due()
		poll(fds, time.Until(due))
		switch s.stop.Load() {
		case leaving:
			s.leave(time.Now())
			return
		case closing:
			return
		}
		// The order matters: what has arrived while we did not run counts, so it
		// is received before silence is judged.
		now := s.drain()
		s.mu.Lock()
		s.machine.late(now, now.Sub(due))
		out := s.machine.tick(now)
		s.mu.Unlock()
		s.do(out)
	}
}

// due is when the machine wants to be called.
func (s *Session) due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.machine.deadline(); ok {
		return t
	}
	return time.Now().Add(idle)
}

// drain receives what waits in the socket, and returns a moment up to which all
// that has arrived is received: that is the time by which silence is judged. We
// may lose the CPU between any two lines of this, so the moment lies before the
// socket was found empty, and a packet counts from after it was read.
func (s *Session) drain() (until time.Time) {
	for range drainMost {
		until = time.Now()
		d, err := s.reader.read()
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		s.mu.Lock()
		var out output
		if err == nil {
			out = s.machine.receive(time.Now(), d)
		} else {
			s.rxErrors++ // taking it has cleared it
		}
		s.mu.Unlock()
		s.do(out)
	}
	return until
}

// do carries out what the machine asks for.
func (s *Session) do(out output) {
	if out.send {
		s.send(out.packet)
	}
	if out.changed {
		s.config.OnState(out.change)
		s.config.Log.Info("bfd session changed state", zap.String("tunnel", s.config.Name),
			zap.Stringer("peer", s.config.Peer), zap.Stringer("from", out.change.From), zap.Stringer("to", out.change.To),
			zap.Stringer("diagnostic", out.change.Diagnostic), zap.Bool("peer_admin_down", out.change.PeerAdminDown))
	}
}

func (s *Session) send(p packet) {
	var b [packetLen]byte
	p.encode(&b)
	err := unix.Sendto(s.tx, b[:], 0, s.to)
	s.mu.Lock()
	if err == nil {
		s.sent++
	} else {
		s.txErrors++
	}
	s.mu.Unlock()
	// Once for a series: a device that is down refuses every packet.
	if err != nil && !s.failed {
		s.config.Log.Warn("cannot send bfd packets", zap.String("tunnel", s.config.Name), zap.Stringer("peer", s.config.Peer), zap.Error(err))
	}
	s.failed = err != nil
}

// leave says goodbye. Close cuts it short.
func (s *Session) leave(now time.Time) {
	s.mu.Lock()
	out := s.machine.shutdown(now)
	goodbye := s.machine.current()
	s.mu.Unlock()
	s.do(out)
	fds := []unix.PollFd{{Fd: int32(s.bell.fd), Events: unix.POLLIN}}
	for i := range goodbyes {
		s.send(goodbye)
		if i == goodbyes-1 {
			return
		}
		// Another Shutdown rings too.
		for end := time.Now().Add(goodbyeGap); time.Now().Before(end); {
			s.bell.still()
			if s.stop.Load() == closing {
				return
			}
			poll(fds, time.Until(end))
		}
	}
}

// release closes the descriptors; from then on nobody rings.
func (s *Session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.closeErr = errors.Join(unix.Close(s.reader.fd), unix.Close(s.tx), unix.Close(s.bell.fd))
}

// poll waits until one of the descriptors has something or the time is over. A
// signal ends it as well, as the runtime sends them all the time, and that is
// fine: its callers look at everything anew.
func poll(fds []unix.PollFd, wait time.Duration) {
	ts := unix.NsecToTimespec(int64(max(wait, 0)))
	_, _ = unix.Ppoll(fds, &ts, nil)
}
