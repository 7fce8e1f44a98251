package pump

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/esp"
	"github.com/transitd/transitd/tunnel/sa"
	"github.com/transitd/transitd/tunnel/streamtest"
	"github.com/transitd/transitd/tunnel/vxlan"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// Random streams come out of a tunnel as they went in, and what is on the wire
// is in order, whatever is at the other end.
func TestNetnsStreams(t *testing.T) {
	gpe := func(vx *vxlan.Config, c *TunnelConfig) {
		vx.GPE = true
		c.Remote = netip.AddrPortFrom(vx.Peer, 4790)
	}
	for _, test := range []struct {
		name   string
		plain  bool
		kernel bool // the peer is the kernel's device, and not another pump
		us     string
		them   string
		change func(*vxlan.Config, *TunnelConfig)
		// overhead is that of the whole encapsulation, outer IP header and all.
		overhead int
		onePort  int
		protocol uint8
	}{
		{name: "to the kernel's VXLAN", kernel: true, us: us, them: them, overhead: 50},
		{name: "to the kernel's VXLAN over IPv6", kernel: true, us: us6, them: them6, overhead: 70},
		{name: "to another pump", us: us, them: them, overhead: 50},
		{name: "to another pump, GPE over IPv6", us: us6, them: them6, change: gpe, overhead: 56},
		{name: "to another pump, without UDP_SEGMENT", plain: true, us: us, them: them, overhead: 50},
		{name: "to another pump, WireGuard", us: us, them: them, change: withWireGuard(t, false), overhead: 60},
		{name: "to another pump, WireGuard from one port, over IPv6", us: us6, them: them6, change: withWireGuard(t, true), overhead: 80, onePort: 4789},
		{name: "to another pump, ESP without UDP", us: us, them: them, change: withESP(t, sa.Limits{}), overhead: 57, protocol: protocolESP},
		{name: "to another pump, ESP without UDP, over IPv6", us: us6, them: them6, change: withESP(t, sa.Limits{}), overhead: 77, protocol: protocolESP},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.plain, r.protocol = test.plain, test.protocol
			r.streamWire()
			side := func(ns netns.NS) streamtest.Side {
				return streamtest.Side{NS: ns, Device: "tr0", Wire: "eth0", Ours: true}
			}
			c := streamtest.Config{Sides: [2]streamtest.Side{side(r.us), side(r.them)}, MTU: mtu, Overhead: test.overhead, Flows: 12, OnePort: test.onePort, Protocol: test.protocol, Seed: streamtest.Seed(t)}
			tunnels := map[netns.NS]*Tunnel{r.us: r.pump(r.us, test.us, test.them, test.change)}
			if test.kernel {
				peer := &c.Sides[1]
				peer.Ours = false
				peer.Link = r.kernelForStreams(test.them, test.us)
				r.resolved(tunnels[r.us])
			} else {
				tunnels[r.them] = r.pump(r.them, test.them, test.us, test.change)
				r.eventually("both are up", func() (up bool) {
					_ = r.them.Do(func() error { up = tunnels[r.them].Up(); return nil })
					return up
				})
				r.resolved(tunnels[r.us])
			}
			// The kernel keeps little for an address whose link address it does not know yet: a burst of super packets is more.
			r.run(r.us, "ping -n -q -c 1 -W 10 "+test.them)
			r.run(r.them, "ping -n -q -c 1 -W 10 "+test.us)
			streamtest.Run(t, c)
			for ns, tn := range tunnels {
				for reason, n := range r.stats(ns, tn).Drops {
					if reason != "multicast" { // the kernel's device talks to groups
						t.Errorf("%s dropped %d: %s", ns.Name, n, reason)
					}
				}
			}
		})
	}
}

// withWireGuard makes both ends' codecs.
func withWireGuard(t *testing.T, onePort bool) func(*vxlan.Config, *TunnelConfig) {
	t.Helper()
	var keys [2]wireguard.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = wireguard.NewPrivateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	return func(vx *vxlan.Config, c *TunnelConfig) {
		ours, theirs := keys[0], keys[1]
		if a := vx.Local.String(); a == them || a == them6 {
			ours, theirs = theirs, ours
		}
		d, err := wireguard.New(wireguard.Config{MTU: mtu, Remote: vx.Peer, PrivateKey: ours, PeerPublicKey: theirs.Public()})
		if err != nil {
			t.Fatal(err)
		}
		c.Codec, c.FromEndpoint = d, onePort
	}
}

// protocolESP is that of ESP in IP.
const protocolESP = 50

// espCodec is a codec whose pair has been agreed on already.
type espCodec struct{ *esp.Codec }

func (espCodec) Control(dst, _ []byte) ([]byte, tunnel.DropReason) { return dst, tunnel.DropBadHeader }

// withESP makes both ends' codecs.
func withESP(t *testing.T, limits sa.Limits) func(*vxlan.Config, *TunnelConfig) {
	t.Helper()
	var keys [2][]byte
	for i := range keys {
		keys[i] = make([]byte, sa.AES256GCM16.KeyLen())
		if _, err := rand.Read(keys[i]); err != nil {
			t.Fatal(err)
		}
	}
	return func(vx *vxlan.Config, c *TunnelConfig) {
		p := sa.Pair{In: sa.Direction{SPI: 1001, Key: keys[0]}, Out: sa.Direction{SPI: 1002, Key: keys[1]}, Cipher: sa.AES256GCM16, ESN: true, Limits: limits}
		if a := vx.Local.String(); a == them || a == them6 {
			p.In, p.Out = p.Out, p.In
		}
		codec := esp.NewRaw()
		if err := codec.Install(p, true); err != nil {
			t.Fatal(err)
		}
		c.Codec = espCodec{codec}
	}
}

// Where the codec refuses in the middle of a super packet, what was sealed before goes, and each segment after it is a
// drop.
func TestRefusedInsideASuperPacket(t *testing.T) {
	const segment, segments, most = 1000, 30, 10
	r := newRig(t)
	r.protocol, r.queues = protocolESP, 1
	tn := r.pump(r.us, us, them, withESP(t, sa.Limits{HardPackets: most}))
	err := r.us.Do(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(innerThem, "9"))
		if err != nil {
			return err
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return joinClose(err, c)
		}
		var failed error
		err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, segment) })
		if err = errors.Join(err, failed); err == nil {
			_, err = c.Write(make([]byte, segments*segment))
		}
		return joinClose(err, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	var s tunnel.Stats
	r.eventually("all segments are counted", func() bool {
		s = r.stats(r.us, tn)
		return s.TXPackets+s.Drops["sa_expired"] >= segments
	})
	if s.TXPackets != most || s.Drops["sa_expired"] != segments-most {
		t.Errorf("%d segments went, dropped %v; want %d and the others", s.TXPackets, s.Drops, most)
	}
}

// Without UDP, who is not the peer is not heard, and what is no ESP of ours is counted by its name.
func TestRawRefused(t *testing.T) {
	for _, test := range []struct{ us, them, stranger, flag string }{{us, them, "192.0.2.77", ""}, {us6, them6, "2001:db8::77", " nodad"}} {
		r := newRig(t)
		r.protocol = protocolESP
		r.run(r.them, "ip addr add "+test.stranger+" dev eth0"+test.flag)
		tn := r.pump(r.us, test.us, test.them, withESP(t, sa.Limits{}))
		send := func(from string, payload string) {
			t.Helper()
			err := r.them.Do(func() error {
				c, err := net.DialIP("ip:50", &net.IPAddr{IP: net.ParseIP(from)}, &net.IPAddr{IP: net.ParseIP(test.us)})
				if err != nil {
					return err
				}
				_, err = c.Write([]byte(payload))
				return joinClose(err, c)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, payload := range []string{"\x00\x00\x03\xe9 a packet of nobody, as long as one is at least", "\x00\x00\x00\x00"} {
			send(test.stranger, payload)
		}
		send(test.them, "\x00\x00\x00\x00 what is IKE in UDP")
		send(test.them, "\xff") // a keepalive in UDP
		send(test.them, "\x00\x00\x03\xea of an SPI that is not ours, as long as one is at least")
		send(test.them, "\x00\x00\x03\xe9 of ours, as long as a packet is at least")
		want := map[string]uint64{"wrong_source": 2, "bad_header": 1, "short": 1, "no_session": 1, "auth_failed": 1}
		var got map[string]uint64
		r.eventually("six drops", func() bool {
			n := uint64(0)
			got = r.stats(r.us, tn).Drops
			for _, v := range got {
				n += v
			}
			return n >= 6
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: drops (-want +got):\n%s", test.us, diff)
		}
	}
}

// streamWire makes the wire carry datagrams as they would leave a machine: one by one.
func (r *rig) streamWire() {
	r.t.Helper()
	for _, ns := range []netns.NS{r.us, r.them} {
		r.run(ns, "ethtool -K eth0 tso off gso off tx-udp-segmentation off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off gro on")
	}
}

// kernelForStreams makes the kernel's device, without what it might do to the
// streams itself: it joins nothing, and one processor receives, so packets keep
// their order. It returns the header of frames to us.
func (r *rig) kernelForStreams(local, remote string) (link []byte) {
	r.t.Helper()
	r.kernelVXLAN(local, remote, "udpcsum")
	r.run(r.them, "ethtool -K tr0 gro off")
	r.run(r.them, "ethtool -K eth0 gro off")
	r.run(r.them, "sh -c echo${IFS}1>/sys/class/net/eth0/queues/rx-0/rps_cpus")
	to := vxlan.EndpointMAC(netip.MustParseAddr(remote))
	return append(to[:], 2, 0, 0, 0, 0, 9)
}
