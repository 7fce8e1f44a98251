package traffic

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many packets one system call takes.
const batch = 64

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // bytes received or sent
}

// vector is a batch of messages with their buffers, which lie at a fixed distance in one piece.
type vector struct {
	msgs   []mmsghdr
	iovs   []unix.Iovec
	names  []unix.RawSockaddrAny // addresses of the senders, for answers; else empty
	buf    []byte
	stride int
}

func newVector(stride int, named bool) *vector {
	v := &vector{msgs: make([]mmsghdr, batch), iovs: make([]unix.Iovec, batch), buf: make([]byte, batch*stride), stride: stride}
	if named {
		v.names = make([]unix.RawSockaddrAny, batch)
	}
	for i := range v.msgs {
		v.iovs[i].Base = &v.buf[i*stride]
		v.iovs[i].SetLen(stride)
		v.msgs[i].hdr.Iov = &v.iovs[i]
		v.msgs[i].hdr.SetIovlen(1)
		if named {
			v.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&v.names[i]))
		}
	}
	return v
}

// slot is the whole buffer of message i.
func (v *vector) slot(i int) []byte { return v.buf[i*v.stride : (i+1)*v.stride] }

// received is what was received into message i.
func (v *vector) received(i int) []byte { return v.slot(i)[:v.msgs[i].n] }

// receive takes what is there, without waiting; nothing is EAGAIN.
func (v *vector) receive(fd int) (int, error) {
	for i := range v.names {
		v.msgs[i].hdr.Namelen = unix.SizeofSockaddrAny
		v.iovs[i].SetLen(v.stride)
	}
	return mmsg(unix.SYS_RECVMMSG, fd, v.msgs)
}

// mmsg is recvmmsg(2) or sendmmsg(2), without waiting. It is a raw system call: it does not block,
// and so the Go scheduler does not take this thread's processor away in the middle of a batch.
func mmsg(trap uintptr, fd int, v []mmsghdr) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)), unix.MSG_DONTWAIT, 0, 0)
		if e == 0 {
			return int(n), nil
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// await waits until one of fds is ready, or the time is over; which one it was is in fds.
// An interruption counts as the time being over, as callers loop.
func await(fds []unix.PollFd, d time.Duration) error {
	ts := unix.NsecToTimespec(max(int64(d), 0))
	if _, err := unix.Ppoll(fds, &ts, nil); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

// nap sleeps on this thread; interrupted, it is shorter.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}

// napRaw is nap for a thread that has to be on time: it keeps the thread's place in
// the Go scheduler, so it is for less than a millisecond.
func napRaw(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// exactTimers makes this thread's sleeps end on time and not up to 50 µs
// later, so that the processor is free until then. The thread must be one that ends with its work.
func exactTimers() error { return unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }
