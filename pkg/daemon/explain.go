package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
)

// storyteller is what an explanation asks of the BGP speaker.
type storyteller interface {
	Explain(netip.Prefix) bgp.Story
	ExplainAddr(netip.Addr) bgp.Story
	TunnelsOf(site string) []string
}

// kernelReader asks the kernel where it would send a packet.
type kernelReader interface {
	Lookup(dst netip.Addr, iif string, mark uint32) (fib.Lookup, error)
}

// thisHost is where the box's own packets come from, in an explanation.
const thisHost = "this host"

// explainer makes explanations; all it holds is only read.
type explainer struct {
	bgp     storyteller
	kernel  kernelReader
	plan    *Plan
	refused []fib.Refused
}

// explain tells why packets to a prefix or an address go where they go.
// A site's, tunnel's or Route Server's name in from leaves out packets from elsewhere.
func (e *explainer) explain(target, from string) (control.Explanation, error) {
	p, err := control.ParseTarget(target)
	if err != nil {
		return control.Explanation{}, &control.Error{Code: control.CodeBadRequest, Message: err.Error()}
	}
	var story bgp.Story
	if p.IsSingleIP() && !strings.Contains(target, "/") {
		story = e.bgp.ExplainAddr(p.Addr())
	} else {
		story = e.bgp.Explain(p)
	}
	x := control.Explanation{
		Version: control.V1(), Target: target, Why: story.Why,
		Received: []control.BGPRoute{}, Announced: []control.BGPRoute{},
	}
	if story.Found {
		x.Prefix = story.Prefix.String()
	}
	for _, r := range story.Received {
		x.Received = append(x.Received, receivedRoute(r))
	}
	slices.SortStableFunc(x.Received, bestFirst)
	for _, r := range story.Exports {
		x.Announced = append(x.Announced, announcedRoute(r))
	}
	for _, r := range e.refused {
		if r.Prefix == story.Prefix {
			x.Refused = &control.RefusedRoute{Prefix: r.Prefix.String(), Rule: r.Rule, Reason: r.Reason}
		}
	}
	doors, err := e.doors(from)
	if err != nil {
		return x, err
	}
	e.lookups(&x, destination(p), doors)
	x.Story = e.tell(&x, story)
	return x, nil
}

// destination is the address that stands for a prefix in a lookup: the first
// one that a host can have.
func destination(p netip.Prefix) netip.Addr {
	if a := p.Addr(); p.Bits() < a.BitLen()-1 && a.Next().IsValid() {
		return a.Next()
	}
	return p.Addr()
}

func bestFirst(a, b control.BGPRoute) int {
	rank := func(r control.BGPRoute) int {
		switch {
		case r.Best:
			return 0
		case r.Accepted:
			return 1
		}
		return 2
	}
	return rank(a) - rank(b)
}

// lookups asks the kernel for packets from everywhere, and for the outer
// packets of the tunnels that they are led into.
func (e *explainer) lookups(x *control.Explanation, dst netip.Addr, doors []string) {
	for _, iif := range doors {
		x.Lookups = append(x.Lookups, e.lookup(dst, iif, 0))
	}
	for _, t := range e.plan.Tunnels {
		if slices.ContainsFunc(x.Lookups, func(l control.Lookup) bool { return l.Device == t.Name }) {
			outer := e.lookup(t.Pump.Remote.Addr(), "", e.plan.FIB.Mark)
			x.Outer = append(x.Outer, control.OuterPath{
				Tunnel: t.Name, Encapsulation: t.Encapsulation,
				Local: t.Endpoint.Local.Addr().String(), Remote: t.peer(), Lookup: outer,
			})
		}
	}
}

// doors are the devices by which packets of a site come in: the card for our own
// site, or the tunnels through which a site's routes came. Empty is this host.
func (e *explainer) doors(from string) ([]string, error) {
	card := e.plan.Underlay.Interface
	var all []string
	for _, t := range e.plan.Tunnels {
		all = append(all, t.Name)
	}
	isRouteServer := slices.ContainsFunc(e.plan.BGP.Neighbors, func(n bgp.Neighbor) bool { return n.Role == policy.RouteServer && n.Name == from })
	switch {
	case from == "":
		return append(append([]string{card}, all...), ""), nil
	case from == e.plan.Node.Site || from == card || isRouteServer:
		return []string{card}, nil
	case slices.Contains(all, from):
		return []string{from}, nil
	}
	if through := e.bgp.TunnelsOf(from); len(through) > 0 {
		return through, nil
	}
	return nil, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("%.60q is neither our own site, a tunnel, a Route Server nor a site whose routes came through a tunnel", from)}
}

func (e *explainer) lookup(dst netip.Addr, iif string, mark uint32) control.Lookup {
	l := control.Lookup{From: iif}
	if iif == "" {
		l.From = thisHost
	}
	r, err := e.kernel.Lookup(dst, iif, mark)
	if err != nil {
		l.Result, l.Error = "error", err.Error()
		return l
	}
	l.Result, l.Device, l.Table = r.Type, r.Device, tableName(e.plan.FIB.Tables, r.Table)
	l.Prefix, l.Gateway, l.Source = text(r.Prefix), text(r.Gateway), text(r.Source)
	return l
}

// text is the string of a valid address or prefix, and nothing of an invalid one.
func text[T interface {
	IsValid() bool
	String() string
}](v T) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

// tableName is "underlay", "site" or "remote" for our tables, the kernel's name or the number for others.
func tableName(t fib.Tables, id uint32) string {
	switch id {
	case 0:
		return ""
	case t.Underlay:
		return "underlay"
	case t.Site:
		return "site"
	case t.Remote:
		return "remote"
	case t.Relay:
		return "relay"
	case 254:
		return "main"
	case 255:
		return "local"
	}
	return fmt.Sprint(id)
}

// tell says an explanation in sentences.
func (e *explainer) tell(x *control.Explanation, story bgp.Story) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch {
	case story.Best == nil:
		say("%s: no BGP route is used: %s.", x.Target, story.Why)
	case story.Best.Role == policy.Local:
		say("%s belongs to %s, which this node originates itself.", x.Target, story.Prefix)
	default:
		say("%s belongs to %s, told by %s %s (%s), AS path %s.", x.Target, story.Prefix,
			roleWords(story.Best.Role), story.Best.Neighbor, story.Route.From.Peer, orNone(story.Route.PathString()))
		say("This route is used: %s.", story.Why)
		if len(story.Best.Also) > 0 {
			say("Routes of the same cost share the traffic by flow: %s.", strings.Join(append([]string{story.Best.Neighbor}, story.Best.Also...), ", "))
		}
	}
	var told, spared []string
	for _, a := range x.Announced {
		if a.Accepted {
			told = append(told, a.Neighbor)
		} else if story.Found {
			spared = append(spared, fmt.Sprintf("%s (%s)", a.Neighbor, a.Rule))
		}
	}
	if len(told) > 0 {
		say("It is announced to %s.", strings.Join(told, ", "))
	}
	if len(spared) > 0 {
		say("It is not announced to %s.", strings.Join(spared, ", "))
	}
	if x.Refused != nil {
		say("It is not put into the kernel (%s): %s.", x.Refused.Rule, x.Refused.Reason)
	}
	for _, l := range x.Lookups {
		say("The kernel sends a packet from %s %s.", l.From, lookupWords(l))
	}
	for _, o := range x.Outer {
		say("Tunnel %s carries it in %s from %s to %s, which the kernel sends %s.", o.Tunnel, o.Encapsulation, o.Local, o.Remote, lookupWords(o.Lookup))
	}
	return lines
}

func roleWords(r policy.Role) string {
	if r == policy.RouteServer {
		return "route server"
	}
	return r.String()
}

func orNone(s string) string {
	if s == "" {
		return "(empty)"
	}
	return s
}

// lookupWords ends the sentence "the kernel sends a packet …".
func lookupWords(l control.Lookup) string {
	switch {
	case l.Error != "":
		return "nowhere that it would tell: " + l.Error
	case l.Device == "":
		return "nowhere: " + l.Result
	case l.Result == "local":
		return "to the box itself"
	}
	s := "out of " + l.Device
	if l.Gateway != "" {
		s += " by " + l.Gateway
	}
	if l.Table != "" {
		s += ", by table " + l.Table
	}
	return s
}
