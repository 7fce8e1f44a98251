package bfd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	portSingleHop = 3784 // RFC 5881, section 4
	portMultihop  = 4784 // RFC 5883, section 5

	// The source ports of RFC 5881, section 4. Azure's fabric keeps 65330 for
	// itself and delivers nothing that comes from it.
	firstSourcePort, lastSourcePort, reservedSourcePort = 49152, 65535, 65330

	dscpCS6 = 0xc0 // the TOS byte of network control

	// receiveBuffer is small on purpose, in bytes: drain reads all that fits
	// into it at once, so nothing that came in time is still unread when the
	// detection time is looked at.
	receiveBuffer = 64 << 10
)

type option struct {
	what              string
	level, opt, value int
}

// ports returns the port to listen on, which is also the one to send to.
func (c Config) port() int {
	if c.Multihop {
		return portMultihop
	}
	return portSingleHop
}

// sockaddr is an address for the kernel. A zone is the name of a device; a
// link-local address without one is on the session's.
func (c Config) sockaddr(a netip.Addr, port int) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: port, Addr: a.As16()}
	zone := a.Zone()
	if zone == "" && a.IsLinkLocalUnicast() {
		zone = c.Interface
	}
	if zone != "" {
		dev, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("find the device of %s: %w", a, err)
		}
		sa.ZoneId = uint32(dev.Index)
	}
	return sa, nil
}

// openReceiver makes the socket that control packets arrive at.
//
// Bound to a device it is the only one there with our address, and a second
// session is refused; packets of strangers reach it and are counted. Without a
// device several sessions may share the address (multihop from one card to
// several neighbors), so it is connected to its peer, from any port, and the
// kernel tells the sessions apart. That needs a route to the peer.
func openReceiver(c Config) (int, error) {
	var options []option
	if c.Local.Is4() {
		options = []option{{"ask for the TTL", unix.IPPROTO_IP, unix.IP_RECVTTL, 1}}
	} else {
		options = []option{{"ask for the hop limit", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}}
	}
	options = append(options, option{"set the receive buffer", unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer})
	if c.Interface == "" {
		options = append(options, option{"share the port", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
	}
	fd, err := c.open(options)
	if err != nil {
		return -1, err
	}
	if err := c.bind(fd, c.port()); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	if c.Interface != "" {
		return fd, nil
	}
	to, err := c.sockaddr(c.Peer, 0)
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("restrict a UDP socket to %s: %w", c.Peer, err), unix.Close(fd))
	}
	return fd, nil
}

// openSender makes the socket that our packets leave from. It is not
// connected: otherwise an ICMP error, of a peer that is not there yet, would
// take the place of every other packet.
func openSender(c Config, random *rand.Rand) (int, error) {
	fd, err := c.open(nil)
	if err != nil {
		return -1, err
	}
	const attempts = 64 // of 16,383 ports: enough unless the machine has hardly any left
	for range attempts {
		port := firstSourcePort + random.IntN(lastSourcePort-firstSourcePort+1)
		if port == reservedSourcePort {
			continue
		}
		if err = c.bind(fd, port); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// open makes a socket with the options that both have, and more.
func (c Config) open(more []option) (int, error) {
	family := unix.AF_INET
	options := []option{
		{"set the TTL", unix.IPPROTO_IP, unix.IP_TTL, 255},
		{"set the DSCP", unix.IPPROTO_IP, unix.IP_TOS, dscpCS6},
	}
	if c.Local.Is6() {
		family = unix.AF_INET6
		options = []option{
			{"take IPv6 only", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{"set the hop limit", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255},
			{"set the DSCP", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, dscpCS6},
		}
	}
	// After the DSCP, which sets a priority of its own. 6 is the highest that needs no privilege.
	options = append(options, option{"set the priority", unix.SOL_SOCKET, unix.SO_PRIORITY, 6})
	if c.Mark != 0 {
		options = append(options, option{"mark", unix.SOL_SOCKET, unix.SO_MARK, int(c.Mark)})
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("open a UDP socket: %w", err)
	}
	if err := setup(fd, append(options, more...), c.Interface); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func setup(fd int, options []option, device string) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("%s on a UDP socket: %w", o.what, err)
		}
	}
	if device == "" {
		return nil
	}
	if err := unix.BindToDevice(fd, device); err != nil {
		return fmt.Errorf("bind to %s: %w", device, err)
	}
	return nil
}

func (c Config) bind(fd, port int) error {
	sa, err := c.sockaddr(c.Local, port)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind to %s: %w", netip.AddrPortFrom(c.Local, uint16(port)), err)
	}
	return nil
}
