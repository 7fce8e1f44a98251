package bgp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/transitd/transitd/bgp/policy"
)

// arsRoutes are what the rig's Route Server tells: its VNet, a spoke's VNet,
// on-prem through ExpressRoute, a default.
func arsRoutes() []string {
	return []string{"192.0.2.0/24", "10.2.0.0/16", "172.16.0.0/16 12076 65010", "0.0.0.0/0 12076 65010"}
}

// farRoutes are what the far NVA tells of AVS; it did not clean its AS paths.
func farRoutes() []string {
	return []string{"10.50.0.0/24 65515 12076 398656", "10.50.1.0/24 65515 12076 398656 64777", "192.0.2.128/25", "10.9.9.9/32", "198.51.100.0/30"}
}

func TestNetnsRoutesGoAcrossAndStayClean(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	b0 := newBIRD(t, r.ars, ars0, arsASN, nic, arsRoutes(), "")
	b1 := newBIRD(t, r.ars, ars1, arsASN, nic, arsRoutes(), "")
	far := newBIRD(t, r.far, farNVA, farASN, overlay, farRoutes(), "bgp_community.add((65517,12001)); bgp_large_community.add((64512,1,7));")
	s := r.speak(r.config())
	s.established(6*time.Second, ars0, ars1, farNVA)

	toARS := map[string]string{"10.50.0.0/24": "64512 64513", "10.50.1.0/24": "64512 64513 64777"}
	b0.receives(4*time.Second, toARS)
	b1.receives(4*time.Second, toARS)
	far.receives(4*time.Second, map[string]string{
		"192.0.2.0/24": "64512", "10.2.0.0/16": "64512", "172.16.0.0/16": "64512 65010",
	})
	if diff := cmp.Diff(b0.routes(), b1.routes()); diff != "" {
		t.Errorf("the instances got different routes (-0 +1):\n%s", diff)
	}
	for p, route := range b0.routes() {
		if route["next_hop"] != nic.String() || route["community"] != "" || route["large_community"] != "" {
			t.Errorf("%s reached the Route Server as %v: want the NIC as next hop and no communities", p, route)
		}
	}
	if got, want := far.routes()["172.16.0.0/16"]["large_community"], siteTagOf("hub"); got != want {
		t.Errorf("tag at the far NVA: got %s want %s", got, want)
	}
	want := map[string]string{
		"0.0.0.0/0": "route-server hub-ars", "192.0.2.0/24": "route-server hub-ars", "10.2.0.0/16": "route-server hub-ars",
		"172.16.0.0/16": "route-server hub-ars", "10.50.0.0/24": "tunnel tr0", "10.50.1.0/24": "tunnel tr0", "10.9.9.9/32": "tunnel tr0",
	}
	if diff := cmp.Diff(want, s.best()); diff != "" {
		t.Errorf("for the kernel (-want +got):\n%s", diff)
	}
	eventually(t, 5*time.Second, func() error {
		if !s.Converged() {
			return errNotConverged
		}
		return nil
	})
}

func TestNetnsReload(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	ars := newBIRD(t, r.ars, ars0, arsASN, nic, arsRoutes(), "")
	far := newBIRD(t, r.far, farNVA, farASN, overlay, []string{"10.50.0.0/24"}, "")
	c := r.config()
	c.Neighbors[0].Addrs = []netip.Addr{ars0}
	s := r.speak(c)
	s.established(6*time.Second, ars0, farNVA)
	toARS := map[string]string{"10.50.0.0/24": "64512 64513"}
	toFar := map[string]string{"192.0.2.0/24": "64512", "10.2.0.0/16": "64512", "172.16.0.0/16": "64512 65010"}
	ars.receives(4*time.Second, toARS)
	far.receives(4*time.Second, toFar)

	arsBefore, farBefore := ars.updates(), far.updates()
	changes, err := s.Apply(t.Context(), c)
	if err != nil || !changes.Empty() {
		t.Fatalf("second Apply of the same configuration: %+v, %v", changes, err)
	}

	// A default that is originated into the tunnel changes only that.
	c.Originate = []Origination{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), To: []string{"tr0"}}}
	if changes, err = s.Apply(t.Context(), c); err != nil || changes.Announced != 1 || changes.Withdrawn != 0 {
		t.Fatalf("Apply with an origination: %+v, %v", changes, err)
	}
	withDefault := maps.Clone(toFar)
	withDefault["0.0.0.0/0"] = "64512"
	far.receives(2*time.Second, withDefault)
	c.Originate = nil
	if _, err := s.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	far.receives(2*time.Second, toFar)
	if got := far.updates() - farBefore; got != 2 {
		t.Errorf("the far NVA got %d updates over three reloads, want the announcement and the withdrawal", got)
	}
	if got := ars.updates() - arsBefore; got != 0 {
		t.Errorf("the Route Server got %d updates, want none", got)
	}

	// A ROUTE-REFRESH (Azure sends one when a peering is made) is answered with
	// everything, and the session goes on.
	ars.ask("reload", "in", "nva")
	eventually(t, 2*time.Second, func() error {
		if got := ars.updates() - arsBefore; got != len(toARS) {
			return fmt.Errorf("%d updates after a ROUTE-REFRESH, want %d", got, len(toARS))
		}
		return nil
	})

	// A second tunnel comes and goes; nobody else notices.
	r.connect("tr1", overlay2, 30, r.far, "eth1", farNVA2)
	far2 := newBIRD(t, r.far, farNVA2, 64514, overlay2, []string{"10.60.0.0/24"}, "")
	with := c
	with.Neighbors = append(with.Neighbors[:2:2], Neighbor{
		Name: "tr1", Role: c.Neighbors[1].Role, Addrs: []netip.Addr{farNVA2}, ASN: 64514, LocalAddr: overlay2,
	})
	if changes, err = s.Apply(t.Context(), with); err != nil || len(changes.Added) != 1 || len(changes.Reset) != 0 {
		t.Fatalf("Apply with another tunnel: %+v, %v", changes, err)
	}
	far2.receives(6*time.Second, toFar)
	ars.receives(2*time.Second, map[string]string{"10.50.0.0/24": "64512 64513", "10.60.0.0/24": "64512 64514"})
	if changes, err = s.Apply(t.Context(), c); err != nil || len(changes.Removed) != 1 || len(changes.Reset) != 0 {
		t.Fatalf("Apply without it: %+v, %v", changes, err)
	}
	ars.receives(2*time.Second, toARS)
	if got := far.updates() - farBefore; got != 2 {
		t.Errorf("the first tunnel got %d updates by the second's coming and going", got-2)
	}
}

// TestNetnsNoStuckRoute is facts/bgp.md 0.1a: GoBGP 3 sent no withdrawal when
// the next best path of a prefix had the peer's own AS in it.
func TestNetnsNoStuckRoute(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	ars := newBIRD(t, r.ars, ars0, arsASN, nic, append(arsRoutes(), "10.77.0.0/16 12076 65010"), "")
	far := newBIRD(t, r.far, farNVA, farASN, overlay, []string{"172.31.0.0/16 65515", "10.50.0.0/24"}, "")
	c := r.config()
	c.Neighbors[0].Addrs = []netip.Addr{ars0}
	c.Originate = []Origination{
		{Prefix: netip.MustParsePrefix("10.77.0.0/16"), To: []string{"hub-ars"}},
		{Prefix: netip.MustParsePrefix("172.31.0.0/16"), To: []string{"hub-ars"}},
	}
	s := r.speak(c)
	s.established(6*time.Second, ars0, farNVA)
	ars.receives(4*time.Second, map[string]string{"10.50.0.0/24": "64512 64513", "10.77.0.0/16": "64512", "172.31.0.0/16": "64512"})
	c.Originate = nil
	if _, err := s.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	// 10.77/16's next best is the Route Server's own, which must not go back;
	// 172.31/16's is the far NVA's with 65515 in its path, cleaned.
	ars.receives(2*time.Second, map[string]string{"10.50.0.0/24": "64512 64513", "172.31.0.0/16": "64512 64513"})
	far.kill()
	ars.receives(2*time.Second, map[string]string{})
}

func TestNetnsSessionsComeBack(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	b0 := newBIRD(t, r.ars, ars0, arsASN, nic, arsRoutes(), "")
	b1 := newBIRD(t, r.ars, ars1, arsASN, nic, arsRoutes(), "")
	far := newBIRD(t, r.far, farNVA, farASN, overlay, []string{"10.50.0.0/24"}, "")
	s := r.speak(r.config())
	s.established(6*time.Second, ars0, ars1, farNVA)
	toARS := map[string]string{"10.50.0.0/24": "64512 64513"}
	b0.receives(4*time.Second, toARS)
	b1.receives(4*time.Second, toARS)

	// One instance restarts: the other notices nothing, nor does the far side.
	farBefore, otherBefore := far.updates(), b1.updates()
	b0.kill()
	b0.start()
	b0.receives(5*time.Second, toARS)
	s.established(time.Second, ars0, ars1, farNVA)
	if got := far.updates() - farBefore; got != 0 {
		t.Errorf("the far NVA got %d updates because one instance restarted", got)
	}
	if got := b1.updates() - otherBefore; got != 0 {
		t.Errorf("the other instance got %d updates", got)
	}

	// The far NVA dies without a sign (its FIN cannot leave) and comes back:
	// the session is up here, and unknown there.
	r.ip("-n", r.far.Name, "link", "set", "eth0", "down")
	far.kill()
	r.ip("-n", r.far.Name, "link", "set", "eth0", "up")
	far.start()
	start := time.Now()
	far.receives(5*time.Second, map[string]string{"192.0.2.0/24": "64512", "10.2.0.0/16": "64512", "172.16.0.0/16": "64512 65010"})
	t.Logf("back %s after the silent death", time.Since(start).Round(time.Millisecond))
}

func TestNetnsDrainWithdrawsThenCeases(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	ars := newBIRD(t, r.ars, ars0, arsASN, nic, arsRoutes(), "")
	newBIRD(t, r.far, farNVA, farASN, overlay, []string{"10.50.0.0/24"}, "")
	c := r.config()
	c.Neighbors[0].Addrs = []netip.Addr{ars0}
	s := r.speak(c)
	s.established(6*time.Second, ars0, farNVA)
	ars.receives(4*time.Second, map[string]string{"10.50.0.0/24": "64512 64513"})
	kernel := s.best()
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	ars.receives(time.Second, map[string]string{})
	if diff := cmp.Diff(kernel, s.best()); diff != "" {
		t.Errorf("draining changed the kernel's routes (-before +after):\n%s", diff)
	}
	for _, sess := range s.Sessions() {
		if sess.State != "idle" || sess.Announced != 0 {
			t.Errorf("after Drain: %+v", sess)
		}
	}
}

// farEnv makes the test binary be the far NVA's transitd.
const farEnv = "TRANSITD_BGP_TEST_FAR"

// TestNetnsFarSpeaker is no test but the other process of TestNetnsTwoSpeakers.
func TestNetnsFarSpeaker(t *testing.T) {
	if os.Getenv(farEnv) == "" {
		t.Skip("runs as a process of TestNetnsTwoSpeakers")
	}
	s, err := New(Config{
		ASN: farASN, RouterID: farNVA, Site: "transit", LocalAddr: farNVA,
		Neighbors: []Neighbor{{Name: "tr0", Role: policy.Tunnel, Addrs: []netip.Addr{overlay}, ASN: ourASN, Interface: "eth0"}},
		Originate: []Origination{{Prefix: netip.MustParsePrefix("10.50.0.0/24"), To: []string{"tr0"}}},
	}, Options{Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err != nil { // until it is killed
		t.Fatal(err)
	}
}

// TestNetnsTwoSpeakers has transitd on both ends: one is killed without a sign
// and started again.
func TestNetnsTwoSpeakers(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	t.Setenv(farEnv, "yes")
	far := newDaemon(t, r.far, t.TempDir(), os.Args[0], "-test.run=^TestNetnsFarSpeaker$", "-test.v")
	far.start()
	c := r.config()
	c.Neighbors = c.Neighbors[1:]
	s := r.speak(c)
	learned := func(within time.Duration, want bool) time.Duration {
		start := time.Now()
		eventually(t, within, func() error {
			if _, ok := s.best()["10.50.0.0/24"]; ok != want {
				return fmt.Errorf("learned is %t, sessions are %+v", ok, s.Sessions())
			}
			return nil
		})
		return time.Since(start).Round(time.Millisecond)
	}
	t.Logf("first start: %s", learned(5*time.Second, true))

	r.ip("-n", r.far.Name, "link", "set", "eth0", "down")
	far.kill()
	r.ip("-n", r.far.Name, "link", "set", "eth0", "up")
	far.start()
	t.Logf("lost: %s", learned(5*time.Second, false))
	t.Logf("learned again after a silent death: %s", learned(5*time.Second, true))

	far.kill()
	t.Logf("gone after a kill: %s", learned(time.Second, false))
	far.start()
	t.Logf("learned again after a kill: %s", learned(5*time.Second, true))
}

// TestNetnsIPv6ThroughTheTunnel: IPv6 routes go over the tunnel's IPv4 session,
// and never to a Route Server.
func TestNetnsIPv6ThroughTheTunnel(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	ars := newBIRD(t, r.ars, ars0, arsASN, nic, arsRoutes(), "")
	far := newBIRD(t, r.far, farNVA, farASN, overlay, []string{"10.50.0.0/24"}, "")
	c := r.config()
	c.Neighbors[0].Addrs = []netip.Addr{ars0}
	c.Neighbors[1].LocalAddr6 = overlay6
	c.Originate = []Origination{{Prefix: netip.MustParsePrefix("2001:db8:1::/48"), To: []string{"tr0"}}}
	s := r.speak(c)
	s.established(6*time.Second, ars0, farNVA)
	eventually(t, 4*time.Second, func() error {
		if got := s.best()["2001:db8:50::/48"]; got != "tunnel tr0" {
			return fmt.Errorf("2001:db8:50::/48 is %q in %v", got, s.best())
		}
		if got := far.routes()["2001:db8:1::/48"]; got["as_path"] != "64512" || got["next_hop"] != overlay6.String() {
			return fmt.Errorf("the far NVA has %v of %v", got, far.routes())
		}
		return nil
	})
	ars.receives(2*time.Second, map[string]string{"10.50.0.0/24": "64512 64513"})
}

// TestNetnsStrangersAndGarbage: who is not configured is refused and counted,
// who talks nonsense is refused, and neither disturbs an established session.
func TestNetnsStrangersAndGarbage(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	ars := newBIRD(t, r.ars, ars0, arsASN, nic, arsRoutes(), "")
	newBIRD(t, r.far, farNVA, farASN, overlay, []string{"10.50.0.0/24"}, "")
	s := r.speak(r.config())
	s.established(6*time.Second, ars0, farNVA)
	want := map[string]string{"10.50.0.0/24": "64512 64513"}
	ars.receives(4*time.Second, want)
	before := ars.updates()

	r.dial(netip.MustParseAddr("192.0.2.99"), []byte{0xff})
	eventually(t, 2*time.Second, func() error {
		if n := s.Strangers(); n != 1 {
			return fmt.Errorf("%d strangers counted", n)
		}
		return nil
	})
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20 { // the other instance's address, where no BIRD runs
		garbage := make([]byte, rng.IntN(300))
		for j := range garbage {
			garbage[j] = byte(rng.Uint32())
		}
		if i%2 == 0 { // a right header, so that the body is looked at
			garbage = slices.Concat(bytes.Repeat([]byte{0xff}, 16), []byte{byte(len(garbage) >> 8), byte(len(garbage)), byte(1 + i%5)}, garbage)
		}
		r.dial(ars1, garbage)
	}
	for _, sess := range s.Sessions() {
		if sess.Peer != ars1 && sess.State != "established" {
			t.Errorf("session with %s is %s (%s)", sess.Peer, sess.State, sess.LastError)
		}
	}
	if diff := cmp.Diff(want, ars.paths()); diff != "" || ars.updates() != before {
		t.Errorf("the Route Server noticed (-want +got, %d updates):\n%s", ars.updates()-before, diff)
	}
	if n := s.Strangers(); n != 1 {
		t.Errorf("%d strangers counted, but the others were a neighbor's address", n)
	}
}

// TestNetnsKnocking: a peer that opens connections although it has a session
// has lost it. Once may be chance.
func TestNetnsKnocking(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	far := newBIRD(t, r.far, farNVA, farASN, overlay, []string{"10.50.0.0/24"}, "")
	c := r.config()
	c.Neighbors = c.Neighbors[1:]
	s := r.speak(c)
	s.established(6*time.Second, farNVA)
	knock := func() {
		t.Helper()
		if err := r.far.Do(func() error { return dialFrom(farNVA, overlay, nil) }); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 4*time.Second, func() error {
		if up := s.Sessions()[0].Uptime; up < 2*time.Second {
			return fmt.Errorf("up for %s only", up)
		}
		return nil
	})
	knock()
	up := s.Sessions()[0].Uptime
	eventually(t, 4*time.Second, func() error {
		if now := s.Sessions()[0].Uptime; now < up {
			t.Fatalf("one connection was enough to reset the session: %+v", s.Sessions())
		} else if now < up+2*knockApart {
			return errNotConverged
		}
		return nil
	})
	knock()
	eventually(t, 2*time.Second, func() error {
		if sess := s.Sessions()[0]; !strings.Contains(sess.LastError, "keeps opening") {
			return fmt.Errorf("session is %+v", sess)
		}
		return nil
	})
	s.established(5*time.Second, farNVA)
	far.receives(time.Second, map[string]string{})
}

// dial opens a connection from an address in the Route Server's namespace to
// the NIC, and sends something.
func (r *rig) dial(from netip.Addr, payload []byte) {
	r.t.Helper()
	if err := r.ars.Do(func() error { return dialFrom(from, nic, payload) }); err != nil {
		r.t.Fatal(err)
	}
}

func dialFrom(from, to netip.Addr, payload []byte) error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 2 * time.Second}
	conn, err := d.Dial("tcp", netip.AddrPortFrom(to, Port).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(payload); err != nil {
		return nil // it was refused already, which is right
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, conn) // until it is refused
	return nil
}
