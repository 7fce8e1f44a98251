package speaker

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// transport makes connections. Tests put net.Pipe in its place.
type transport interface {
	// dial connects from local (any, if invalid) to remote; ctx ends an attempt.
	dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error)
	// listen's listener returns from Accept with an error once it is closed.
	listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error)
}

type tcpTransport struct{}

func (tcpTransport) dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return d.DialContext(ctx, "tcp4", remote.String())
}

func (tcpTransport) listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(ctx, "tcp4", addr.String())
}

// accept gives each connection to its neighbour until ctx ends; it closes the listener.
func (s *Speaker) accept(ctx context.Context, wg *sync.WaitGroup, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() {
		if stop() {
			_ = l.Close()
		}
	}()
	for {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = nc.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() { s.deliver(ctx, nc) })
	}
}

// deliver hands a new connection to the neighbour with its address. A stranger
// is hung up on and counted.
func (s *Speaker) deliver(ctx context.Context, nc net.Conn) {
	remote := addrOf(nc.RemoteAddr())
	for _, p := range s.peers {
		if p.cfg.Addr != remote {
			continue
		}
		select {
		case p.acceptC <- nc:
		case <-ctx.Done():
			_ = nc.Close()
		}
		return
	}
	s.rejected.Add(1)
	_ = nc.Close()
}

func (s *Speaker) setListenAddr(a net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		s.addr = ap
	}
}

// addrOf returns the address of one end of a connection; invalid if it has none.
func addrOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
