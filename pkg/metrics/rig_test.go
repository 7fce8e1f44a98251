package metrics

import (
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// node answers with fixed values.
type node struct {
	status control.Status
	ready  bool
	log    events.Log
}

func (n *node) Status() control.Status       { return n.status }
func (n *node) Readiness() control.Readiness { return control.Readiness{Ready: n.ready} }
func (n *node) Events() *events.Log          { return &n.log }

// full is a node on which every metric has a value, each another one.
func full() *node {
	rtt, loss, ours, theirs := uint64(1500), 0.25, int64(29), int64(-30)
	n := &node{ready: true, status: control.Status{
		Node:   control.Node{Name: "hub-nva", ASN: 64512, Site: "hub", Version: "v1", UptimeS: 77},
		Health: control.HealthDegraded,
		Tunnels: []control.Tunnel{
			{
				Name: "tr0", Encapsulation: "vxlan", State: control.TunnelUp, Remote: "10.1.2.4", MTU: 1400, RTTMicros: &rtt, Loss: &loss,
				TXPackets: 1, TXBytes: 2, RXPackets: 3, RXBytes: 4, Drops: map[string]uint64{"too_big": 5, "short": 6}, Rebuilt: 7,
				BFD: &control.BFD{State: "up", IntervalUS: 300_000, DetectUS: 900_000, Flaps: 8},
			},
			{
				Name: "tr1", Encapsulation: "ipsec", State: control.TunnelDown, Remote: "10.1.2.5", MTU: 1300, Drops: map[string]uint64{},
				IPsec: &control.IPsec{IKERekeys: 23, ChildRekeys: 24, Established: 25, TimedOut: 26, Refused: 27, HalfOpen: 28, Expired: 31, Overdue: "CHILD SA 1 could not be replaced", CertificateExpiresS: &ours, PeerCertificateExpiresS: &theirs},
			},
		},
		BGP: []control.Session{
			{Peer: "10.0.1.4", Name: "ars", Role: "route-server", ASN: 65515, State: "established", Received: 9, Accepted: 8, Announced: 10, UptimeS: 11, Malformed: 12, Flaps: 13},
			{Peer: "10.0.1.5", Name: "ars", Role: "route-server", ASN: 65515, State: "active"},
		},
		Routes:   control.RouteCounts{Site: 14, Remote: 15, Repaired: 16},
		Loops:    control.Loops{Detected: 17},
		Refused:  control.Refused{Control: 18, BGP: 19},
		Drain:    control.Drain{State: control.DrainAvoid},
		Budgets:  []control.Budget{{RouteServer: "ars", Level: "warning", Used: 20, Limit: 21, Aggregated: 22, Held: true}},
		Warnings: []string{"a", "b"},
	}}
	for range 3 {
		n.log.Add(time.Time{}, events.Event{Kind: events.BGP, Severity: events.Warning})
	}
	return n
}
