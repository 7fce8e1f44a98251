package load

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// Endpoint is one end of the traffic.
type Endpoint struct {
	NS   netns.NS // without a name: the namespace of this process
	Addr netip.Addr
}

// open makes a UDP socket at an end; to, if valid, is its only peer.
func (e Endpoint) open(port uint16, to netip.AddrPort) (fd int, err error) {
	f := func() error {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open a UDP socket: %w", err)
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBytes) != nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBytes)
		}
		err = errors.Join(err, unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: e.Addr.As4()}))
		if err == nil && to.IsValid() {
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		}
		if err != nil {
			return errors.Join(fmt.Errorf("set up a UDP socket on %s port %d: %w", e.Addr, port, err), unix.Close(fd))
		}
		return nil
	}
	if e.NS.Name == "" {
		return fd, f()
	}
	return fd, e.NS.Do(f)
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// vector is a batch of packets with its own memory.
type vector struct {
	msgs  [batchSize]mmsghdr
	iovs  [batchSize]unix.Iovec
	names [batchSize]unix.RawSockaddrInet4
	buf   [batchSize][]byte
	poll  [1]unix.PollFd
}

func newVector(named bool) *vector {
	v := &vector{}
	for i := range v.msgs {
		v.buf[i] = make([]byte, largestIP)
		v.iovs[i].Base = &v.buf[i][0]
		v.msgs[i].hdr.Iov = &v.iovs[i]
		v.msgs[i].hdr.SetIovlen(1)
		if named {
			v.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&v.names[i]))
		}
	}
	return v
}

// receive waits up to ms milliseconds and takes what is there.
func (v *vector) receive(fd, ms int) (int, error) {
	for i := range v.msgs {
		v.iovs[i].SetLen(len(v.buf[i]))
		if v.msgs[i].hdr.Name != nil {
			v.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet4
		}
	}
	n, e := v.call(unix.SYS_RECVMMSG, fd, 0, batchSize)
	if e != unix.EAGAIN {
		return n, errno(e)
	}
	v.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	pause := unix.NsecToTimespec(int64(ms) * 1e6)
	// Not through the Go scheduler, which would add its own wake-up to what is measured.
	_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&v.poll)), 1, uintptr(unsafe.Pointer(&pause)), 0, 0, 0)
	n, e = v.call(unix.SYS_RECVMMSG, fd, 0, batchSize)
	if e == unix.EAGAIN {
		return 0, nil
	}
	return n, errno(e)
}

// send sends messages at to at+count-1, and drops what the socket does not take.
func (v *vector) send(fd, count int) (sent int) {
	for at := 0; at < count; {
		n, e := v.call(unix.SYS_SENDMMSG, fd, at, count-at)
		if e != 0 {
			n = 1 // the first of the rest was refused: the device's queue is full, or an old ICMP error
		} else {
			sent += n
		}
		at += n
	}
	return sent
}

func (v *vector) call(trap uintptr, fd, at, count int) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&v.msgs[at])), uintptr(count), unix.MSG_DONTWAIT, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func errno(e unix.Errno) error {
	if e == 0 || e == unix.ECONNREFUSED {
		return nil
	}
	return e
}
