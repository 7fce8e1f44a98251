package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// The methods of this file, with Reload, are control.Daemon. They are called
// after Run has opened everything.

// Status is one screen about the node.
func (d *Daemon) Status() control.Status { return d.snapshot().status() }

// snapshot looks at everything.
func (d *Daemon) snapshot() *snapshot {
	site, remote := d.keeper.Counts()
	s := &snapshot{
		Node: d.plan.Load().Node, Underlay: d.plan.Load().Underlay.Interface, Uptime: time.Since(d.started),
		Tunnels: d.machine.tunnels.views(), Sessions: d.speaker.Sessions(), Routes: d.machine.routes.view(),
		Site: site, Remote: remote, Repaired: d.keeper.Repaired(), Strangers: d.speaker.Strangers(),
	}
	if p := d.problem.Load(); p != nil {
		s.Problems = append(s.Problems, *p)
	}
	s.Problems = append(s.Problems, d.machine.origins.warnings()...)
	s.Budgets = d.speaker.Budgets()
	if p := d.web.problem(); p != "" {
		s.Problems = append(s.Problems, p)
	}
	if p := d.symptoms.Load(); p != nil {
		s.Symptoms = *p
	}
	s.Meddling, s.Looping = d.story.meddled(time.Now()), d.story.looping(time.Now())
	s.BFD, s.Drain = d.liveness.statuses(), d.drainer.view()
	return s
}

// BGPRoutes lists what neighbours told us or are told.
func (d *Daemon) BGPRoutes(q control.BGPRoutesQuery) (control.BGPRoutes, error) {
	answer := control.BGPRoutes{Version: control.V1(), Direction: q.Direction, Routes: []control.BGPRoute{}}
	peers := []string{q.Peer}
	if q.Peer == "" {
		peers = nil
		for _, n := range d.plan.Load().BGP.Neighbors {
			peers = append(peers, n.Name)
		}
	}
	for _, peer := range peers {
		routes, err := bgpRoutes(d.speaker, q.Direction, peer)
		if err != nil {
			return answer, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("%q is neither the name nor an address of a neighbour", peer)}
		}
		answer.Routes = append(answer.Routes, routes...)
	}
	return answer, nil
}

// routeLister is what BGPRoutes asks of the BGP speaker.
type routeLister interface {
	Received(who string) ([]bgp.ReceivedRow, error)
	Announced(who string, refused bool) ([]bgp.AnnouncedRow, error)
}

func bgpRoutes(s routeLister, d control.Direction, peer string) (routes []control.BGPRoute, err error) {
	if d == control.DirectionAnnounced {
		rows, err := s.Announced(peer, true)
		for _, r := range rows {
			routes = append(routes, announcedRoute(r))
		}
		return routes, err
	}
	rows, err := s.Received(peer)
	for _, r := range rows {
		routes = append(routes, receivedRoute(r))
	}
	return routes, err
}

func receivedRoute(r bgp.ReceivedRow) control.BGPRoute {
	c := bgpRoute(r.Route)
	c.Neighbor, c.Peer, c.Accepted, c.Best, c.Rule, c.Reason = r.Neighbor, r.Peer.String(), r.Accept, r.Best, r.Rule, r.Reason
	return c
}

func announcedRoute(r bgp.AnnouncedRow) control.BGPRoute {
	c := bgpRoute(r.Route)
	c.Prefix, c.Neighbor, c.Accepted, c.Rule, c.Reason = r.Prefix.String(), r.Neighbor, r.Accept, r.Rule, r.Reason
	return c
}

func bgpRoute(r policy.Route) control.BGPRoute {
	c := control.BGPRoute{Prefix: r.Prefix.String(), NextHop: text(r.NextHop), ASPath: append([]uint32{}, r.ASPath...)}
	for _, v := range r.Communities {
		c.Communities = append(c.Communities, fmt.Sprintf("%d:%d", v>>16, v&0xffff))
	}
	for _, v := range r.Large {
		c.Communities = append(c.Communities, v.String())
	}
	if r.HasMED {
		c.MED = &r.MED
	}
	return c
}

// Routes lists what the kernel is to hold, and what it is not to.
func (d *Daemon) Routes() (control.Routes, error) { return kernelRoutes(d.machine.routes.view()), nil }

func kernelRoutes(v routeView) control.Routes {
	answer := control.Routes{Version: control.V1(), Routes: []control.KernelRoute{}, Refused: []control.RefusedRoute{}}
	neighbor := map[string]string{}
	for _, b := range v.Bests {
		neighbor[b.Prefix.String()] = cmp.Or(b.Neighbor, "(originated here)")
	}
	for _, r := range v.Want.Routes {
		k := control.KernelRoute{
			Prefix: r.Prefix.String(), Table: tableName(v.Node.Tables, r.Table), TableID: r.Table, Type: routeType(r),
			Device: strings.Join(r.Devices(), ","), Gateway: text(r.Gateway), Source: text(r.Source),
		}
		if r.Table != v.Node.Tables.Underlay {
			k.Neighbor = neighbor[k.Prefix]
		}
		answer.Routes = append(answer.Routes, k)
	}
	slices.SortStableFunc(answer.Routes, func(a, b control.KernelRoute) int { return cmp.Compare(a.TableID, b.TableID) })
	answer.Refused = refusedRoutes(v.Refused)
	return answer
}

func routeType(r fib.Route) string {
	if r.Unreachable {
		return "unreachable"
	}
	return "unicast"
}

func refusedRoutes(list []fib.Refused) []control.RefusedRoute {
	out := make([]control.RefusedRoute, len(list))
	for i, r := range list {
		out[i] = control.RefusedRoute{Prefix: r.Prefix.String(), Rule: r.Rule, Reason: r.Reason}
	}
	return out
}

// Explain tells why packets to a prefix or an address go where they go.
func (d *Daemon) Explain(_ context.Context, target, from string) (control.Explanation, error) {
	e := explainer{bgp: d.speaker, kernel: d.keeper, plan: d.plan.Load(), refused: d.machine.routes.view().Refused}
	return e.explain(target, from)
}

// Events remembers what happened to the node.
func (d *Daemon) Events() *events.Log { return d.events }

// Drain takes the node out of the traffic, or brings it back.
func (d *Daemon) Drain(ctx context.Context, back bool) (control.Drained, error) {
	if d.stopping.Load() {
		return control.Drained{}, &control.Error{Code: control.CodeStopping, Message: "the daemon is stopping"}
	}
	do := d.drainer.drain
	if back {
		do = d.drainer.undrain
	}
	err := do(context.WithoutCancel(ctx))
	return control.Drained{Version: control.V1(), Drain: d.drainer.view()}, err
}
