package udp

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// MaxRun and MaxRunBytes bound a Run: what the kernel takes with UDP_SEGMENT
	// (64 segments before Linux 6.9, and one IP packet's length).
	MaxRun      = 60
	MaxRunBytes = 65535 - 40 - 8
	// MaxRuns is how many runs a Batch holds.
	MaxRuns = 64
)

// Run is a row of datagrams of one flow in one buffer: each is Size bytes
// long but the last, which may be shorter. The kernel takes it as a whole
// (UDP_SEGMENT) where it can.
type Run struct {
	Buf   []byte
	Size  int
	Lane  int
	TOS   uint8
	Bytes int // of inner packets, for the counters
}

// Count is how many datagrams the run has.
func (r *Run) Count() int { return (len(r.Buf) + r.Size - 1) / r.Size }

// Batch is what one goroutine collects to send: it fills Runs and calls
// Lanes.Flush.
type Batch struct {
	Runs    []Run
	msgs    [MaxRuns]mmsghdr
	iovs    [MaxRuns]unix.Iovec
	control [MaxRuns][48]byte
}

// NewBatch returns an empty one.
func NewBatch() *Batch {
	b := &Batch{Runs: make([]Run, 0, MaxRuns)}
	for i := range b.msgs {
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.SetIovlen(1)
		b.msgs[i].hdr.Control = &b.control[i][0]
	}
	return b
}

// Full reports whether no run fits any more.
func (b *Batch) Full() bool { return len(b.Runs) == cap(b.Runs) }

// Flush sends all runs, those of a lane in their order, and empties the batch.
// It calls sent for each run that went out and lost for each that did not.
func (l *Lanes) Flush(b *Batch, sent, lost func(r *Run)) {
	for at := 0; at < len(b.Runs); {
		end := at + 1
		for end < len(b.Runs) && b.Runs[end].Lane == b.Runs[at].Lane {
			end++
		}
		l.flushLane(b, at, end, sent, lost)
		at = end
	}
	b.Runs = b.Runs[:0]
}

// flushLane sends runs at to end, which are of one lane.
func (l *Lanes) flushLane(b *Batch, at, end int, sent, lost func(r *Run)) {
	fd := l.fds[b.Runs[at].Lane]
	for i := at; i < end; i++ {
		l.prepare(b, i)
	}
	for retried := false; at < end; {
		run, stop := &b.Runs[at], end
		if l.plain.Load() {
			if run.Count() > 1 {
				_ = l.one(fd, b, at, sent, lost) // each datagram's fate was told
				at++
				continue
			}
			stop = b.single(at, end)
		}
		n, err := mmsg(unix.SYS_SENDMMSG, fd, b.msgs[at:stop])
		switch {
		case err == nil:
			for i := at; i < at+n; i++ {
				sent(&b.Runs[i])
			}
			at, retried = at+n, false
			continue
		case transient(err) && !retried:
			retried = true
			continue
		case run.Count() > 1 && unsegmentable(err):
			// A card without checksum offload, or a policy on the route: segment ourselves from now on, if that helps.
			// Some kernels say the same of datagrams that are too long for the card, and those will be shorter soon.
			if l.one(fd, b, at, sent, lost) == nil {
				l.plain.Store(true)
			}
			at, retried = at+1, false
			continue
		}
		lost(run)
		at, retried = at+1, false
	}
}

// single is the end of the runs from at that are one datagram each.
func (b *Batch) single(at, end int) int {
	for at < end && b.Runs[at].Count() == 1 {
		at++
	}
	return at
}

// unsegmentable is an error of UDP_SEGMENT, not of the datagrams.
func unsegmentable(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// one sends a run's datagrams without UDP_SEGMENT and returns the last error.
func (l *Lanes) one(fd int, b *Batch, i int, sent, lost func(r *Run)) (failed error) {
	whole, part := b.Runs[i], &b.Runs[i] // a part of its own would escape to the callbacks: an allocation for each datagram
	for buf := whole.Buf; len(buf) > 0; {
		part.Buf = buf[:min(len(buf), whole.Size)]
		part.Bytes = whole.Bytes * len(part.Buf) / len(whole.Buf)
		buf = buf[len(part.Buf):]
		l.prepare(b, i)
		_, err := mmsg(unix.SYS_SENDMMSG, fd, b.msgs[i:i+1])
		if err != nil && transient(err) {
			_, err = mmsg(unix.SYS_SENDMMSG, fd, b.msgs[i:i+1])
		}
		if err != nil {
			lost(part)
			failed = err
		} else {
			sent(part)
		}
	}
	return failed
}

// prepare describes run i for the kernel.
func (l *Lanes) prepare(b *Batch, i int) {
	r := &b.Runs[i]
	b.iovs[i].Base = &r.Buf[0]
	b.iovs[i].SetLen(len(r.Buf))
	c, n := b.control[i][:], 0
	if l.v6 {
		n += putControl(c, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int32(r.TOS))
	} else {
		n += putControl(c, unix.IPPROTO_IP, unix.IP_TOS, int32(r.TOS))
	}
	if r.Count() > 1 {
		n += putControl(c[n:], unix.IPPROTO_UDP, unix.UDP_SEGMENT, uint16(r.Size))
	}
	b.msgs[i].hdr.SetControllen(n)
	if l.to != nil {
		b.msgs[i].hdr.Name, b.msgs[i].hdr.Namelen = (*byte)(unsafe.Pointer(&l.to.raw)), l.to.len
	}
}
