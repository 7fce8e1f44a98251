package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/transitd/transitd/pkg/config"
)

// fileName is what the errors of these tests' configurations call the file.
const fileName = "node.yaml"

// nodeYAML is a hub with one tunnel. The tests edit it by replacing lines.
const nodeYAML = `node: {name: hub-nva, asn: 64512, site: hub}
underlay:
  interface: eth0
route_servers:
  - name: ars
    addresses: [192.0.2.68, 192.0.2.69]
    subnet: 192.0.2.64/27
    default_route: deny
tunnels:
  - name: tr0
    remote: 198.51.100.4
    address: 169.254.77.1/30
    peer_address: 169.254.77.2
    vxlan: {vni: 7700}
    bgp: {asn: 64513}
originate:
  - prefix: 0.0.0.0/0
    to: [tr0]
policy:
  vnet: [192.0.2.0/24]
control: {socket: /run/transitd/hub-nva.sock}
log: {level: info}
`

// tr1YAML is a second tunnel, to be put after the line with 64513: over IPv6, with IPv6 inside, without inner Ethernet.
const tr1YAML = `    bgp: {asn: 64513}
  - name: tr1
    remote: 2001:db8:1::4
    address: 169.254.78.1/30
    peer_address: 169.254.78.2
    address6: 2001:db8:78::1/64
    peer_address6: 2001:db8:78::2
    mtu: 1300
    dscp: 46
    vxlan: {vni: 7701, gpe: true}
    bgp: {asn: 64514, hold_time: 30s}
`

// withTR1 is nodeYAML with the second tunnel.
func withTR1(t testing.TB) string {
	return edit(t, nodeYAML, "    bgp: {asn: 64513}\n", tr1YAML)
}

// edit replaces pairs of old and new text. A text that is not there is a mistake of the test's.
func edit(t testing.TB, yaml string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(yaml, pairs[i]) {
			t.Fatalf("%q is not in the configuration:\n%s", pairs[i], yaml)
		}
		yaml = strings.Replace(yaml, pairs[i], pairs[i+1], 1)
	}
	return yaml
}

// cardFacts are the machine's side of nodeYAML.
func cardFacts() Facts {
	return Facts{
		Interface: "eth0", MTU: 1500, Gateway: addr("192.0.2.1"), Gateway6: addr("fe80::1"),
		Addrs: []netip.Prefix{prefix("192.0.2.4/26"), prefix("2001:db8::4/64")},
	}
}

func mustParse(t testing.TB, yaml string) *config.Config {
	t.Helper()
	c, err := config.Parse(fileName, []byte(yaml))
	if err != nil {
		t.Fatalf("the test's configuration is not valid: %v", err)
	}
	return c
}

func mustPlan(t testing.TB, yaml string) *Plan {
	t.Helper()
	p, err := NewPlan(fileName, mustParse(t, yaml), cardFacts())
	if err != nil {
		t.Fatalf("the test's configuration cannot be planned: %v", err)
	}
	return p
}

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix     { return netip.MustParsePrefix(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, prefix(s))
	}
	return out
}

// diff compares with addresses as values: they have fields that cmp may not see.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{}))
}

// observed is a logger and what it logged.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return zap.New(core), logs
}

// messages are the texts of a log.
func messages(logs *observer.ObservedLogs) []string {
	list := []string{}
	for _, e := range logs.TakeAll() {
		list = append(list, e.Message)
	}
	return list
}
