package hairpin

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// packetBytes is a UDP packet, from the IP header on.
func packetBytes(t *testing.T, from, to string) []byte {
	t.Helper()
	src, dst := net.ParseIP(from), net.ParseIP(to)
	udp := &layers.UDP{SrcPort: 50000, DstPort: 4789}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv4{Version: 4, TTL: 63, Protocol: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
	if src.To4() == nil {
		ip = &layers.IPv6{Version: 6, HopLimit: 63, NextHeader: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload("x")); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The filter, as the kernel would run it: only what is from us to the peer passes.
func TestFilter(t *testing.T) {
	t.Parallel()
	for _, family := range [][3]string{{"10.0.2.4", "10.1.2.4", "10.1.2.5"}, {"2001:db8::4", "2001:db8:1::4", "2001:db8:1::5"}} {
		us, peer, other := family[0], family[1], family[2]
		p := filter(netip.MustParseAddr(us), netip.MustParseAddr(peer))
		vm, err := bpf.NewVM(p[2:]) // it has no packet types
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			from, to string
			want     int
		}{{us, peer, 1}, {peer, us, 0}, {us, other, 0}, {other, peer, 0}} {
			if n, err := vm.Run(packetBytes(t, c.from, c.to)); err != nil || n != c.want {
				t.Errorf("%s to %s: %d, %v; want %d", c.from, c.to, n, err, c.want)
			}
		}
	}
	if _, err := bpf.Assemble(filter(netip.MustParseAddr("2001:db8::4"), netip.MustParseAddr("2001:db8:1::4"))); err != nil {
		t.Error(err)
	}
}

// A router gives back what is sent to the peer. What leaves the card, and what
// goes on to others, is not counted.
func TestNetnsComesBack(t *testing.T) {
	us, router := netnstest.New(t, "us"), netnstest.New(t, "router")
	run := func(ns netns.NS, args ...string) {
		t.Helper()
		if out, err := ns.Command(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run(us, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", router.Name)
	run(us, "ip", "addr", "add", "192.0.2.4/24", "dev", "eth0")
	run(us, "ip", "link", "set", "eth0", "up")
	run(router, "ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
	run(router, "ip", "link", "set", "eth0", "up")
	run(us, "ip", "route", "add", "default", "via", "192.0.2.1")
	run(router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
	run(router, "ip", "route", "add", "198.51.100.4", "via", "192.0.2.4")
	run(router, "ip", "route", "add", "blackhole", "203.0.113.0/24")

	peer := netip.MustParseAddr("198.51.100.4")
	if err := us.Do(func() error {
		index, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		w, err := Open(index.Index, netip.MustParseAddr("192.0.2.4"), peer)
		if err != nil {
			return err
		}
		defer func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}()
		send := func(to string, n int) error {
			c, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			defer c.Close()
			for range n {
				if _, err := c.Write([]byte("x")); err != nil {
					return err
				}
			}
			return nil
		}
		if err := errors.Join(send("203.0.113.9:4789", 3), send("198.51.100.4:4789", 5)); err != nil {
			return err
		}
		got := 0
		for end := time.Now().Add(5 * time.Second); got < 5 && time.Now().Before(end); {
			got += w.Take()
		}
		if got != 5 {
			t.Errorf("%d came back, want 5", got)
		}
		if n := w.Take(); n != 0 {
			t.Errorf("%d came back that were not sent", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
