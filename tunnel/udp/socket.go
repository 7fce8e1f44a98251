package udp

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// socketBuffer is what a socket may hold in each direction: a few milliseconds at 10 Gbit/s.
const socketBuffer = 8 << 20

// Config says where a socket stands.
type Config struct {
	Local     netip.AddrPort // our underlay address and the tunnels' UDP port
	Interface string         // the card to bind to; empty for any
	Mark      uint32         // SO_MARK; 0 for none
	// Protocol is that of IP, of packets that are in no UDP and so have no ports; 0: UDP.
	Protocol uint8
}

// raw reports whether the socket is one for a protocol of IP other than UDP.
func (c *Config) raw() bool { return c.Protocol != 0 }

// address is what a socket is bound to, and where it sends: without UDP there is
// no port, and the kernel takes a number in its place for a protocol (raw(7)).
func (c *Config) address(a netip.AddrPort) netip.AddrPort {
	if c.raw() {
		return netip.AddrPortFrom(a.Addr(), 0)
	}
	return a
}

// open makes a socket that is bound to nothing yet.
func open(cfg Config) (int, error) {
	family := unix.AF_INET
	if cfg.Local.Addr().Is6() {
		family = unix.AF_INET6
	}
	kind, protocol := unix.SOCK_DGRAM, unix.IPPROTO_UDP
	if cfg.raw() {
		kind, protocol = unix.SOCK_RAW, int(cfg.Protocol)
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, fmt.Errorf("open a socket for protocol %d: %w", protocol, err)
	}
	if err := setup(fd, family, cfg); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

type option struct {
	what              string
	level, opt, value int
}

func setup(fd, family int, cfg Config) error {
	options := []option{{"mark", unix.SOL_SOCKET, unix.SO_MARK, int(cfg.Mark)}}
	if !cfg.raw() {
		options = append(options, option{"share the port", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	if family == unix.AF_INET {
		options = append(options, option{"set DF", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
			option{"set the TTL", unix.IPPROTO_IP, unix.IP_TTL, 64})
	} else {
		if !cfg.raw() { // a raw socket is of one family anyway
			options = append(options, option{"take IPv6 only", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
		}
		options = append(options, option{"forbid fragments", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
			option{"set the hop limit", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 64})
	}
	if err := set(fd, options); err != nil {
		return err
	}
	if cfg.Interface != "" {
		if err := unix.BindToDevice(fd, cfg.Interface); err != nil {
			return fmt.Errorf("bind to %s: %w", cfg.Interface, err)
		}
	}
	return nil
}

func set(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("%s on a socket: %w", o.what, err)
		}
	}
	return nil
}

// setBuffer makes a buffer large, beyond the system's limit if we may.
func setBuffer(fd, force, ordinary int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, socketBuffer) == nil {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, ordinary, socketBuffer); err != nil {
		return fmt.Errorf("set a socket buffer to %d bytes: %w", socketBuffer, err)
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func bind(fd int, a netip.AddrPort) error {
	if err := unix.Bind(fd, sockaddr(a)); err != nil {
		return fmt.Errorf("bind a socket to %s: %w", a, err)
	}
	return nil
}
