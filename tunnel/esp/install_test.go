package esp

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"

	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/sa"
)

func TestLimits(t *testing.T) {
	a, b := keyed(t, sa.AES128GCM16, true, func(p *sa.Pair) { p.Limits = sa.Limits{SoftPackets: 8, HardPackets: 10} })
	for i := range 12 {
		buf := make([]byte, 300)
		copy(buf[room:], ip4(100))
		start, end, r := a.Seal(buf, room, 100)
		if want := i < 10; (r == tunnel.DropNone) != want {
			t.Fatalf("packet %d: %s", i, r)
		}
		if r == tunnel.DropNone {
			if _, _, _, r := b.Open(buf[start:end]); r != tunnel.DropNone {
				t.Fatal(r)
			}
		}
		u, _ := a.Usage(0x11223344)
		v, _ := b.Usage(0x55667788)
		if want := i >= 7; u.Spent != want || v.Spent != want {
			t.Errorf("packet %d: spent %v and %v", i, u.Spent, v.Spent)
		}
	}
	// What was lost on the way counts at both ends: the hard limit is that of sequence numbers.
	a, b = keyed(t, sa.AES128GCM16, true, func(p *sa.Pair) { p.Limits = sa.Limits{SoftPackets: 8, HardPackets: 10} })
	for i := range 8 {
		d := seal(t, a, ip4(100))
		if i%4 == 0 {
			continue
		}
		if _, _, _, r := b.Open(d); r != tunnel.DropNone {
			t.Fatal(r)
		}
	}
	if u, _ := b.Usage(0x55667788); !u.Spent || u.InPackets != 6 {
		t.Errorf("after 8 packets of which 2 were lost: %+v, want spent", u)
	}
	a, b = keyed(t, sa.AES128GCM16, true, func(p *sa.Pair) { p.Limits = sa.Limits{SoftBytes: 150, HardBytes: 250} })
	for range 3 {
		if _, _, _, r := b.Open(seal(t, a, ip4(100))); r != tunnel.DropNone {
			t.Fatal(r)
		}
	}
	buf := make([]byte, 300)
	copy(buf[room:], ip4(100))
	if _, _, r := a.Seal(buf, room, 100); r != tunnel.DropExpired {
		t.Errorf("beyond the bytes: %s", r)
	}
}

func TestSelectors(t *testing.T) {
	prefix := func(s string) sa.Selector {
		p := netip.MustParsePrefix(s)
		last := p.Addr().AsSlice()
		for i := p.Bits(); i < 8*len(last); i++ {
			last[i/8] |= 1 << (7 - i%8)
		}
		end, _ := netip.AddrFromSlice(last)
		return sa.Selector{EndPort: 65535, Start: p.Addr(), End: end}
	}
	udp := prefix("198.51.100.0/24")
	udp.Protocol, udp.StartPort, udp.EndPort = 17, 2000, 2001
	for _, v := range []struct {
		name          string
		local, remote []sa.Selector
		pkt           []byte
		want          bool
	}{
		{"all", []sa.Selector{prefix("0.0.0.0/0"), prefix("::/0")}, []sa.Selector{prefix("0.0.0.0/0"), prefix("::/0")}, ip6(60), true},
		{"all of IPv4", []sa.Selector{prefix("0.0.0.0/0")}, []sa.Selector{prefix("0.0.0.0/0")}, ip4(60), true},
		{"all of IPv4, and it is IPv6", []sa.Selector{prefix("0.0.0.0/0")}, []sa.Selector{prefix("0.0.0.0/0")}, ip6(60), false},
		{"inside", []sa.Selector{prefix("192.0.2.0/24")}, []sa.Selector{prefix("10.0.0.0/8"), prefix("198.51.100.0/24")}, ip4(60), true},
		{"another source", []sa.Selector{prefix("192.0.3.0/24")}, []sa.Selector{prefix("198.51.100.0/24")}, ip4(60), false},
		{"another destination", []sa.Selector{prefix("192.0.2.0/24")}, []sa.Selector{prefix("198.51.0.0/24")}, ip4(60), false},
		{"the port", []sa.Selector{prefix("192.0.2.0/24")}, []sa.Selector{udp}, ip4(60), true},
		{"IPv6", []sa.Selector{prefix("2000::/16")}, []sa.Selector{prefix("3000::/16")}, ip6(60), true},
	} {
		// The sender lets everything through; the receiver judges.
		a, b := keyed(t, sa.AES128GCM16, false)
		p := sa.Pair{
			In: sa.Direction{SPI: 0x3000, Key: make([]byte, 20)}, Out: sa.Direction{SPI: 0x4000, Key: make([]byte, 20)}, Cipher: sa.AES128GCM16,
		}
		install(t, a, mirror(p), true)
		p.Local, p.Remote = v.remote, v.local // the packet comes from the other end
		install(t, b, p, true)
		_, _, _, r := b.Open(seal(t, a, v.pkt))
		if (r == tunnel.DropNone) != v.want || r != tunnel.DropNone && r != tunnel.DropSelector {
			t.Errorf("%s: in: %s", v.name, r)
		}
		c := New()
		p.Local, p.Remote = v.local, v.remote
		install(t, c, p, true)
		buf := make([]byte, 300)
		copy(buf[room:], v.pkt)
		if _, _, r := c.Seal(buf, room, len(v.pkt)); (r == tunnel.DropNone) != v.want || r != tunnel.DropNone && r != tunnel.DropSelector {
			t.Errorf("%s: out: %s", v.name, r)
		}
	}
	fragment := ip4(60)
	fragment[6], fragment[7] = 0, 10
	c := New()
	install(t, c, sa.Pair{
		In: sa.Direction{SPI: 0x3000, Key: make([]byte, 20)}, Out: sa.Direction{SPI: 0x4000, Key: make([]byte, 20)}, Cipher: sa.AES128GCM16,
		Local: []sa.Selector{prefix("192.0.2.0/24")}, Remote: []sa.Selector{udp},
	}, true)
	buf := make([]byte, 300)
	copy(buf[room:], fragment)
	if _, _, r := c.Seal(buf, room, 60); r != tunnel.DropSelector {
		t.Errorf("a later fragment where a port is asked for: %s", r)
	}
}

func TestInstallRefuses(t *testing.T) {
	good := sa.Pair{In: sa.Direction{SPI: 256, Key: make([]byte, 20)}, Out: sa.Direction{SPI: 257, Key: make([]byte, 20)}, Cipher: sa.AES128GCM16}
	for name, change := range map[string]func(*sa.Pair){
		"reserved SPI in":  func(p *sa.Pair) { p.In.SPI = 255 },
		"reserved SPI out": func(p *sa.Pair) { p.Out.SPI = 0 },
		"short key":        func(p *sa.Pair) { p.In.Key = p.In.Key[:19] },
		"other cipher":     func(p *sa.Pair) { p.Cipher = sa.AES256GCM16 },
		"no cipher":        func(p *sa.Pair) { p.Cipher = 9 },
	} {
		p := good
		change(&p)
		if err := New().Install(p, true); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := New()
	install(t, c, good, true)
	if err := c.Install(good, true); err == nil {
		t.Error("the same SPI twice: accepted")
	}
	for i := range maxPairs - 1 {
		p := good
		p.In.SPI += 1 + uint32(i)
		install(t, c, p, false)
	}
	p := good
	p.In.SPI = 99999
	if err := c.Install(p, false); err == nil {
		t.Error("pairs without end: accepted")
	}
	c.Remove(4)
	c.Use(4)
	if _, ok := c.Usage(4); ok {
		t.Error("the usage of a pair that is not there")
	}
}

// Pairs are replaced under load from several goroutines without the loss of a
// packet: the new one is accepted before it is used, by both ends.
func TestReplace(t *testing.T) {
	a, b := keyed(t, sa.AES128GCM16, true)
	const senders, packets = 3, 4000
	var wg sync.WaitGroup
	fresh := make(chan []byte, 256)
	for range senders {
		wg.Go(func() {
			for range packets {
				buf := make([]byte, room+100+room)
				copy(buf[room:], ip4(100))
				start, end, r := a.Seal(buf, room, 100)
				if r != tunnel.DropNone {
					t.Errorf("seal: %s", r)
					return
				}
				fresh <- buf[start:end]
			}
		})
	}
	var receivers sync.WaitGroup
	for range 2 {
		receivers.Go(func() {
			for d := range fresh {
				if _, _, _, r := b.Open(d); r != tunnel.DropNone {
					t.Errorf("open: %s", r)
				}
			}
		})
	}
	for i := range uint32(20) {
		p := sa.Pair{
			In: sa.Direction{SPI: 0x5000 + i, Key: bytes.Repeat([]byte{byte(i)}, 20)}, Out: sa.Direction{SPI: 0x6000 + i, Key: bytes.Repeat([]byte{byte(i + 100)}, 20)},
			Cipher: sa.AES128GCM16, ESN: true,
		}
		install(t, b, mirror(p), false)
		install(t, a, p, true)
	}
	wg.Wait()
	close(fresh)
	receivers.Wait()
	if out := b.out.Load(); out.in == 0x55667788 {
		t.Error("the end that answers never uses the new pair")
	}
}

// Who answers uses the new pair with the first packet that comes by it, and an
// older one never again.
func TestWaits(t *testing.T) {
	a, b := keyed(t, sa.AES128GCM16, true)
	old := seal(t, a, ip4(40))
	p := sa.Pair{In: sa.Direction{SPI: 0x5000, Key: make([]byte, 20)}, Out: sa.Direction{SPI: 0x6000, Key: make([]byte, 20)}, Cipher: sa.AES128GCM16}
	install(t, b, mirror(p), false)
	install(t, a, p, true)
	if b.out.Load().in != 0x55667788 {
		t.Fatal("the new pair is used before the peer has it")
	}
	if _, _, _, r := b.Open(seal(t, a, ip4(40))); r != tunnel.DropNone || b.out.Load().in != 0x6000 {
		t.Fatalf("%s: the new pair is not used", r)
	}
	if _, _, _, r := b.Open(old); r != tunnel.DropNone || b.out.Load().in != 0x6000 {
		t.Errorf("%s: an old packet brings the old pair back", r)
	}
	b.arrived(b.find(0x55667788)) // a loop that saw it wait, before the other was chosen
	if b.out.Load().in != 0x6000 {
		t.Error("a pair that no longer waits is used because a packet came by it")
	}
	b.Remove(0x6000)
	if b.Resolved() {
		t.Error("what was removed is used")
	}
	b.Use(0x55667788)
	if !b.Resolved() {
		t.Error("Use does nothing")
	}
}
