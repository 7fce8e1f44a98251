package traffic

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer is what a socket that receives can hold in bytes; the kernel doubles it for its own overhead.
	receiveBuffer = 32 << 20
	// sendBuffer lets a few bursts wait in a device's queue. It is not larger, so that
	// "as fast as possible" is at the pace of that queue, where there is one.
	sendBuffer = 4 << 20
)

// open makes a UDP socket in the endpoint's namespace, bound to its address. It never blocks and never fragments.
func (e Endpoint) open(port uint16, receiveBytes int) (fd int, err error) {
	f := func() error {
		fd, err = open(netip.AddrPortFrom(e.Addr, port), receiveBytes)
		return err
	}
	if e.NS.Name == "" {
		err = f()
	} else {
		err = e.NS.Do(f)
	}
	if err != nil {
		return -1, fmt.Errorf("open a UDP socket at %s: %w", netip.AddrPortFrom(e.Addr, port), err)
	}
	return fd, nil
}

func open(at netip.AddrPort, receiveBytes int) (int, error) {
	family, level, option, probe := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if at.Addr().Is6() {
		family, level, option, probe = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, level, option, probe)
	if err == nil {
		err = setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBytes)
	}
	if err == nil {
		err = setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err != nil {
		closeAll([]int{fd})
		return -1, err
	}
	return fd, nil
}

// setBuffer goes beyond the system's limit if it may. Otherwise it is what the limit
// allows, and Result.SinkOverflow shows whether that was too little.
func setBuffer(fd, force, ask, bytes int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, ask, bytes)
}

// dial opens the load's source sockets, one a flow, connected to the address.
// What is open when it fails is closed again.
func (l Load) dial(to netip.AddrPort) (fds []int, err error) {
	for range l.Flows {
		fd, err := l.From.open(0, receiveBuffer)
		if err == nil {
			fds = append(fds, fd)
			err = unix.Connect(fd, sockaddr(to))
		}
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("connect from %s to %s: %w", l.From.Addr, to, err)
		}
	}
	return fds, nil
}

// closeAll closes sockets: nothing is buffered in them that could be lost.
func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// localPort is the port that a socket is bound to.
func localPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, unix.EAFNOSUPPORT
}

// overflow is how many packets the kernel dropped at this socket. It is the counter that SO_RXQ_OVFL attaches
// to packets; asked for, it also has the drops behind the last packet that came through.
func overflow(fd int) (uint64, error) {
	const drops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return 0, e
	}
	return uint64(info[drops]), nil
}

// thread runs f on an operating system thread of its own, which ends with f, so that f may change the thread.
func thread(wg *sync.WaitGroup, f func()) {
	wg.Go(func() {
		runtime.LockOSThread()
		f()
	})
}
