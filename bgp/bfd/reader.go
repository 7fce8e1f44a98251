package bfd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader receives datagrams with their TTL. Its buffers are reused, so the
// kernel is asked by hand: the wrappers of package unix allocate an address for
// each packet. It has to stay on the heap, where Go moves nothing.
type reader struct {
	fd      int
	payload [128]byte // a control packet has 24 bytes; the rest shows who sends nonsense
	control [64]byte
	name    unix.RawSockaddrAny
	iov     unix.Iovec
	msg     unix.Msghdr
}

func newReader(fd int) *reader {
	r := &reader{fd: fd}
	r.iov.Base = &r.payload[0]
	r.iov.SetLen(len(r.payload))
	r.msg.Name = (*byte)(unsafe.Pointer(&r.name))
	r.msg.Iov = &r.iov
	r.msg.SetIovlen(1)
	r.msg.Control = &r.control[0]
	return r
}

// read takes one datagram out of the socket; unix.EAGAIN if none is there. The
// payload is good until the next call.
func (r *reader) read() (datagram, error) {
	r.msg.Namelen = uint32(unsafe.Sizeof(r.name))
	r.msg.SetControllen(len(r.control))
	// Not blocking, so without a word to the scheduler.
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.msg)), 0)
	if errno != 0 {
		return datagram{}, errno
	}
	d := datagram{payload: r.payload[:n], ttl: -1}
	switch r.name.Addr.Family {
	case unix.AF_INET:
		d.from = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&r.name)).Addr)
	case unix.AF_INET6:
		d.from = netip.AddrFrom16((*unix.RawSockaddrInet6)(unsafe.Pointer(&r.name)).Addr)
	}
	for c := r.control[:r.msg.Controllen]; len(c) >= unix.SizeofCmsghdr; {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(c)
		if err != nil {
			break
		}
		if ttl := hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_TTL ||
			hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_HOPLIMIT; ttl && len(data) >= 4 {
			d.ttl = int(int32(binary.NativeEndian.Uint32(data)))
		}
		c = rest
	}
	return d, nil
}

// bell wakes a goroutine that waits in poll.
type bell struct{ fd int }

func newBell() (bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return bell{}, fmt.Errorf("open an eventfd: %w", err)
	}
	return bell{fd}, nil
}

// ring cannot fail but when the counter is at its end, and then it rings already.
func (b bell) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(b.fd, one[:])
}

// still makes the bell silent until it is rung again.
func (b bell) still() {
	var count [8]byte
	_, _ = unix.Read(b.fd, count[:]) // EAGAIN: it was silent
}
