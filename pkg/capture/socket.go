package capture

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// socketBuffer is how much may wait to be taken, in bytes: what a fast tunnel
// carries in a few tens of milliseconds.
const socketBuffer = 32 << 20

// socket is a packet socket of one device.
type socket struct {
	file *os.File
	fd   int
	buf  []byte
	oob  []byte
}

// packet is what was taken. Data is valid until the next one.
type packet struct {
	data []byte
	len  int // on the wire
	at   time.Time
	out  bool // sent by this machine
}

// open makes a socket that gets what the program accepts, from the first packet
// on. It needs CAP_NET_RAW.
func open(device string, program []bpf.RawInstruction, snap int) (*socket, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", device, err)
	}
	// Protocol 0 gets nothing yet: packets before the filter stands are not wanted.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := setup(fd, ifi.Index, program); err != nil {
		return nil, errors.Join(fmt.Errorf("capture on %s: %w", device, err), unix.Close(fd))
	}
	return &socket{file: os.NewFile(uintptr(fd), "packets of "+device), fd: fd, buf: make([]byte, snap), oob: make([]byte, 128)}, nil
}

func setup(fd, index int, program []bpf.RawInstruction) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for times: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
	}
	if len(program) > 0 {
		filter := make([]unix.SockFilter, len(program))
		for i, p := range program {
			filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
		}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
			return fmt.Errorf("attach the filter: %w", err)
		}
	}
	const all = uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// next waits for a packet until the socket's deadline.
func (s *socket) next() (p packet, err error) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return p, err
	}
	var n, oobn int
	var from unix.Sockaddr
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		// MSG_TRUNC: the length is the packet's, also where it is cut.
		n, oobn, _, from, rerr = unix.Recvmsg(int(fd), s.buf, s.oob, unix.MSG_TRUNC)
		return !errors.Is(rerr, unix.EAGAIN) && !errors.Is(rerr, unix.EINTR)
	})
	if err = errors.Join(err, rerr); err != nil {
		return p, err
	}
	p = packet{data: s.buf[:min(n, len(s.buf))], len: n, at: stamp(s.oob[:oobn])}
	if a, ok := from.(*unix.SockaddrLinklayer); ok {
		p.out = a.Pkttype == unix.PACKET_OUTGOING
	}
	return p, nil
}

// stamp finds the time at which the kernel had the packet.
func stamp(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
				ts := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
				return time.Unix(ts.Unix())
			}
		}
	}
	return time.Now()
}

// dropped is what nobody took in time since it was asked last.
func (s *socket) dropped() (uint64, error) {
	stats, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("ask for what was dropped: %w", err)
	}
	return uint64(stats.Drops), nil
}

func (s *socket) Close() error { return s.file.Close() }
