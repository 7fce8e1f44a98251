package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestKernelPeer: the hub NVA's transitd is replaced by the kernel's own vxlan
// device, then by its GPE one. The wire is checked by tshark.
func TestKernelPeer(t *testing.T) {
	l := upLab(t, "k", "--encapsulation", "vxlan")
	l.healthy()
	// Checksums are filled in before the wire, so that tshark can judge them.
	for _, node := range []string{"hub-nva", "transit-nva"} {
		l.must(l.in(node, "ethtool", "-K", "eth0", "tx", "off"))
	}
	l.must(l.cmd("stop", "hub-nva"))
	t.Run("vxlan", func(t *testing.T) { testKernelVXLAN(t, &lab{t: t, name: l.name}) })
	t.Run("gpe", func(t *testing.T) { testKernelGPE(t, &lab{t: t, name: l.name}) })
}

func testKernelVXLAN(t *testing.T, l *lab) {
	for _, c := range []string{
		"link add vx0 mtu 1400 type vxlan id 7700 local " + hubNIC + " remote " + transitNIC + " dstport 4789 nolearning dev eth0",
		"addr add " + overlayHub + "/30 dev vx0",
	} {
		l.must(l.in("hub-nva", "ip", strings.Fields(c)...))
	}
	l.eventually("the stopped daemon's port is free", 5*time.Second, func() error {
		_, err := output(l.in("hub-nva", "ip", "link", "set", "vx0", "up"))
		return err
	})
	l.checkKernelPeer(t, 4789)
	l.must(l.in("hub-nva", "ip", "link", "del", "vx0"))
}

func testKernelGPE(t *testing.T, l *lab) {
	l.edit("transit-nva", func(s string) string {
		return strings.Replace(s, "vni: 7700", "vni: 7700, gpe: true, port: 4790", 1)
	})
	if code := l.ctl("transit-nva", nil, "reload"); code > 1 {
		t.Fatalf("reload: exit %d", code)
	}
	for _, c := range []string{
		"link add gpe0 mtu 1400 type vxlan dstport 4790 gpe external local " + hubNIC,
		"addr add " + overlayHub + "/32 dev gpe0",
		"link set gpe0 up",
		"route add " + overlayTr + " encap ip id 7700 src " + hubNIC + " dst " + transitNIC + " ttl 64 dev gpe0 src " + overlayHub,
	} {
		l.must(l.in("hub-nva", "ip", strings.Fields(c)...))
	}
	l.checkKernelPeer(t, 4790)
}

// checkKernelPeer: every size up to the MTU and 1 GB of TCP each way, and a clean wire.
func (l *lab) checkKernelPeer(t *testing.T, port int) {
	l.eventually("the kernel peer answers", 10*time.Second, func() error { return l.reaches("transit-nva", overlayHub) })
	filter := fmt.Sprintf("udp port %d or (ip[6:2] & 0x3fff != 0)", port)
	full := l.capture("hub-nva", "eth0", filter)
	var sizes []int
	for s := 0; s <= 1372; s += 49 { // 1372 = 28 * 49: both ends of the range are in
		sizes = append(sizes, s)
	}
	l.clean("transit-nva", overlayHub, sizes...)
	l.clean("hub-nva", overlayTr, sizes...)
	l.serve("hub-nva", overlayHub)
	l.iperf("transit-nva", overlayHub, "-n", "20M") // some of the bulk is checked whole
	l.iperf("transit-nva", overlayHub, "-n", "20M", "-R")
	full.stop()
	l.judge(t, full, port)

	heads := l.capture("hub-nva", "eth0", filter, "-s", "96")
	for _, dir := range [][]string{nil, {"-R"}} {
		r := l.iperf("transit-nva", overlayHub, append([]string{"-n", "1G"}, dir...)...)
		t.Logf("1 GB of TCP %v: %.0f Mbit/s, %d retransmits", dir, r.End.SumReceived.Bps/1e6, r.End.SumSent.Retransmits)
		if r.End.SumReceived.Bytes < 1<<30*99/100 {
			t.Errorf("only %d bytes arrived", r.End.SumReceived.Bytes)
		}
	}
	heads.stop()
	if bad := heads.find(fmt.Sprintf("udp.srcport == 65330 || ip.flags.mf == 1 || ip.frag_offset > 0 || (ip.src#1 == %s && ip.flags.df#1 == 0 && udp.port == %d)", transitNIC, port), "ip.src", "udp.srcport"); len(bad) > 0 {
		t.Errorf("%d outer packets with port 65330, in fragments or without DF, the first: %s", len(bad), bad[0])
	}
}

// judge lets tshark look at every packet of a full capture.
func (l *lab) judge(t *testing.T, c *capture, port int) {
	t.Helper()
	if n := len(c.find(fmt.Sprintf("udp.port == %d && ip.src == %s", port, transitNIC))); n < 100 {
		t.Fatalf("the capture has only %d tunnel packets of ours: it proves nothing", n)
	}
	for what, display := range map[string]string{
		"malformed":           "_ws.malformed",
		"bad checksum":        "ip.checksum.status == 0 || udp.checksum.status == 0 || tcp.checksum.status == 0 || icmp.checksum.status == 0",
		"outer fragment":      "ip.flags.mf == 1 || ip.frag_offset > 0",
		"source port 65330":   "udp.srcport == 65330",
		"no DF from transitd": fmt.Sprintf("ip.src#1 == %s && udp.port == %d && ip.flags.df#1 == 0", transitNIC, port),
	} {
		if bad := c.findChecked(display, "ip.src", "frame.protocols"); len(bad) > 0 {
			t.Errorf("%s: %d packets, the first: %s", what, len(bad), bad[0])
		}
	}
}
