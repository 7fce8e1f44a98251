package e2e

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/crypto/blake2s"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
)

// wgPort is where both twins listen.
const wgPort = 51820

// Somebody who can forge the peer's address sends what looks like its packets:
// all of it is counted under its name, and nothing is disturbed.
func TestWireGuardHostile(t *testing.T) {
	w := newWGTwins(t)
	victim, peer := w[0], w[1]
	real := sniffTransport(t, peer, victim.outer, func() {
		peer.exec(t, "ping -n -q -c 50 -i 0.01 -W 2 "+victim.inner)
	})
	if len(real) < 50 {
		t.Fatalf("%d packets seen on the wire", len(real))
	}
	const each = 500
	r := rand.New(rand.NewPCG(1, 2))
	send := openRaw(t, peer)
	for _, c := range []struct {
		name    string
		reasons []string // each packet is counted under one of them
		spoil   func(b []byte) []byte
	}{
		{"replayed", []string{"replayed", "too_old"}, func(b []byte) []byte { return b }},
		{"truncated", []string{"short", "bad_header"}, func(b []byte) []byte { return b[:r.IntN(32)] }},
		{"bit flipped", []string{"auth_failed"}, func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[8:], 1<<40+r.Uint64N(1<<20)) // a counter that was not used
			b[16+r.IntN(len(b)-16)] ^= 1 << r.IntN(8)
			return b
		}},
		{"wrong receiver index", []string{"no_session"}, func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[4:], binary.LittleEndian.Uint32(b[4:])+1+r.Uint32N(1<<20))
			return b
		}},
		{"wrong key", []string{"auth_failed"}, func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[8:], 1<<50+r.Uint64N(1<<20))
			for i := 16; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			return b
		}},
		{"of no type", []string{"bad_header"}, func(b []byte) []byte {
			b[0] = byte(5 + r.IntN(250))
			return b
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			counted := func() (n uint64) {
				drops := victim.wgStatus(t).Tunnels[0].Drops
				for _, reason := range c.reasons {
					n += drops[reason]
				}
				return n
			}
			before := counted()
			for i := range each {
				b := c.spoil(append([]byte{}, real[i%len(real)]...))
				send(peer.outer, victim.outer, b)
			}
			soon(t, "all are counted as "+strings.Join(c.reasons, " or "), 5*time.Second, func() error {
				if n := counted() - before; n != each {
					return fmt.Errorf("%d of %d: %v", n, each, victim.wgStatus(t).Tunnels[0].Drops)
				}
				return nil
			})
		})
	}
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
	server := &farProgram{t: t, ns: victim.ns, dir: victim.dir, name: "iperf3", argv: []string{"iperf3", "-s", "-B", victim.inner}}
	server.start()
	const seconds, many = 5, 100_000
	rate := func() float64 {
		var r iperf
		soon(t, "iperf3 measures", 20*time.Second, func() error {
			out, err := output(peer.ns.Command(t.Context(), "iperf3", "-c", victim.inner, "-J", "-t", fmt.Sprint(seconds)))
			r = iperf{}
			if jerr := json.Unmarshal([]byte(out), &r); jerr != nil || r.Error != "" || err != nil {
				return fmt.Errorf("%s %w %w", r.Error, jerr, err)
			}
			return nil
		})
		return r.End.SumReceived.Bps / 1e6
	}
	cookies := countCookies(t, peer)
	forged := initiations(t, victim, peer, many)
	var best float64
	for attempt := range 4 { // the machine does other things too
		flooded := func() float64 {
			var sending sync.WaitGroup
			sending.Go(func() {
				if err := flood(peer, forged, seconds*time.Second); err != nil {
					t.Error(err)
				}
			})
			defer sending.Wait()
			return rate()
		}
		alone := rate()
		// The sender has the same two processors: what it takes from the tunnel is
		// seen with a flood that the kernel drops before we see it.
		victim.exec(t, "nft add table netdev shield")
		victim.exec(t, "nft add chain netdev shield c { type filter hook ingress device eth0 priority 0; }")
		victim.exec(t, "nft add rule netdev shield c udp length 156 drop")
		quiet := flooded()
		victim.exec(t, "nft delete table netdev shield")
		busy := flooded()
		s := victim.wgStatus(t).Tunnels[0]
		t.Logf("attempt %d: %.0f Mbit/s, with %d initiations meanwhile that the kernel drops %.0f, with those that reach us %.0f (%.0f %%); %d refused, %d cookies sent, dropped %v",
			attempt+1, alone, many, quiet, busy, 100*busy/quiet, s.WireGuard.Refused, s.WireGuard.CookiesSent, s.Drops)
		if best = max(best, busy/quiet); best >= 0.9 {
			break
		}
	}
	// In "make test" other labs have the same two processors, so the bar is for the long tests.
	if least := map[bool]float64{false: 0.6, true: 0.9}[os.Getenv("TRANSITD_LONG") != ""]; best < least {
		t.Errorf("the tunnel kept %.0f %% of its throughput", 100*best)
	}
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
		list = append(list, ipv4.Message{Buffers: [][]byte{datagram(from, to, b)}, Addr: &net.IPAddr{IP: to.AsSlice()}})
	}
	return list
}

// flood sends packets evenly over a time, many with one call: the sender's own work is not what is measured.
func flood(n *wgTwin, list []ipv4.Message, over time.Duration) error {
	var c *ipv4.RawConn
	if err := n.ns.Do(func() error {
		p, err := net.ListenPacket("ip4:255", "0.0.0.0") // IPPROTO_RAW
		if err == nil {
			c, err = ipv4.NewRawConn(p)
		}
		return err
	}); err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	defer func() { _ = c.Close() }()
	const burst = 100
	pace := time.NewTicker(over * burst / time.Duration(len(list)))
	defer pace.Stop()
	for len(list) > 0 {
		k, err := c.WriteBatch(list[:min(burst, len(list))], 0)
		if err != nil {
			return fmt.Errorf("send forged packets: %w", err)
		}
		list = list[k:]
		<-pace.C
	}
	return nil
}

// datagram makes an IP packet of a payload, from and to the tunnel's port. The
// kernel fills in length and checksum; UDP has none.
func datagram(from, to netip.Addr, payload []byte) []byte {
	p := make([]byte, 28, 28+len(payload))
	src, dst := from.As4(), to.As4()
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[20:], wgPort)
	binary.BigEndian.PutUint16(p[22:], wgPort)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	return append(p, payload...)
}

// openRaw opens a socket that sends UDP datagrams from any address, to and from the tunnel's port.
func openRaw(t *testing.T, n *wgTwin) (send func(from, to string, b []byte)) {
	t.Helper()
	var fd int
	if err := n.ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func(from, to string, payload []byte) {
		dst := netip.MustParseAddr(to)
		if err := unix.Sendto(fd, datagram(netip.MustParseAddr(from), dst, payload), 0, &unix.SockaddrInet4{Addr: dst.As4()}); err != nil {
			t.Errorf("send %d forged bytes: %v", len(payload), err)
		}
	}
}

// sniff opens a socket that sees the UDP payloads on a twin's card, until the test's end.
func sniff(t *testing.T, n *wgTwin, each func(to netip.Addr, payload []byte)) {
	t.Helper()
	var fd int
	if err := n.ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 70000)
		for {
			select {
			case <-stop:
				return
			default:
			}
			k, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil || k < 28 {
				continue
			}
			p := gopacket.NewPacket(b[:k], layers.LayerTypeIPv4, gopacket.NoCopy)
			ip, _ := p.NetworkLayer().(*layers.IPv4)
			udp, _ := p.TransportLayer().(*layers.UDP)
			if ip == nil || udp == nil || udp.DstPort != wgPort {
				continue
			}
			to, _ := netip.AddrFromSlice(ip.DstIP)
			each(to.Unmap(), udp.Payload)
		}
	})
	t.Cleanup(func() {
		close(stop)
		reading.Wait()
		_ = unix.Close(fd)
	})
}

// sniffTransport collects the transport messages to an address while f runs.
func sniffTransport(t *testing.T, n *wgTwin, to string, f func()) [][]byte {
	t.Helper()
	var mu sync.Mutex
	var list [][]byte
	sniff(t, n, func(dst netip.Addr, payload []byte) {
		if dst.String() == to && len(payload) > 80 && payload[0] == device.MessageTransportType {
			mu.Lock()
			list = append(list, append([]byte{}, payload...))
			mu.Unlock()
		}
	})
	f()
	soon(t, "packets are seen on the wire", 5*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(list) < 50 {
			return fmt.Errorf("%d packets", len(list))
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	return append([][]byte{}, list...)
}

// countCookies counts the cookie replies to a twin.
func countCookies(t *testing.T, n *wgTwin) func() int {
	t.Helper()
	var mu sync.Mutex
	seen := 0
	sniff(t, n, func(dst netip.Addr, payload []byte) {
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
	s, err := askWG(filepath.Join(n.dir, "ctl.sock"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
