package fib

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	prefix   = netip.MustParsePrefix
	addr     = netip.MustParseAddr
	byString = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	addrs    = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
)

func testNode() Node {
	return Node{
		Interface: "eth0", Address: addr("192.0.2.4"), Gateway: addr("192.0.2.1"), Subnet: prefix("192.0.2.0/26"),
		Pins:    []netip.Prefix{prefix("192.0.2.64/27"), prefix("203.0.113.4/32"), prefix("168.63.129.16/32")},
		Tunnels: []string{"tr0"}, Overlays: []netip.Prefix{prefix("169.254.77.0/30")},
		Tables: Tables{Underlay: 7001, Site: 7002, Remote: 7003}, Mark: 0x7464, Protocol: 210, RulePriority: 7000,
	}
}

func TestPlan(t *testing.T) {
	want, refused := Plan(testNode(), []Learned{
		{Prefix: prefix("198.51.100.0/24")},
		{Prefix: prefix("198.51.100.128/25"), Tunnels: []string{"tr0"}},
		{Prefix: prefix("0.0.0.0/0"), Tunnels: []string{"tr0"}},
		{Prefix: prefix("0.0.0.0/0")},
	})
	if len(refused) > 0 {
		t.Errorf("refused %v", refused)
	}
	const text = `7000: from all fwmark 0x7464 lookup 7001
7001: from all fwmark 0x7464 unreachable
7010: from all iif tr0 lookup 7002
7011: from all iif tr0 unreachable
7020: from all lookup 254 suppress_prefixlength 0
7025: from all lookup 7001 suppress_prefixlength 0
7030: not from all iif lo lookup 7003
7040: not from all iif lo lookup 7002
7050: from all iif lo lookup 7003 suppress_prefixlength 0
7060: from all iif lo lookup 7002 suppress_prefixlength 0
168.63.129.16/32 via 192.0.2.1 dev eth0 src 192.0.2.4 table 7001
192.0.2.0/26 dev eth0 src 192.0.2.4 table 7001
192.0.2.64/27 via 192.0.2.1 dev eth0 src 192.0.2.4 table 7001
203.0.113.4/32 via 192.0.2.1 dev eth0 src 192.0.2.4 table 7001
default via 192.0.2.1 dev eth0 src 192.0.2.4 table 7002
198.51.100.0/24 via 192.0.2.1 dev eth0 src 192.0.2.4 table 7002
unreachable 198.51.100.128/25 table 7002
default dev tr0 src 192.0.2.4 table 7003
198.51.100.0/24 via 192.0.2.1 dev eth0 src 192.0.2.4 table 7003
198.51.100.128/25 dev tr0 src 192.0.2.4 table 7003
unreachable 198.51.100.128/25 metric 1048576 table 7003
`
	if diff := cmp.Diff(text, want.String()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestPlanIPv6(t *testing.T) {
	n := testNode()
	n.Address6, n.Gateway6, n.Subnet6 = addr("2001:db8::4"), addr("fe80::1"), prefix("2001:db8::/64")
	n.Pins = append(n.Pins, prefix("2001:db8:1::4/128"))
	want, refused := Plan(n, []Learned{{Prefix: prefix("2001:db8:5::/48")}, {Prefix: prefix("2001:db8:6::/48"), Tunnels: []string{"tr0"}}})
	if len(refused) > 0 {
		t.Errorf("refused %v", refused)
	}
	text := want.String()
	for _, line := range []string{
		"7011: from all iif tr0 unreachable (IPv6)",
		"2001:db8::/64 dev eth0 src 2001:db8::4 table 7001",
		"2001:db8:1::4/128 via fe80::1 dev eth0 src 2001:db8::4 table 7001",
		"2001:db8:5::/48 via fe80::1 dev eth0 src 2001:db8::4 table 7002",
		"2001:db8:6::/48 dev tr0 src 2001:db8::4 table 7003",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	if got := len(want.Rules); got != 20 {
		t.Errorf("%d rules, want 10 for each family", got)
	}
}

type refusal struct{ prefix, tunnel, rule string }

func (r refusal) tunnels() []string {
	if r.tunnel == "" {
		return nil
	}
	return []string{r.tunnel}
}

// What a sibling sent goes to other sites, never to a sibling; flows spread over equal tunnels.
func TestPlanSiblings(t *testing.T) {
	n := testNode()
	n.Tunnels, n.Siblings, n.Tables.Relay = []string{"tr0", "tr1", "ha1"}, []string{"ha1"}, 7004
	want, refused := Plan(n, []Learned{
		{Prefix: prefix("198.51.100.0/24")},
		{Prefix: prefix("203.0.112.0/24"), Tunnels: []string{"tr1", "tr0"}},
		{Prefix: prefix("203.0.114.0/24"), Tunnels: []string{"ha1"}},
		{Prefix: prefix("203.0.112.0/20"), Tunnels: []string{"tr0"}},
		{Prefix: prefix("203.0.113.0/24")},
		{Prefix: prefix("0.0.0.0/0")},
		{Prefix: prefix("198.51.101.0/24"), Nowhere: true},
	})
	if len(refused) > 0 {
		t.Errorf("refused %v", refused)
	}
	text := want.String()
	for _, line := range []string{
		"7010: from all iif tr1 lookup 7002",
		"7010: from all iif ha1 lookup 7004",
		"7011: from all iif ha1 unreachable",
		"203.0.112.0/24 src 192.0.2.4 table 7003 nexthop dev tr0 nexthop dev tr1",
		"203.0.112.0/24 src 192.0.2.4 table 7004 nexthop dev tr0 nexthop dev tr1",
		"203.0.114.0/24 dev ha1 src 192.0.2.4 table 7003",
		// A sibling's packet does not fall to a shorter prefix than what is known for it here …
		"unreachable 203.0.114.0/24 table 7004",
		"unreachable 203.0.113.0/24 table 7004",
		// … nor a tunnel's out of the card.
		"unreachable 203.0.112.0/20 table 7002",
		"unreachable 203.0.114.0/24 table 7002",
		// What was withdrawn is refused from the card.
		"unreachable 198.51.101.0/24 metric 1048576 table 7003",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	if strings.Contains(text, "ha1 src 192.0.2.4 table 7004") {
		t.Errorf("a sibling's packet could go to a sibling:\n%s", text)
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, test := range []refusal{
		{"203.0.113.4/32", "tr0", "covers-pinned"}, // a tunnel's own endpoint
		{"192.0.2.64/27", "tr0", "covers-pinned"},  // the Route Servers
		{"192.0.2.68/32", "", "covers-pinned"},
		{"169.254.77.2/32", "tr0", "covers-pinned"}, // the peer's overlay address
		{"168.63.129.16/32", "", "covers-pinned"},
		{"224.0.0.0/4", "tr0", "not-unicast"},
		{"127.0.0.0/8", "", "not-unicast"},
		{"198.51.100.0/24", "tr9", "unknown-tunnel"},
		{"2001:db8:5::/48", "", "no-gateway"},
	} {
		want, refused := Plan(testNode(), []Learned{{Prefix: prefix(test.prefix), Tunnels: test.tunnels()}})
		if len(refused) != 1 || refused[0].Rule != test.rule || refused[0].Prefix != prefix(test.prefix) {
			t.Errorf("%s by %q: refused %+v, want rule %s", test.prefix, test.tunnel, refused, test.rule)
		}
		for _, r := range want.Routes {
			if r.Table != 7001 {
				t.Errorf("%s: route %s all the same", test.prefix, r)
			}
		}
	}
	// Less specific than a pin is no danger: the pin is the longer match.
	if _, refused := Plan(testNode(), []Learned{{Prefix: prefix("203.0.113.0/24"), Tunnels: []string{"tr0"}}}); len(refused) > 0 {
		t.Errorf("refused %+v", refused)
	}
}

// Applying a difference leads to what is wanted, whatever there was.
func TestDiffProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() (s State) {
		used := map[routeKey]bool{}
		for range rng.IntN(20) {
			r := Route{
				Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rng.IntN(4))}), 16), Table: uint32(rng.IntN(3)),
				Device: []string{"a", "b"}[rng.IntN(2)],
			}
			if !used[r.key()] {
				used[r.key()] = true
				s.Routes = append(s.Routes, r)
			}
		}
		for range rng.IntN(6) {
			s.Rules = append(s.Rules, Rule{Priority: rng.IntN(4), Table: uint32(rng.IntN(2))})
		}
		return s
	}
	for range 2000 {
		have, want := random(), random()
		got := applied(have, Diff(have, want))
		sorted := cmpopts.SortSlices(func(a, b any) bool { return text(a) < text(b) })
		if diff := cmp.Diff(want, got, byString, addrs, sorted, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("from\n%sto\n%s(-want +got):\n%s", have, want, diff)
		}
		if n := Diff(want, want).Len(); n > 0 {
			t.Fatalf("%d changes from a state to itself:\n%s", n, want)
		}
	}
}

func text(v any) string {
	switch v := v.(type) {
	case Route:
		return v.String()
	case Rule:
		return v.String()
	}
	return ""
}

// applied is what the kernel would do.
func applied(s State, c Changes) (out State) {
	routes := map[routeKey]Route{}
	for _, r := range s.Routes {
		routes[r.key()] = r
	}
	for _, r := range c.SetRoutes {
		routes[r.key()] = r
	}
	for _, r := range c.DelRoutes {
		delete(routes, r.key())
	}
	for _, r := range routes {
		out.Routes = append(out.Routes, r)
	}
	rules := map[Rule]int{}
	for _, r := range append(s.Rules, c.AddRules...) {
		rules[r]++
	}
	for _, r := range c.DelRules {
		rules[r]--
	}
	for r, n := range rules {
		for range n {
			out.Rules = append(out.Rules, r)
		}
	}
	return out
}
