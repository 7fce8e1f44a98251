package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// echoStream is a datagram every millisecond from the node's host to the far NVA's, which echoes it.
type echoStream struct {
	stop    chan struct{}
	all     sync.WaitGroup
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
	sent    int
	back    int
}

func (p *farRig) stream(n int) *echoStream {
	p.t.Helper()
	dial := func(ns netns.NS, addr string) *net.UDPConn {
		var c *net.UDPConn
		if err := ns.Do(func() (err error) {
			c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr), Port: 7})
			return err
		}); err != nil {
			p.t.Fatal(err)
		}
		return c
	}
	near, far := dial(p.nva, nodeHost), dial(p.far[n], p.links[n].host())
	s := &echoStream{stop: make(chan struct{}), last: time.Now()}
	s.all.Go(func() { // the far end echoes
		b := make([]byte, 100)
		for {
			k, from, err := far.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = far.WriteToUDPAddrPort(b[:k], from) // the way back may be missing: that is measured
			}
		}
	})
	s.all.Go(func() {
		b := make([]byte, 100)
		for {
			_, err := near.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				s.heard()
			}
		}
	})
	s.all.Go(func() {
		defer near.Close() //nolint:errcheck // what is lost is counted
		defer far.Close()  //nolint:errcheck // as above
		to := &net.UDPAddr{IP: net.ParseIP(p.links[n].host()), Port: 7}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		b := make([]byte, 8)
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				binary.BigEndian.PutUint64(b, uint64(s.sent))
				_, _ = near.WriteTo(b, to) // without a route: that is measured
				s.mu.Lock()
				s.sent++
				s.mu.Unlock()
			}
		}
	})
	return s
}

func (s *echoStream) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back++
	now := time.Now()
	s.longest, s.last = max(s.longest, now.Sub(s.last)), now
}

// end says how much was lost, and the longest time with no answer.
func (s *echoStream) end() (sent, back int, gap time.Duration) {
	close(s.stop)
	s.all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent, s.back, max(s.longest, time.Since(s.last))
}
