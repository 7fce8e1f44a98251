package bfd

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopback is a session's configuration that needs no privilege.
func loopback() Config {
	return Config{Name: "lo", Local: netip.MustParseAddr("127.0.0.1"), Peer: netip.MustParseAddr("127.0.0.77"), Multihop: true}
}

func TestNothingIsAllocatedForAPacket(t *testing.T) {
	// Not parallel: it counts the process's allocations.
	r := newRig(t, nil)
	r.up()
	c := loopback()
	fd, err := c.open([]option{{"ask for the TTL", unix.IPPROTO_IP, unix.IP_RECVTTL, 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := c.bind(fd, 0); err != nil {
		t.Fatal(err)
	}
	to, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := c.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r.addr = c.Local
	s := &Session{config: cfg, to: to, tx: fd, reader: newReader(fd), machine: r.machine}
	p := from(Up)
	p.poll = true // so that it is answered as well
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	allocs := testing.AllocsPerRun(200, func() {
		s.send(p)
		poll(fds, time.Second)
		r.now = r.now.Add(300 * ms)
		due := s.due()
		d, err := s.reader.read()
		if err != nil || d.ttl != 255 || d.from != c.Local || len(d.payload) != packetLen {
			t.Fatalf("%+v, %v", d, err)
		}
		out := r.receive(r.now, d)
		if !out.send {
			t.Fatal("no answer")
		}
		r.late(r.now, r.now.Sub(due))
		s.do(r.tick(r.now))
		if _, err := s.reader.read(); err != nil { // the periodic packet has come to us, too
			t.Fatal(err)
		}
		if _, err := s.reader.read(); err == nil {
			t.Fatal("something is left")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestTheEndInAnyOrder: Shutdown and Close at once and again, while the state is asked for.
func TestTheEndInAnyOrder(t *testing.T) {
	t.Parallel()
	for i := range 40 {
		c := loopback()
		c.Peer = netip.AddrFrom4([4]byte{127, 0, 1, byte(i)})
		s, err := Start(c)
		if err != nil {
			t.Fatal(err)
		}
		var g sync.WaitGroup
		for range 2 {
			g.Go(s.Shutdown)
			g.Go(func() { s.Status() })
			g.Go(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		g.Wait()
		s.Shutdown()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if got := s.Status().State; got != Down && got != AdminDown {
			t.Errorf("it ended %s", got)
		}
	}
}

func TestShutdownIsSaidMoreThanOnce(t *testing.T) {
	t.Parallel()
	var changes []Change
	c := loopback()
	c.OnState = func(ch Change) { changes = append(changes, ch) }
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Status().Tx
	s.Shutdown()
	if got := s.Status(); got.Tx < before+goodbyes || got.State != AdminDown {
		t.Errorf("%+v", got)
	}
	if len(changes) != 1 || changes[0].To != AdminDown || changes[0].Failure() {
		t.Errorf("%+v", changes)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*Config){
		"an address of somebody else": func(c *Config) { c.Local = netip.MustParseAddr("192.0.2.1") },
		"a device that is not there":  func(c *Config) { c.Interface = "nosuch0" },
		"a zone that is not there": func(c *Config) {
			c.Local, c.Peer = netip.MustParseAddr("fe80::1%nosuch0"), netip.MustParseAddr("fe80::2%nosuch0")
		},
		"no peer": func(c *Config) { c.Peer = netip.Addr{} },
	} {
		c := loopback()
		edit(&c)
		s, err := Start(c)
		if err == nil {
			t.Errorf("%s: it started", name)
			_ = s.Close()
		}
	}
}

// TestWhatArrivedInTimeCounts: a session that did not run for longer than the
// detection time finds the peer's packets in its socket, and stays up.
func TestWhatArrivedInTimeCounts(t *testing.T) {
	t.Parallel()
	up := make(chan struct{}, 1)
	a := loopback()
	a.Local, a.Peer = netip.MustParseAddr("127.0.2.1"), netip.MustParseAddr("127.0.2.2")
	b := a
	a.Interval, b.Interval = 100*ms, 100*ms
	a.Multiplier = 50 // the peer is patient with it
	b.Local, b.Peer = a.Peer, a.Local
	a.OnState = func(c Change) {
		if c.To == Up {
			<-time.After(time.Second) // more than three packets, in the name of a machine without CPU
			up <- struct{}{}
		}
	}
	var ends []*Session
	for _, c := range []Config{a, b} {
		s, err := Start(c)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, s)
		defer func() { _ = s.Close() }()
	}
	select {
	case <-up:
	case <-time.After(10 * time.Second):
		t.Fatal("never up")
	}
	eventually(t, 5*time.Second, func() error { // until it has run for a while again
		if s := ends[0].Status(); s.Tx < 10 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if s := ends[0].Status(); s.State != Up || s.Flaps != 0 || s.Graces != 0 {
		t.Errorf("%+v", s)
	}
}
