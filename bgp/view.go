package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/bgp/policy"
)

// Session is the state of one BGP session.
type Session struct {
	Peer      netip.Addr
	Name      string // the neighbor's
	Role      policy.Role
	ASN       uint32
	State     string        // idle, connect, active, open-sent, open-confirm, established
	Received  int           // routes the peer has told, believed or not
	Accepted  int           // of these, believed
	Announced int           // routes the peer has been told
	Uptime    time.Duration // 0 unless established
	Malformed uint64        // UPDATEs with malformed attributes, taken as withdrawals
	Flaps     uint64        // how often it left Established since the start
	LastError string        // why it last ended or did not come up; empty if it never did
}

// SessionChange is a session that came up or ended.
type SessionChange struct {
	Peer     netip.Addr
	Name     string // the neighbor's
	Role     policy.Role
	ASN      uint32
	From, To State         // one of them is Established
	Lasted   time.Duration // of a session that ended
	Reason   string        // why it ended
}

// ReceivedRow is one route that a peer has told.
type ReceivedRow struct {
	Peer     netip.Addr
	Neighbor string
	Role     policy.Role
	Route    policy.Route // as received
	Accept   bool
	Rule     string // that decided
	Reason   string
	Best     bool // it is the one that is used
}

// AnnouncedRow is what is, or is not, told of one selected route to one neighbor.
type AnnouncedRow struct {
	Neighbor string
	Role     policy.Role
	Prefix   netip.Prefix
	Accept   bool         // it is announced
	Route    policy.Route // if Accept: as on the wire, our own ASN in the path; else as it was selected
	Source   policy.Source
	Rule     string // that decided
	Reason   string
}

// Story is everything there is to say about one prefix.
type Story struct {
	Prefix   netip.Prefix
	Found    bool          // a route for exactly this prefix was received or is originated
	Received []ReceivedRow // from everybody, also what was refused
	Best     *Best         // nil if no route is used
	Route    policy.Route  // the route that is used, if Best
	Why      string        // why it won; or why there is none
	Exports  []AnnouncedRow
}

// Strangers is how often an address that is no neighbor's tried to open a session.
func (s *Speaker) Strangers() uint64 { return s.strangers.Load() }

// Sessions lists the sessions in the order of the configuration.
func (s *Speaker) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Session
	for _, nb := range s.rib.neighbors {
		for _, sess := range nb.sessions {
			v := Session{
				Peer: sess.peer, Name: nb.conf.Name, Role: nb.conf.Role, ASN: nb.conf.ASN,
				State: sess.state.String(), Received: len(sess.received), LastError: sess.lastError, Malformed: sess.malformed, Flaps: sess.flaps,
			}
			for _, rx := range sess.received {
				if rx.verdict.Accept {
					v.Accepted++
				}
			}
			if sess.state == Established {
				v.Uptime, v.Announced = time.Since(sess.since), len(nb.announced)
			}
			list = append(list, v)
		}
	}
	return list
}

// find returns the neighbor with the name, or the one with the address and that
// session of it. Called with mu held.
func (r *rib) find(who string) (*neighbor, []*session, error) {
	addr, err := netip.ParseAddr(who)
	for _, nb := range r.neighbors {
		if nb.conf.Name == who {
			return nb, nb.sessions, nil
		}
		if sess := nb.session(addr); err == nil && sess != nil {
			return nb, []*session{sess}, nil
		}
	}
	return nil, nil, fmt.Errorf("bgp: %q is neither the name nor an address of a neighbor", who)
}

// Received lists what a neighbor (by name: all its sessions; or by the address
// of one) has told, sorted by prefix, then session.
func (s *Speaker) Received(who string) ([]ReceivedRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	nb, sessions, err := s.rib.find(who)
	if err != nil {
		return nil, err
	}
	var rows []ReceivedRow
	for _, sess := range sessions {
		for p := range sess.received {
			rows = append(rows, s.rib.receivedRow(nb, sess, p))
		}
	}
	slices.SortFunc(rows, func(a, b ReceivedRow) int {
		return cmp.Or(comparePrefix(a.Route.Prefix, b.Route.Prefix), a.Peer.Compare(b.Peer))
	})
	return rows, nil
}

func (r *rib) receivedRow(nb *neighbor, sess *session, p netip.Prefix) ReceivedRow {
	rx := sess.received[p]
	sel, ok := r.selected[p]
	return ReceivedRow{
		Peer: sess.peer, Neighbor: nb.conf.Name, Role: nb.conf.Role, Route: rx.route,
		Accept: rx.verdict.Accept, Rule: rx.verdict.Rule, Reason: rx.verdict.Reason,
		Best: ok && rx.verdict.Accept && sel.route.From == rx.route.From,
	}
}

// Announced lists what a neighbor (by name or by the address of a session) is
// told, and with refused also what it is not told and why, sorted by prefix.
// By address the list is empty while that session is down.
func (s *Speaker) Announced(who string, refused bool) ([]AnnouncedRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	nb, sessions, err := s.rib.find(who)
	if err != nil {
		return nil, err
	}
	if who != nb.conf.Name && sessions[0].state != Established {
		return nil, nil
	}
	var rows []AnnouncedRow
	for p := range nb.exports {
		if row := s.rib.announcedRow(nb, p); row.Accept || refused {
			rows = append(rows, row)
		}
	}
	for p := range nb.announced { // an aggregate is no selected route
		if _, ok := nb.exports[p]; !ok {
			rows = append(rows, s.rib.announcedRow(nb, p))
		}
	}
	slices.SortFunc(rows, func(a, b AnnouncedRow) int { return comparePrefix(a.Prefix, b.Prefix) })
	return rows, nil
}

// announcedRow tells a selected prefix's export. What is announced is read from
// what the engine holds, so that it is what is on the wire.
func (r *rib) announcedRow(nb *neighbor, p netip.Prefix) AnnouncedRow {
	v, ok := nb.exports[p]
	row := AnnouncedRow{
		Neighbor: nb.conf.Name, Role: nb.conf.Role, Prefix: p, Route: v.Route,
		Source: r.selected[p].route.From, Rule: v.Rule, Reason: v.Reason,
	}
	held, holds := nb.announced[p]
	aggregate, aggregated := nb.budget.plan.Aggregated[p]
	switch {
	case holds:
		row.Accept = true
		if policy.IsAggregate(held) {
			row.Rule, row.Reason = ruleAggregate, "stands for the routes inside it: "+nb.budget.plan.Reason
		}
		row.Route = held
		if nb.conf.Role != policy.Sibling { // RFC 4271, section 5.1.2: not within the AS
			row.Route.ASPath = append([]uint32{r.conf.ASN}, held.ASPath...)
		}
	case !ok:
		row.Rule, row.Reason = policy.RuleNoRoute, fmt.Sprintf("no route for %s is used, so there is nothing to announce", p)
	case v.Accept && r.stance == Refuse:
		row.Rule, row.Reason = ruleDraining, "the node is draining: everything is withdrawn"
	case v.Accept && aggregated:
		row.Rule, row.Reason = ruleAggregated, fmt.Sprintf("%s stands for it: %s", aggregate, nb.budget.plan.Reason)
	case v.Accept && nb.budget.plan.Held:
		row.Rule, row.Reason = ruleBudget, nb.budget.plan.Reason
	case v.Accept:
		row.Rule, row.Reason = rulePending, "about to be announced"
	}
	return row
}

// Rules of the speaker itself, beside those of the policy.
const (
	ruleDraining   = "draining"
	rulePending    = "pending"
	ruleAggregate  = "aggregate"
	ruleAggregated = "aggregated"
	ruleBudget     = "over-budget"
)

// Explain tells the story of exactly this prefix.
func (s *Speaker) Explain(p netip.Prefix) Story {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rib.explain(p.Masked())
}

// ExplainAddr tells the story of the prefix that is used for an address: the
// longest of the selected ones. If there is none, of the address as a prefix.
func (s *Speaker) ExplainAddr(a netip.Addr) Story {
	s.mu.Lock()
	defer s.mu.Unlock()
	for bits := a.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(a, bits).Masked()
		if _, ok := s.rib.selected[p]; ok {
			return s.rib.explain(p)
		}
	}
	return s.rib.explain(netip.PrefixFrom(a, a.BitLen()))
}

func (r *rib) explain(p netip.Prefix) Story {
	story := Story{Prefix: p}
	for _, nb := range r.neighbors {
		for _, sess := range nb.sessions {
			if _, ok := sess.received[p]; ok {
				story.Received = append(story.Received, r.receivedRow(nb, sess, p))
			}
		}
		story.Exports = append(story.Exports, r.announcedRow(nb, p))
	}
	_, local := r.local[p]
	story.Found = local || len(story.Received) > 0
	sel, ok := r.selected[p]
	switch {
	case ok:
		story.Best = &Best{Prefix: p, Role: sel.route.From.Role, Neighbor: sel.route.From.Neighbor, Also: sel.also}
		story.Route, story.Why = sel.route, sel.why
	case story.Found:
		story.Why = "every route for it was refused"
	default:
		story.Why = "no neighbor has told a route for it and this node does not originate it"
	}
	return story
}

// TunnelsOf names the tunnels through which routes of a site came, by their tags.
func (s *Speaker) TunnelsOf(site string) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := policy.SiteNumber(site)
	for _, nb := range s.rib.neighbors {
		told := slices.ContainsFunc(nb.sessions, func(sess *session) bool {
			for _, rx := range sess.received {
				if policy.Tagged(rx.route, number) {
					return true
				}
			}
			return false
		})
		if told && nb.conf.Role != policy.RouteServer {
			names = append(names, nb.conf.Name)
		}
	}
	return names
}
