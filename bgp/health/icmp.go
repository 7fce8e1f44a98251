package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// newICMP makes a check that sends one echo request and waits for its reply.
func newICMP(cfg *Config) checker {
	var seq uint16
	return func(ctx context.Context) error {
		seq++ // checks are one after another
		s, err := openPing(cfg)
		if err != nil {
			return err
		}
		defer s.file.Close()
		return s.ping(ctx, seq)
	}
}

// pingSocket is a socket that is connected to the address, so that it takes
// packets from there only, and is told of ICMP errors (host unreachable).
type pingSocket struct {
	file *os.File
	v6   bool
	raw  bool
	id   uint16
}

// openPing prefers the kernel's ping sockets, which need no privilege but the
// group's being in net.ipv4.ping_group_range (of both families); a raw socket
// needs CAP_NET_RAW.
func openPing(cfg *Config) (*pingSocket, error) {
	s, err := openPingKind(cfg, unix.SOCK_DGRAM)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EPROTONOSUPPORT) {
		s, err = openPingKind(cfg, unix.SOCK_RAW)
	}
	return s, err
}

func openPingKind(cfg *Config, kind int) (*pingSocket, error) {
	s := &pingSocket{v6: cfg.ICMP.Is6(), raw: kind == unix.SOCK_RAW, id: uint16(rand.Uint32())}
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if s.v6 {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("open an ICMP socket: %w", err)
	}
	if err := s.setup(fd, cfg); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	s.file = os.NewFile(uintptr(fd), "icmp") // it is non-blocking, so it gets deadlines
	return s, nil
}

func (s *pingSocket) setup(fd int, cfg *Config) error {
	if err := setMark(fd, cfg.Mark); err != nil {
		return err
	}
	if cfg.Source.IsValid() {
		local, err := sockaddr(cfg.Source)
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, local); err != nil {
			return fmt.Errorf("use the source %s: %w", cfg.Source, err)
		}
	}
	remote, err := sockaddr(cfg.ICMP)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, remote); err != nil {
		return fmt.Errorf("find a way: %w", err)
	}
	if s.raw {
		return nil
	}
	return s.readID(fd)
}

// readID asks for the identifier that the kernel gave a ping socket: it writes
// it over ours, and shows it as the port.
func (s *pingSocket) readID(fd int) error {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("read the identifier: %w", err)
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		s.id = uint16(a.Port)
	case *unix.SockaddrInet6:
		s.id = uint16(a.Port)
	}
	return nil
}

func sockaddr(a netip.Addr) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Addr: a.As16()}
	if a.Zone() == "" {
		return sa, nil
	}
	if n, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		sa.ZoneId = uint32(n)
		return sa, nil
	}
	ifi, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return nil, fmt.Errorf("find the interface of %s: %w", a, err)
	}
	sa.ZoneId = uint32(ifi.Index)
	return sa, nil
}

// ping sends one request and reads until its reply, an error or the end of ctx.
func (s *pingSocket) ping(ctx context.Context, seq uint16) error {
	// A deadline in the past ends a read; the function returns without having
	// closed the file, whose owner is the caller.
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetDeadline(time.Unix(1, 0)) }) // fails only if closed already
	defer stop()
	e := echo{v6: s.v6, id: s.id, seq: seq, token: rand.Uint64()}
	if _, err := s.file.Write(e.request()); err != nil {
		return s.explain(ctx, "send an echo request", err)
	}
	buf := make([]byte, 1500)
	for {
		n, err := s.file.Read(buf)
		if err != nil {
			return s.explain(ctx, "wait for an echo reply", err)
		}
		if e.answeredBy(s.payload(buf[:n])) {
			return nil
		}
	}
}

func (s *pingSocket) explain(ctx context.Context, doing string, err error) error {
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// payload takes the IPv4 header off that a raw socket gets with it (RFC 791,
// section 3.1); IPv6 ones come without.
func (s *pingSocket) payload(b []byte) []byte {
	if !s.raw || s.v6 || len(b) == 0 {
		return b
	}
	return b[min(int(b[0]&0x0f)*4, len(b)):]
}

// Types of echo messages, and their length with the token as data.
const (
	echoRequest4, echoReply4 = 8, 0     // RFC 792
	echoRequest6, echoReply6 = 128, 129 // RFC 4443, sections 4.1 and 4.2
	echoLen                  = 16       // octets: 8 of header, 8 of data
)

// echo is one request. The token is there because the identifier has only 16
// bits, and any other program of the machine may ping the same address.
type echo struct {
	v6      bool
	id, seq uint16
	token   uint64
}

func (e echo) message(kind byte) []byte {
	b := make([]byte, echoLen)
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], e.id)
	binary.BigEndian.PutUint16(b[6:], e.seq)
	binary.BigEndian.PutUint64(b[8:], e.token)
	return b
}

func (e echo) request() []byte {
	if e.v6 {
		return e.message(echoRequest6) // the kernel knows the addresses that the checksum covers, and fills it in
	}
	b := e.message(echoRequest4)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// answeredBy reports whether the message b is the reply to this request. The
// kernel has verified where it is from, by the connected socket.
func (e echo) answeredBy(b []byte) bool {
	kind := byte(echoReply4)
	if e.v6 {
		kind = echoReply6
	}
	return len(b) == echoLen && b[0] == kind && b[1] == 0 && string(b[4:]) == string(e.message(kind)[4:])
}

// checksum is that of RFC 1071, of an even number of octets.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
