package pump

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/vxlan"
)

// The rig: two namespaces joined by a veth, documentation addresses outside
// and inside. "us" runs the pump, "them" what the test puts there.
const (
	vni   = 4242
	mtu   = 1400
	us    = "192.0.2.1"
	them  = "192.0.2.2"
	us6   = "2001:db8::1"
	them6 = "2001:db8::2"

	innerUs, innerThem   = "198.51.100.1", "198.51.100.2"
	innerUs6, innerThem6 = "2001:db8:77::1", "2001:db8:77::2"
)

type rig struct {
	t        testing.TB
	us, them netns.NS
	plain    bool // PlainSends
	queues   int  // 0: two
	protocol uint8
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, us: netnstest.New(t, "us"), them: netnstest.New(t, "them")}
	r.run(r.us, "ip link add eth0 type veth peer name eth0 netns "+r.them.Name)
	for _, end := range []struct {
		ns   netns.NS
		a, b string
	}{{r.us, us, us6}, {r.them, them, them6}} {
		r.run(end.ns, "ip addr add "+end.a+"/24 dev eth0")
		r.run(end.ns, "ip addr add "+end.b+"/64 dev eth0 nodad")
		r.run(end.ns, "ip link set eth0 mtu 1500 up")
		r.run(end.ns, "ip link set lo up")
		// An inner checksum that the veth left to nobody would reach the pump unfinished (facts/perf.md).
		r.run(end.ns, "ethtool -K eth0 tx off")
	}
	return r
}

// run executes a command line in a namespace and returns what it printed.
func (r *rig) run(ns netns.NS, line string) string {
	r.t.Helper()
	out, err := r.try(ns, line)
	if err != nil {
		r.t.Fatalf("%s: %s: %v\n%s", ns.Name, line, err, out)
	}
	return out
}

func (r *rig) try(ns netns.NS, line string) (string, error) {
	f := strings.Fields(line)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := ns.Command(ctx, f[0], f[1:]...).CombinedOutput()
	return string(out), err
}

// pump starts an endpoint with one tunnel in a namespace.
func (r *rig) pump(ns netns.NS, local, remote string, change func(*vxlan.Config, *TunnelConfig)) *Tunnel {
	r.t.Helper()
	vx := vxlan.Config{
		VNI: vni, Local: netip.MustParseAddr(local), Peer: netip.MustParseAddr(remote),
		Addrs:     []netip.Addr{netip.MustParseAddr(innerUs), netip.MustParseAddr(innerUs6)},
		PeerAddrs: []netip.Addr{netip.MustParseAddr(innerThem), netip.MustParseAddr(innerThem6)},
	}
	if ns == r.them {
		vx.Addrs, vx.PeerAddrs = vx.PeerAddrs, vx.Addrs
	}
	cfg := TunnelConfig{Name: "tr0", Remote: netip.AddrPortFrom(vx.Peer, 4789), MTU: mtu, DSCP: CopyDSCP, PeerAddrs: vx.PeerAddrs}
	cfg.Addrs = []netip.Prefix{netip.PrefixFrom(vx.Addrs[0], 24), netip.PrefixFrom(vx.Addrs[1], 64)}
	if change != nil {
		change(&vx, &cfg)
	}
	if cfg.Codec == nil {
		codec, err := vxlan.New(vx)
		if err != nil {
			r.t.Fatal(err)
		}
		cfg.Codec = codec
	}
	var err error
	var e *Endpoint
	var tn *Tunnel
	err = ns.Do(func() (err error) {
		e, err = Listen(EndpointConfig{Local: netip.AddrPortFrom(vx.Local, cfg.Remote.Port()), Interface: "eth0", Queues: cmp.Or(r.queues, 2), PlainSends: r.plain, Protocol: r.protocol})
		if err != nil {
			return err
		}
		tn, err = e.Add(cfg)
		return err
	})
	r.t.Cleanup(func() {
		if e == nil {
			return
		}
		if err := e.Close(); err != nil {
			r.t.Error(err)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return tn
}

// resolved waits until the pump in "us" has found its peer.
func (r *rig) resolved(tn *Tunnel) {
	r.t.Helper()
	r.eventually("the peer is resolved", func() (up bool) {
		_ = r.us.Do(func() error { up = tn.Up(); return nil })
		return up
	})
}

// stats reads the counters in the pump's own namespace, where its device is.
func (r *rig) stats(ns netns.NS, tn *Tunnel) (s tunnel.Stats) {
	r.t.Helper()
	if err := ns.Do(func() error { s = tn.Stats(); return nil }); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// eventually polls, for what another process or the kernel brings about.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.t.Fatalf("not within 5 s: %s", what)
		case <-tick.C:
		}
	}
}

// kernelVXLAN makes the kernel's device in "them".
func (r *rig) kernelVXLAN(local, remote string, options string) {
	r.t.Helper()
	r.run(r.them, fmt.Sprintf("ip link add tr0 mtu %d type vxlan id %d local %s remote %s dev eth0 dstport 4789 %s", mtu, vni, local, remote, options))
	r.run(r.them, "ip addr add "+innerThem+"/24 dev tr0")
	r.run(r.them, "ip addr add "+innerThem6+"/64 dev tr0 nodad")
	r.run(r.them, "ip link set tr0 up")
}

// kernelGPE makes the kernel's VXLAN-GPE device, which takes where to send
// from the route.
func (r *rig) kernelGPE() {
	r.t.Helper()
	r.run(r.them, fmt.Sprintf("ip link add tr0 mtu %d type vxlan dstport 4790 external gpe", mtu))
	r.run(r.them, "ip addr add "+innerThem+"/32 dev tr0")
	r.run(r.them, "ip addr add "+innerThem6+"/128 dev tr0 nodad")
	r.run(r.them, "ip link set tr0 up")
	r.run(r.them, fmt.Sprintf("ip route add %s/32 encap ip id %d dst %s dev tr0 src %s", innerUs, vni, us, innerThem))
	r.run(r.them, fmt.Sprintf("ip -6 route add %s/128 encap ip id %d dst %s dev tr0 src %s", innerUs6, vni, us, innerThem6))
}

// pings sends pings of many sizes without fragmenting, both families.
func (r *rig) pings(from netns.NS, to4, to6 string) {
	r.t.Helper()
	for _, size := range []int{0, 1, 56, 1000, mtu - 49, mtu - 48} {
		r.run(from, fmt.Sprintf("ping -n -q -c 3 -i 0.01 -W 2 -M do -s %d %s", size+20, to4))
		r.run(from, fmt.Sprintf("ping -n -q -c 3 -i 0.01 -W 2 -M do -s %d %s", size, to6))
	}
}

// transfer sends size random bytes over TCP and compares their hash.
func (r *rig) transfer(from, to netns.NS, addr string, size int64) {
	r.t.Helper()
	var l net.Listener
	if err := to.Do(func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(addr, "0")); return err }); err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		h := sha256.New()
		n, err := io.Copy(h, c)
		got <- fmt.Sprintf("%d bytes, %x, %v", n, h.Sum(nil), err)
	}()
	var c net.Conn
	if err := from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	h := sha256.New()
	src := rand.NewChaCha8([32]byte{1})
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(src, size)); err != nil {
		r.t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		r.t.Fatal(err)
	}
	if want, have := fmt.Sprintf("%d bytes, %x, <nil>", size, h.Sum(nil)), <-got; want != have {
		r.t.Errorf("TCP to %s: sent %s, received %s", addr, want, have)
	}
}

// fragments sends pings that the sender has to cut, and the receiver's answers.
func (r *rig) fragments(from netns.NS, to string) {
	r.t.Helper()
	r.run(from, "ping -n -q -c 3 -i 0.01 -W 2 -s 4000 "+to)
}

// datagrams sends UDP of all kinds of lengths, some in bursts that the sender's
// kernel keeps as one (UDP_SEGMENT), and compares what arrives, in its order.
func (r *rig) datagrams(from, to netns.NS, addr string) {
	r.t.Helper()
	var in, out *net.UDPConn
	if err := to.Do(func() (err error) {
		in, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr)})
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	if err := from.Do(func() (err error) {
		out, err = net.DialUDP("udp", nil, in.LocalAddr().(*net.UDPAddr))
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		want := r.burst(out, rng, round)
		buf := make([]byte, 2000)
		for i, w := range want {
			if err := in.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				r.t.Fatal(err)
			}
			n, err := in.Read(buf)
			if err != nil || string(buf[:n]) != w {
				r.t.Fatalf("UDP to %s, round %d, datagram %d of %d: %d bytes of %d, %v", addr, round, i, len(want), n, len(w), err)
			}
		}
	}
}

// burst sends some datagrams and returns them.
func (r *rig) burst(out *net.UDPConn, rng *rand.Rand, round int) (want []string) {
	r.t.Helper()
	payload := make([]byte, 40*1300)
	for i := range payload {
		payload[i] = byte(rng.Uint32())
	}
	size := 1 + rng.IntN(1300)
	if round%3 > 0 { // one by one, of any length
		for range 20 {
			n := rng.IntN(1300)
			want = append(want, string(payload[:n]))
			if _, err := out.Write(payload[:n]); err != nil {
				r.t.Fatal(err)
			}
			payload = payload[n:]
		}
		return want
	}
	whole := payload[:size*(2+rng.IntN(38))-rng.IntN(size)]
	oob := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], uint16(size))
	if _, _, err := out.WriteMsgUDP(whole, oob, nil); err != nil {
		r.t.Fatal(err)
	}
	for at := 0; at < len(whole); at += size {
		want = append(want, string(whole[at:min(at+size, len(whole))]))
	}
	return want
}
