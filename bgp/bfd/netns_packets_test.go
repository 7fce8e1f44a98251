package bfd

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNetnsStrangePackets sends what a socket must not take.
func TestNetnsStrangePackets(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	s := start(t, w.ours, Config{Name: "a", Local: local(), Peer: remote(), Interface: "tr0"})
	w.ip("-n", w.theirs.Name, "addr", "add", "198.51.100.6/32", "dev", "tr0")
	var b [packetLen]byte
	p := from(Down)
	p.yours = 0
	p.encode(&b)
	send := func(src netip.Addr, ttl int, payload []byte) {
		t.Helper()
		err := w.theirs.Do(func() error {
			c := Config{Local: src}
			fd, err := c.open([]option{{"set the TTL", unix.IPPROTO_IP, unix.IP_TTL, ttl}})
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			if err := c.bind(fd, 0); err != nil {
				return err
			}
			return unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Port: portSingleHop, Addr: local().As4()})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	send(remote(), 254, b[:])
	s.drops(DropTTL)
	send(netip.MustParseAddr("198.51.100.6"), 255, b[:])
	s.drops(DropPeer)
	send(remote(), 255, b[:20])
	s.drops(DropShort)
	send(remote(), 255, nil)
	send(remote(), 255, append(b[:], make([]byte, 2000)...)) // longer than the buffer: valid, the rest is not looked at
	s.reaches(Init, time.Time{}, 2*time.Second)
	if got := s.Status(); got.Dropped[DropShort] != 2 || got.Rx != 1 {
		t.Errorf("%+v", got)
	}
}

// TestNetnsHeaders looks at what a session sends: TTL, DSCP and source port.
func TestNetnsHeaders(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	var fd int
	err := w.theirs.Do(func() (err error) {
		c := Config{Local: remote()}
		fd, err = c.open([]option{
			{"ask for the TTL", unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, {"ask for the TOS", unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
		})
		if err != nil {
			return err
		}
		return c.bind(fd, portSingleHop)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	s := start(t, w.ours, Config{Local: local(), Peer: remote(), Interface: "tr0", Mark: 7})
	for _, fd := range []int{s.tx, s.reader.fd} {
		device, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
		if err != nil || device != "tr0" {
			t.Errorf("bound to %q, %v", device, err)
		}
		for opt, want := range map[int]int{unix.SO_MARK: 7, unix.SO_PRIORITY: 6} {
			if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt); err != nil || got != want {
				t.Errorf("option %d is %d, %v", opt, got, err)
			}
		}
	}
	poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 2*time.Second)
	var payload, control [128]byte
	n, cn, _, from, err := unix.Recvmsg(fd, payload[:], control[:], 0)
	if err != nil {
		t.Fatal(err)
	}
	if p, drop := decode(payload[:n]); drop != dropNone || n != packetLen || p.state != Down {
		t.Errorf("%+v (%s)", p, drop)
	}
	if sa, ok := from.(*unix.SockaddrInet4); !ok || sa.Port < 49152 || sa.Port == 65330 || netip.AddrFrom4(sa.Addr) != local() {
		t.Errorf("from %+v", from)
	}
	msgs, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil {
		t.Fatal(err)
	}
	got := map[int32]byte{}
	for _, m := range msgs {
		got[m.Header.Type] = m.Data[0]
	}
	if got[unix.IP_TTL] != 255 || got[unix.IP_TOS] != 0xc0 {
		t.Errorf("TTL and TOS are %v", got)
	}
}
