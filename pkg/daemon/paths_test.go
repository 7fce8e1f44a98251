package daemon

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/pkg/hops"
	"github.com/transitd/transitd/tunnel/pmtud"
)

func TestFindTunnel(t *testing.T) {
	t.Parallel()
	one, two := []TunnelPlan{{Name: "tr0"}}, []TunnelPlan{{Name: "tr0"}, {Name: "tr1"}}
	for _, c := range []struct {
		all        []TunnelPlan
		name, want string
	}{
		{one, "", "tr0"},
		{one, "tr0", "tr0"},
		{two, "tr1", "tr1"},
		{two, "", "choose one: tr0, tr1"},
		{one, "x", `no tunnel "x"; there are: tr0`},
		{nil, "", "has no tunnel"},
	} {
		p, err := findTunnel(c.all, c.name)
		got := p.Name
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%q of %d: %s, want %s", c.name, len(c.all), got, c.want)
		}
	}
}

func TestPathAnswer(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, nodeYAML).Tunnels[0]
	hop := pmtud.Hop{Addr: addr("192.0.2.1"), MTU: 1400, At: time.Now()}
	for _, c := range []struct {
		name   string
		change func(*TunnelPlan, *pmtud.Status, *pmtud.Result)
		ok     bool
		mss    int
		words  []string // of the directions and the advice
	}{
		{"as configured", func(*TunnelPlan, *pmtud.Status, *pmtud.Result) {}, true, 1360, []string{"our card eth0, MTU 1500", "the peer's card, MTU 1500", "mtu: 1450 at both ends"}},
		{"narrow there", func(_ *TunnelPlan, s *pmtud.Status, r *pmtud.Result) {
			s.MTU, r.There = 1350, pmtud.Direction{Inner: 1350, Outer: 1400, Limit: pmtud.LimitPath, Hop: hop}
		}, false, 1310, []string{"the path from 192.0.2.4 to 198.51.100.4: 192.0.2.1 says 1400", "Nothing has to be done"}},
		{"narrow back", func(_ *TunnelPlan, _ *pmtud.Status, r *pmtud.Result) {
			r.Back, r.PeerMTU = pmtud.Direction{Inner: 1300, Outer: 1350, Limit: pmtud.LimitPath}, 1300
		}, false, 1260, []string{"the path from 198.51.100.4 to 192.0.2.4"}},
		{"narrow and fixed", func(p *TunnelPlan, _ *pmtud.Status, r *pmtud.Result) {
			p.Path.Fixed, r.There = true, pmtud.Direction{Inner: 1350, Outer: 1400, Limit: pmtud.LimitPath}
		}, false, 1360, []string{"set mtu: 1350 for tunnel tr0"}},
		{"echo", func(_ *TunnelPlan, _ *pmtud.Status, r *pmtud.Result) {
			r.Method, r.PeerMTU, r.PeerMost, r.There.Limit, r.Back.Limit = pmtud.MethodEcho, 0, 0, pmtud.LimitUnknown, pmtud.LimitUnknown
		}, true, 1360, []string{"it only answers echo requests", "cannot be told apart"}},
		{"nothing answers", func(_ *TunnelPlan, _ *pmtud.Status, r *pmtud.Result) {
			*r = pmtud.Result{Method: pmtud.MethodNone}
		}, false, 1360, []string{"nothing answers", "UDP port 29796"}},
		{"two ends differ", func(_ *TunnelPlan, _ *pmtud.Status, r *pmtud.Result) { r.PeerMost = 1300 }, true, 1360, []string{"mtu is 1400 here and 1300 at the peer"}},
	} {
		p, now := plan, pmtud.Status{MTU: 1400}
		r := pmtud.Result{
			Method: pmtud.MethodProbe, RTT: 1500 * time.Microsecond, PeerCard: 1500, PeerMTU: 1400, PeerMost: 1400,
			There: pmtud.Direction{Inner: 1450, Outer: 1500, Limit: pmtud.LimitOwnCard}, Back: pmtud.Direction{Inner: 1450, Outer: 1500, Limit: pmtud.LimitPeerCard},
		}
		c.change(&p, &now, &r)
		a := pathAnswer(p, now, r)
		if a.OK != c.ok || a.MSS.IPv4 != c.mss || a.MSS.IPv6 != c.mss-20 {
			t.Errorf("%s: ok %v, MSS %+v", c.name, a.OK, a.MSS)
		}
		text := a.Directions[0].LimitedBy + "\n" + a.Directions[1].LimitedBy + "\n" + strings.Join(a.Advice, "\n")
		for _, w := range c.words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in\n%s", c.name, w, text)
			}
		}
	}
}

// TestMTUEvents checks that a change of the MTU is told once.
func TestMTUEvents(t *testing.T) {
	t.Parallel()
	log := &events.Log{}
	c := newChronicle(log)
	s := healthy()
	for _, mtu := range []int{0, 1400, 1400, 1350, 1350, 1400} {
		s.Tunnels[0].Path.MTU = mtu
		c.watch(s)
	}
	var got []string
	for _, e := range log.Since(0) {
		if e.Before != "" && e.Before[0] == '1' {
			got = append(got, e.Before+" "+e.After+" "+string(e.Severity))
		}
	}
	if d := diff([]string{"1400 1350 warning", "1350 1400 info"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// routesKernel is a kernel that knows one way for each device of arrival.
type routesKernel map[string]fib.Lookup

func (k routesKernel) Lookup(_ netip.Addr, iif string, mark uint32) (fib.Lookup, error) {
	if mark != 0 {
		iif = "mark"
	}
	l, ok := k[iif]
	if !ok {
		return l, errors.New("no route to host")
	}
	return l, nil
}

// TestTraceWays checks which paths are probed for a question, and what is said.
func TestTraceWays(t *testing.T) {
	t.Parallel()
	kernel := routesKernel{
		"":     {Type: "unicast", Device: "tr0", Table: 7003},
		"eth0": {Type: "unicast", Device: "eth0", Gateway: addr("192.0.2.1"), Table: 7002},
		"mark": {Type: "unicast", Device: "eth0", Gateway: addr("192.0.2.1"), Table: 7001},
		"tr0":  {Type: "unreachable"},
	}
	answer := func(list ...string) func(hops.Path) []hops.Hop {
		return func(hops.Path) (out []hops.Hop) {
			for i, a := range list {
				h := hops.Hop{TTL: i + 1, RTT: time.Millisecond}
				if a != "" {
					h.Addr, h.Kind = addr(a), hops.Exceeded
				}
				out = append(out, h)
			}
			return out
		}
	}
	reached := func(p hops.Path) []hops.Hop {
		list := answer("198.51.100.4", p.To.String())(p)
		list[1].Kind = hops.Reached
		return list
	}
	for _, c := range []struct {
		name, target, from string
		find               func(hops.Path) []hops.Hop
		paths              []hops.Path
		reached, loop      bool
		verdict            string
		names              []string
	}{
		{"through the tunnel", "172.16.1.10", "", reached, []hops.Path{
			{To: addr("198.51.100.4"), Source: addr("192.0.2.4"), Device: "eth0", Mark: 0x7464, Max: 8, Silent: 3}, {To: addr("172.16.1.10")},
		}, true, false, "172.16.1.10 answers at hop 2, through tr0.", []string{"the peer of tr0"}},
		{"from an own address", "172.16.1.10", "169.254.77.1", reached, []hops.Path{
			{To: addr("198.51.100.4"), Source: addr("192.0.2.4"), Device: "eth0", Mark: 0x7464, Max: 8, Silent: 3}, {To: addr("172.16.1.10"), Source: addr("169.254.77.1")},
		}, true, false, "answers", nil},
		{"from the site", "172.16.1.10", "hub", answer("192.0.2.1", "", ""), []hops.Path{{To: addr("172.16.1.10"), Source: addr("192.0.2.4"), Device: "eth0"}}, false, false, "silent hops: 2, 3", []string{"the subnet's gateway: the fabric"}},
		{"a loop", "172.16.1.10", "hub", answer("192.0.2.1", "192.0.2.68", "192.0.2.1"), []hops.Path{{To: addr("172.16.1.10"), Source: addr("192.0.2.4"), Device: "eth0"}}, false, true, "192.0.2.1 came at hop 1 and again at hop 3", []string{"Route Server ars"}},
		{"no way", "172.16.1.10", "tr0", nil, nil, false, false, "nothing to probe", nil},
	} {
		var paths []hops.Path
		tr := &tracer{
			e: &explainer{bgp: &fakeStory{}, kernel: kernel, plan: mustPlan(t, nodeYAML)}, query: control.TraceQuery{Target: c.target, From: c.from},
			each: func(control.TraceStep) {},
			find: func(_ context.Context, p hops.Path, each func(hops.Hop)) error {
				paths = append(paths, p)
				for _, h := range c.find(p) {
					each(h)
				}
				return nil
			},
		}
		got, err := tr.run(t.Context())
		if err != nil || got.Reached != c.reached || got.Loop != c.loop || !strings.Contains(got.Verdict, c.verdict) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if d := diff(c.paths, paths); d != "" {
			t.Errorf("%s: paths (-want +got):\n%s", c.name, d)
		}
		for _, name := range c.names {
			found := false
			for _, s := range got.Steps {
				found = found || s.Name == name
			}
			if !found {
				t.Errorf("%s: no hop is named %q in %+v", c.name, name, got.Steps)
			}
		}
	}
	for from, want := range map[string]string{"203.0.113.9": "none of this node's addresses", "nowhere": "neither our own site"} {
		tr := &tracer{e: &explainer{bgp: &fakeStory{}, kernel: kernel, plan: mustPlan(t, nodeYAML)}, query: control.TraceQuery{Target: "172.16.1.10", From: from}}
		if _, err := tr.run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("from %s: %v", from, err)
		}
	}
}

func TestUnreachableWords(t *testing.T) {
	t.Parallel()
	for want, h := range map[string]hops.Hop{
		"own kernel": {}, "firewall": {Addr: addr("192.0.2.1"), Code: 13}, "network": {Addr: addr("192.0.2.1")}, "host": {Addr: addr("192.0.2.1"), Code: 1},
		"code 5": {Addr: addr("192.0.2.1"), Code: 5}, "code 3": {Addr: addr("2001:db8::1"), Code: 3},
	} {
		if got := unreachableWords(h); !strings.Contains(got, want) {
			t.Errorf("%+v: %q", h, got)
		}
	}
}

func TestCaptureConfig(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, withTR1(t)).Tunnels[1]
	q := control.CaptureQuery{Layer: control.LayerDecrypted, Count: 1, Duration: time.Second, Snap: 96}
	c, err := captureConfig("hub-nva", plan, q)
	if err != nil || c.Device != "tr1" || c.Filter != nil || !strings.Contains(c.Comment, "inside tunnel tr1") {
		t.Errorf("%+v, %v", c, err)
	}
	q.Layer = control.LayerOuter
	c, err = captureConfig("hub-nva", plan, q)
	if err != nil || c.Device != "eth0" || len(c.Filter) == 0 || !strings.Contains(c.Comment, "2001:db8::4 to 2001:db8:1::4") {
		t.Errorf("%+v, %v", c, err)
	}
	q.Filter = "host"
	if _, err := captureConfig("hub-nva", plan, q); err == nil {
		t.Error("a wrong filter is taken")
	}
}
