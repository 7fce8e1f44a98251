package e2e

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
)

// testGarbage sends 10,000 random and mutated datagrams to the tunnel port, half
// from the peer's own address and half from a stranger's, while traffic flows.
// Each mutation makes the datagram certainly invalid, so that every one of
// them has to be counted under a reason.
func testGarbage(t *testing.T, l *lab) {
	const each = 5000
	l.serve("onprem", onpremHost)
	f := l.startFlow("avs", onpremHost, 8*time.Second)
	before := drops(l.status("transit-nva"))
	for _, from := range []struct {
		node, addr string
		seed       uint64
	}{{"hub-nva", hubNIC, 1}, {"hub-ars-0", "10.0.1.4", 2}} {
		if err := l.sendGarbage(from.node, from.addr, transitNIC, each, from.seed); err != nil {
			t.Fatal(err)
		}
	}
	var counted uint64
	l.eventually("all datagrams are counted", 10*time.Second, func() error {
		counted = drops(l.status("transit-nva")) - before
		if counted < 2*each {
			return fmt.Errorf("%d of %d counted", counted, 2*each)
		}
		return nil
	})
	t.Logf("%d datagrams sent, %d counted: %v", 2*each, counted, l.status("transit-nva").Tunnels[0].Drops)
	lost, sent := f.wait()
	if lost != 0 || sent < 5000 {
		t.Errorf("the flow beside the garbage lost %d of %d packets", lost, sent)
	}
	l.healthy()
}

func drops(s status) (n uint64) {
	for _, t := range s.Tunnels {
		for _, d := range t.Drops {
			n += d
		}
	}
	return n
}

// sendGarbage sends n datagrams to the VXLAN port, paced so that the receive
// buffer, which is not what is tested here, does not overflow.
func (l *lab) sendGarbage(node, src, dst string, n int, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, seed))
	return l.ns(node).Do(func() error {
		c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(src), 0)),
			net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(dst), 4789)))
		if err != nil {
			return fmt.Errorf("dial from %s: %w", node, err)
		}
		defer func() { _ = c.Close() }()
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for i := range n {
			if i%4 == 0 {
				<-pace.C
			}
			if _, err := c.Write(garbage(r)); err != nil {
				return fmt.Errorf("send datagram %d from %s: %w", i, node, err)
			}
		}
		return nil
	})
}

// garbage is random bytes, or a good frame with one property broken.
func garbage(r *rand.Rand) []byte {
	f := goodFrame()
	switch r.IntN(8) {
	case 0: // random bytes; the VNI is kept wrong
		b := make([]byte, r.IntN(1400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if len(b) > 6 {
			b[4] = 0xff
		}
		return b
	case 1: // cut short, inside the headers or the packet
		return f[:r.IntN(len(f)-1)]
	case 2: // I flag clear
		f[0] &^= 0x08
	case 3: // another VNI
		f[4] ^= byte(1 + r.IntN(255))
	case 4: // unknown ethertype
		binary.BigEndian.PutUint16(f[20:], 0x88cc)
	case 5: // IP version neither 4 nor 6
		f[22] = f[22]&0x0f | 0xf0
	case 6: // total length beyond the frame
		binary.BigEndian.PutUint16(f[24:], uint16(len(f)+r.IntN(1000)))
	case 7: // header length beyond the packet
		f[22] = 0x4f
		f = f[:22+30]
	}
	return f
}

// goodFrame is what the hub NVA would send: VXLAN 7700, Ethernet, an ICMP echo request.
func goodFrame() []byte {
	f := make([]byte, 8+14+20+8+32)
	f[0] = 0x08
	f[4], f[5], f[6] = 0x00, 0x1e, 0x14 // 7700
	copy(f[8:], []byte{0x02, 0x00, 10, 1, 2, 4, 0x02, 0x00, 10, 0, 2, 4, 0x08, 0x00})
	ip := f[22:]
	ip[0], ip[8], ip[9] = 0x45, 64, 1
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{172, 16, 1, 10, 10, 50, 1, 10})
	return f
}
