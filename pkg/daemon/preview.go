package daemon

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
)

// routeChanges translates a preview; our own ASN is put in front as the sessions do.
func routeChanges(list []bgp.Preview, asn uint32) []control.RouteChanges {
	out := []control.RouteChanges{}
	for _, p := range list {
		c := control.RouteChanges{Neighbor: p.Neighbor, Announce: []control.BGPRoute{}, Withdraw: []string{}, Reset: p.Reset}
		for _, r := range p.Announce {
			if p.Role != policy.Sibling {
				r.ASPath = append([]uint32{asn}, r.ASPath...)
			}
			row := bgpRoute(r)
			row.Neighbor, row.Accepted = p.Neighbor, true
			c.Announce = append(c.Announce, row)
		}
		for _, w := range p.Withdraw {
			c.Withdraw = append(c.Withdraw, w.String())
		}
		out = append(out, c)
	}
	return out
}

// CheckAgainst says what changes for the neighbours if a new configuration takes
// the place of another. What they have told is read from a file that
// "transitctl bgp routes -o json" wrote; without one, only what the nodes
// originate is known. It needs no daemon, but the machine that the files are for.
func CheckAgainst(file, against, routes string) ([]control.RouteChanges, error) {
	var plans [2]*Plan
	for i, name := range []string{against, file} {
		c, err := config.Load(name)
		if err != nil {
			return nil, err
		}
		facts, err := ReadFacts(c.Underlay.Interface)
		if err != nil {
			return nil, err
		}
		if plans[i], err = NewPlan(name, c, facts); err != nil {
			return nil, err
		}
	}
	received, err := readReceived(routes)
	if err != nil {
		return nil, err
	}
	list, err := bgp.Compare(plans[0].BGP, plans[1].BGP, received)
	if err != nil {
		return nil, err
	}
	return routeChanges(list, plans[1].Node.ASN), nil
}

// readReceived reads what neighbours have told.
func readReceived(file string) (list []policy.Route, err error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the received routes: %w", err)
	}
	var answer control.BGPRoutes
	if err := json.Unmarshal(text, &answer); err != nil || answer.Direction != control.DirectionReceived {
		return nil, fmt.Errorf("%s is not what \"transitctl bgp routes -o json\" writes", file)
	}
	for _, row := range answer.Routes {
		r, err := policyRoute(row)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// policyRoute is the opposite of receivedRoute, as far as the rules look at it.
func policyRoute(row control.BGPRoute) (r policy.Route, err error) {
	if r.Prefix, err = netip.ParsePrefix(row.Prefix); err != nil {
		return r, fmt.Errorf("prefix %.60q: %w", row.Prefix, err)
	}
	if r.From.Peer, err = netip.ParseAddr(row.Peer); err != nil {
		return r, fmt.Errorf("peer of %s: %w", r.Prefix, err)
	}
	r.From.Neighbor, r.ASPath = row.Neighbor, row.ASPath
	for _, c := range row.Communities {
		var a, b, d uint32
		if n, _ := fmt.Sscanf(c, "%d:%d:%d", &a, &b, &d); n == 3 {
			r.Large = append(r.Large, policy.LargeCommunity{Global: a, Local1: b, Local2: d})
		} else if n == 2 {
			r.Communities = append(r.Communities, a<<16|b&0xffff)
		}
	}
	return r, nil
}
