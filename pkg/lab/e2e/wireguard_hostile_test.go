package e2e

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/net/ipv4"
	"golang.zx2c4.com/wireguard/device"
)

// wgPort is where both twins listen.
const wgPort = 51820

// Somebody who can forge the peer's address sends what looks like its packets:
// all of it is counted under its name, and nothing is disturbed.
func TestWireGuardHostile(t *testing.T) {
	w := newWGTwins(t)
	victim, peer := w[0], w[1]
	transport := func(b []byte) bool { return len(b) > 80 && b[0] == device.MessageTransportType }
	real := collect(t, peer.twin, victim.outer, 50, transport, func() { peer.exec(t, "ping -n -q -c 50 -i 0.01 -W 2 "+victim.inner) })
	r := rand.New(rand.NewPCG(1, 2))
	victim.suffers(t, peer.twin, 500, real, func() map[string]uint64 { return victim.wgStatus(t).Tunnels[0].Drops }, []forgery{
		{name: "replayed", reasons: []string{"replayed", "too_old"}, spoil: func(b []byte) []byte { return b }},
		{name: "truncated", reasons: []string{"short", "bad_header"}, spoil: func(b []byte) []byte { return b[:r.IntN(32)] }},
		{name: "bit flipped", reasons: []string{"auth_failed"}, spoil: func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[8:], 1<<40+r.Uint64N(1<<20)) // a counter that was not used
			b[16+r.IntN(len(b)-16)] ^= 1 << r.IntN(8)
			return b
		}},
		{name: "wrong receiver index", reasons: []string{"no_session"}, spoil: func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[4:], binary.LittleEndian.Uint32(b[4:])+1+r.Uint32N(1<<20))
			return b
		}},
		{name: "wrong key", reasons: []string{"auth_failed"}, spoil: func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[8:], 1<<50+r.Uint64N(1<<20))
			for i := 16; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			return b
		}},
		{name: "of no type", reasons: []string{"bad_header"}, spoil: func(b []byte) []byte {
			b[0] = byte(5 + r.IntN(250))
			return b
		}},
	})
	peer.exec(t, "ping -n -q -c 50 -i 0.01 -W 2 "+victim.inner)
	if s := victim.wgStatus(t).Tunnels[0]; s.State != "up" || s.WireGuard.Refused > 0 {
		t.Errorf("%+v", s)
	}
}

// A flood of 100,000 handshakes, half from strangers and half from the peer's own
// address with all that can be known without a secret (a valid MAC1): the
// session carries on, and the initiations are answered with cookies.
func TestWireGuardFlood(t *testing.T) {
	w := newWGTwins(t)
	victim, peer := w[0], w[1]
	const many = 100_000
	cookies := countCookies(t, peer)
	forged := initiations(t, victim, peer, many)
	victim.underFlood(t, peer.twin, forged, "udp length 156", func() string {
		s := victim.wgStatus(t).Tunnels[0]
		return fmt.Sprintf("%d refused, %d cookies sent, dropped %v", s.WireGuard.Refused, s.WireGuard.CookiesSent, s.Drops)
	})
	s := victim.wgStatus(t).Tunnels[0]
	if s.Drops["wrong_source"] < many/2*9/10 || s.WireGuard.CookiesSent == 0 {
		t.Errorf("dropped %v, %d cookies sent", s.Drops, s.WireGuard.CookiesSent)
	}
	if n := cookies(); n == 0 {
		t.Error("there was no cookie on the wire")
	}
	peer.exec(t, "ping -n -q -c 20 -i 0.01 -W 2 "+victim.inner)
}

// initiations are forged ones, as whole IP packets: every second one from a
// stranger, the others from the peer's own address with the MAC that needs no secret.
func initiations(t *testing.T, victim, peer *wgTwin, n int) (list []ipv4.Message) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	public, err := base64.StdEncoding.DecodeString(peer.theirs) // the victim's
	if err != nil {
		t.Fatal(err)
	}
	label := blake2s.Sum256(append([]byte(device.WGLabelMAC1), public...))
	for i := range n {
		b := make([]byte, device.MessageInitiationSize)
		for j := 8; j+8 <= 116; j += 8 {
			binary.LittleEndian.PutUint64(b[j:], r.Uint64())
		}
		binary.LittleEndian.PutUint32(b, device.MessageInitiationType)
		binary.LittleEndian.PutUint32(b[4:], r.Uint32())
		mac, err := blake2s.New128(label[:])
		if err != nil {
			t.Fatal(err)
		}
		mac.Write(b[:116])
		copy(b[116:], mac.Sum(nil))
		from := netip.MustParseAddr(peer.outer)
		if i%2 == 0 {
			from = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		}
		to := netip.MustParseAddr(victim.outer)
		list = append(list, ipv4.Message{Buffers: [][]byte{datagram(from, to, wgPort, b)}, Addr: &net.IPAddr{IP: to.AsSlice()}})
	}
	return list
}

// countCookies counts the cookie replies to a twin.
func countCookies(t *testing.T, n *wgTwin) func() int {
	t.Helper()
	var mu sync.Mutex
	seen := 0
	sniff(t, n.twin, func(dst netip.Addr, payload []byte) {
		if dst.String() == n.outer && len(payload) == device.MessageCookieReplySize && payload[0] == device.MessageCookieReplyType {
			mu.Lock()
			seen++
			mu.Unlock()
		}
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

func (n *wgTwin) wgStatus(t *testing.T) wgStatus {
	t.Helper()
	s, err := askWG(n.socket())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
