package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
)

// fakeStory tells one story and notes what it was asked.
type fakeStory struct {
	story bgp.Story
	asked []string
}

func (f *fakeStory) TunnelsOf(site string) []string {
	if site == "transit" {
		return []string{"tr0"}
	}
	return nil
}

func (f *fakeStory) Explain(p netip.Prefix) bgp.Story {
	f.asked = append(f.asked, "prefix "+p.String())
	return f.story
}

func (f *fakeStory) ExplainAddr(a netip.Addr) bgp.Story {
	f.asked = append(f.asked, "address "+a.String())
	return f.story
}

// fakeLookup answers by "destination from input device mark".
type fakeLookup struct {
	answers map[string]fib.Lookup
	asked   []string
}

func (f *fakeLookup) Lookup(dst netip.Addr, iif string, mark uint32) (fib.Lookup, error) {
	q := fmt.Sprintf("%s from %q mark %#x", dst, iif, mark)
	f.asked = append(f.asked, q)
	if l, ok := f.answers[q]; ok {
		return l, nil
	}
	return fib.Lookup{}, errors.New("no device")
}

// remoteStory is a prefix of the other side's, with one candidate that lost and one that was refused.
func remoteStory() bgp.Story {
	p := prefix("203.0.113.0/24")
	row := func(name string, role policy.Role, peer string, accept, best bool, path ...uint32) bgp.ReceivedRow {
		return bgp.ReceivedRow{
			Peer: addr(peer), Neighbor: name, Role: role, Accept: accept, Best: best, Rule: "rule-" + peer,
			Route: policy.Route{Prefix: p, ASPath: path, NextHop: addr(peer), From: policy.Source{Neighbor: name, Role: role, Peer: addr(peer)}},
		}
	}
	s := bgp.Story{
		Prefix: p, Found: true, Why: "it has the shortest AS path",
		Received: []bgp.ReceivedRow{
			row("ars", policy.RouteServer, "192.0.2.69", false, false, 65515, 64512),
			row("ars", policy.RouteServer, "192.0.2.68", true, false, 65515, 64520),
			row("tr0", policy.Tunnel, "169.254.77.2", true, true, 64513),
		},
		Best: &bgp.Best{Prefix: p, Role: policy.Tunnel, Neighbor: "tr0"},
		Exports: []bgp.AnnouncedRow{
			{Neighbor: "ars", Prefix: p, Accept: true, Rule: "announce"},
			{Neighbor: "tr0", Prefix: p, Rule: "split-horizon"},
		},
	}
	s.Route = s.Received[2].Route
	return s
}

func newExplainer(t *testing.T, story bgp.Story, answers map[string]fib.Lookup) (*explainer, *fakeStory, *fakeLookup) {
	b, k := &fakeStory{story: story}, &fakeLookup{answers: answers}
	return &explainer{bgp: b, kernel: k, plan: mustPlan(t, nodeYAML)}, b, k
}

func TestExplainRemote(t *testing.T) {
	t.Parallel()
	tr0 := fib.Lookup{Type: "unicast", Prefix: prefix("203.0.113.0/24"), Table: 7003, Device: "tr0", Source: addr("192.0.2.4")}
	e, _, k := newExplainer(t, remoteStory(), map[string]fib.Lookup{
		`203.0.113.9 from "eth0" mark 0x0`:      tr0,
		`203.0.113.9 from "tr0" mark 0x0`:       {Type: "unreachable"},
		`203.0.113.9 from "" mark 0x0`:          tr0,
		`198.51.100.4 from "" mark 0x7464`:      {Type: "unicast", Prefix: prefix("198.51.100.4/32"), Table: 7001, Device: "eth0", Gateway: addr("192.0.2.1"), Source: addr("192.0.2.4")},
		`198.51.100.4 from "" mark 0x0`:         {Type: "blackhole"}, // the wrong question
		`203.0.113.9 from "other" mark 0x7464`:  {Type: "blackhole"},
		`203.0.113.1 from "eth0" mark 0x0`:      {Type: "blackhole"},
		`203.0.113.0 from "eth0" mark 0x0`:      {Type: "blackhole"},
		`203.0.113.9 from "this host" mark 0x0`: {Type: "blackhole"},
	})
	e.refused = []fib.Refused{
		{Prefix: prefix("203.0.113.0/24"), Rule: "covers-pinned", Reason: "it would lead the node away"},
		{Prefix: prefix("203.0.113.0/25"), Rule: "other"},
	}
	x, err := e.explain("203.0.113.9", "")
	if err != nil {
		t.Fatal(err)
	}
	lookup := control.Lookup{From: "eth0", Result: "unicast", Prefix: "203.0.113.0/24", Table: "remote", Device: "tr0", Source: "192.0.2.4"}
	host := lookup
	host.From = "this host"
	route := func(neighbor, peer string, accepted, best bool, path ...uint32) control.BGPRoute {
		return control.BGPRoute{
			Prefix: "203.0.113.0/24", Neighbor: neighbor, Peer: peer, NextHop: peer, ASPath: path, Accepted: accepted, Best: best, Rule: "rule-" + peer,
		}
	}
	want := control.Explanation{
		Version: control.V1(), Target: "203.0.113.9", Prefix: "203.0.113.0/24", Why: "it has the shortest AS path",
		Received: []control.BGPRoute{ // the best first, the refused last
			route("tr0", "169.254.77.2", true, true, 64513),
			route("ars", "192.0.2.68", true, false, 65515, 64520),
			route("ars", "192.0.2.69", false, false, 65515, 64512),
		},
		Announced: []control.BGPRoute{
			{Prefix: "203.0.113.0/24", Neighbor: "ars", ASPath: []uint32{}, Accepted: true, Rule: "announce"},
			{Prefix: "203.0.113.0/24", Neighbor: "tr0", ASPath: []uint32{}, Rule: "split-horizon"},
		},
		Refused: &control.RefusedRoute{Prefix: "203.0.113.0/24", Rule: "covers-pinned", Reason: "it would lead the node away"},
		Lookups: []control.Lookup{lookup, {From: "tr0", Result: "unreachable"}, host},
		Outer: []control.OuterPath{{
			Tunnel: "tr0", Encapsulation: "vxlan", Local: "192.0.2.4", Remote: "198.51.100.4:4789",
			Lookup: control.Lookup{From: "this host", Result: "unicast", Prefix: "198.51.100.4/32", Table: "underlay", Device: "eth0", Gateway: "192.0.2.1", Source: "192.0.2.4"},
		}},
		Story: []string{
			"203.0.113.9 belongs to 203.0.113.0/24, told by tunnel tr0 (169.254.77.2), AS path 64513.",
			"This route is used: it has the shortest AS path.",
			"It is announced to ars.",
			"It is not announced to tr0 (split-horizon).",
			"It is not put into the kernel (covers-pinned): it would lead the node away.",
			"The kernel sends a packet from eth0 out of tr0, by table remote.",
			"The kernel sends a packet from tr0 nowhere: unreachable.",
			"The kernel sends a packet from this host out of tr0, by table remote.",
			"Tunnel tr0 carries it in vxlan from 192.0.2.4 to 198.51.100.4:4789, which the kernel sends out of eth0 by 192.0.2.1, by table underlay.",
		},
	}
	if d := diff(want, x); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(k.asked) != 4 {
		t.Errorf("the kernel was asked %q", k.asked)
	}
}

// TestExplainStory checks the first sentences of the other kinds of story.
func TestExplainStory(t *testing.T) {
	t.Parallel()
	local := bgp.Story{Prefix: prefix("0.0.0.0/0"), Found: true, Best: &bgp.Best{Prefix: prefix("0.0.0.0/0"), Role: policy.Local}}
	fromServer := remoteStory()
	fromServer.Best, fromServer.Route = &bgp.Best{Role: policy.RouteServer, Neighbor: "ars"}, policy.Route{From: policy.Source{Peer: addr("192.0.2.68")}}
	for _, c := range []struct {
		name  string
		story bgp.Story
		want  string
	}{
		{"nothing known", bgp.Story{Why: "nobody has told it"}, "x: no BGP route is used: nobody has told it."},
		{"own", local, "x belongs to 0.0.0.0/0, which this node originates itself."},
		{"Route Server", fromServer, "x belongs to 203.0.113.0/24, told by route server ars (192.0.2.68), AS path (empty)."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lines := (&explainer{}).tell(&control.Explanation{Target: "x"}, c.story)
			if len(lines) == 0 || lines[0] != c.want {
				t.Errorf("%q, want %q", lines, c.want)
			}
		})
	}
	// What nobody has told is not said to be kept from anybody.
	x := &control.Explanation{Target: "x", Announced: []control.BGPRoute{{Neighbor: "ars", Rule: "none"}}}
	if lines := (&explainer{}).tell(x, bgp.Story{Why: "w"}); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// TestExplainTarget checks what is asked for each way to write a target.
func TestExplainTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ target, story, dst string }{
		{"203.0.113.9", "address 203.0.113.9", "203.0.113.9"},
		{"203.0.113.9/32", "prefix 203.0.113.9/32", "203.0.113.9"},
		{"203.0.113.77/24", "prefix 203.0.113.0/24", "203.0.113.1"},
		{"203.0.113.2/31", "prefix 203.0.113.2/31", "203.0.113.2"}, // RFC 3021: both are hosts
		{"0.0.0.0/0", "prefix 0.0.0.0/0", "0.0.0.1"},
		{"2001:db8::/64", "prefix 2001:db8::/64", "2001:db8::1"},
		{"2001:db8::7", "address 2001:db8::7", "2001:db8::7"},
	} {
		t.Run(c.target, func(t *testing.T) {
			t.Parallel()
			e, b, k := newExplainer(t, bgp.Story{Why: "w"}, nil)
			x, err := e.explain(c.target, "")
			if err != nil {
				t.Fatal(err)
			}
			if d := diff([]string{c.story}, b.asked); d != "" {
				t.Errorf("BGP was asked (-want +got):\n%s", d)
			}
			for _, q := range k.asked {
				if !strings.HasPrefix(q, c.dst+" from") {
					t.Errorf("the kernel was asked for %s, want %s", q, c.dst)
				}
			}
			// A kernel that does not answer is part of the explanation, not the end of it.
			if len(x.Lookups) != 3 || x.Lookups[0].Result != "error" || x.Lookups[0].Error != "no device" || x.Outer != nil || x.Prefix != "" {
				t.Errorf("%+v", x)
			}
			if x.Received == nil || x.Announced == nil {
				t.Error("a list is null")
			}
		})
	}
}

func TestExplainBadTarget(t *testing.T) {
	t.Parallel()
	e, _, _ := newExplainer(t, bgp.Story{}, nil)
	_, err := e.explain("everything", "")
	if x, ok := errors.AsType[*control.Error](err); !ok || x.Code != control.CodeBadRequest {
		t.Errorf("error %v", err)
	}
}

func TestLookupWords(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]control.Lookup{
		"nowhere that it would tell: no device": {Error: "no device", Result: "error"},
		"nowhere: blackhole":                    {Result: "blackhole"},
		"to the box itself":                     {Result: "local", Device: "lo", Table: "local"},
		"out of eth0":                           {Result: "unicast", Device: "eth0"},
		"out of eth0 by 192.0.2.1":              {Result: "unicast", Device: "eth0", Gateway: "192.0.2.1"},
		"out of tr0, by table remote":           {Result: "unicast", Device: "tr0", Table: "remote"},
	} {
		if got := lookupWords(l); got != want {
			t.Errorf("%+v: %q, want %q", l, got, want)
		}
	}
}

func TestTableName(t *testing.T) {
	t.Parallel()
	tables := fib.Tables{Underlay: 7001, Site: 7002, Remote: 7003}
	for id, want := range map[uint32]string{0: "", 7001: "underlay", 7002: "site", 7003: "remote", 254: "main", 255: "local", 77: "77"} {
		if got := tableName(tables, id); got != want {
			t.Errorf("table %d is %q, want %q", id, got, want)
		}
	}
}

// A packet of a site enters by the card or by the tunnels that lead to the site.
func TestExplainFrom(t *testing.T) {
	t.Parallel()
	for from, want := range map[string][]string{
		"hub": {"eth0"}, "ars": {"eth0"}, "tr0": {"tr0"}, "transit": {"tr0"}, "": {"eth0", "tr0", "this host"},
	} {
		e, _, _ := newExplainer(t, remoteStory(), nil)
		x, err := e.explain("203.0.113.9", from)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range x.Lookups {
			got = append(got, l.From)
		}
		if d := diff(want, got); d != "" {
			t.Errorf("from %q (-want +got):\n%s", from, d)
		}
	}
	e, _, _ := newExplainer(t, remoteStory(), nil)
	if _, err := e.explain("203.0.113.9", "mars"); err == nil {
		t.Error("a site that nobody knows was taken")
	}
}
