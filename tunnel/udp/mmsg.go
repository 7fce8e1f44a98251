package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // bytes received or sent
}

// mmsg is recvmmsg(2) or sendmmsg(2), without waiting. As it does not block it
// is a raw system call: the Go scheduler is not told, and so does not give this
// thread's processor away while the kernel sends 64 KB through a whole network
// stack (docs/performance.md).
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

// putControl writes one control message with a 4-byte-aligned value at b and
// returns the space that it takes.
func putControl[T uint16 | int32](b []byte, level, typ int32, value T) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(int(unsafe.Sizeof(value))))
	*(*T)(unsafe.Pointer(&b[unix.CmsgLen(0)])) = value
	return unix.CmsgSpace(int(unsafe.Sizeof(value)))
}

// eachControl calls f for every control message in b.
func eachControl(b []byte, f func(level, typ int32, data []byte)) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
		if int(h.Len) < unix.CmsgLen(0) || int(h.Len) > len(b) {
			return
		}
		f(h.Level, h.Type, b[unix.CmsgLen(0):h.Len])
		next := unix.CmsgSpace(int(h.Len) - unix.CmsgLen(0))
		if next > len(b) {
			return
		}
		b = b[next:]
	}
}
