package fib

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Node is where the node stands.
type Node struct {
	Interface string     // the underlay's network card
	Address   netip.Addr // ours on it, the preferred source of all routes
	Gateway   netip.Addr // of its subnet: next hop of all that is on this side
	Subnet    netip.Prefix
	// The same in IPv6, invalid where the card has none.
	Address6, Gateway6 netip.Addr
	Subnet6            netip.Prefix

	// Pins are reached by the gateway, whatever is learned: Route Servers,
	// tunnel peers, Azure's service addresses.
	Pins     []netip.Prefix
	Tunnels  []string       // device names, of all tunnels
	Siblings []string       // of these, those that lead to NVAs of our own site
	Overlays []netip.Prefix // subnets inside the tunnels

	Tables       Tables
	Mark         uint32 // of the tunnels' outer packets
	Protocol     int    // of all that is ours in the kernel
	RulePriority int    // of the first rule; the last is 60 later
}

// Learned is a route that BGP chose.
type Learned struct {
	Prefix netip.Prefix
	// Nowhere refuses packets from the card: what was announced to the Route
	// Server until now, and would lead back into the fabric.
	Nowhere bool
	// Tunnels are the devices that lead there, flows are spread over them; none:
	// this side, by the card's gateway.
	Tunnels []string
}

// Refused is a route that does not get into the kernel.
type Refused struct {
	Prefix netip.Prefix
	Rule   string // a name in kebab-case
	Reason string // a sentence for a person, without its full stop
}

// Plan says what the kernel has to hold, and which routes it must not.
func Plan(n Node, routes []Learned) (want State, refused []Refused) {
	p := planner{n: n}
	p.rules(false)
	p.underlay(n.Subnet, n.Gateway, n.Address)
	if p.ipv6() {
		p.rules(true)
		p.underlay(n.Subnet6, n.Gateway6, n.Address6)
	}
	protected := slices.Concat(n.Pins, n.Overlays)
	seen := make(map[routeKey]bool, len(routes))
	p.want.Routes = slices.Grow(p.want.Routes, len(routes))
	for _, l := range routes {
		l.Prefix = l.Prefix.Masked()
		r, why := p.route(l, protected)
		switch {
		case why != nil:
			p.refused = append(p.refused, *why)
		case !seen[r.key()]:
			seen[r.key()] = true
			p.want.Routes = append(p.want.Routes, r)
			if r.Table == n.Tables.Remote && !r.Unreachable && !slices.Contains(n.Siblings, r.Device) && len(n.Siblings) > 0 {
				r.Table = n.Tables.Relay
				p.want.Routes = append(p.want.Routes, r)
			}
		}
	}
	p.separate()
	return p.want, p.refused
}

// separate makes the longest match over all that was learned decide, though the
// rules look into one table after the other, and for packets of a tunnel into
// one only:
//
//   - what is on this side stands in remote too, where a shorter prefix there,
//     above all a default, would hide it;
//   - what came out of a tunnel and belongs to another side is refused where a
//     shorter prefix of this side would take it out of the card, into a fabric
//     that has our own announcement for it;
//   - what is behind a tunnel has a refusal behind it in remote, for the moment in
//     which the device is gone and its routes with it (after a crash, too), where
//     a shorter prefix of this side would take it out of the card;
//   - what a sibling sent, and is not behind a tunnel of ours to another site,
//     is refused where a shorter prefix would take it there.
func (p *planner) separate() {
	t := p.n.Tables
	learned := slices.DeleteFunc(slices.Clone(p.want.Routes), func(r Route) bool { return r.Table == t.Underlay })
	in := map[uint32]map[netip.Prefix]bool{t.Site: {}, t.Remote: {}, t.Relay: {}}
	lengths := map[uint32][]int{} // of the prefixes in a table: a few
	for _, r := range learned {
		in[r.Table][r.Prefix] = true
		if bits := r.Prefix.Bits(); !slices.Contains(lengths[r.Table], bits) {
			lengths[r.Table] = append(lengths[r.Table], bits)
		}
	}
	hidden := func(table uint32, x netip.Prefix) bool {
		if in[table][x] {
			return false // the same prefix: that of the table is meant
		}
		return slices.ContainsFunc(lengths[table], func(bits int) bool {
			return bits < x.Bits() && in[table][netip.PrefixFrom(x.Addr(), bits).Masked()]
		})
	}
	for _, r := range learned {
		if r.Table == t.Site && hidden(t.Remote, r.Prefix) {
			r.Table = t.Remote
			p.want.Routes = append(p.want.Routes, r)
		}
	}
	for _, r := range learned {
		if r.Table == t.Remote && !r.Unreachable && hidden(t.Site, r.Prefix) {
			p.want.Routes = append(p.want.Routes, Route{Prefix: r.Prefix, Table: t.Site, Unreachable: true}, p.backstop(r.Prefix))
		}
		if len(p.n.Siblings) > 0 && r.Table != t.Relay && !r.Unreachable && hidden(t.Relay, r.Prefix) {
			p.want.Routes = append(p.want.Routes, Route{Prefix: r.Prefix, Table: t.Relay, Unreachable: true})
		}
	}
}

// lastMetric is beyond what anybody else uses.
const lastMetric = 1 << 20

// backstop refuses packets from the card for a prefix for which no better route is left.
func (p *planner) backstop(prefix netip.Prefix) Route {
	return Route{Prefix: prefix, Table: p.n.Tables.Remote, Unreachable: true, Metric: lastMetric}
}

type planner struct {
	n       Node
	want    State
	refused []Refused
}

// ipv6 is whether anything here is IPv6; if not, its rules are left alone.
func (p *planner) ipv6() bool {
	return p.n.Address6.IsValid() || slices.ContainsFunc(p.n.Overlays, func(o netip.Prefix) bool { return o.Addr().Is6() })
}

const mainTable = 254

// rules are those of the package's comment.
func (p *planner) rules(v6 bool) {
	t := p.n.Tables
	add := func(offset int, r Rule) {
		r.Priority, r.IPv6 = p.n.RulePriority+offset, v6
		p.want.Rules = append(p.want.Rules, r)
	}
	add(0, Rule{Mark: p.n.Mark, Table: t.Underlay})
	// A rule, not a default route of the table: suppress_prefixlength does not pass over an unreachable one.
	add(1, Rule{Mark: p.n.Mark, Unreachable: true})
	for _, name := range p.n.Tunnels {
		table := t.Site
		if slices.Contains(p.n.Siblings, name) {
			table = t.Relay
		}
		add(10, Rule{IifName: name, Table: table})
		add(11, Rule{IifName: name, Unreachable: true})
	}
	add(20, Rule{Table: mainTable, NoDefault: true})
	add(25, Rule{Table: t.Underlay, NoDefault: true})
	add(30, Rule{IifName: "lo", NotIif: true, Table: t.Remote})
	add(40, Rule{IifName: "lo", NotIif: true, Table: t.Site})
	add(50, Rule{IifName: "lo", Table: t.Remote, NoDefault: true})
	add(60, Rule{IifName: "lo", Table: t.Site, NoDefault: true})
}

// underlay fills the table of the outer packets for one family.
func (p *planner) underlay(subnet netip.Prefix, gateway, source netip.Addr) {
	table := p.n.Tables.Underlay
	if subnet.IsValid() {
		p.add(Route{Prefix: subnet.Masked(), Table: table, Device: p.n.Interface, Source: source})
	}
	for _, pin := range p.n.Pins {
		if !gateway.IsValid() || pin.Addr().Is4() != gateway.Is4() || within(pin, subnet) {
			continue
		}
		p.add(Route{Prefix: pin.Masked(), Table: table, Device: p.n.Interface, Gateway: gateway, Source: source})
	}
}

func (p *planner) add(r Route) {
	if !slices.ContainsFunc(p.want.Routes, func(x Route) bool { return x.key() == r.key() }) {
		p.want.Routes = append(p.want.Routes, r)
	}
}

// within reports whether a is b or a part of it.
func within(a, b netip.Prefix) bool {
	return b.IsValid() && a.Addr().Is4() == b.Addr().Is4() && a.Bits() >= b.Bits() && b.Contains(a.Addr())
}

// route places what BGP chose. Next hops of BGP do not matter: this side is
// reached by the card's gateway and the other by the tunnel.
func (p *planner) route(l Learned, protected []netip.Prefix) (Route, *Refused) {
	refuse := func(rule, format string, args ...any) (Route, *Refused) {
		return Route{}, &Refused{Prefix: l.Prefix, Rule: rule, Reason: fmt.Sprintf(format, args...)}
	}
	a := l.Prefix.Addr()
	if l.Prefix.Bits() > 0 && (a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.Is4In6()) {
		return refuse("not-unicast", "%s is no unicast prefix", l.Prefix)
	}
	for _, q := range protected {
		if within(l.Prefix, q) {
			return refuse("covers-pinned", "it would lead %s, on which this node stands, somewhere else", q)
		}
	}
	gateway, source := p.n.Gateway, p.n.Address
	if a.Is6() {
		gateway, source = p.n.Gateway6, p.n.Address6
	}
	if l.Nowhere {
		return p.backstop(l.Prefix), nil
	}
	if len(l.Tunnels) > 0 {
		for _, name := range l.Tunnels {
			if !slices.Contains(p.n.Tunnels, name) {
				return refuse("unknown-tunnel", "there is no tunnel %q", name)
			}
		}
		devices := slices.Sorted(slices.Values(l.Tunnels))
		if a.Is6() {
			devices = devices[:1] // Linux spreads IPv6 over gateways only, not over devices
		}
		return Route{Prefix: l.Prefix, Table: p.n.Tables.Remote, Device: devices[0], More: strings.Join(devices[1:], ","), Source: source}, nil
	}
	if !gateway.IsValid() {
		return refuse("no-gateway", "%s has no gateway of that family", p.n.Interface)
	}
	return Route{Prefix: l.Prefix, Table: p.n.Tables.Site, Device: p.n.Interface, Gateway: gateway, Source: source}, nil
}
