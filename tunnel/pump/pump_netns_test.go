package pump

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/tunnel/vxlan"
)

// The judge is the kernel's own vxlan device: it checks what we send, and what
// it sends we did not write.
func TestKernelPeer(t *testing.T) {
	for _, test := range []struct {
		name          string
		local, remote string
		setup         func(r *rig)
		change        func(*vxlan.Config, *TunnelConfig)
	}{
		{"VXLAN over IPv4", us, them, func(r *rig) { r.kernelVXLAN(them, us, "udpcsum") }, nil},
		{"VXLAN over IPv6", us6, them6, func(r *rig) { r.kernelVXLAN(them6, us6, "") }, nil},
		{"VXLAN with a zero UDP checksum", us, them, func(r *rig) { r.kernelVXLAN(them, us, "noudpcsum") }, nil},
		{"VXLAN-GPE", us, them, (*rig).kernelGPE, func(vx *vxlan.Config, c *TunnelConfig) {
			vx.GPE = true
			c.Remote = netip.AddrPortFrom(vx.Peer, 4790)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			test.setup(r)
			tn := r.pump(r.us, test.local, test.remote, test.change)
			r.resolved(tn)
			r.pings(r.us, innerThem, innerThem6)
			r.pings(r.them, innerUs, innerUs6)
			for _, a := range [][2]string{{innerThem, innerUs}, {innerThem6, innerUs6}} {
				r.fragments(r.us, a[0])
				r.fragments(r.them, a[1])
				r.datagrams(r.us, r.them, a[0])
				r.datagrams(r.them, r.us, a[1])
				r.transfer(r.us, r.them, a[0], 32<<20)
				r.transfer(r.them, r.us, a[1], 32<<20)
			}
			s := r.stats(r.us, tn)
			if s.TXPackets < 1000 || s.RXPackets < 1000 || s.TXBytes < 64<<20 || s.RXBytes < 64<<20 {
				t.Errorf("counted too little: %+v", s)
			}
			for reason, n := range s.Drops {
				// The kernel's device has a link-local address and says so to groups; it also resets no conntrack.
				if reason != "multicast" && reason != "wrong_mac" {
					t.Errorf("%d packets dropped: %s", n, reason)
				}
			}
		})
	}
}

func TestOurOwnPeer(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain sends %v", plain), func(t *testing.T) { testOurOwnPeer(t, plain) })
	}
}

func testOurOwnPeer(t *testing.T, plain bool) {
	r := newRig(t)
	r.plain = plain
	a := r.pump(r.us, us, them, nil)
	b := r.pump(r.them, them, us, nil)
	r.pings(r.us, innerThem, innerThem6)
	r.transfer(r.us, r.them, innerThem, 64<<20)
	r.transfer(r.them, r.us, innerUs6, 64<<20)
	for _, end := range []struct {
		ns netns.NS
		tn *Tunnel
	}{{r.us, a}, {r.them, b}} {
		if s := r.stats(end.ns, end.tn); len(s.Drops) > 0 {
			t.Errorf("%s dropped %v", end.ns.Name, s.Drops)
		}
	}
}

// A device that somebody gave a larger MTU hands over what the tunnel cannot carry.
func TestTooBig(t *testing.T) {
	r := newRig(t)
	r.kernelVXLAN(them, us, "udpcsum")
	r.run(r.them, "ip link set eth0 mtu 9000")
	tn := r.pump(r.us, us, them, nil)
	r.resolved(tn)
	r.run(r.us, "ip link set tr0 mtu 4000")
	out, err := r.try(r.us, "ping -n -c 1 -W 5 -M do -s 3000 "+innerThem)
	if err == nil || !strings.Contains(out, "mtu = 1400") && !strings.Contains(out, "mtu=1400") {
		t.Errorf("no fragmentation needed:\n%s", out)
	}
	out, err = r.try(r.us, "ping -6 -n -c 1 -W 5 -M do -s 3000 "+innerThem6)
	if err == nil || !strings.Contains(out, "mtu = 1400") && !strings.Contains(out, "mtu=1400") {
		t.Errorf("no packet too big:\n%s", out)
	}
	if n := r.stats(r.us, tn).Drops["too_big"]; n != 2 {
		t.Errorf("too_big counts %d, want 2", n)
	}
	// Without DF, and without the path MTU that the kernel just learned, it is cut.
	r.run(r.us, "ip route flush cache")
	r.run(r.us, "ping -n -q -c 2 -i 0.01 -W 5 -M dont -s 3000 "+innerThem)
}

// Refused datagrams are counted and disturb nobody.
func TestRefused(t *testing.T) {
	r := newRig(t)
	tn := r.pump(r.us, us, them, nil)
	r.run(r.them, "ip addr add 192.0.2.77/24 dev eth0")
	send := func(from string, payload []byte) {
		t.Helper()
		err := r.them.Do(func() error {
			c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from+":0")), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(us+":4789")))
			if err != nil {
				return err
			}
			_, err = c.Write(payload)
			return joinClose(err, c)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	vni := []byte{0, byte(vni >> 8), byte(vni & 0xff), 0}
	header := append([]byte{8, 0, 0, 0}, vni...)
	toUs := vxlan.EndpointMAC(netip.MustParseAddr(us))
	ether := append(append(toUs[:], 2, 0, 9, 9, 9, 9), 8, 0)
	send("192.0.2.77", header)
	send(them, []byte{8, 0, 0})
	send(them, append([]byte{0, 0, 0, 0}, vni...))
	send(them, []byte{8, 0, 0, 0, 0, 0, 1, 0})
	send(them, header)
	send(them, append(append([]byte{}, header...), append(ether, 0x45, 0, 0xff, 0xff)...))
	want := map[string]uint64{"wrong_source": 1, "short": 2, "bad_header": 1, "wrong_vni": 1, "bad_inner": 1}
	r.eventually("six drops", func() bool {
		n := uint64(0)
		for _, v := range r.stats(r.us, tn).Drops {
			n += v
		}
		return n >= 6
	})
	if diff := cmp.Diff(want, r.stats(r.us, tn).Drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}

func joinClose(err error, c net.Conn) error {
	if cerr := c.Close(); err == nil {
		return cerr
	}
	return err
}

func TestClose(t *testing.T) {
	r := newRig(t)
	r.kernelVXLAN(them, us, "udpcsum")
	tn := r.pump(r.us, us, them, nil)
	r.resolved(tn)
	r.run(r.us, "ping -n -q -c 3 -i 0.1 -W 2 "+innerThem)
	if _, err := tn.e.Add(TunnelConfig{Name: "tr0", Remote: tn.cfg.Remote, MTU: mtu, Codec: tn.cfg.Codec}); err == nil {
		t.Error("a second device of the same name was made")
	}
	for range 2 {
		if err := tn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if out := r.run(r.us, "ip -br link"); strings.Contains(out, "tr0") {
		t.Errorf("the device is still there:\n%s", out)
	}
	if out := r.run(r.us, "ss -Hnua"); strings.Contains(out, ":49152") {
		t.Errorf("lanes are still open:\n%s", out)
	}
}

// A device that somebody deletes ends its loops, and Close still works.
func TestDeletedDevice(t *testing.T) {
	r := newRig(t)
	tn := r.pump(r.us, us, them, nil)
	r.run(r.us, "ip link del tr0")
	up := true
	if err := r.us.Do(func() error { up = tn.Up(); return nil }); err != nil || up {
		t.Errorf("up = %v, %v", up, err)
	}
	if err := tn.Close(); err != nil {
		t.Error(err)
	}
}

// Flows spread over source ports, each stays with its own, and none is 65330.
func TestSourcePorts(t *testing.T) {
	r := newRig(t)
	tn := r.pump(r.us, us, them, func(_ *vxlan.Config, c *TunnelConfig) { c.SourcePorts = 8 })
	ports := tn.lanes.Ports()
	if len(ports) != 8 || ports[0] != 49152 {
		t.Errorf("ports %v", ports)
	}
	var c *net.UDPConn
	if err := r.them.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(them+":4789")))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // only read from
	seen := map[string]map[int]bool{}
	err := r.us.Do(func() error {
		for flow := range 40 {
			s, err := net.Dial("udp", net.JoinHostPort(innerThem, strconv.Itoa(1000+flow)))
			if err != nil {
				return err
			}
			_, err = s.Write([]byte("first"))
			_, again := s.Write([]byte("second"))
			if err := joinClose(errors.Join(err, again), s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for n := 0; n < 80; {
		k, from, err := c.ReadFromUDP(buf)
		if err != nil {
			t.Fatal(err)
		}
		if k < 8+14+28 || buf[8+12] != 8 || buf[9+12] != 0 || buf[8+14+9] != 17 {
			continue // a solicitation
		}
		n++
		dst := string(buf[8+14+22 : 8+14+24])
		if seen[dst] == nil {
			seen[dst] = map[int]bool{}
		}
		seen[dst][from.Port] = true
	}
	used := map[int]bool{}
	for flow, ports := range seen {
		if len(ports) != 1 {
			t.Errorf("the flow to port %x used source ports %v", flow, ports)
		}
		for p := range ports {
			used[p] = true
		}
	}
	if len(seen) != 40 || len(used) < 4 {
		t.Errorf("%d flows over source ports %v", len(seen), used)
	}
}
