package udp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// Everything here is on the loopback of a namespace of the test's own.
const port = 4789

var (
	here  = netip.MustParseAddr("127.0.0.1")
	peer  = netip.MustParseAddr("127.0.0.2")
	here6 = netip.MustParseAddr("::1")
)

func loopback(t *testing.T) netns.NS {
	t.Helper()
	ns := netnstest.New(t, "udp")
	if out, err := ns.Command(t.Context(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return ns
}

func receiver(t *testing.T, ns netns.NS, at netip.Addr) *Receiver {
	t.Helper()
	var list []*Receiver
	err := ns.Do(func() (err error) {
		list, err = Listen(Config{Local: netip.AddrPortFrom(at, port), Interface: "lo", Mark: 7}, 1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := list[0].Close(); err != nil {
			t.Error(err)
		}
	})
	return list[0]
}

func lanes(t *testing.T, ns netns.NS, from, to netip.Addr, n int) *Lanes {
	t.Helper()
	var l *Lanes
	err := ns.Do(func() (err error) {
		l, err = Connect(Config{Local: netip.AddrPortFrom(from, port), Interface: "lo", Mark: 7}, netip.AddrPortFrom(to, port), n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// datagram is one of a message's.
type datagram struct {
	payload   []byte
	source    netip.Addr
	tos       uint8
	truncated bool
	joined    bool
}

// take receives until n datagrams have come.
func take(t *testing.T, r *Receiver, n int) (list []datagram) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for len(list) < n && time.Now().Before(deadline) {
		fds := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		got, err := r.Receive()
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			m := r.Message(i)
			for part := range slices.Chunk(m.Buf, max(m.Size, 1)) {
				list = append(list, datagram{slices.Clone(part), m.Source, m.TOS, m.Truncated, m.Size < len(m.Buf)})
			}
		}
	}
	if len(list) != n {
		t.Fatalf("%d datagrams, want %d", len(list), n)
	}
	return list
}

// flushAll sends runs and returns how many datagrams went and how many did not.
func flushAll(l *Lanes, runs ...Run) (sent, lost int) {
	b := NewBatch()
	b.Runs = append(b.Runs, runs...)
	l.Flush(b, func(r *Run) { sent += r.Count() }, func(r *Run) { lost += r.Count() })
	return sent, lost
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// A run arrives as its datagrams, in order, with its TOS, whether the kernel
// segments it or we do.
func TestRun(t *testing.T) {
	for _, test := range []struct {
		name     string
		from, to netip.Addr
		plain    bool
	}{{"IPv4", here, peer, false}, {"IPv6", here6, here6, false}, {"without UDP_SEGMENT", here, peer, true}} {
		t.Run(test.name, func(t *testing.T) {
			ns := loopback(t)
			r := receiver(t, ns, test.to)
			l := lanes(t, ns, test.from, test.to, 2)
			l.plain.Store(test.plain)
			whole := pattern(10*1000 + 300)
			sent, lost := flushAll(l, Run{Buf: whole, Size: 1000, TOS: 0xb9, Bytes: len(whole)}, Run{Buf: []byte("alone"), Size: 5, Lane: 1})
			if sent != 12 || lost != 0 {
				t.Errorf("sent %d, lost %d", sent, lost)
			}
			list := take(t, r, 12)
			var got []byte
			for _, d := range list[:11] {
				if d.tos != 0xb9 || d.source != test.from || d.truncated {
					t.Errorf("TOS %#x, source %s, truncated %v", d.tos, d.source, d.truncated)
				}
				got = append(got, d.payload...)
			}
			if !slices.Equal(got, whole) || string(list[11].payload) != "alone" {
				t.Errorf("%d bytes arrived changed", len(got))
			}
			if list[0].joined == test.plain {
				t.Errorf("joined by the kernel: %v", list[0].joined)
			}
			if len(list[0].payload) != 1000 || len(list[10].payload) != 300 {
				t.Errorf("cut into %d … %d bytes", len(list[0].payload), len(list[10].payload))
			}
		})
	}
}

// Where UDP_SEGMENT must not be used it is not, behind single datagrams either.
func TestPlainBehindSingle(t *testing.T) {
	ns := loopback(t)
	r := receiver(t, ns, peer)
	l := lanes(t, ns, here, peer, 1)
	l.SendPlainly()
	one, row := Run{Buf: []byte("alone"), Size: 5}, Run{Buf: pattern(2500), Size: 1000}
	if sent, lost := flushAll(l, one, one, row, one); sent != 6 || lost != 0 {
		t.Errorf("sent %d, lost %d", sent, lost)
	}
	for i, d := range take(t, r, 6) {
		if want := []int{5, 5, 1000, 1000, 500, 5}[i]; len(d.payload) != want || d.joined && i > 1 {
			t.Errorf("datagram %d: %d bytes, want %d, joined by the kernel: %v", i, len(d.payload), want, d.joined)
		}
	}
}

// A datagram that does not fit the device is lost and said to be; those around it are not.
func TestTooLongForTheDevice(t *testing.T) {
	ns := loopback(t)
	if out, err := ns.Command(t.Context(), "ip", "link", "set", "lo", "mtu", "1500").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := receiver(t, ns, peer)
	l := lanes(t, ns, here, peer, 1)
	one := func(n int) Run { return Run{Buf: pattern(n), Size: n} }
	if sent, lost := flushAll(l, one(100), one(2000), one(200)); sent != 2 || lost != 1 {
		t.Errorf("sent %d, lost %d; want 2 and 1: DF forbids fragments", sent, lost)
	}
	take(t, r, 2)
}

// The longest datagram there is arrives whole.
func TestLongest(t *testing.T) {
	ns := loopback(t)
	r := receiver(t, ns, peer)
	l := lanes(t, ns, here, peer, 1)
	const longest = 65507
	if sent, _ := flushAll(l, Run{Buf: pattern(longest), Size: longest}); sent != 1 {
		t.Fatal("not sent")
	}
	if d := take(t, r, 1); d[0].truncated || !slices.Equal(d[0].payload, pattern(longest)) {
		t.Errorf("%d bytes arrived, truncated %v", len(d[0].payload), d[0].truncated)
	}
}

// Ports in use are skipped, and 65330 is never used.
func TestPorts(t *testing.T) {
	ns := loopback(t)
	var taken net.PacketConn
	if err := ns.Do(func() (err error) { taken, err = net.ListenPacket("udp4", "127.0.0.1:49153"); return err }); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	l := lanes(t, ns, here, peer, 3)
	if want := []uint16{49152, 49154, 49155}; !slices.Equal(l.Ports(), want) {
		t.Errorf("ports %v, want %v", l.Ports(), want)
	}
	// A second tunnel from the same address shares the ports: its peer tells the sockets apart.
	other := lanes(t, ns, here, netip.MustParseAddr("127.0.0.3"), 3)
	if !slices.Equal(other.Ports(), l.Ports()) {
		t.Errorf("ports %v of a second peer, want %v", other.Ports(), l.Ports())
	}
	var all *Lanes
	err := ns.Do(func() (err error) {
		const every = lastPort - firstPort + 1
		all, err = Connect(Config{Local: netip.AddrPortFrom(peer, port)}, netip.AddrPortFrom(here, port), every)
		return err
	})
	if err == nil {
		t.Errorf("%d ports, among them 65330: %v", len(all.Ports()), errors.Join(nil, all.Close()))
	}
}

// Lanes only send: what comes for them does not fill their memory.
func TestLanesDrop(t *testing.T) {
	ns := loopback(t)
	l := lanes(t, ns, here, peer, 1)
	err := ns.Do(func() error {
		c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, port)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(here, l.Ports()[0])))
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("hello"))
		return errors.Join(err, c.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(l.fds[0], make([]byte, 100)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a lane received %d bytes, %v", n, err)
	}
}

// An ICMP error about one datagram does not lose the next one.
func TestPeerAway(t *testing.T) {
	ns := loopback(t)
	l := lanes(t, ns, here, peer, 1)
	flushAll(l, Run{Buf: pattern(10), Size: 10}) // nobody listens: "port unreachable" comes back
	r := receiver(t, ns, peer)
	if sent, lost := flushAll(l, Run{Buf: pattern(20), Size: 20}); sent != 1 || lost != 0 {
		t.Errorf("sent %d, lost %d", sent, lost)
	}
	take(t, r, 1)
	if err := l.Send([]byte("control")); err != nil {
		t.Error(err)
	}
	if d := take(t, r, 1); string(d[0].payload) != "control" {
		t.Errorf("received %q", d[0].payload)
	}
}

// What the socket could not hold is counted.
func TestOverflow(t *testing.T) {
	ns := loopback(t)
	r := receiver(t, ns, peer)
	if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	l := lanes(t, ns, here, peer, 1)
	for range 50 {
		flushAll(l, Run{Buf: pattern(1000), Size: 1000})
	}
	lost := 0
	for lost == 0 {
		n, err := r.Receive()
		if errors.Is(err, unix.EAGAIN) { // the count comes with the next datagram that fits
			flushAll(l, Run{Buf: pattern(10), Size: 10})
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			r.Message(i)
		}
		lost += r.TakeLost()
	}
	if lost < 10 || lost >= 50 || r.TakeLost() != 0 {
		t.Errorf("%d lost", lost)
	}
}

func TestSelfTest(t *testing.T) {
	ns := loopback(t)
	if err := ns.Do(SelfTest); err != nil {
		t.Error(err)
	}
	if err := netnstest.New(t, "down").Do(SelfTest); err != nil {
		t.Errorf("with the loopback down: %v", err)
	}
}

// A batch allocates nothing, neither where it is sent nor where it is received.
func TestAllocates(t *testing.T) {
	for _, plain := range []bool{false, true} {
		ns := loopback(t)
		r := receiver(t, ns, peer)
		l := lanes(t, ns, here, peer, 2)
		l.plain.Store(plain)
		b, sent, received := NewBatch(), 0, 0
		whole := pattern(10*1000 + 300)
		count := func(r *Run) { sent += r.Count() }
		lose := func(*Run) {}
		n := testing.AllocsPerRun(100, func() {
			b.Runs = append(b.Runs[:0], Run{Buf: whole, Size: 1000, TOS: 0xb9, Bytes: len(whole)}, Run{Buf: whole[:5], Size: 5, Lane: 1})
			l.Flush(b, count, lose)
			for received < sent {
				got, err := r.Receive()
				if err != nil && !errors.Is(err, unix.EAGAIN) {
					t.Fatal(err)
				}
				for i := range got {
					m := r.Message(i)
					received += (len(m.Buf) + m.Size - 1) / m.Size
				}
			}
		})
		if n > 0 || received != 101*12 {
			t.Errorf("%v allocations, %d of %d datagrams received (without UDP_SEGMENT: %v)", n, received, sent, plain)
		}
	}
}

// A receiver's lane sends from the receiver's own port, whatever the family, and
// single datagrams as well as runs.
func TestReceiverLane(t *testing.T) {
	for _, c := range []struct{ from, to netip.Addr }{{here, peer}, {here6, here6}} {
		ns := loopback(t)
		from := receiver(t, ns, c.from)
		var far *net.UDPConn
		if err := ns.Do(func() (err error) {
			far, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.to, port+1)))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer far.Close() //nolint:errcheck // only read from
		l := from.Lane(netip.AddrPortFrom(c.to, port+1))
		if err := l.Send([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := NewBatch()
		b.Runs = append(b.Runs, Run{Buf: []byte("firstsecondlast"), Size: 6})
		l.Flush(b, func(*Run) {}, func(*Run) { t.Error("a run was lost") })
		if err := far.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"hello", "firsts", "econdl", "ast"} {
			buf := make([]byte, 100)
			n, a, err := far.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != want || a != netip.AddrPortFrom(c.from, port) {
				t.Errorf("%q from %s, %v; want %q from port %d", buf[:n], a, err, want, port)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := from.Receive(); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("the receiver was closed with its lane: %v", err)
		}
	}
}
