package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SelfTest finds out whether UDP_SEGMENT can be trusted here. An error says why
// not; nil also where it could not be tried, because the loopback is down.
//
// Linux 7.0 to 7.1.4 corrupts the headers of segmented datagrams on the way out
// of some cards (fixed by 78effd8 and 5f17ae0), which the loopback does not
// show, so those are refused by their number.
func SelfTest() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("read the kernel's version: %w", err)
	}
	if release := unix.ByteSliceToString(u.Release[:]); corrupts(release) {
		return fmt.Errorf("linux %s corrupts segmented datagrams (7.0 to 7.1.4 do)", release)
	}
	return tryLoopback()
}

// corrupts reports whether a kernel has the bug.
func corrupts(release string) bool {
	f := strings.FieldsFunc(release, func(r rune) bool { return r == '.' || r == '-' || r == '+' })
	var v [3]int
	for i := range min(len(f), len(v)) {
		n, err := strconv.Atoi(f[i])
		if err != nil {
			break
		}
		v[i] = n
	}
	return v[0] == 7 && (v[1] == 0 || v[1] == 1 && v[2] <= 4)
}

// tryLoopback sends three datagrams as one and looks at what arrives.
func tryLoopback() error {
	local := netip.MustParseAddr("127.0.0.1")
	fd, err := open(Config{Local: netip.AddrPortFrom(local, 0)})
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is buffered
	if err := bind(fd, netip.AddrPortFrom(local, 0)); err != nil {
		return nil //nolint:nilerr // no loopback to try it on
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("read a socket's port: %w", err)
	}
	to, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return fmt.Errorf("a socket's address is a %T", sa)
	}
	if err := unix.Connect(fd, to); err != nil { // to itself: no other process is involved
		return nil //nolint:nilerr // the loopback is down
	}
	const size = 100
	whole := make([]byte, 2*size+30)
	for i := range whole {
		whole[i] = byte(i * 31)
	}
	l := &Lanes{fds: []int{fd}}
	b := NewBatch()
	b.Runs = append(b.Runs, Run{Buf: whole, Size: size})
	lost := 0
	l.Flush(b, func(*Run) {}, func(*Run) { lost++ })
	switch {
	case l.plain.Load():
		return errors.New("the kernel refuses UDP_SEGMENT")
	case lost > 0:
		return nil // the loopback is down
	}
	return compare(fd, whole, size)
}

// compare reads datagrams of size bytes, the last one shorter.
func compare(fd int, whole []byte, size int) error {
	buf := make([]byte, 2*size)
	for at := 0; at < len(whole); at += size {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(time.Second/time.Millisecond)); n == 0 && err == nil {
			return fmt.Errorf("of datagrams sent as one only %d arrived", at/size)
		}
		n, err := unix.Read(fd, buf)
		if err != nil {
			return fmt.Errorf("read a datagram: %w", err)
		}
		if !bytes.Equal(buf[:n], whole[at:min(at+size, len(whole))]) {
			return fmt.Errorf("of datagrams sent as one, number %d arrived changed", at/size)
		}
	}
	return nil
}
