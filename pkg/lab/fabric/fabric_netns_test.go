package fabric

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab/probe"
	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// rig is a running fabric with all NICs of twoVNets plugged in.
type rig struct {
	fabric netns.NS
	guests map[string]netns.NS
	client *Client
}

func newRig(t *testing.T) *rig {
	t.Helper()
	c := twoVNets()
	r := &rig{fabric: netnstest.New(t, "fabric"), guests: map[string]netns.NS{}}
	must(t, Build(r.fabric))
	for _, nic := range c.NICs {
		g := netnstest.New(t, nic.Name)
		must(t, SetSysctls(g, map[string]string{
			"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
			"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
		}))
		must(t, Plug(r.fabric, g, nic))
		r.guests[nic.Name] = g
	}
	socket := filepath.Join(t.TempDir(), "sdn.sock")
	a, err := NewAgent(AgentConfig{Fabric: c, Namespace: r.fabric, Socket: socket, Delay: time.Millisecond})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	doneC := make(chan error, 1)
	go func() { doneC <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-doneC; err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	r.client = NewClient(socket)
	r.await(t, "the agent answers", func() bool {
		s, err := r.client.State(t.Context())
		return err == nil && s.Writes > 0
	})
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await polls the agent or the kernel, which say nothing by themselves.
func (r *rig) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			s, err := r.client.State(t.Context())
			t.Fatalf("not within 5 s: %s; the agent's state: %+v, %v", what, s, err)
		}
		<-tick.C
	}
}

// say lets an instance tell the agent its routes, and waits until they are programmed.
func (r *rig) say(t *testing.T, routeServer, instance string, routes ...BGPRoute) *Feed {
	t.Helper()
	before, err := r.client.State(t.Context())
	must(t, err)
	f, err := r.client.Feed(t.Context(), routeServer, instance)
	must(t, err)
	t.Cleanup(f.Close)
	must(t, f.Send(routes))
	r.await(t, "routes are programmed", func() bool {
		s, err := r.client.State(t.Context())
		return err == nil && s.Writes > before.Writes
	})
	return f
}

func (r *rig) ping(t *testing.T, from, to string) probe.Result {
	t.Helper()
	res, err := probe.Ping{From: r.guests[from], To: addr(to), Count: 3, Timeout: 300 * time.Millisecond}.Run(t.Context())
	must(t, err)
	return res
}

func (r *rig) counter(t *testing.T, name string) uint64 {
	t.Helper()
	values, err := Counters(r.fabric)
	must(t, err)
	v, ok := values[name]
	if !ok {
		t.Fatalf("there is no counter %q in %v", name, values)
	}
	return v
}

func TestNetnsFabricForwards(t *testing.T) {
	r := newRig(t)
	tests := []struct {
		name, from, to string
		reached        bool
	}{
		{"within a VNet", "hub-nva", "10.0.0.4", true},
		{"across a peering", "hub-nva", "10.1.2.4", true},
		{"peerings are not transitive", "spoke", "10.1.2.4", false},
		{"internet from the public NIC", "hub-nva", "198.18.255.1", true},
		{"internet from another NIC", "spoke", "198.18.255.1", false},
		{"unknown private address", "spoke", "192.168.1.1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := r.counter(t, CounterNoRoute)
			res := r.ping(t, tt.from, tt.to)
			if got := res.Received == res.Sent; got != tt.reached || (!tt.reached && res.Received > 0) {
				t.Errorf("%+v, want reached = %v", res, tt.reached)
			}
			if dropped := r.counter(t, CounterNoRoute) - before; !tt.reached && dropped != uint64(res.Sent) {
				t.Errorf("%d of %d packets counted as having no route", dropped, res.Sent)
			}
		})
	}
}

func TestNetnsFabricIgnoresTheGuestsNextHop(t *testing.T) {
	r := newRig(t)
	h, err := r.guests["spoke"].Handle()
	must(t, err)
	defer h.Close()
	link, err := h.LinkByName("eth0")
	must(t, err)
	// 10.2.0.99 is nobody, yet the fabric answers for it and sends the packet to where the destination is.
	must(t, h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(prefix("10.0.0.0/16")), Gw: net.IPv4(10, 2, 0, 99)}))
	if res := r.ping(t, "spoke", "10.0.2.4"); res.Received != res.Sent {
		t.Errorf("by a next hop that nobody has: %+v", res)
	}
	// The same with a MAC address that nobody has.
	mac := net.HardwareAddr{0x02, 0xde, 0xad, 0xbe, 0xef, 0x01}
	must(t, h.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: net.IPv4(10, 2, 0, 99), HardwareAddr: mac}))
	if res := r.ping(t, "spoke", "10.0.2.4"); res.Received != res.Sent {
		t.Errorf("to a MAC address that nobody has: %+v", res)
	}
	neighbours, err := h.NeighList(link.Attrs().Index, unix.AF_INET)
	must(t, err)
	for _, n := range neighbours {
		if n.State != netlink.NUD_PERMANENT && n.HardwareAddr.String() != GatewayMAC().String() {
			t.Errorf("the fabric answered for %s with %s, not %s", n.IP, n.HardwareAddr, GatewayMAC())
		}
	}
}

func TestNetnsFabricFollowsBGP(t *testing.T) {
	r := newRig(t)
	// The guest behind er-hub has the on-prem address.
	h, err := r.guests["er-hub"].Handle()
	must(t, err)
	defer h.Close()
	lo, err := h.LinkByName("lo")
	must(t, err)
	must(t, h.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(prefix("172.16.1.10/32"))}))
	if res := r.ping(t, "spoke", "172.16.1.10"); res.Received != 0 {
		t.Fatalf("reached without a route: %+v", res)
	}
	route := learn("172.16.0.0/16", "10.0.0.4", true, 12076, 65010)
	zero := r.say(t, "hub-ars", "hub-ars-0", route)
	one := r.say(t, "hub-ars", "hub-ars-1", route)
	if res := r.ping(t, "spoke", "172.16.1.10"); res.Received != res.Sent {
		t.Errorf("with the route: %+v", res)
	}
	if res := r.ping(t, "transit-nva", "172.16.1.10"); res.Received != 0 {
		t.Errorf("a VNet with another Route Server got the route: %+v", res)
	}
	zero.Close()
	r.await(t, "the first instance is forgotten", func() bool {
		s, err := r.client.State(t.Context())
		return err == nil && len(s.Learned["hub-ars"]) == 1
	})
	if res := r.ping(t, "spoke", "172.16.1.10"); res.Received != res.Sent {
		t.Errorf("with one instance gone: %+v", res)
	}
	one.Close()
	r.await(t, "no route without an instance", func() bool { return r.ping(t, "spoke", "172.16.1.10").Received == 0 })
}

func TestNetnsHairpinIsCountedAndEndsByTTL(t *testing.T) {
	r := newRig(t)
	// The Route Server puts what the NVA announced on the NVA's own NIC too: that is the loop.
	r.say(t, "hub-ars", "hub-ars-0", learn("10.50.0.0/16", "10.0.2.4", false, 64512))
	expired := r.counter(t, CounterTTLExpired)
	tests := []struct {
		name              string
		ttl               int
		hairpins, expired uint64
		from              string
	}{
		// Each round costs two hops. With an even TTL the NVA sees the end, with an odd one the fabric.
		{"the NVA sees the end", 10, 4, 0, "time exceeded from 10.0.2.4"},
		{"the fabric sees the end", 9, 3, 1, "time exceeded from 10.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hairpins := r.counter(t, HairpinPrefix+"hub-nva")
			expired = r.counter(t, CounterTTLExpired)
			res, err := probe.Ping{From: r.guests["er-hub"], To: addr("10.50.1.10"), Count: 1, TTL: tt.ttl, Timeout: 300 * time.Millisecond}.Run(t.Context())
			must(t, err)
			if n := r.counter(t, HairpinPrefix+"hub-nva") - hairpins; n != tt.hairpins {
				t.Errorf("%d hairpins for a packet with TTL %d, want %d", n, tt.ttl, tt.hairpins)
			}
			if n := r.counter(t, CounterTTLExpired) - expired; n != tt.expired {
				t.Errorf("the fabric counted %d expired packets, want %d", n, tt.expired)
			}
			if res.Errors[tt.from] != 1 {
				t.Errorf("%v, want one %q", res.Errors, tt.from)
			}
		})
	}
	hops, err := probe.Trace{From: r.guests["er-hub"], To: addr("10.50.1.10"), MaxHops: 8}.Run(t.Context())
	must(t, err)
	if hops.Reached() || hops.Count(addr("10.0.2.4")) != 4 || hops.Count(addr("10.0.2.1")) != 3 {
		t.Errorf("hops %s, want 10.0.0.1 and then 10.0.2.4 and 10.0.2.1 in turn", hops)
	}
}

func TestNetnsDropsAreCounted(t *testing.T) {
	r := newRig(t)
	r.ping(t, "transit-nva", "10.0.2.4") // an ARP answer later on would count as an arrival
	const from, to = "10.0.2.4", "10.1.2.4"
	udp := func(sport uint16) []byte {
		b := binary.BigEndian.AppendUint16(nil, sport)
		b = append(b, 0x12, 0xb5, 0, 16, 0, 0)
		return append(b, make([]byte, 8)...)
	}
	first, later := uint16(0x2000), uint16(2)
	tests := []struct {
		name    string
		packets [][]byte
		counter string
		arrive  int
	}{
		{"GRE", [][]byte{ip4(from, to, unix.IPPROTO_GRE, 1, 0, make([]byte, 16))}, CounterGRE, 0},
		{"IP in IP", [][]byte{ip4(from, to, unix.IPPROTO_IPIP, 2, 0, make([]byte, 20))}, CounterIPIP, 0},
		{"UDP from 65330", [][]byte{ip4(from, to, unix.IPPROTO_UDP, 3, 0, udp(65330))}, CounterPort65330, 0},
		{"UDP from 65331", [][]byte{ip4(from, to, unix.IPPROTO_UDP, 4, 0, udp(65331))}, "", 1},
		{"multicast", [][]byte{ip4(from, "224.0.0.5", unix.IPPROTO_UDP, 5, 0, udp(4000))}, CounterMulticast, 0},
		{"ESP", [][]byte{ip4(from, to, unix.IPPROTO_ESP, 6, 0, make([]byte, 16))}, "", 1},
		{"fragments in order", [][]byte{ip4(from, to, unix.IPPROTO_UDP, 7, first, udp(4000)), ip4(from, to, unix.IPPROTO_UDP, 7, later, udp(0))}, "", 2},
		{"fragments out of order", [][]byte{ip4(from, to, unix.IPPROTO_UDP, 8, later, udp(0)), ip4(from, to, unix.IPPROTO_UDP, 8, first, udp(4000))}, CounterFragment, 1},
		{"fragment of another packet", [][]byte{ip4(from, to, unix.IPPROTO_UDP, 9, first, udp(4000)), ip4(from, to, unix.IPPROTO_UDP, 10, later, udp(0))}, CounterFragment, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, err := Counters(r.fabric)
			must(t, err)
			arrived := received(t, r.guests["transit-nva"])
			for _, p := range tt.packets {
				sendRaw(t, r.guests["hub-nva"], p)
			}
			r.await(t, fmt.Sprintf("%d packets arrive", tt.arrive), func() bool {
				return received(t, r.guests["transit-nva"])-arrived >= uint64(tt.arrive)
			})
			after, err := Counters(r.fabric)
			must(t, err)
			for name := range after {
				want := uint64(0)
				if name == tt.counter {
					want = uint64(len(tt.packets) - tt.arrive)
				}
				if got := after[name] - before[name]; got != want {
					t.Errorf("counter %s went up by %d, want %d", name, got, want)
				}
			}
			if n := received(t, r.guests["transit-nva"]) - arrived; n != uint64(tt.arrive) {
				t.Errorf("%d packets arrived, want %d", n, tt.arrive)
			}
		})
	}
}

func TestNetnsCutAndHeal(t *testing.T) {
	r := newRig(t)
	must(t, Cut(r.fabric, "hub-nva", "transit-nva"))
	if res := r.ping(t, "transit-nva", "10.0.2.4"); res.Received != 0 {
		t.Errorf("through the cut: %+v", res)
	}
	if res := r.ping(t, "transit-nva", "10.0.0.4"); res.Received != res.Sent {
		t.Errorf("beside the cut: %+v", res)
	}
	if n := r.counter(t, CounterCut); n != 3 {
		t.Errorf("%d packets counted at the cut, want 3", n)
	}
	must(t, Heal(r.fabric))
	if res := r.ping(t, "transit-nva", "10.0.2.4"); res.Received != res.Sent {
		t.Errorf("after healing: %+v", res)
	}
}

func TestNetnsCutOffAndHealOne(t *testing.T) {
	r := newRig(t)
	reaches := func(when string, want bool) {
		t.Helper()
		if res := r.ping(t, "transit-nva", "10.0.2.4"); (res.Received > 0) != want {
			t.Errorf("%s: %+v", when, res)
		}
	}
	must(t, CutOff(r.fabric, "hub-nva"))
	must(t, CutOff(r.fabric, "transit-nva"))
	must(t, Cut(r.fabric, "hub-nva", "transit-nva"))
	if res := r.ping(t, "transit-nva", "10.0.0.4"); res.Received != 0 || len(res.Errors) > 0 {
		t.Errorf("cut off, which is silent: %+v", res)
	}
	must(t, Heal(r.fabric, "transit-nva"))
	if res := r.ping(t, "transit-nva", "10.0.0.4"); res.Received != res.Sent {
		t.Errorf("healed: %+v", res)
	}
	reaches("the other one is still cut off", false)
	must(t, Heal(r.fabric, "nobody"))
	reaches("somebody else was healed", false)
	must(t, Heal(r.fabric, "hub-nva"))
	reaches("both were healed", true)
	must(t, Heal(r.fabric, "hub-nva")) // nothing to heal is no error
}

// received reads how many packets came in at the guest's NIC.
func received(t *testing.T, ns netns.NS) uint64 {
	t.Helper()
	h, err := ns.Handle()
	must(t, err)
	defer h.Close()
	link, err := h.LinkByName("eth0")
	must(t, err)
	return link.Attrs().Statistics.RxPackets
}

// ip4 builds a packet with the flags and fragment offset field as given.
func ip4(from, to string, proto byte, id, frag uint16, payload []byte) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, 64, proto, 0, 0)
	for _, s := range []string{from, to} {
		a := netip.MustParseAddr(s).As4()
		b = append(b, a[:]...)
	}
	return append(b, payload...)
}

// sendRaw puts a whole packet on the guest's wire, below its IP stack; the header's checksum is computed here.
func sendRaw(t *testing.T, ns netns.NS, pkt []byte) {
	t.Helper()
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pkt[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(pkt[10:], ^uint16(sum+sum>>16))
	must(t, ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // nothing is buffered
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		sa := &unix.SockaddrLinklayer{Protocol: unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8, Ifindex: ifi.Index, Halen: 6}
		copy(sa.Addr[:], GatewayMAC())
		return unix.Sendto(fd, pkt, 0, sa)
	}))
}
