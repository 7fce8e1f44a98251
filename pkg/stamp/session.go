package stamp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// Session measures a path until it is closed, and answers the peer that does.
type Session struct {
	prober  *Prober
	reflect *reflector
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// Start begins: a probe each interval.
func Start(p Path, interval time.Duration) (*Session, error) {
	r, err := newReflector(p)
	if err != nil {
		return nil, err
	}
	b, err := NewProber(p, nil)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Session{prober: b, reflect: r, cancel: cancel}
	s.ended.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			b.Send()
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	return s, nil
}

// Stats are what the last probes say.
func (s *Session) Stats() Stats {
	if s == nil {
		return Stats{Method: None}
	}
	return s.prober.Stats()
}

// Close ends it and waits; a nil Session is closed already.
func (s *Session) Close() error {
	if s == nil {
		return nil
	}
	s.cancel()
	s.ended.Wait()
	return errors.Join(s.prober.Close(), s.reflect.close())
}

// reflector answers the peer, and nobody else.
type reflector struct {
	c     *ipv4.PacketConn
	udp   net.PacketConn
	peer  netip.Addr
	ended sync.WaitGroup
}

func newReflector(p Path) (*reflector, error) {
	lc := net.ListenConfig{Control: p.control}
	c, err := lc.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(p.Local, Port).String())
	if err != nil {
		return nil, fmt.Errorf("listen for test packets of the peer: %w", err)
	}
	r := &reflector{c: ipv4.NewPacketConn(c), udp: c, peer: p.Peer}
	if err := r.c.SetControlMessage(ipv4.FlagTTL, true); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for test packets of the peer: %w", err), c.Close())
	}
	r.ended.Go(r.run)
	return r, nil
}

// run reflects until the socket is closed. A sender that begins again, by
// another port or number, finds our own numbers going on, which is all it needs.
func (r *reflector) run() {
	in, out, seq := make([]byte, 9000), make([]byte, 0, 9000), uint32(0)
	for {
		n, cm, from, err := r.c.ReadFrom(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		received := time.Now()
		a, ok := from.(*net.UDPAddr)
		if err != nil || !ok || a.AddrPort().Addr().Unmap() != r.peer {
			continue
		}
		ttl := uint8(0)
		if cm != nil {
			ttl = uint8(cm.TTL)
		}
		answer, ok := reflect(out[:0], in[:n], seq, ttl, received, time.Now())
		if !ok {
			continue
		}
		seq++
		_, _ = r.c.WriteTo(answer, nil, a) // lost like any other
	}
}

func (r *reflector) close() error {
	err := r.udp.Close()
	r.ended.Wait()
	return err
}
