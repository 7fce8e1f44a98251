package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/lab/probe"
)

// condition is one thing that a lab has to have before it is ready.
type condition struct {
	what  string
	check func(ctx context.Context) error
}

// wait polls until every condition holds: the nodes are programs of their own that tell nobody when they are ready.
func (l *Lab) wait(ctx context.Context, p Plan, limit time.Duration, pr Progress) error {
	for _, c := range l.conditions(p) {
		start := time.Now()
		pr.Waiting(c.what)
		var ended error // a program that has ended does not come back: no use to wait for the rest
		err := await(ctx, limit, func() error {
			if ended = l.allRun(p); ended != nil {
				return nil
			}
			return c.check(ctx)
		})
		if err = cmp.Or(ended, err); err != nil {
			return fmt.Errorf("waited for %s: %w (logs are in %s)", c.what, err, l.s.file("log"))
		}
		limit -= time.Since(start)
	}
	return ctx.Err()
}

// allRun finds a node whose process ended.
func (l *Lab) allRun(p Plan) error {
	for _, n := range p.Nodes {
		if _, ok := l.s.running(n.Name); !ok {
			return fmt.Errorf("%s has ended, see %s, which ends with:\n%s", n.Name, l.s.log(n.Name), lastLines(l.s.log(n.Name), 10))
		}
	}
	return nil
}

// lastLines of a log, for a message about it; what cannot be read is none.
func lastLines(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// conditions of a lab that is ready, in the order in which they come true.
func (l *Lab) conditions(p Plan) []condition {
	list := []condition{
		{"the nodes' sockets", func(ctx context.Context) error { return l.sessions(ctx, p, false) }},
		{"all BGP sessions of Route Servers and ExpressRoute edges", func(ctx context.Context) error { return l.sessions(ctx, p, true) }},
	}
	route := func(node string, want bool, ps ...netip.Prefix) condition {
		verb := "learns"
		if !want {
			verb = "does not have"
		}
		return condition{fmt.Sprintf("%s %s %v", node, verb, ps), func(context.Context) error { return l.hasRoutes(node, want, ps...) }}
	}
	byDefault := netip.MustParsePrefix("0.0.0.0/0")
	if p.Options.Scenario == DefaultRoute {
		list = append(list, route("avs-edge", true, byDefault), route("onprem", !p.Options.FilterDefault, byDefault),
			l.programmed("spoke", byDefault, carriers(p, "hub")), l.reached("avs", InternetHost))
		return list
	}
	list = append(list,
		route("onprem", true, p.AVS...), route("avs-edge", true, append([]netip.Prefix{byDefault}, p.OnPrem...)...),
		l.programmed("transit-nva", p.OnPrem[0], carriers(p, "transit")), l.programmed("hub-nva", p.AVS[0], carriers(p, "hub")))
	if p.Options.Encapsulation != None {
		list = append(list, l.reached("avs", OnPremHost), l.reached("avs", InternetHost))
	}
	return list
}

// sessions asks every speaker; established says whether the sessions have to be, too.
func (l *Lab) sessions(ctx context.Context, p Plan, established bool) error {
	for _, n := range p.Nodes {
		if n.Role != RoleRouteServer && n.Role != RoleMSEE {
			continue
		}
		var k knowledge
		if err := l.s.ask(ctx, n.Name, http.MethodGet, "/knowledge", &k); err != nil {
			return err
		}
		for _, session := range k.Sessions {
			if established && session.State != establishedState {
				return fmt.Errorf("session of %s with %s is %s", n.Name, session.Peer, session.State)
			}
		}
	}
	return nil
}

// carriers are the NVAs of a VNet that its Route Server is to send traffic to: the best, or with ECMP all.
func carriers(p Plan, vnet string) []netip.Addr {
	list := []netip.Addr{nvaAddress(vnet, 0)}
	for i := 1; i < p.Options.NVAs && p.Options.HA == ECMP; i++ {
		list = append(list, nvaAddress(vnet, i))
	}
	return list
}

// programmed: the fabric leads a prefix, for what comes from a NIC, to these next hops and no others.
func (l *Lab) programmed(nic string, prefix netip.Prefix, nextHops []netip.Addr) condition {
	return condition{fmt.Sprintf("the fabric programs %s → %v on the NIC of %s", prefix, nextHops, nic), func(ctx context.Context) error {
		routes, err := l.fabric().Effective(ctx, nic)
		if err != nil {
			return err
		}
		r, ok := fabric.Lookup(routes, prefix.Addr().Next())
		if !ok || r.Prefix != prefix || !slices.Equal(r.NextHops, nextHops) {
			return fmt.Errorf("the NIC of %s sends %s to %s %v", nic, prefix, r.Type, r.NextHops)
		}
		return nil
	}}
}

// reached: a ping arrives.
func (l *Lab) reached(node, to string) condition {
	return condition{fmt.Sprintf("%s reaches %s", node, to), func(ctx context.Context) error {
		r, err := probe.Ping{From: l.s.ns(node), To: netip.MustParseAddr(to), Count: 1, Timeout: 500 * time.Millisecond}.Run(ctx)
		if err == nil && r.Received == 0 {
			err = fmt.Errorf("no answer from %s to %s %v", to, node, r.Errors)
		}
		return err
	}}
}

// hasRoutes looks into a node's main table.
func (l *Lab) hasRoutes(node string, want bool, ps ...netip.Prefix) error {
	have, err := l.learnedByKernel(node)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if have[p] != want {
			return fmt.Errorf("route %s in the kernel of %s: %v, wanted %v", p, node, have[p], want)
		}
	}
	return nil
}

// learnedByKernel are the prefixes that a routing daemon put into a node's main table.
func (l *Lab) learnedByKernel(node string) (map[netip.Prefix]bool, error) {
	h, err := l.s.ns(node).Handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	routes, err := h.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("the table of %s changes just now: %w", node, err)
	}
	if err != nil {
		return nil, fmt.Errorf("list the routes of %s: %w", node, err)
	}
	have := map[netip.Prefix]bool{}
	for _, r := range routes {
		switch r.Protocol {
		case unix.RTPROT_KERNEL, unix.RTPROT_STATIC, unix.RTPROT_BOOT:
			continue
		}
		p := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Dst != nil {
			a, _ := netip.AddrFromSlice(r.Dst.IP.To4())
			bits, _ := r.Dst.Mask.Size()
			p = netip.PrefixFrom(a, bits)
		}
		have[p] = true
	}
	return have, nil
}
