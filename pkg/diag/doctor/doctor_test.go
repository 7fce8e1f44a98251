package doctor

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
)

var update = flag.Bool("update", false, "rewrite docs/doctor.md and the wants of testdata")

// healthyNode is a node with a tunnel and a Route Server, whose daemon runs.
func healthyNode() Node {
	status := func() *control.Status {
		return &control.Status{
			Node:    control.Node{Name: "hub-nva"},
			Tunnels: []control.Tunnel{{Name: "tr0", State: control.TunnelUp, BFD: &control.BFD{State: "up"}, Drops: map[string]uint64{}}},
		}
	}
	return Node{
		Name: "hub-nva", Basis: BasisConfiguration, Interface: "eth0", Address: netip.MustParseAddr("10.0.2.4"),
		Tunnels: []Tunnel{{
			Name: "tr0", Encapsulation: "vxlan", Remote: netip.MustParseAddr("10.1.2.4"), Port: 4789, PeerPort: 4789, Overhead: 50, MTU: 1400,
			Address: netip.MustParseAddr("169.254.77.1"), Peer: netip.MustParseAddr("169.254.77.2"), BFD: true,
		}},
		RouteServers: []netip.Addr{netip.MustParseAddr("10.0.1.4")},
		Tables:       []uint32{7001, 7002, 7003, 7004}, Mark: 0x7464, Protocol: 210,
		Before: status(), Status: status(),
	}
}

// healthyHost is the machine that it runs on.
func healthyHost() Host {
	off := false
	daemon := "transitd (77)"
	return Host{
		Kernel: "6.8.0-1021-azure",
		Sysctls: map[string]string{
			"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/eth0/accept_ra": "2",
			"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/eth0/rp_filter": "2", "net/ipv4/conf/tr0/rp_filter": "2",
			"net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/eth0/send_redirects": "0", "net/ipv4/conf/tr0/send_redirects": "0",
			"net/ipv4/conf/all/accept_redirects": "0", "net/ipv4/conf/eth0/accept_redirects": "1", "net/ipv4/conf/tr0/accept_redirects": "1",
			"net/ipv4/ip_local_port_range": "32768\t60999", "net/ipv4/ip_local_reserved_ports": "",
			"net/core/rmem_max": "212992", "net/core/wmem_max": "212992",
			"net/netfilter/nf_conntrack_count": "10", "net/netfilter/nf_conntrack_max": "1000",
		},
		Links: []Link{
			{Name: "lo", Up: true, MTU: 65536},
			{Name: "eth0", Up: true, MTU: 1500, Addrs: []netip.Addr{netip.MustParseAddr("10.0.2.4")}, LRO: &off, Default: true},
			{Name: "tr0", Kind: "tuntap", Up: true, MTU: 1400},
		},
		Routes:   []RouteGroup{{Table: 254, Protocol: 2, Count: 2, Example: "10.0.2.0/24"}, {Table: 7002, Protocol: 210, Count: 3, Example: "10.9.0.0/16"}},
		Rules:    []Rule{{Priority: 7000, Protocol: 210, Table: 7001}, {Priority: 32766, Protocol: 2, Table: 254}},
		Ways:     []Way{{Peer: netip.MustParseAddr("10.1.2.4"), Device: "eth0", MTU: 1500}},
		Policies: []Policy{},
		Firewall: &Ruleset{}, Networkd: &Networkd{Used: true}, Clock: &Clock{Synchronised: true},
		Sockets: []Socket{
			{Network: "udp", Local: netip.MustParseAddrPort("10.0.2.4:4789"), Program: daemon, PID: 77},
			{Network: "tcp", Local: netip.MustParseAddrPort("10.0.2.4:179"), Program: daemon, PID: 77},
		},
		Daemon: &Process{PID: 77, Capabilities: 1<<capNetAdmin | 1<<capNetRaw | 1<<capNetBindService, Files: 60, FileLimit: 65536},
		Owners: []int{210},
	}
}

// stopped is the same machine without a daemon.
func stopped(n *Node, h *Host) {
	n.Status, n.Before, h.Daemon, h.Owners, h.Sockets = nil, nil, nil, nil, []Socket{}
	h.Routes, h.Rules = h.Routes[:1], h.Rules[1:]
	h.Links = h.Links[:2]
}

// wrong prints what is not well, one line each.
func wrong(r Report) (list []string) {
	for _, f := range r.Findings {
		if f.Severity != SeverityOK {
			list = append(list, fmt.Sprintf("%s %s %s: %s", f.Severity, f.ID, f.Subject, f.Sentence))
		}
	}
	return list
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	n, h := healthyNode(), healthyHost()
	r := Run(n, h)
	if !r.OK || len(wrong(r)) > 0 || len(r.Unread) > 0 || len(r.Findings) < 20 {
		t.Errorf("running: %q, unread %+v, %d findings", wrong(r), r.Unread, len(r.Findings))
	}
	stopped(&n, &h)
	if r := Run(n, h); !r.OK || r.Running {
		t.Errorf("stopped: %q", wrong(r))
	}
	r = Run(Node{}, h)
	if !r.OK || r.Compared != BasisHost || len(r.Unread) == 0 {
		t.Errorf("nothing known: %q, %+v", wrong(r), r)
	}
	if r := Run(Node{}, Host{}); r.OK && len(r.Unread) == 0 {
		t.Errorf("a machine that could not be read is well: %+v", r)
	}
}

// cases break one thing each. want are beginnings of the lines of wrong.
func cases() map[string]struct {
	do   func(*Node, *Host)
	want []string
} {
	type c = struct {
		do   func(*Node, *Host)
		want []string
	}
	set := func(key, value string) func(*Node, *Host) {
		return func(_ *Node, h *Host) { h.Sysctls[key] = value }
	}
	drops := func(reason string, before, now uint64, state string) func(*Node, *Host) {
		return func(n *Node, _ *Host) {
			n.Before.Tunnels[0].Drops[reason], n.Status.Tunnels[0].Drops[reason] = before, now
			n.Status.Tunnels[0].BFD.State = state
		}
	}
	both := func(list ...func(*Node, *Host)) func(*Node, *Host) {
		return func(n *Node, h *Host) {
			for _, f := range list {
				f(n, h)
			}
		}
	}
	here, there, everything := netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("0.0.0.0/0")
	policy := func(p Policy) func(*Node, *Host) {
		return func(_ *Node, h *Host) { h.Policies = append(h.Policies, p) }
	}
	ipsec := func(n *Node, _ *Host) {
		n.Tunnels[0].Encapsulation, n.Tunnels[0].Port, n.Tunnels[0].PeerPort = "ipsec", 4500, 4500
	}
	raw := func(n *Node, _ *Host) {
		n.Tunnels[0].Raw, n.Tunnels[0].Port, n.Tunnels[0].PeerPort = true, config.IKEPort, config.IKEPort
	}
	ipv6 := func(n *Node, _ *Host) { n.Tunnels[0].IPv6 = true }
	unknown := func(n *Node, _ *Host) { *n = Node{} }
	socket := func(network, local string) func(*Node, *Host) {
		return func(_ *Node, h *Host) {
			h.Sockets = append(h.Sockets, Socket{Network: network, Local: netip.MustParseAddrPort(local), Program: "bird (5)", PID: 5})
		}
	}
	return map[string]c{
		"forwarding off":            {set("net/ipv4/ip_forward", "0"), []string{"error ip-forward-off net.ipv4.ip_forward: net.ipv4.ip_forward is 0, and has to be 1"}},
		"forwarding off, no daemon": {both(set("net/ipv4/ip_forward", "0"), stopped), []string{"warning ip-forward-off"}},
		"IPv6 off":                  {both(ipv6, set("net/ipv6/conf/all/forwarding", "0")), []string{"error ipv6-forwarding-off"}},
		"IPv6 off, not wanted":      {set("net/ipv6/conf/all/forwarding", "0"), nil},
		"advertisements ignored":    {both(ipv6, set("net/ipv6/conf/eth0/accept_ra", "1")), []string{"warning router-advertisements-ignored eth0"}},
		"strict all, loose card":    {set("net/ipv4/conf/all/rp_filter", "1"), nil},
		"strict card":               {set("net/ipv4/conf/eth0/rp_filter", "1"), []string{"error reverse-path-strict eth0"}},
		"strict tunnel by all":      {both(set("net/ipv4/conf/all/rp_filter", "1"), set("net/ipv4/conf/tr0/rp_filter", "0")), []string{"error reverse-path-strict tr0"}},
		"strict, nothing known":     {both(stopped, unknown, set("net/ipv4/conf/eth0/rp_filter", "1")), []string{"warning reverse-path-strict eth0"}},
		"redirects sent by all":     {set("net/ipv4/conf/all/send_redirects", "1"), []string{"warning redirects-sent eth0", "warning redirects-sent tr0"}},
		"redirects taken":           {set("net/ipv4/conf/all/accept_redirects", "1"), []string{"warning redirects-accepted eth0", "warning redirects-accepted tr0"}},
		"wide port range":           {set("net/ipv4/ip_local_port_range", "1024 65535"), []string{"warning reserved-port-in-use net.ipv4.ip_local_port_range: ports of 1024 to 65535"}},
		"reserved, in a range":      {both(set("net/ipv4/ip_local_port_range", "1024 65535"), set("net/ipv4/ip_local_reserved_ports", "22,65000-65400")), nil},
		"no card":                   {func(_ *Node, h *Host) { h.Links = append(h.Links[:1], h.Links[2:]...) }, []string{"error card-missing eth0: there is no network card eth0; there are none"}},
		"card down":                 {func(_ *Node, h *Host) { h.Links[1].Up = false }, []string{"error card-missing eth0: the network card eth0 is down"}},
		"virtual function":          {func(_ *Node, h *Host) { h.Links[1].Function, h.Links[1].Master = true, "eth9" }, []string{"warning card-is-virtual-function eth0"}},
		"another address":           {func(_ *Node, h *Host) { h.Links[1].Addrs = nil }, []string{"error card-address-missing eth0"}},
		"LRO":                       {func(_ *Node, h *Host) { on := true; h.Links[1].LRO = &on }, []string{"warning lro-on eth0"}},
		"card's MTU":                {func(_ *Node, h *Host) { h.Links[1].MTU = 1449 }, []string{"error mtu-too-small tr0: packets of tr0 have up to 1450 bytes outside (1400 and 50 of vxlan), eth0 takes 1449"}},
		"configured MTU":            {func(n *Node, _ *Host) { n.MTU = 1400 }, []string{"error mtu-too-small tr0"}},
		"path's MTU":                {func(_ *Node, h *Host) { h.Ways[0].MTU = 1400 }, []string{"error path-mtu-too-small tr0: packets to 10.1.2.4 may have 1400 bytes, as"}},
		"name taken":                {func(_ *Node, h *Host) { h.Links[2].Kind = "veth" }, []string{"error tunnel-name-taken tr0"}},
		"device gone":               {func(_ *Node, h *Host) { h.Links = h.Links[:2] }, []string{"error tunnel-device-missing tr0: the daemon runs"}},
		"device down":               {func(_ *Node, h *Host) { h.Links[2].Up = false }, []string{"error tunnel-device-missing tr0: the interface tr0 is down"}},
		"peer through a tunnel":     {func(_ *Node, h *Host) { h.Ways[0].Device = "tr0" }, []string{"error peer-route-wrong 10.1.2.4: outer packets to 10.1.2.4 leave by tr0, not by eth0"}},
		"peer unreachable":          {func(_ *Node, h *Host) { h.Ways[0] = Way{Peer: h.Ways[0].Peer, Err: "network is unreachable"} }, []string{"error peer-route-wrong 10.1.2.4: there is no way"}},
		"no TUN":                    {func(_ *Node, h *Host) { h.TUN = "/dev/net/tun cannot be opened" }, []string{"error tun-missing /dev/net/tun"}},
		"segmentation":              {func(_ *Node, h *Host) { h.UDPSegmentation = "linux 7.1.0 corrupts segmented datagrams" }, []string{"warning udp-segmentation-broken"}},
		"old kernel":                {func(_ *Node, h *Host) { h.Kernel = "5.15.0-91-generic" }, []string{"warning kernel-old linux 5.15.0-91-generic"}},
		"6.1":                       {func(_ *Node, h *Host) { h.Kernel = "6.1.0-18-cloud-amd64" }, []string{"warning kernel-old"}},
		"clock":                     {func(_ *Node, h *Host) { h.Clock.Synchronised = false }, []string{"warning clock-not-synchronised"}},
		"capabilities": {
			func(_ *Node, h *Host) { h.Daemon.Capabilities = 1 << capNetAdmin },
			[]string{"error capabilities-missing transitd (77): the daemon runs without CAP_NET_RAW, CAP_NET_BIND_SERVICE"},
		},
		"files":                  {func(_ *Node, h *Host) { h.Daemon.FileLimit = 64 }, []string{"warning file-limit-near transitd (77): the daemon has 60 files and sockets open, 64 are allowed"}},
		"buffers":                {func(_ *Node, h *Host) { h.Daemon.Capabilities = 0 }, []string{"error capabilities-missing", "warning socket-buffers-small net.core.rmem_max", "warning socket-buffers-small net.core.wmem_max"}},
		"another BGP":            {socket("tcp", "0.0.0.0:179"), []string{"error port-taken TCP port 179: bird (5) has TCP port 179 (0.0.0.0:179)"}},
		"another VXLAN":          {socket("udp", "[::]:4789"), []string{"error port-taken UDP port 4789"}},
		"BGP elsewhere":          {both(socket("tcp", "127.0.0.1:179"), socket("tcp", "10.9.9.9:179")), nil},
		"BGP, no node":           {both(stopped, unknown, socket("tcp", "0.0.0.0:179")), []string{"warning port-taken TCP port 179"}},
		"charon at 500":          {both(ipsec, socket("udp", "0.0.0.0:500")), []string{"warning port-taken UDP port 500: bird (5) has UDP port 500 (0.0.0.0:500): an IPsec peer that begins there is not heard"}},
		"charon at 500, raw ESP": {both(ipsec, raw, socket("udp", "0.0.0.0:500")), []string{"error port-taken UDP port 500: bird (5) has UDP port 500 (0.0.0.0:500): tunnel tr0, without UDP encapsulation, has no other"}},
		"a policy for the peer": {policy(Policy{Direction: "out", From: here, To: there, Protects: true}), []string{
			"error kernel-ipsec-takes-packets tr0: what is sent to 10.1.2.4 port 4789 has to be protected by an SA of the kernel's, by the kernel's policy out 10.0.2.0/24 to 10.1.2.0/24 with priority 0",
		}},
		"a policy that drops what comes": {policy(Policy{Direction: "in", From: there, To: here, Protocol: 17, ToPort: 4789, Block: true}), []string{"error kernel-ipsec-takes-packets tr0: what comes from 10.1.2.4 to port 4789 is dropped"}},
		"a policy for everything": {policy(Policy{Direction: "out", From: everything, To: everything, Protects: true, Priority: 5}), []string{
			"error kernel-ipsec-takes-packets tr0: what is sent to 10.1.2.4", "error kernel-ipsec-takes-packets tr0: BGP to 169.254.77.2 has to be protected",
		}},
		"a policy for everything, and one before it": {both(policy(Policy{Direction: "out", From: everything, To: everything, Protects: true, Priority: 5}), policy(Policy{Direction: "out", From: everything, To: everything, Priority: 4})), nil},
		"policies that do not fit": {both(
			policy(Policy{Direction: "out", From: there, To: here, Block: true}), policy(Policy{Direction: "fwd", From: here, To: there, Block: true}),
			policy(Policy{Direction: "out", From: here, To: there, Protocol: 6, Block: true}), policy(Policy{Direction: "out", From: here, To: there, Protocol: 17, ToPort: 500, Block: true}),
			policy(Policy{Direction: "out", From: here, To: there, Mark: 1, Mask: 0xff, Block: true})), nil},
		"a clock for certificates": {func(n *Node, h *Host) { n.Tunnels[0].Certificates, h.Clock.Synchronised = true, false }, []string{"warning clock-not-synchronised clock: the kernel says that nothing synchronises the clock, and IPsec's certificates are judged by it"}},
		"selectors":                {drops("selector", 0, 9, "up"), []string{"warning drops-selector tr0"}},
		"IPsec is not up": {func(n *Node, _ *Host) {
			n.Status.Tunnels[0].IPsec = &control.IPsec{Why: "the preshared key of b is not ours"}
			n.Status.Advice = []control.Advice{{Warning: "tunnel tr0: the preshared key of b is not ours", Run: "cksum"}}
		}, []string{"error drops-wrong-key tr0: tr0 is not up: the preshared key of b is not ours"}},
		"networkd":        {func(_ *Node, h *Host) { n := ReadNetworkd(true, nil); h.Networkd = &n }, []string{"warning networkd-deletes-routes systemd-networkd: systemd-networkd is used, and ManageForeignRoutes is on by default, "}},
		"networkd unused": {func(_ *Node, h *Host) { n := ReadNetworkd(false, nil); h.Networkd = &n }, nil},
		"leftovers": {both(stopped, func(_ *Node, h *Host) {
			h.Routes = append(h.Routes, RouteGroup{Table: 7002, Protocol: 210, Count: 3})
			h.Rules = append(h.Rules, Rule{Priority: 7000, Protocol: 210, Table: 7001})
		}), []string{"warning leftover-routes protocol 210: no daemon runs, and there are 3 routes (table 7002) and 1 rules with its protocol number 210"}},
		"leftovers, nothing known": {both(stopped, unknown, func(_ *Node, h *Host) { h.Rules = append(h.Rules, Rule{Priority: 7000, Protocol: 210}) }), []string{"warning leftover-routes"}},
		"another in our table":     {func(_ *Node, h *Host) { h.Routes[1].Protocol = 3 }, []string{"warning table-shared table 7002: 3 routes of protocol 3 stand in table 7002, as 10.9.0.0/16"}},
		"ours in another table":    {func(_ *Node, h *Host) { h.Routes[1].Table = 99 }, []string{"warning table-unknown table 99"}},
		"routes deleted once":      {func(n *Node, _ *Host) { n.Before.Routes.Repaired, n.Status.Routes.Repaired = 4, 4 }, []string{"warning routes-deleted routes: another program has removed or changed our routes or rules: 4 put right since the daemon's start"}},
		"routes deleted now":       {func(n *Node, _ *Host) { n.Status.Routes.Repaired = 4 }, []string{"error routes-deleted"}},
		"wrong VNI":                {drops("wrong_vni", 5, 9, "down"), []string{"error drops-wrong-vni tr0: 9 packets for tr0 carry another VNI, and the tunnel does not work"}},
		"wrong VNI, works":         {drops("wrong_vni", 5, 9, "up"), []string{"warning drops-wrong-vni tr0: packets for tr0 carry another VNI: 9 since the daemon's start, 4 in the last moment"}},
		"wrong VNI once":           {drops("wrong_vni", 9, 9, "up"), nil},
		"wrong key":                {drops("auth_failed", 5, 9, "down"), []string{"error drops-wrong-key tr0"}},
		"wrong key, handshake": {
			func(n *Node, _ *Host) { n.Status.Tunnels[0].WireGuard = &control.WireGuard{Why: "the peer refuses us"} },
			[]string{"error drops-wrong-key tr0: tr0 is not up: the peer refuses us"},
		},
		"unknown source": {drops("wrong_source", 0, 9, "up"), []string{"warning drops-unknown-source tr0"}},
		"GPE at one end": {drops("bad_header", 0, 9, "down"), []string{"error drops-foreign-packets tr0"}},
		"too large":      {drops("truncated", 0, 9, "up"), []string{"warning drops-too-large tr0"}},
		"overload":       {drops("receive_queue_full", 0, 9, "up"), []string{"warning drops-overload tr0"}},
		"our own drops":  {drops("too_big", 0, 9, "up"), nil},
		"routes deleted, named": {func(n *Node, _ *Host) {
			n.Before.Routes.Repaired, n.Status.Routes.Repaired = 4, 4
			n.Status.Warnings = []string{repairs + ": 4 put right, the last 2s ago: put back 10.9.0.0/16"}
		}, []string{"warning routes-deleted routes: another program changes our routes or rules: 4 put right, the last 2s ago: put back 10.9.0.0/16"}},
		"daemon is down": {func(n *Node, _ *Host) {
			n.Status.Health, n.Status.Warnings = control.HealthDown, []string{"tunnel tr0: nothing arrives"}
		}, []string{"error daemon-warning hub-nva: tunnel tr0: nothing arrives"}},
		"daemon warns": {func(n *Node, _ *Host) {
			n.Status.Warnings = []string{"route server hub-ars: instance 10.0.1.5 is down (1 of 2)"}
			n.Status.Advice = []control.Advice{{Warning: n.Status.Warnings[0], Run: "nc -vz -w 3 10.0.1.5 179"}}
		}, []string{"warning daemon-warning hub-nva: route server hub-ars: instance 10.0.1.5 is down (1 of 2)"}},
	}
}

func TestCases(t *testing.T) {
	t.Parallel()
	seen := map[ID]bool{}
	for name, c := range cases() {
		n, h := healthyNode(), healthyHost()
		c.do(&n, &h)
		r := Run(n, h)
		got := wrong(r)
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
		for _, f := range r.Findings {
			seen[f.ID] = true
			if f.Severity != SeverityOK && (f.Breaks == "" || f.Mend == "" || f.Fixable != (len(f.Fix) > 0)) {
				t.Errorf("%s: %s lacks words: %+v", name, f.ID, f)
			}
			if f.Severity == SeverityOK && f.Sentence == "" {
				t.Errorf("%s: %s is silent", name, f.ID)
			}
		}
		if r.OK != (len(c.want) == 0) {
			t.Errorf("%s: OK is %v", name, r.OK)
		}
	}
	for _, id := range IDs() {
		if !seen[id] && !strings.HasPrefix(string(id), "firewall-") && !strings.HasPrefix(string(id), "conntrack-") { // those: TestRulesets
			t.Errorf("no case finds %s", id)
		}
	}
}

// TestFixesMend applies fixes to the facts, and looks again.
func TestFixesMend(t *testing.T) {
	t.Parallel()
	for name, c := range cases() {
		n, h := healthyNode(), healthyHost()
		c.do(&n, &h)
		r := Run(n, h)
		for _, f := range r.Fixes() {
			if f.Key == "" {
				read := ReadNetworkd(true, []ConfigFile{{NetworkdFile, NetworkdText()}})
				h.Networkd = &read
				continue
			}
			h.Sysctls[f.Key] = f.Value
		}
		for _, f := range Run(n, h).Findings {
			if f.Fixable {
				t.Errorf("%s: %s is still there: %s", name, f.ID, f.Sentence)
			}
		}
	}
}

func TestSysctlText(t *testing.T) {
	t.Parallel()
	have := "# a word\nnet/ipv4/ip_forward = 0\nnet.core.rmem_max=5\n; another\n\nnonsense\n"
	got := SysctlText(have, []Fix{{Key: "net/ipv4/ip_forward", Value: "1"}, {Key: "net/ipv4/conf/tr0/rp_filter", Value: "2", Volatile: true}, {Key: "net/ipv4/conf/eth0.5/rp_filter", Value: "2"}, {}})
	want := sysctlHead + "net.core.rmem_max = 5\nnet/ipv4/conf/eth0.5/rp_filter = 2\nnet/ipv4/ip_forward = 1\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if again := SysctlText(got, nil); again != got {
		t.Errorf("written again:\n%s", again)
	}
}

func TestReadNetworkd(t *testing.T) {
	t.Parallel()
	all := foreignKeys()
	for name, c := range map[string]struct {
		files []ConfigFile
		want  map[string]string
	}{
		"defaults":        {nil, map[string]string{all[0]: "", all[1]: "", all[2]: ""}},
		"our drop-in":     {[]ConfigFile{{NetworkdFile, NetworkdText()}}, map[string]string{}},
		"a later one":     {[]ConfigFile{{NetworkdFile, NetworkdText()}, {"/etc/systemd/networkd.conf.d/99-x.conf", "[Network]\nManageForeignRoutes=yes\n"}}, map[string]string{all[0]: "/etc/systemd/networkd.conf.d/99-x.conf"}},
		"another section": {[]ConfigFile{{"x", "[DHCPv4]\nManageForeignRoutes=no\n[Network]\n# ManageForeignRoutes=no\n ManageForeignNextHops = FALSE \n"}}, map[string]string{all[0]: "", all[1]: ""}},
		"not understood":  {[]ConfigFile{{"x", "[Network]\nManageForeignRoutes=perhaps\nManageForeignRoutes\n"}}, map[string]string{all[0]: "", all[1]: "", all[2]: ""}},
	} {
		if d := cmp.Diff(c.want, ReadNetworkd(true, c.files).Deletes); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	// What packaging installs is what --fix writes.
	b, err := os.ReadFile("../../../packaging/networkd.conf.d/10-transitd.conf")
	if err != nil {
		t.Fatal(err)
	}
	if d := ReadNetworkd(true, []ConfigFile{{"packaging", string(b)}}).Deletes; len(d) > 0 {
		t.Errorf("packaging's drop-in leaves %v", d)
	}
	// A file that comes after ours is not ours to change.
	n, h := healthyNode(), healthyHost()
	late := ReadNetworkd(true, []ConfigFile{{"/etc/systemd/networkd.conf.d/99-x.conf", "[Network]\nManageForeignRoutes=yes\n"}})
	h.Networkd = &late
	if r := Run(n, h); len(r.Fixes()) > 0 || !strings.Contains(wrong(r)[0], "99-x.conf") {
		t.Errorf("%q, fixes %+v", wrong(r), r.Fixes())
	}
}

func TestFromConfig(t *testing.T) {
	t.Parallel()
	c, err := config.Load("../../../docs/examples/hub-nva.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := healthyNode()
	want.Address, want.Status, want.Before = netip.Addr{}, nil, nil
	want.RouteServers = append(want.RouteServers, netip.MustParseAddr("10.0.1.5"))
	addrs := cmp.Comparer(func(x, y netip.Addr) bool { return x == y })
	if d := cmp.Diff(want, FromConfig(c), addrs); d != "" {
		t.Error(d)
	}
	c.Tunnels[0].Encapsulation, c.Tunnels[0].VXLAN = config.EncapsulationWireGuard, config.VXLAN{}
	c.Tunnels[0].WireGuard = config.WireGuard{ListenPort: 51820, PeerPort: 51821}
	if x := FromConfig(c).Tunnels[0]; x.Port != 51820 || x.PeerPort != 51821 || x.Overhead != 60 {
		t.Errorf("WireGuard: %+v", x)
	}
	c.Tunnels[0].Encapsulation, c.Tunnels[0].IPsec = config.EncapsulationIPsec, config.IPsec{Port: 4500, PeerPort: 4501}
	if x := FromConfig(c).Tunnels[0]; !x.Raw || x.Port != 500 || x.PeerPort != 500 || x.Overhead != 57 {
		t.Errorf("ESP without UDP: %+v", x)
	}
	c.Tunnels[0].IPsec.UDPEncapsulation = true
	if x := FromConfig(c).Tunnels[0]; x.Raw || x.Port != 4500 || x.PeerPort != 4501 || x.Overhead != 65 {
		t.Errorf("ESP in UDP: %+v", x)
	}
}

func TestFromStatus(t *testing.T) {
	t.Parallel()
	n := FromStatus(control.Status{
		Node:    control.Node{Name: "hub-nva"},
		Tunnels: []control.Tunnel{{Name: "tr0", Encapsulation: "vxlan", Remote: "10.1.2.4:4789", MTU: 1400, BFD: &control.BFD{}}, {Name: "tr1", Remote: "garbage"}},
		BGP:     []control.Session{{Peer: "10.0.1.4", Role: "route-server"}, {Peer: "169.254.77.2", Role: "tunnel"}},
	}, control.Routes{Routes: []control.KernelRoute{{Table: "underlay", TableID: 7001, Device: "eth0", Gateway: "10.0.2.1"}, {Table: "site", TableID: 7002, Device: "tr0"}}})
	if n.Interface != "eth0" || !slices.Equal(n.Tables, []uint32{7001, 7002}) || len(n.RouteServers) != 1 || n.Tunnels[0].PeerPort != 4789 || n.Tunnels[0].Remote.String() != "10.1.2.4" || n.Tunnels[1].Remote.IsValid() {
		t.Errorf("%+v", n)
	}
	if got := n.Peers(); len(got) != 1 {
		t.Errorf("peers %v", got)
	}
}

// document is docs/doctor.md, in which the list of findings is made from the catalogue.
const document = "../../../docs/doctor.md"

// TestDocument holds the document against the catalogue; -update writes the list.
func TestDocument(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, id := range slices.Sorted(maps.Keys(catalogue())) {
		e := catalogue()[id]
		if e.looks == "" || e.breaks == "" {
			t.Errorf("%s says nothing", id)
		}
		fmt.Fprintf(&list, "## %s\n\n%s\n\nBreaks: %s.\n\n", id, e.looks, e.breaks)
	}
	const begin, end = "<!-- findings: made by go test ./pkg/diag/doctor -update -->\n\n", "<!-- end of findings -->\n"
	made := regexp.MustCompile("(?s)"+regexp.QuoteMeta(begin)+".*"+regexp.QuoteMeta(end)).ReplaceAllLiteralString(string(b), begin+list.String()+end)
	if !strings.Contains(made, list.String()) {
		t.Fatalf("%s has no place for the findings", document)
	}
	if *update {
		if err := os.WriteFile(document, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(made, string(b)); d != "" {
		t.Errorf("%s is stale, run: go test ./pkg/diag/doctor -update\n%s", document, d)
	}
}
