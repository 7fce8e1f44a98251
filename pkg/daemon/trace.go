package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/azure"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/hops"
)

// maxOuterHops bounds the search on the underlay: a VNet peering is one hop, or none that shows.
const maxOuterHops = 8

// tracer makes one trace.
type tracer struct {
	e      *explainer
	find   func(context.Context, hops.Path, func(hops.Hop)) error
	query  control.TraceQuery
	target netip.Addr
	each   func(control.TraceStep)
	answer control.Trace
}

// Trace finds the hops to an address: the kernel's decision, the underlay, the inside of the tunnel.
func (d *Daemon) Trace(ctx context.Context, q control.TraceQuery, each func(control.TraceStep)) (control.Trace, error) {
	e := &explainer{bgp: d.speaker, kernel: d.keeper, plan: d.plan.Load()}
	t := &tracer{e: e, find: hops.Find, query: q, each: each}
	return t.run(ctx)
}

func (t *tracer) run(ctx context.Context) (control.Trace, error) {
	p, err := control.ParseTarget(t.query.Target)
	if err != nil || !p.IsSingleIP() {
		return t.answer, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("%.60q is no address", t.query.Target)}
	}
	t.target = p.Addr()
	t.answer = control.Trace{Version: control.V1(), Target: t.target.String(), From: t.query.From, Steps: []control.TraceStep{}}
	doors, source, err := t.origin()
	if err != nil {
		return t.answer, err
	}
	l := t.kernel(doors)
	if l.Device == "" || l.Result == "local" {
		t.answer.Reached = l.Result == "local"
		t.answer.Verdict = fmt.Sprintf("The kernel sends a packet from %s %s: nothing to probe.", l.From, lookupWords(l))
		return t.answer, nil
	}
	path := hops.Path{To: t.target, Source: source}
	if doors[0] != "" { // what the kernel does for packets of that door it would not do for ours
		path.Device = l.Device
		path.Source = t.e.plan.Underlay.Address
		if t.target.Is6() {
			path.Source = t.e.plan.Underlay.Address6
		}
	}
	i := slices.IndexFunc(t.e.plan.Tunnels, func(p TunnelPlan) bool { return p.Name == l.Device })
	if i < 0 {
		return t.answer, t.conclude(t.probe(ctx, control.TraceOuter, path))
	}
	tunnel := t.e.plan.Tunnels[i]
	t.answer.Tunnel = tunnel.Name
	if err := t.outer(ctx, tunnel); err != nil {
		return t.answer, err
	}
	return t.answer, t.conclude(t.probe(ctx, control.TraceInner, path))
}

// origin says where the packets come from: the doors of a site, or one of our
// own addresses as their source.
func (t *tracer) origin() (doors []string, source netip.Addr, err error) {
	if t.query.From == "" || t.query.From == thisHost {
		return []string{""}, source, nil
	}
	if a, err := netip.ParseAddr(t.query.From); err == nil {
		own := t.e.plan.own()
		if !slices.Contains(own, a) {
			return nil, source, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("%s is none of this node's addresses, which are %v: packets can come from here only", a, own)}
		}
		if a.Is4() != t.target.Is4() {
			return nil, source, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("%s and %s are of two families", a, t.target)}
		}
		return []string{""}, a, nil
	}
	doors, err = t.e.doors(t.query.From)
	return doors, source, err
}

// own lists the node's addresses.
func (p *Plan) own() []netip.Addr {
	list := []netip.Addr{p.Underlay.Address}
	if p.Underlay.Address6.IsValid() {
		list = append(list, p.Underlay.Address6)
	}
	for _, t := range p.Tunnels {
		for _, a := range t.Pump.Addrs {
			list = append(list, a.Addr())
		}
	}
	return list
}

// kernel tells what the kernel decides for packets of all doors, and returns the first decision.
func (t *tracer) kernel(doors []string) (l control.Lookup) {
	for i, door := range doors {
		x := t.e.lookup(t.target, door, 0)
		t.step(control.TraceStep{Part: control.TraceKernel, Text: fmt.Sprintf("a packet from %s goes %s", x.From, lookupWords(x))})
		if i == 0 {
			l = x
		}
	}
	return l
}

// outer finds the way of a tunnel's outer packets.
func (t *tracer) outer(ctx context.Context, p TunnelPlan) error {
	l := t.e.lookup(p.Path.To, "", t.e.plan.FIB.Mark)
	t.step(control.TraceStep{Part: control.TraceOuter, Text: fmt.Sprintf("tunnel %s carries it in %s from %s to %s; the outer packet goes %s", p.Name, p.Encapsulation, p.Path.From, p.peer(), lookupWords(l))})
	return t.probe(ctx, control.TraceOuter, hops.Path{
		To: p.Path.To, Source: p.Path.From, Device: p.Path.Card, Mark: t.e.plan.FIB.Mark, Max: maxOuterHops, Silent: 3,
	})
}

func (t *tracer) step(s control.TraceStep) {
	t.answer.Steps = append(t.answer.Steps, s)
	t.each(s)
}

// probe finds hops and tells each.
func (t *tracer) probe(ctx context.Context, part string, p hops.Path) error {
	err := t.find(ctx, p, func(h hops.Hop) {
		s := control.TraceStep{Part: part, TTL: h.TTL, RTTMicros: uint64(h.RTT / time.Microsecond), Reached: h.Kind == hops.Reached}
		if h.Addr.IsValid() {
			s.Address, s.Name = h.Addr.String(), t.name(h.Addr)
		}
		if h.Kind == hops.Unreachable {
			s.Text = unreachableWords(h)
		}
		t.step(s)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return &control.Error{Code: control.CodeBusy, Message: "the trace took too long and was ended"}
	}
	return err
}

// unreachableWords says why a hop ended the way.
func unreachableWords(h hops.Hop) string {
	if !h.Addr.IsValid() {
		return "this node's own kernel knows no way"
	}
	if !h.Addr.Is4() {
		return fmt.Sprintf("says that it cannot be reached (code %d)", h.Code)
	}
	switch h.Code { // RFC 792; RFC 1812, section 5.2.7.1
	case 0:
		return "says that it knows no way to the network"
	case 1:
		return "says that the host cannot be reached"
	case 9, 10, 13:
		return "says that a firewall forbids it"
	}
	return fmt.Sprintf("says that it cannot be reached (code %d)", h.Code)
}

// name says what an address is in this node's world.
func (t *tracer) name(a netip.Addr) string {
	p := t.e.plan
	switch {
	case a == p.Underlay.Address || a == p.Underlay.Address6:
		return "this node, " + p.Underlay.Interface
	case a == p.Underlay.Gateway || a == p.Underlay.Gateway6:
		return "the subnet's gateway: the fabric"
	case slices.Contains(azure.ReservedAddresses(), a):
		return "Azure's platform"
	}
	for _, x := range p.Tunnels {
		switch {
		case slices.ContainsFunc(x.Pump.Addrs, func(own netip.Prefix) bool { return own.Addr() == a }):
			return "this node, in tunnel " + x.Name
		case slices.Contains(x.Pump.PeerAddrs, a):
			return "the peer of " + x.Name + ", in the tunnel"
		case x.Path.To == a:
			return "the peer of " + x.Name
		}
	}
	for _, n := range p.BGP.Neighbors {
		if n.Role == policy.RouteServer && slices.Contains(n.Addrs, a) {
			return "Route Server " + n.Name
		}
	}
	return t.origins(a)
}

// origins says which route an address belongs to.
func (t *tracer) origins(a netip.Addr) string {
	if t.e.plan.Underlay.Subnet.Contains(a) || t.e.plan.Underlay.Subnet6.IsValid() && t.e.plan.Underlay.Subnet6.Contains(a) {
		return "in our own subnet"
	}
	s := t.e.bgp.ExplainAddr(a)
	switch {
	case s.Best == nil:
		return ""
	case s.Best.Role == policy.Local:
		return fmt.Sprintf("in %s, which this node originates", s.Prefix)
	}
	return fmt.Sprintf("in %s, told by %s %s", s.Prefix, roleWords(s.Best.Role), s.Best.Neighbor)
}

// conclude says how it went.
func (t *tracer) conclude(err error) error {
	if err != nil {
		return err
	}
	a := &t.answer
	last := a.Steps[len(a.Steps)-1]
	a.Reached = last.Reached
	seen, twice := map[string]int{}, ""
	var silent []string
	for _, s := range a.Steps {
		switch {
		case s.TTL == 0 || s.Part != last.Part:
			continue
		case s.Address == "":
			silent = append(silent, fmt.Sprint(s.TTL))
		case seen[s.Address] > 0 && !s.Reached && twice == "":
			twice = fmt.Sprintf("%s came at hop %d and again at hop %d", s.Address, seen[s.Address], s.TTL)
		}
		seen[s.Address] = s.TTL
	}
	a.Loop = twice != ""
	switch {
	case a.Loop:
		a.Verdict = "A loop: " + twice + "."
	case a.Reached:
		a.Verdict = fmt.Sprintf("%s answers at hop %d%s.", a.Target, last.TTL, through(a.Tunnel))
	case last.Text != "":
		a.Verdict = fmt.Sprintf("%s cannot be reached: %s %s.", a.Target, orHere(last.Address), last.Text)
	default:
		a.Verdict = fmt.Sprintf("%s does not answer%s; silent hops: %s. It, or a firewall on the way back, may drop echo requests.", a.Target, through(a.Tunnel), strings.Join(silent, ", "))
	}
	return nil
}

func through(tunnel string) string {
	if tunnel == "" {
		return ""
	}
	return ", through " + tunnel
}

func orHere(address string) string {
	if address == "" {
		return "here,"
	}
	return address
}
