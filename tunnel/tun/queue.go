package tun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Queue is one of a device's queues: packets of a flow stay in one. One
// goroutine may read and others write at the same time.
type Queue struct{ fd int }

// FD is for polling.
func (q *Queue) FD() int { return q.fd }

// Vector describes to the kernel where the parts of a packet lie. Each
// goroutine that reads or writes has its own.
type Vector struct{ iov [1 + MaxParts]unix.Iovec }

// MaxParts is how many parts a packet may be written from.
const MaxParts = 64

// Read takes one packet and the header in front of it, at most len(header) and
// len(buf) bytes, and returns the packet's length. The error is unix.EAGAIN if
// there is none, and unix.EBADFD when somebody deleted the device.
func (q *Queue) Read(v *Vector, header *[HeaderLen]byte, buf []byte) (int, error) {
	v.iov[0].Base = &header[0]
	v.iov[0].SetLen(HeaderLen)
	v.iov[1].Base = unsafe.SliceData(buf)
	v.iov[1].SetLen(len(buf))
	n, err := q.vectored(unix.SYS_READV, v, 2)
	return max(n-HeaderLen, 0), err
}

// Write hands the kernel one packet, whose parts are at most MaxParts.
func (q *Queue) Write(v *Vector, header *[HeaderLen]byte, parts [][]byte) error {
	v.iov[0].Base = &header[0]
	v.iov[0].SetLen(HeaderLen)
	for i, p := range parts {
		v.iov[1+i].Base = unsafe.SliceData(p)
		v.iov[1+i].SetLen(len(p))
	}
	_, err := q.vectored(unix.SYS_WRITEV, v, 1+len(parts))
	return err
}

// vectored is readv(2) or writev(2). They do not block here, so they are raw
// system calls: the Go scheduler is not told, and so does not give this thread's
// processor away while the kernel takes a packet through its stack.
func (q *Queue) vectored(trap uintptr, v *Vector, count int) (int, error) {
	for {
		n, _, e := unix.RawSyscall(trap, uintptr(q.fd), uintptr(unsafe.Pointer(&v.iov)), uintptr(count))
		if e == 0 {
			return int(n), nil
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}
