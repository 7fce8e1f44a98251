package pump

import (
	"crypto/rand"
	"net/netip"
	"testing"

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
		{name: "to another pump, ESP without UDP", us: us, them: them, change: withESP(t), overhead: 57, protocol: protocolESP},
		{name: "to another pump, ESP without UDP, over IPv6", us: us6, them: them6, change: withESP(t), overhead: 77, protocol: protocolESP},
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
func withESP(t *testing.T) func(*vxlan.Config, *TunnelConfig) {
	t.Helper()
	var keys [2][]byte
	for i := range keys {
		keys[i] = make([]byte, sa.AES256GCM16.KeyLen())
		if _, err := rand.Read(keys[i]); err != nil {
			t.Fatal(err)
		}
	}
	return func(vx *vxlan.Config, c *TunnelConfig) {
		p := sa.Pair{In: sa.Direction{SPI: 1001, Key: keys[0]}, Out: sa.Direction{SPI: 1002, Key: keys[1]}, Cipher: sa.AES256GCM16, ESN: true}
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
