package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

// Preview is what a configuration would change for one neighbor.
type Preview struct {
	Neighbor string
	Role     policy.Role
	Announce []policy.Route // new, or with other attributes; our own ASN not yet in front
	Withdraw []netip.Prefix
	Reset    bool // its sessions would start anew
}

// Preview says what Apply would announce and withdraw, with what is known now,
// and changes nothing. Neighbors for whom nothing changes are left out.
func (s *Speaker) Preview(ctx context.Context, c Config) ([]Preview, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	var list []Preview
	err = s.do(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		list = s.rib.preview(c, time.Now())
	})
	return list, err
}

// Compare says what changes from one configuration to another where the given
// routes have been received, as Preview does, without any session. A route
// belongs to the neighbor and session in its From.
func Compare(from, to Config, received []policy.Route) ([]Preview, error) {
	from, err := from.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("the configuration in force: %w", err)
	}
	to, err = to.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("the new configuration: %w", err)
	}
	now := time.Time{}.Add(time.Hour)
	r := newRIB(from)
	r.vnetSeen = true
	for _, n := range from.Neighbors {
		nb := newNeighbor(n)
		for _, sess := range nb.sessions {
			sess.state, sess.eor = Established, true
		}
		r.neighbors = append(r.neighbors, nb)
	}
	for _, route := range received {
		i := slices.IndexFunc(r.neighbors, func(nb *neighbor) bool { return nb.conf.Name == route.From.Neighbor })
		if i < 0 {
			return nil, fmt.Errorf("a route for %s was received from %q, which is no neighbor", route.Prefix, route.From.Neighbor)
		}
		nb := r.neighbors[i]
		sess := nb.session(route.From.Peer)
		if sess == nil {
			return nil, fmt.Errorf("a route for %s was received from %s, which is no session with %q", route.Prefix, route.From.Peer, nb.conf.Name)
		}
		route.From.Role, route.From.ASN = nb.conf.Role, nb.conf.ASN
		r.update(nb, sess, []update{{route: route}}, now)
	}
	r.refreshStanding(now)
	for _, w := range r.recompute(now) {
		for _, route := range w.announce {
			w.to.announced[route.Prefix] = route
		}
	}
	return r.preview(to, now), nil
}

// preview runs the rules of another configuration over a copy of what is known.
func (r *rib) preview(c Config, now time.Time) (list []Preview) {
	next := newRIB(c)
	next.vnet, next.vnetSeen, next.stance = maps.Clone(r.vnet), r.vnetSeen, r.stance
	reset := map[string]bool{}
	for _, n := range c.Neighbors {
		nb := newNeighbor(n)
		i := slices.IndexFunc(r.neighbors, func(old *neighbor) bool { return old.conf.Name == n.Name })
		if i >= 0 && r.conf.sameSpeaker(c) && r.neighbors[i].conf.sameSessions(n) {
			old := r.neighbors[i]
			for j, sess := range old.sessions {
				kept := *sess
				kept.received = maps.Clone(sess.received)
				nb.sessions[j] = &kept
			}
			nb.announced, nb.budget = maps.Clone(old.announced), old.budget
			nb.budget.pace = pacer{}
		}
		reset[n.Name] = i >= 0 && len(nb.announced) == 0 && len(r.neighbors[i].announced) > 0
		next.neighbors = append(next.neighbors, nb)
	}
	next.refreshEnv()
	next.refreshStanding(now)
	next.redoExports()
	for _, nb := range next.neighbors {
		for _, sess := range nb.sessions {
			for p := range sess.received {
				next.dirty[p] = struct{}{}
			}
		}
	}
	for _, w := range next.recompute(now) {
		list = append(list, Preview{
			Neighbor: w.to.conf.Name, Role: w.to.conf.Role, Announce: w.announce,
			Withdraw: slices.Concat(w.withdraw, w.replaced), Reset: reset[w.to.conf.Name],
		})
	}
	for _, old := range r.neighbors {
		if slices.ContainsFunc(c.Neighbors, func(n Neighbor) bool { return n.Name == old.conf.Name }) || len(old.announced) == 0 {
			continue
		}
		gone := slices.SortedFunc(maps.Keys(old.announced), comparePrefix)
		list = append(list, Preview{Neighbor: old.conf.Name, Role: old.conf.Role, Withdraw: gone})
	}
	return list
}
