package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// TestMain lets this binary be the server in a namespace of its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := Serve(context.Background(), nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const (
	clientAddr = "192.0.2.1"
	serverAddr = "192.0.2.2"
)

// newPair is a client's namespace, wired to one in which the server runs, with an MTU of 1500 bytes.
func newPair(t *testing.T) netns.NS {
	t.Helper()
	client, server := netnstest.New(t, "client"), netnstest.New(t, "server")
	h, err := client.Handle()
	must(t, err)
	defer h.Close()
	fd, err := vnetns.GetFromPath(server.Path())
	must(t, err)
	defer fd.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	must(t, h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(fd))}))
	for ns, addr := range map[netns.NS]string{client: clientAddr, server: serverAddr} {
		h, err := ns.Handle()
		must(t, err)
		link, err := h.LinkByName("eth0")
		must(t, err)
		must(t, h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(addr).To4(), Mask: net.CIDRMask(24, 32)}}))
		must(t, h.LinkSetUp(link))
		h.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := server.Command(ctx, os.Args[0], "serve")
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	deadline := time.Now().Add(5 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for Connect(t.Context(), client, netip.AddrPortFrom(netip.MustParseAddr(serverAddr), HTTPAltPort), time.Second) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the server does not listen after 5 s")
		}
		<-tick.C
	}
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNetnsProbers(t *testing.T) {
	t.Parallel()
	ns, to := newPair(t), netip.MustParseAddr(serverAddr)
	for _, size := range []int{36, 84, 1500} {
		p, err := Ping{From: ns, To: to, Size: size, DF: true}.Run(t.Context())
		must(t, err)
		u, err := UDP{From: ns, To: to, Size: size, DF: true}.Run(t.Context())
		must(t, err)
		if p.Loss() != 0 || u.Loss() != 0 || p.RTT == 0 || u.RTT == 0 {
			t.Errorf("%d bytes: ping %+v, UDP %+v", size, p, u)
		}
	}
	p, err := Ping{From: ns, To: to, Size: 1501, DF: true, Count: 1}.Run(t.Context())
	must(t, err)
	if p.Received != 0 || len(p.Errors) == 0 {
		t.Errorf("a packet larger than the MTU, with DF: %+v", p)
	}
	if p, err = (Ping{From: ns, To: to, Size: 3000, Count: 2}).Run(t.Context()); err != nil || p.Loss() != 0 {
		t.Errorf("a packet larger than the MTU, without DF: %+v, %v", p, err)
	}
	if p, err = (Ping{From: ns, To: netip.MustParseAddr("192.0.2.99"), Count: 2, Timeout: 200 * time.Millisecond}).Run(t.Context()); err != nil || p.Loss() != 1 {
		t.Errorf("nobody there: %+v, %v", p, err)
	}
	hops, err := Trace{From: ns, To: to}.Run(t.Context())
	must(t, err)
	if hops.String() != serverAddr || !hops.Reached() {
		t.Errorf("hops %s", hops)
	}
}

func TestNetnsTCP(t *testing.T) {
	t.Parallel()
	ns, to := newPair(t), netip.MustParseAddr(serverAddr)
	if _, err := (TCP{From: ns, To: to, Bytes: 3 << 20}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	r, err := Throughput{From: ns, To: to, Bytes: 8 << 20}.Run(t.Context())
	if err != nil || r.Bytes < 8<<20 || r.Mbps() <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
	err = Connect(t.Context(), ns, netip.AddrPortFrom(to, 4), time.Second)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port: %v", err)
	}
}

func TestNetnsFlowMeasuresAnOutage(t *testing.T) {
	t.Parallel()
	ns := newPair(t)
	f, err := StartFlow(t.Context(), ns, netip.MustParseAddr(serverAddr), 5*time.Millisecond)
	must(t, err)
	waitAnswered(t, f)
	h, err := ns.Handle()
	must(t, err)
	defer h.Close()
	link, err := h.LinkByName("eth0")
	must(t, err)
	must(t, h.LinkSetDown(link))
	<-time.After(300 * time.Millisecond) // the outage itself, not a wait for something
	must(t, h.LinkSetUp(link))
	waitAnswered(t, f)
	o, err := f.Stop()
	must(t, err)
	if o.Received == 0 || o.Received == o.Sent || o.Longest < 250*time.Millisecond || o.Longest > 5*time.Second {
		t.Errorf("%+v, want an outage of 0.3 s or a little more", o)
	}
}

func waitAnswered(t *testing.T, f *Flow) {
	t.Helper()
	start, tick := time.Now(), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !f.Answered(start) {
		if time.Since(start) > 5*time.Second {
			t.Fatal("no answer for 5 s")
		}
		<-tick.C
	}
}
