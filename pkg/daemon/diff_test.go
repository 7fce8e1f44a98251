package daemon

import (
	"net/netip"
	"testing"

	"github.com/transitd/transitd/pkg/control"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	both := withTR1(t)
	const tr0 = "tunnel tr0: changed; its device and its BGP session are made anew"
	for _, c := range []struct {
		name, from, to string
		want           Difference
	}{
		{"comment", nodeYAML, nodeYAML + "# nothing new\n", Difference{}},
		{"default written out", nodeYAML, edit(t, nodeYAML, "{vni: 7700}", "{vni: 7700, port: 4789}\n    mtu: 1400\n    dscp: copy"), Difference{}},
		{"originate added", nodeYAML, edit(t, nodeYAML, "policy:", "  - prefix: 203.0.113.0/24\n    to: [tr0]\npolicy:"), Difference{
			BGP: true, Lines: []string{"originate: 203.0.113.0/24 to [tr0] added"},
		}},
		{"originate removed", nodeYAML, edit(t, nodeYAML, "originate:\n  - prefix: 0.0.0.0/0\n    to: [tr0]\n", ""), Difference{
			BGP: true, Lines: []string{"originate: 0.0.0.0/0 to [tr0] removed"},
		}},
		{"originate to another", both, edit(t, both, "to: [tr0]", "to: [tr0, tr1]"), Difference{
			BGP: true, Lines: []string{"originate: 0.0.0.0/0 to [tr0] removed", "originate: 0.0.0.0/0 to [tr0 tr1] added"},
		}},
		{"tunnel added", nodeYAML, both, Difference{
			Add: []string{"tr1"}, BGP: true, FIB: true, Lines: []string{"tunnel tr1: added", "bgp neighbour tr1: added"},
		}},
		{"tunnel removed", both, nodeYAML, Difference{
			Remove: []string{"tr1"}, BGP: true, FIB: true, Lines: []string{"tunnel tr1: removed", "bgp neighbour tr1: removed"},
		}},
		// The pins and what BGP protects follow the remote, the session itself is the same.
		{"remote changed", nodeYAML, edit(t, nodeYAML, "198.51.100.4", "198.51.100.5"), Difference{
			Remove: []string{"tr0"}, Add: []string{"tr0"}, BGP: true, FIB: true, Lines: []string{tr0},
		}},
		{"VNI changed", nodeYAML, edit(t, nodeYAML, "7700", "7702"), Difference{
			Remove: []string{"tr0"}, Add: []string{"tr0"}, Lines: []string{tr0},
		}},
		{"tunnel renamed", nodeYAML, edit(t, nodeYAML, "name: tr0", "name: tr9", "to: [tr0]", "to: [tr9]"), Difference{
			Remove: []string{"tr0"}, Add: []string{"tr9"}, BGP: true, FIB: true, Lines: []string{
				"tunnel tr0: removed", "tunnel tr9: added", "bgp neighbour tr0: removed", "bgp neighbour tr9: added",
				"originate: 0.0.0.0/0 to [tr0] removed", "originate: 0.0.0.0/0 to [tr9] added",
			},
		}},
		{"BFD changed", nodeYAML, edit(t, nodeYAML, "bgp: {asn: 64513}", "bgp: {asn: 64513}\n    bfd: {interval: 100ms}"), Difference{
			Lines: []string{"tunnel tr0: BFD changes; its session begins anew"},
		}},
		{"priority", nodeYAML, edit(t, nodeYAML, "site: hub}", "site: hub, priority: 1}"), Difference{
			BGP: true, Lines: []string{"node.priority: 0 becomes 1; all routes are told anew"},
		}},
		{"probe", nodeYAML, edit(t, nodeYAML, "    to: [tr0]", "    to: [tr0]\n    probe: {icmp: 198.51.100.9}"), Difference{
			BGP: true, Lines: []string{"probes of originated prefixes change; they begin anew"},
		}},
		{"peer's ASN changed", nodeYAML, edit(t, nodeYAML, "64513", "64520"), Difference{
			BGP: true, Lines: []string{"bgp neighbour tr0: changed"},
		}},
		{"default route mode", nodeYAML, edit(t, nodeYAML, "default_route: deny", "default_route: announce"), Difference{
			BGP: true, Lines: []string{"bgp neighbour ars: changed"},
		}},
		{"Route Server's subnet", nodeYAML, edit(t, nodeYAML, "192.0.2.64/27", "192.0.2.64/26"), Difference{
			BGP: true, FIB: true, Lines: []string{"rules and pinned routes change"},
		}},
		{"own ASN", nodeYAML, edit(t, nodeYAML, "64512", "64530"), Difference{
			BGP: true, Lines: []string{"node.asn: 64512 becomes 64530; all BGP sessions start anew"},
		}},
		{"site", nodeYAML, edit(t, nodeYAML, "site: hub", "site: west"), Difference{
			BGP: true, Lines: []string{"node.site: hub becomes west; all routes are judged and told anew"},
		}},
		{"policy", nodeYAML, edit(t, nodeYAML, "vnet:", "allow_host_routes: [203.0.113.0/24]\n  vnet:"), Difference{
			BGP: true, Lines: []string{"policy: changed; all routes are judged anew"},
		}},
		{"web server off", nodeYAML, nodeYAML + "observe: {listen: \"\"}\n", Difference{
			Lines: []string{"observe.listen: 127.0.0.1:9477 becomes nowhere"},
		}},
		{"log level", nodeYAML, edit(t, nodeYAML, "level: info", "level: debug"), Difference{
			LogLevel: true, Lines: []string{"log.level: info becomes debug"},
		}},
		{"two changes in their order", nodeYAML, edit(t, nodeYAML, "7700", "7702", "level: info", "level: error"), Difference{
			Remove: []string{"tr0"}, Add: []string{"tr0"}, LogLevel: true, Lines: []string{tr0, "log.level: info becomes error"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := compare(fileName, mustPlan(t, c.from), mustPlan(t, c.to))
			if d := diff(&c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if got.Empty() != (len(c.want.Lines) == 0) {
				t.Errorf("Empty() is %v", got.Empty())
			}
		})
	}
}

// TestCompareSysctls checks that settings alone are a change: without a line it would be passed over as nothing.
func TestCompareSysctls(t *testing.T) {
	t.Parallel()
	from, to := mustPlan(t, nodeYAML), mustPlan(t, nodeYAML)
	to.Sysctls = to.Sysctls[1:]
	if d := diff(&Difference{FIB: true, Lines: []string{"rules and pinned routes change"}}, compare(fileName, from, to)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestCompareRefuses has one row for everything that a running daemon cannot change.
func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, msg string
		change    func(*Plan)
	}{
		{"node.name", "hub-nva to x", func(p *Plan) { p.Node.Name = "x" }},
		{"control.socket", "/run/transitd/hub-nva.sock to /tmp/x", func(p *Plan) { p.Socket = "/tmp/x" }},
		{"underlay.interface", "eth0 to eth1", func(p *Plan) { p.Underlay.Interface = "eth1" }},
		{"underlay.address", "192.0.2.4 to 192.0.2.5", func(p *Plan) { p.Underlay.Address = addr("192.0.2.5") }},
		{"underlay.gateway", "192.0.2.1 to 192.0.2.2", func(p *Plan) { p.Underlay.Gateway = addr("192.0.2.2") }},
		{"underlay (IPv6 address)", "2001:db8::4 to 2001:db8::5", func(p *Plan) { p.Underlay.Address6 = addr("2001:db8::5") }},
		{"routing.table_underlay", "7001 to 1", func(p *Plan) { p.FIB.Tables.Underlay = 1 }},
		{"routing.table_site", "7002 to 1", func(p *Plan) { p.FIB.Tables.Site = 1 }},
		{"routing.table_remote", "7003 to 1", func(p *Plan) { p.FIB.Tables.Remote = 1 }},
		{"routing.table_relay", "7004 to 1", func(p *Plan) { p.FIB.Tables.Relay = 1 }},
		{"ha.probe_listen", "invalid AddrPort to 192.0.2.4:80", func(p *Plan) { p.HealthListen = netip.MustParseAddrPort("192.0.2.4:80") }},
		{"routing.mark", "29796 to 1", func(p *Plan) { p.FIB.Mark = 1 }},
		{"routing.protocol", "210 to 211", func(p *Plan) { p.FIB.Protocol = 211 }},
		{"routing.rule_priority", "7000 to 1", func(p *Plan) { p.FIB.RulePriority = 1 }},
		{"log.format", "auto to json", func(p *Plan) { p.Log.Format = "json" }},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			from, to := mustPlan(t, nodeYAML), mustPlan(t, nodeYAML)
			c.change(to)
			got := compare(fileName, from, to)
			want := []control.ConfigError{{File: fileName, Path: c.path, Message: "cannot change from " + c.msg + " while running", Hint: "restart transitd"}}
			if d := diff(want, got.Refused); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if got.Empty() {
				t.Error("a refused change is said to be nothing")
			}
		})
	}
}
