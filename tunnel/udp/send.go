package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	firstPort = 49152 // of the dynamic ports (RFC 6335, section 6), as RFC 7348, section 5, recommends
	lastPort  = 65535
	// reservedPort is never a source port: Azure's SDN drops it.
	reservedPort = 65330
)

// Lanes are connected sockets to one peer, each with a source port of its own.
// What a flow hashes to decides over its lane, so the network between, and the
// peer's receive queues, see many flows where the tunnel carries many.
//
// A lane only sends: all that arrives for it is dropped by the kernel, where it
// takes no memory. Any number of goroutines may send at the same time.
type Lanes struct {
	fds   []int
	ports []uint16
	peer  netip.AddrPort
	v6    bool
	to    *destination // of sockets that are not connected and belong to a Receiver
	plain atomic.Bool  // no UDP_SEGMENT here
}

// Connect opens n lanes to a peer, from cfg.Local's address. Ports that are in
// use are skipped.
func Connect(cfg Config, peer netip.AddrPort, n int) (*Lanes, error) {
	l := &Lanes{v6: peer.Addr().Is6(), peer: peer}
	for port := firstPort; len(l.fds) < n; port++ {
		if port > lastPort {
			return nil, errors.Join(fmt.Errorf("only %d of %d source ports from %d on are free on %s", len(l.fds), n, firstPort, cfg.Local.Addr()), l.Close())
		}
		if port == reservedPort {
			continue
		}
		fd, err := connect(cfg, netip.AddrPortFrom(cfg.Local.Addr(), uint16(port)), peer)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.fds = append(l.fds, fd)
		l.ports = append(l.ports, uint16(port))
	}
	return l, nil
}

func connect(cfg Config, local, peer netip.AddrPort) (int, error) {
	fd, err := open(cfg)
	if err != nil {
		return -1, err
	}
	err = errors.Join(setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF), dropAll(fd), bind(fd, local))
	if err == nil {
		if err = unix.Connect(fd, sockaddr(peer)); err != nil {
			err = fmt.Errorf("connect a UDP socket from %s to %s: %w", local, peer, err)
		}
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// dropAll lets the kernel drop all that arrives: a filter that accepts 0 bytes.
func dropAll(fd int) error {
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &program[0]})
	if err != nil {
		return fmt.Errorf("attach a filter to a UDP socket: %w", err)
	}
	return nil
}

// SendPlainly switches UDP_SEGMENT off: every datagram is sent for itself.
func (l *Lanes) SendPlainly() { l.plain.Store(true) }

// Plain reports whether UDP_SEGMENT is off: from the start, or because a send without
// it succeeded where one with it had failed.
func (l *Lanes) Plain() bool { return l.plain.Load() }

// MaxRun is how many datagrams a run should have: one, where the kernel would
// not take more as a whole. Then a batch is up to MaxRuns datagrams, which go by
// one system call.
func (l *Lanes) MaxRun() int {
	if l.Plain() {
		return 1
	}
	return MaxRun
}

// Count is how many lanes there are.
func (l *Lanes) Count() int { return len(l.fds) }

// Ports are the source ports.
func (l *Lanes) Ports() []uint16 { return l.ports }

// Send sends one datagram by the first lane, for messages of the tunnel itself.
func (l *Lanes) Send(b []byte) error {
	err := l.write(b)
	if err != nil && transient(err) { // it may be an ICMP message about an earlier datagram
		err = l.write(b)
	}
	return err
}

func (l *Lanes) write(b []byte) error {
	if l.to == nil {
		_, err := unix.Write(l.fds[0], b)
		return err
	}
	return unix.Sendto(l.fds[0], b, 0, sockaddr(l.peer))
}

// transient is an error of an earlier datagram, or of nothing: the next try may
// succeed. EMSGSIZE is also what a router between says of an earlier one.
func transient(err error) bool {
	for _, e := range []error{unix.ECONNREFUSED, unix.EINTR, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPROTO, unix.EMSGSIZE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close closes the sockets, but not those of a Receiver.
func (l *Lanes) Close() error {
	if l.to != nil {
		return nil
	}
	var errs []error
	for _, fd := range l.fds {
		if err := unix.Close(fd); err != nil {
			errs = append(errs, fmt.Errorf("close a socket: %w", err))
		}
	}
	l.fds = nil
	return errors.Join(errs...)
}
