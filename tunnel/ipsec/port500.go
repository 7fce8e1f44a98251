package ipsec

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/ike"
)

// natPort is the port of ESP in UDP that every IPsec knows.
const natPort = 4500

// port500 is a socket at UDP port 500 that is connected to the peer's: several
// tunnels have one each, and the kernel tells them apart.
type port500 struct {
	conn *net.UDPConn
	done sync.WaitGroup
}

// listen500 opens the socket. A tunnel with ESP in UDP at another port than 4500
// has none: its peer has to know that port anyway.
func listen500(cfg Config) (*port500, error) {
	local, remote := cfg.IKE.Local, cfg.IKE.Remote
	if local.Port() != natPort && !cfg.IKE.Raw {
		return nil, nil
	}
	dialer := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local.Addr(), 500)),
		Control:   func(_, _ string, c syscall.RawConn) error { return cfg.setup500(c) },
	}
	c, err := dialer.Dial("udp", netip.AddrPortFrom(remote.Addr(), 500).String())
	if err != nil {
		return nil, fmt.Errorf("open UDP port 500: %w", err)
	}
	conn, ok := c.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("open UDP port 500: %T is not UDP", c), c.Close())
	}
	return &port500{conn: conn}, nil
}

func (cfg *Config) setup500(c syscall.RawConn) error {
	var err error
	control := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(cfg.Mark)))
		if cfg.Interface != "" {
			err = errors.Join(err, unix.BindToDevice(int(fd), cfg.Interface))
		}
	})
	return errors.Join(control, err)
}

// serve hands what comes to the device.
func (p *port500) serve(d *Device) {
	if p != nil {
		p.done.Go(func() { p.read(d) })
	}
}

func (p *port500) read(d *Device) {
	buf := make([]byte, maxMessage+1)
	for {
		n, err := p.conn.Read(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil && n > 0:
			if d.take(ike.PortIKE, buf[:n]) != tunnel.DropNone {
				d.lost.Add(1)
			}
		}
		// Other errors are ICMP's about what was sent.
	}
}

func (p *port500) send(datagram []byte) {
	if p != nil {
		_, _ = p.conn.Write(datagram) // what cannot be sent was lost on its way
	}
}

func (p *port500) close() {
	if p == nil {
		return
	}
	_ = p.conn.Close()
	p.done.Wait()
}
