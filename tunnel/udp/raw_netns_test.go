package udp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
)

// protocolESP is the one that is done without UDP.
const protocolESP = 50

// rawSocket is a receiver for ESP.
func rawSocket(t *testing.T, ns netns.NS, at netip.Addr) *Receiver {
	t.Helper()
	var list []*Receiver
	err := ns.Do(func() (err error) {
		list, err = Listen(Config{Local: netip.AddrPortFrom(at, 0), Interface: "lo", Mark: 7, Protocol: protocolESP}, 1)
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

// Without UDP, datagrams arrive as they were sent, by either family: without an
// IP header, each for itself, with TOS and source, and in their order.
func TestRaw(t *testing.T) {
	for _, test := range []struct {
		name     string
		from, to netip.Addr
	}{{"IPv4", here, peer}, {"IPv6", here6, here6}} {
		t.Run(test.name, func(t *testing.T) {
			ns := loopback(t)
			r := rawSocket(t, ns, test.to)
			s := r // ::1 is the only address of its kind
			if test.from != test.to {
				s = rawSocket(t, ns, test.from)
			}
			l := s.Lane(netip.AddrPortFrom(test.to, 4500)) // a port has no meaning
			if l.MaxRun() != 1 {
				t.Errorf("runs of %d", l.MaxRun())
			}
			var runs []Run
			var want [][]byte
			for i := range MaxRuns - 1 {
				b := pattern(100 + i)
				b[0] = byte(i)
				want = append(want, b)
				runs = append(runs, Run{Buf: b, Size: len(b), TOS: uint8(4 * i), Bytes: len(b)})
			}
			row := pattern(2500) // a row is cut, as where UDP_SEGMENT fails
			runs = append(runs, Run{Buf: row, Size: 1000, TOS: 4, Bytes: len(row)})
			want = slices.AppendSeq(want, slices.Chunk(row, 1000))
			if sent, lost := flushAll(l, runs...); sent != len(want) || lost != 0 {
				t.Errorf("sent %d, lost %d", sent, lost)
			}
			if err := l.Send([]byte("alone")); err != nil {
				t.Error(err)
			}
			want = append(want, []byte("alone"))
			for i, d := range take(t, r, len(want)) {
				tos := uint8(0)
				if i < len(want)-1 {
					tos = runs[min(i, len(runs)-1)].TOS
				}
				if !slices.Equal(d.payload, want[i]) || d.tos != tos || d.source != test.from || d.truncated || d.joined {
					t.Errorf("datagram %d: %d bytes for %d, TOS %#x for %#x, from %s, truncated %v, joined %v", i, len(d.payload), len(want[i]), d.tos, tos, d.source, d.truncated, d.joined)
				}
			}
		})
	}
}

// What does not fit the device is lost, and not cut: DF and IPv6 forbid it.
func TestRawTooLong(t *testing.T) {
	for _, test := range []struct {
		at, to netip.Addr
		header int
	}{{here, peer, 20}, {here6, here6, 40}} {
		ns := loopback(t)
		if out, err := ns.Command(t.Context(), "ip", "link", "set", "lo", "mtu", "1500").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		r := rawSocket(t, ns, test.to)
		l := r.Lane(netip.AddrPortFrom(test.to, 0))
		one := func(n int) Run { return Run{Buf: pattern(n), Size: n} }
		if sent, lost := flushAll(l, one(1500-test.header), one(1501-test.header), one(200)); sent != 2 || lost != 1 {
			t.Errorf("to %s: sent %d, lost %d", test.to, sent, lost)
		}
		if d := take(t, r, 2); len(d[0].payload) != 1500-test.header || len(d[1].payload) != 200 {
			t.Errorf("to %s: %d and %d bytes came", test.to, len(d[0].payload), len(d[1].payload))
		}
	}
}

// An IPv4 header has options now and then, and a payload is nothing now and then.
func TestRawOptions(t *testing.T) {
	ns := loopback(t)
	r := rawSocket(t, ns, peer)
	var fd int
	if err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, payload := range []string{"", "behind"} {
		for _, options := range []int{0, 4, 40} {
			b := make([]byte, 20+options, 80)
			b[0], b[8], b[9] = byte(0x40+len(b)/4), 64, protocolESP
			copy(b[12:], here.AsSlice())
			copy(b[16:], peer.AsSlice())
			for i := 20; i < len(b); i++ {
				b[i] = 1 // NOP (RFC 791, section 3.1)
			}
			b = append(b, payload...)
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: peer.As4()}); err != nil {
				t.Fatal(err)
			}
			var got int
			var err error
			for got, err = r.Receive(); errors.Is(err, unix.EAGAIN); got, err = r.Receive() {
				if n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}, 5000); n == 0 {
					t.Fatalf("with %d bytes of options nothing came: %v", options, err)
				}
			}
			if m := r.Message(0); err != nil || got != 1 || string(m.Buf) != payload || m.Source != here {
				t.Errorf("with %d bytes of options: %d messages, %q from %s, %v", options, got, m.Buf, m.Source, err)
			}
		}
	}
}

// A length in the header is not believed beyond what is there.
func TestBehindIPv4(t *testing.T) {
	for _, test := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, ""},
		{"less than a header", []byte{0x45, 0, 0}, ""},
		{"a header too short to be one", append([]byte{0x44}, pattern(40)...), ""},
		{"a header longer than all", append([]byte{0x46}, make([]byte, 22)...), ""},
		{"a header only", append([]byte{0x45}, make([]byte, 19)...), ""},
		{"a header", append(append([]byte{0x45}, make([]byte, 19)...), "x"...), "x"},
		{"options to the end", append([]byte{0x4f}, make([]byte, 59)...), ""},
		{"options", append(append([]byte{0x4f}, make([]byte, 59)...), "xy"...), "xy"},
	} {
		if got := behindIPv4(test.b); string(got) != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Two sockets would each get every packet.
func TestRawOnlyOne(t *testing.T) {
	if l, err := Listen(Config{Local: netip.AddrPortFrom(here, 0), Protocol: protocolESP}, 2); err == nil {
		t.Errorf("%d sockets", len(l))
	}
}

// Without UDP, too, a batch allocates nothing.
func TestRawAllocates(t *testing.T) {
	ns := loopback(t)
	r, s := rawSocket(t, ns, peer), rawSocket(t, ns, here)
	l := s.Lane(netip.AddrPortFrom(peer, 0))
	b, sent, received := NewBatch(), 0, 0
	whole := pattern(1000)
	count, lose := func(r *Run) { sent += r.Count() }, func(*Run) {}
	n := testing.AllocsPerRun(100, func() {
		b.Runs = b.Runs[:0]
		for range 10 {
			b.Runs = append(b.Runs, Run{Buf: whole, Size: len(whole), TOS: 0xb9})
		}
		l.Flush(b, count, lose)
		for received < sent {
			got, err := r.Receive()
			if err != nil && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			for i := range got {
				if m := r.Message(i); len(m.Buf) == len(whole) {
					received++
				}
			}
		}
	})
	if n > 0 || received != 101*10 {
		t.Errorf("%v allocations, %d of %d received", n, received, sent)
	}
}
