package pmtud

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/packet"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func example() message {
	return message{
		kind: answer, code: codeTooLong, token: 0x0123456789abcdef, want: 1400, got: 1399, using: 1350, most: 1400, card: 1500,
		hopMTU: 1400, hop: addr("192.0.2.1"),
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	m := example()
	b := m.append([]byte{9}, 100)[1:]
	if len(b) != 100 {
		t.Errorf("padded to %d bytes", len(b))
	}
	got, ok := parseMessage(b)
	if d := cmp.Diff(m, got, cmp.AllowUnexported(message{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); !ok || d != "" {
		t.Errorf("not what went in (%v): %s", ok, d)
	}
	for name, change := range map[string]func([]byte){
		"magic": func(b []byte) { b[0] ^= 1 }, "version": func(b []byte) { b[4]++ }, "kind": func(b []byte) { b[5] = 3 },
	} {
		bad := bytes.Clone(b)
		change(bad)
		if _, ok := parseMessage(bad); ok {
			t.Errorf("a wrong %s is accepted", name)
		}
	}
	if _, ok := parseMessage(b[:messageLen-1]); ok {
		t.Error("a short message is accepted")
	}
}

func TestDatagram(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, minPacket, 100, 101, 1400, 9000, 20000} {
		for name, b := range map[string][]byte{
			"probe": example().datagram(addr("169.254.77.1"), addr("169.254.77.2"), n),
			"echo":  echoRequest(addr("169.254.77.1"), addr("169.254.77.2"), 42, n),
		} {
			if want := min(max(n, minPacket), maxPacket); len(b) != want {
				t.Errorf("%s of %d: %d bytes, want %d", name, n, len(b), want)
			}
			in, fault := packet.Parse(b)
			if fault != packet.None || in.Len != len(b) || !in.DF || packet.Checksum(b[:20], 0) != 0 {
				t.Errorf("%s of %d: %+v, fault %d", name, n, in, fault)
			}
			pseudo := uint64(0)
			if in.Proto == packet.UDP {
				pseudo = packet.PseudoSum(b, packet.UDP, len(b)-20)
			}
			if packet.Checksum(b[20:], pseudo) != 0 {
				t.Errorf("%s of %d: wrong checksum", name, n)
			}
		}
	}
}

func TestEchoReply(t *testing.T) {
	t.Parallel()
	b := echoRequest(addr("192.0.2.1"), addr("192.0.2.2"), 42, 500)[ipHeader:]
	if _, _, ok := echoReply(b); ok {
		t.Error("a request is taken for a reply")
	}
	b[0] = icmpEchoReply
	if token, n, ok := echoReply(b); token != 42 || n != 500 || !ok {
		t.Errorf("%d, %d, %v", token, n, ok)
	}
	if _, _, ok := echoReply(b[:15]); ok {
		t.Error("a short reply is accepted")
	}
}

func TestTooBig(t *testing.T) {
	t.Parallel()
	a, b := addr("192.0.2.1"), addr("192.0.2.2")
	a6, b6 := addr("2001:db8::1"), addr("2001:db8::2")
	say := func(from, to netip.Addr, mtu int) []byte {
		pkt := example().datagram(a, b, 100)
		if from.Is6() {
			pkt = append([]byte{0x60, 0, 0, 0, 0, 80, packet.UDP, 64}, append(from.AsSlice(), to.AsSlice()...)...)
			pkt = append(pkt, make([]byte, 80)...)
		}
		in, _ := packet.Parse(pkt)
		router := addr("198.51.100.1")
		if from.Is6() {
			router = addr("2001:db8:1::1")
			return packet.TooBig(nil, router, pkt, in, mtu)[40:]
		}
		return packet.TooBig(nil, router, pkt, in, mtu)[20:]
	}
	for _, test := range []struct {
		name     string
		b        []byte
		from, to netip.Addr
		mtu      int
		ok       bool
	}{
		{"IPv4", say(a, b, 1400), a, b, 1400, true},
		{"IPv6", say(a6, b6, 1400), a6, b6, 1400, true},
		{"another peer's", say(a, b, 1400), a, addr("192.0.2.3"), 1400, false},
		{"another source", say(a6, b6, 1400), b6, a6, 1400, false},
		{"no MTU", say(a, b, 0), a, b, 0, false},
		{"cut", say(a, b, 1400)[:27], a, b, 1400, false},
		{"nothing", nil, a, b, 0, false},
		{"another code", append([]byte{3, 3}, say(a, b, 1400)[2:]...), a, b, 0, false},
	} {
		if mtu, ok := tooBig(test.b, test.from, test.to); ok != test.ok || ok && mtu != test.mtu {
			t.Errorf("%s: %d, %v", test.name, mtu, ok)
		}
	}
}

// What comes out of the tunnel was written by anybody.
func FuzzMessages(f *testing.F) {
	f.Add(example().append(nil, 60))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{3, 4, 0, 0, 0, 0, 5, 120, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := parseMessage(b); ok {
			again, ok := parseMessage(m.append(nil, len(b)))
			if d := cmp.Diff(m, again, cmp.AllowUnexported(message{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); !ok || d != "" {
				t.Errorf("not stable: %s", d)
			}
		}
		if _, n, ok := echoReply(b); ok && n != len(b)+ipHeader {
			t.Errorf("%d of %d bytes", n, len(b))
		}
		if mtu, ok := tooBig(b, addr("192.0.2.1"), addr("192.0.2.2")); ok && mtu <= 0 {
			t.Errorf("MTU %d", mtu)
		}
		_, _ = tooBig(b, addr("2001:db8::1"), addr("2001:db8::2"))
	})
}
