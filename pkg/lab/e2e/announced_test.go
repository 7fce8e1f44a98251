package e2e

import (
	"fmt"
	"testing"

	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// TestAnnouncedIsOnTheWire: what "transitctl bgp routes --announced" says is what
// a Route Server's two instances and an NVA behind a tunnel really got: after
// everything was told, after changes, withdrawals and a ROUTE-REFRESH, and when
// a Route Server's cap makes aggregates of it.
func TestAnnouncedIsOnTheWire(t *testing.T) {
	p := newPairWith(t, `route_servers:
  - {name: hub-ars, addresses: [192.0.2.132, 192.0.2.133], subnet: 192.0.2.128/27, max_routes: 800}
`, farLink{bfd: "enabled: false"})
	servers := netnstest.New(t, "ars")
	p.plug(servers, "ars", "192.0.2.132")
	p.ip(servers, "addr add 192.0.2.133/26 dev eth0", "route add 192.0.2.0/26 via 192.0.2.129")
	p.ip(p.sw, "addr add 192.0.2.129/26 dev br0")
	if _, err := output(p.sw.Command(t.Context(), "sysctl", "-w", "net.ipv4.ip_forward=1")); err != nil {
		t.Fatal(err)
	}
	far := p.listen("tr0", p.far[0], p.links[0].peer(), p.links[0].ours(), 64513)
	ars := []*listener{
		p.listen("hub-ars", servers, "192.0.2.132", nodeNIC, 65515),
		p.listen("hub-ars", servers, "192.0.2.133", nodeNIC, 65515),
	}

	var onprem, avs []string
	for i := range 300 {
		onprem = append(onprem, fmt.Sprintf("172.%d.%d.0/24", 16+i/256, i%256))
		avs = append(avs, p.links[0].prefix(i))
	}
	community := func(words ...byte) []byte { return attr(transitive, 8, words...) }
	for i, l := range ars {
		server := nexthop(fmt.Sprintf("192.0.2.%d", 132+i))
		l.tell([]string{"192.0.2.0/24"}, origin, aspath(65515), server)
		l.tell(onprem, origin, aspath(65515, 12076, 65010), server, attr(optional, 4, 0, 0, 0, 50), community(0xfd, 0xf2, 0, 7))
		l.withdraw()
	}
	far.tell(avs, origin, aspath(64513, 65515, 12076, 398656), hop, attr(optional, 4, 0, 0, 0, 9), community(0xfc, 1, 0, 1))
	far.withdraw()
	both := func(count int, some map[string]string) {
		t.Helper()
		for _, l := range ars {
			l.agrees(count, some)
		}
	}
	const site = "64512:1:1425233679" // the tag of site near
	far.agrees(302, map[string]string{
		"192.0.2.0/24":  "by 169.254.77.1 path [64512] communities [" + site + "] MED none",
		"172.16.7.0/24": "by 169.254.77.1 path [64512 65010] communities [65010:7 " + site + "] MED none",
		"10.60.0.0/24":  "by 169.254.77.1 path [64512] communities [" + site + "] MED none",
	})
	both(300, map[string]string{"10.64.7.0/24": "by 192.0.2.4 path [64512 64513] communities [64513:1] MED none"})

	t.Log("changes")
	for i, l := range ars {
		l.tell(onprem[:100], origin, aspath(65515, 12076, 65010, 65010, 65011), nexthop(fmt.Sprintf("192.0.2.%d", 132+i)), community(0xfd, 0xf2, 0, 8, 0xfd, 0xf2, 0, 9))
	}
	far.tell(avs[:100], origin, aspath(64513, 65020), hop)
	far.agrees(302, map[string]string{"172.16.7.0/24": "by 169.254.77.1 path [64512 65010 65010 65011] communities [65010:8 65010:9 " + site + "] MED none"})
	both(300, map[string]string{"10.64.7.0/24": "by 192.0.2.4 path [64512 64513 65020] communities [] MED none"})

	t.Log("withdrawals")
	for _, l := range ars {
		l.withdraw(onprem[100:150]...)
	}
	far.withdraw(avs[150:230]...)
	far.agrees(252, nil)
	both(220, nil)

	t.Log("ROUTE-REFRESH")
	for _, l := range append(ars, far) {
		l.again()
	}
	far.agrees(252, nil)
	both(220, nil)
	for _, l := range append(ars, far) {
		if got, want := l.heardOf(), len(p.announced(l.name)); got != want {
			t.Errorf("%s was told %d prefixes after a ROUTE-REFRESH, want each of %d once", l.name, got, want)
		}
	}

	t.Log("more than a Route Server takes")
	var many []string
	for i := range 512 {
		many = append(many, p.links[0].prefix(512+i))
	}
	far.tell(many, origin, path, hop)
	both(360, nil) // 732 joined to nine tenths of half the cap
	far.withdraw(many...)
	both(220, nil)
}
