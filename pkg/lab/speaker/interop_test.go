package speaker

import (
	"fmt"
	"strings"
	"testing"
)

const birdConfig = `
router id 10.0.2.4;
protocol device {}
protocol static {
  ipv4;
  route 172.16.0.0/16 blackhole {
    bgp_path.prepend(65010);
    bgp_community.add((65535, 65282));
    bgp_large_community.add((64512, 1, 4200000000));
  };
  route 172.20.0.0/16 blackhole { bgp_path.prepend(4200000001); };
  route 10.99.0.0/16 blackhole { bgp_path.prepend(65515); };
  route 10.0.1.0/27 blackhole;
}
protocol bgp ars {
  local 10.0.2.4 as 64512;
  neighbor 10.0.1.4 as 65515;
  multihop;
  connect retry time 1;
  error wait time 1, 2;
  ipv4 { import all; export filter { if source = RTS_STATIC then { bgp_med = 7; accept; } reject; }; };
}
`

func TestNetnsInteropBIRD(t *testing.T) {
	t.Parallel()
	r := newInteropRig(t)
	sock := r.dir + "/bird.ctl"
	r.daemon("bird", "-f", "-c", r.write("bird.conf", birdConfig), "-s", sock, "-P", r.dir+"/bird.pid")
	s := r.speak(interopRouteServer())
	birdc := func(words []string, args ...string) {
		t.Helper()
		r.wantOutput(words, "birdc", append([]string{"-s", sock}, args...)...)
	}
	birdc([]string{
		"Established", "Neighbor ID:      10.0.1.4",
		"Neighbor capabilities", "AF announced: ipv4 ipv6", "Route refresh", "4-octet AS numbers",
		"external multihop AS4", "Hold timer:", "/180", "Keepalive timer:", "/60",
	}, "show", "protocols", "all", "ars")
	birdc([]string{
		"10.50.0.0/22", "BGP.origin: Incomplete", "BGP.as_path: 65515 12076 398656", "BGP.next_hop: 10.0.1.4",
		"BGP.community: (12076,51004)", "BGP.large_community: (64512, 1, 2)",
	}, "show", "route", "all", "10.50.0.0/22")
	birdc([]string{"BGP.origin: IGP", "BGP.as_path: 65515\n"}, "show", "route", "all", "10.0.0.0/16")

	want := []string{"172.16.0.0/16 via 10.0.2.4: 64512 65010", "172.20.0.0/16 via 10.0.2.4: 64512 4200000001"}
	r.wantReceived(s, "nva", want...)
	got, _ := s.Received("nva")
	if p := got[0]; !p.HasMED || p.MED != 7 || !p.HasCommunity(NoAdvertise) || diff([]LargeCommunity{{64512, 1, 4200000000}}, p.Large) != "" {
		t.Errorf("received %+v, want MED and communities", p)
	}
	if st := peerStatus(t, s, "nva"); st.Dropped != (Dropped{ASLoop: 1, Import: 1}) {
		t.Errorf("dropped %+v, want the one with 65515 and the RouteServerSubnet", st.Dropped)
	}
	if st := peerStatus(t, s, "nva"); st.Sessions != 1 {
		t.Errorf("%d sessions, want 1: %+v", st.Sessions, st)
	}

	r.ask("birdc", "-s", sock, "reload", "in", "ars")
	r.eventually("BIRD's ROUTE-REFRESH", func() (bool, string) {
		st := peerStatus(t, s, "nva")
		return st.In.RouteRefresh == 1 && st.Out.Update > 2, fmt.Sprintf("%+v", st)
	})
	s.Withdraw(prefix("10.50.0.0/22"))
	birdc([]string{"Network not found"}, "show", "route", "10.50.0.0/22")

	// 4 announcements once more fit into the cap of 10, and again 4 do too; 3 new and 7 do not.
	updates := peerStatus(t, s, "nva").In.Update
	if err := s.Refresh("nva"); err != nil {
		t.Fatal(err)
	}
	r.eventually("answer to our ROUTE-REFRESH", func() (bool, string) {
		st := peerStatus(t, s, "nva")
		return st.In.Update > updates && st.PrefixesIn == 2, fmt.Sprintf("%+v", st)
	})
	var more strings.Builder
	for i := range 9 {
		fmt.Fprintf(&more, "protocol static more%d { ipv4; route 192.168.%d.0/24 blackhole; }\n", i, i)
	}
	r.write("bird.conf", birdConfig+more.String())
	r.ask("birdc", "-s", sock, "configure")
	birdc([]string{"Received: Maximum number of prefixes reached"}, "show", "protocols", "ars")
	if st := peerStatus(t, s, "nva"); st.LimitExceeded != 1 || st.PrefixesIn != 0 {
		t.Errorf("after the cap: %+v", st)
	}
}

const frrConfig = `
router bgp 64512
 bgp router-id 10.0.2.4
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.0.1.4 remote-as 65515
 neighbor 10.0.1.4 ebgp-multihop 4
 neighbor 10.0.1.4 timers connect 1
 address-family ipv4 unicast
  aggregate-address 172.16.0.0/16 as-set
  network 172.16.1.0/24 route-map one
  network 172.16.2.0/24 route-map two
  network 172.20.0.0/16
  neighbor 10.0.1.4 route-map out out
 exit-address-family
ip prefix-list own permit 172.16.0.0/12 le 24
route-map one permit 10
 set as-path prepend 65001 65003
route-map two permit 10
 set as-path prepend 65002 65003
route-map out permit 10
 match ip address prefix-list own
 set community 64512:7 additive
 set large-community 64512:1:9
`

func TestNetnsInteropFRR(t *testing.T) {
	t.Parallel()
	r := newInteropRig(t)
	zebraConf, bgpdConf := r.write("zebra.conf", ""), r.write("bgpd.conf", frrConfig)
	r.giveTo("frr")
	common := []string{"--vty_socket", r.dir, "-z", r.dir + "/zserv.api", "-P", "0", "--log", "stdout"}
	r.daemon("/usr/lib/frr/zebra", append([]string{"-f", zebraConf, "-i", r.dir + "/zebra.pid"}, common...)...)
	r.eventually("zebra", func() (bool, string) {
		out := r.ask("test", "-S", r.dir+"/zserv.api")
		return out == "", out
	})
	r.daemon("/usr/lib/frr/bgpd", append([]string{"-f", bgpdConf, "-i", r.dir + "/bgpd.pid"}, common...)...)
	s := r.speak(interopRouteServer())
	vtysh := func(words []string, command string) {
		t.Helper()
		r.wantOutput(words, "vtysh", "--vty_socket", r.dir, "-d", "bgpd", "-c", command)
	}
	vtysh([]string{
		"remote router ID 10.0.1.4", "BGP state = Established", "Hold time is 180", "4 Byte AS: advertised and received",
		"Route refresh: advertised and received", "IPv4 Unicast: advertised and received", "IPv6 Unicast: received",
	}, "show bgp neighbors 10.0.1.4")
	vtysh([]string{"65515 12076 398656", "10.0.1.4", "Origin incomplete", "Community: 12076:51004", "Large Community: 64512:1:2"},
		"show bgp ipv4 unicast 10.50.0.0/22")
	r.wantReceived(s, "nva",
		// FRR makes an AS_SET of what its aggregate's routes do not share.
		"172.16.0.0/16 via 10.0.2.4: 64512 {65001 65002 65003}",
		"172.16.1.0/24 via 10.0.2.4: 64512 65001 65003",
		"172.16.2.0/24 via 10.0.2.4: 64512 65002 65003",
		"172.20.0.0/16 via 10.0.2.4: 64512")
	got, _ := s.Received("nva")
	if p := got[0]; !p.HasCommunity(64512<<16|7) || diff([]LargeCommunity{{64512, 1, 9}}, p.Large) != "" || len(p.Unknown) == 0 {
		t.Errorf("received %+v, want communities and the aggregator", p)
	}
	if st := peerStatus(t, s, "nva"); st.Dropped != (Dropped{}) {
		t.Errorf("dropped %+v, want nothing", st.Dropped)
	}

	in := peerStatus(t, s, "nva").In.Update
	if err := s.Refresh("nva"); err != nil {
		t.Fatal(err)
	}
	r.eventually("answer to our ROUTE-REFRESH", func() (bool, string) {
		st := peerStatus(t, s, "nva")
		return st.In.Update > in && st.State == Established, fmt.Sprintf("%+v", st)
	})
	s.Withdraw(prefix("10.50.0.0/22"))
	vtysh([]string{"Network not in table"}, "show bgp ipv4 unicast 10.50.0.0/22")
	// FRR leaves, and comes back.
	r.ask("vtysh", "--vty_socket", r.dir, "-d", "bgpd", "-c", "clear bgp 10.0.1.4")
	r.eventually("second session", func() (bool, string) {
		st := peerStatus(t, s, "nva")
		return st.Sessions == 2 && st.PrefixesIn == 4, fmt.Sprintf("%+v", st)
	})
}
