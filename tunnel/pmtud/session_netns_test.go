package pmtud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/vxlan"
)

// The rig: two NVAs with a router between them, whose routes have an MTU for each
// direction. "us" measures; "them" is another transitd or the kernel's VXLAN.
const (
	underUs, underThem = "192.0.2.1", "198.51.100.1"
	innerUs, innerThem = "169.254.77.1", "169.254.77.2"
	overhead           = 50
)

type rig struct {
	t                *testing.T
	us, router, them netns.NS
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, us: netnstest.New(t, "us"), router: netnstest.New(t, "mid"), them: netnstest.New(t, "them")}
	for _, end := range []struct {
		ns            netns.NS
		dev, own, far string
	}{{r.us, "left", underUs, "192.0.2.254"}, {r.them, "right", underThem, "198.51.100.254"}} {
		r.run(end.ns, "link add eth0 type veth peer name "+end.dev+" netns "+r.router.Name)
		r.run(end.ns, "addr add "+end.own+"/24 dev eth0")
		r.run(end.ns, "link set eth0 up")
		r.run(end.ns, "link set lo up")
		r.run(end.ns, "route add default via "+end.far)
		r.run(r.router, "addr add "+end.far+"/24 dev "+end.dev)
		r.run(r.router, "link set "+end.dev+" up")
	}
	r.shell(r.router, "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/icmp_ratelimit")
	return r
}

func (r *rig) run(ns netns.NS, line string) {
	r.t.Helper()
	if out, err := ns.Command(context.Background(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: ip %s: %v\n%s", ns.Name, line, err, out)
	}
}

func (r *rig) shell(ns netns.NS, line string) {
	r.t.Helper()
	if out, err := ns.Command(context.Background(), "sh", "-c", line).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %s: %v\n%s", ns.Name, line, err, out)
	}
}

// carries sets what the router lets through towards an end; 0: all.
func (r *rig) carries(to string, mtu int) {
	r.t.Helper()
	dev := map[string]string{underUs: "left", underThem: "right"}[to]
	more := ""
	if mtu > 0 {
		more = fmt.Sprintf(" mtu %d", mtu)
	}
	r.run(r.router, "route replace "+to+"/32 dev "+dev+more)
}

// inside is a tunnel whose calls go to its own namespace, as the daemon's do.
type inside struct {
	*pump.Tunnel
	ns netns.NS
}

func (i inside) SetMTU(mtu int) error {
	return i.ns.Do(func() error { return i.Tunnel.SetMTU(mtu) })
}

func (i inside) Up() (up bool) {
	_ = i.ns.Do(func() error { up = i.Tunnel.Up(); return nil })
	return up
}

// node starts a tunnel and a session in one end.
func (r *rig) node(ns netns.NS, change func(*Config)) *Session {
	r.t.Helper()
	a, b, x, y := netip.MustParseAddr(underUs), netip.MustParseAddr(underThem), netip.MustParseAddr(innerUs), netip.MustParseAddr(innerThem)
	if ns == r.them {
		a, b, x, y = b, a, y, x
	}
	c := Config{Device: "tr0", Local: x, Peer: y, From: a, To: b, Card: "eth0", CardMTU: 1500, Overhead: overhead, MTU: 1400}
	if change != nil {
		change(&c)
	}
	var s *Session
	var e *pump.Endpoint
	r.t.Cleanup(func() {
		if s != nil {
			if err := s.Close(); err != nil {
				r.t.Error(err)
			}
		}
		if e != nil {
			if err := e.Close(); err != nil {
				r.t.Error(err)
			}
		}
	})
	err := ns.Do(func() (err error) {
		codec, err := vxlan.New(vxlan.Config{VNI: 7, Local: a, Peer: b, Addrs: []netip.Addr{x}, PeerAddrs: []netip.Addr{y}})
		if err != nil {
			return err
		}
		if e, err = pump.Listen(pump.EndpointConfig{Local: netip.AddrPortFrom(a, 4789), Interface: "eth0", Queues: 1}); err != nil {
			return err
		}
		tn, err := e.Add(pump.TunnelConfig{
			Name: "tr0", Remote: netip.AddrPortFrom(b, 4789), Addrs: []netip.Prefix{netip.PrefixFrom(x, 30)}, PeerAddrs: []netip.Addr{y}, MTU: c.MTU, Codec: codec, SourcePorts: 4,
		})
		if err != nil {
			return err
		}
		s, err = Start(inside{tn, ns}, c)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(12 * time.Second); !ok(); {
		select {
		case <-deadline:
			r.t.Fatalf("not within 12 s: %s", what)
		case <-tick.C:
		}
	}
}

func (r *rig) measure(s *Session) Result {
	r.t.Helper()
	said := 0
	res, err := s.Measure(r.t.Context(), func(string) { said++ })
	if err != nil || said == 0 {
		r.t.Fatalf("measure: %v, %d words", err, said)
	}
	return res
}

// TestNetnsBothDirections measures two transitd with different limits for each direction, and lets them follow.
func TestNetnsBothDirections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.node(r.us, nil), r.node(r.them, nil)
	complete := func(s *Session, mtu int) func() bool {
		return func() bool {
			st := s.Status()
			return st.MTU == mtu && st.Phase == Complete && st.Method == MethodProbe
		}
	}
	r.eventually("both have confirmed 1400", func() bool { return complete(a, 1400)() && complete(b, 1400)() })
	if got := r.measure(a); got.There != (Direction{1450, 1500, LimitOwnCard, Hop{}}) || got.Back != (Direction{1450, 1500, LimitPeerCard, Hop{}}) || got.PeerCard != 1500 || got.PeerMTU != 1400 {
		t.Errorf("a wide path: %+v", got)
	}
	r.carries(underThem, 1400)
	r.carries(underUs, 1433)
	r.eventually("our direction is 1350", complete(a, 1350))
	r.eventually("theirs is 1383", complete(b, 1383))
	for name, s := range map[string]*Session{"us": a, "them": b} {
		got := r.measure(s)
		there, back := got.There, got.Back
		if name == "them" {
			there, back = back, there
		}
		if there.Inner != 1350 || there.Outer != 1400 || there.Limit != LimitPath || there.Hop.MTU != 1400 {
			t.Errorf("%s: from us to them: %+v", name, there)
		}
		if back.Inner != 1383 || back.Outer != 1433 || back.Limit != LimitPath || back.Hop.MTU != 1433 {
			t.Errorf("%s: from them to us: %+v", name, back)
		}
	}
	r.carries(underThem, 0)
	r.carries(underUs, 0)
	r.measure(a)
	r.measure(b)
	r.eventually("both are as configured again", func() bool { return complete(a, 1400)() && complete(b, 1400)() })
}

// TestNetnsPeerChanges replaces a transitd by the kernel's VXLAN, which answers echo requests only.
func TestNetnsPeerChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.node(r.us, nil)
	t.Run("transitd", func(t *testing.T) {
		first := *r
		first.t = t
		first.node(r.them, nil)
		first.eventually("it is measured", func() bool { st := s.Status(); return st.Phase == Complete && st.Method == MethodProbe })
	})
	r.kernelPeer()
	r.eventually("the kernel is measured", func() bool {
		st := s.Status()
		return st.Phase == Complete && st.Method == MethodEcho && st.MTU == 1400
	})
}

func (r *rig) kernelPeer() {
	r.t.Helper()
	r.run(r.them, "link add tr0 mtu 1450 type vxlan id 7 local "+underThem+" remote "+underUs+" dev eth0 dstport 4789")
	r.run(r.them, "addr add "+innerThem+"/30 dev tr0")
	r.run(r.them, "link set tr0 up")
}

// TestNetnsForeignPeer measures the kernel's VXLAN by echo requests.
func TestNetnsForeignPeer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.kernelPeer()
	r.carries(underThem, 1420)
	s := r.node(r.us, nil)
	r.eventually("the MTU is what gets through", func() bool { st := s.Status(); return st.MTU == 1370 && st.Phase == Complete })
	got := r.measure(s)
	if got.Method != MethodEcho || got.There.Inner != 1370 || got.There.Outer != 1420 || got.There.Limit != LimitUnknown || got.Back != got.There {
		t.Errorf("%+v", got)
	}
}

// TestNetnsFixed checks that a tunnel whose MTU is fixed keeps it, and answers questions.
func TestNetnsFixed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.carries(underThem, 1350)
	a, b := r.node(r.us, func(c *Config) { c.Fixed = true }), r.node(r.them, nil)
	r.eventually("the peer is measured by us", func() bool { return b.Status().Phase == Complete })
	if got := r.measure(a); got.There.Inner != 1300 {
		t.Errorf("%+v", got)
	}
	if st := a.Status(); st.MTU != 1400 {
		t.Errorf("a fixed MTU became %d", st.MTU)
	}
	// One at a time, and it ends with its context.
	ctx, cancel := context.WithCancel(t.Context())
	_, err := a.Measure(ctx, func(string) {
		if _, err := a.Measure(ctx, func(string) {}); !errors.Is(err, ErrBusy) {
			t.Errorf("two at once: %v", err)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
