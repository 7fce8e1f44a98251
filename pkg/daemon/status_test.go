package daemon

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/version"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/pmtud"
	"github.com/transitd/transitd/tunnel/pump"
)

// upTunnel is a tunnel that works.
func upTunnel(name string) TunnelView {
	return TunnelView{
		Plan: TunnelPlan{Name: name, Encapsulation: "vxlan", Endpoint: pump.EndpointConfig{Local: addrPort("192.0.2.4:4789")}, Pump: pump.TunnelConfig{
			Name: name, Remote: addrPort("198.51.100.4:4789"), MTU: 1400, PeerAddrs: []netip.Addr{addr("169.254.77.2")},
		}},
		Present: true, Up: true,
	}
}

func session(name, peer, state string, role policy.Role) bgp.Session {
	return bgp.Session{Name: name, Peer: addr(peer), Role: role, ASN: 64513, State: state}
}

// healthy is a node on which everything works: a Route Server's two sessions, a tunnel and its session.
func healthy() *snapshot {
	return &snapshot{
		Tunnels: []TunnelView{upTunnel("tr0")},
		Sessions: []bgp.Session{
			session("ars", "192.0.2.68", "established", policy.RouteServer),
			session("ars", "192.0.2.69", "established", policy.RouteServer),
			session("tr0", "169.254.77.2", "established", policy.Tunnel),
		},
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	tunnelDown := func(s *snapshot) { s.Tunnels[0].Present, s.Tunnels[0].Up = false, false }
	sessionDown := func(i ...int) func(s *snapshot) {
		return func(s *snapshot) {
			for _, i := range i {
				s.Sessions[i].State = "active"
			}
		}
	}
	const gone = "tunnel tr0: its device was removed by another program; it is made again"
	refused := func(n int) (list []fib.Refused) {
		for i := range n {
			list = append(list, fib.Refused{Prefix: prefix([]string{"192.0.2.0/28", "192.0.2.16/28", "192.0.2.32/28", "192.0.2.48/28", "192.0.2.64/28"}[i]), Rule: "covers-pinned", Reason: "no"})
		}
		return list
	}
	const r0, r1, r2 = "route 192.0.2.0/28 is not put into the kernel (covers-pinned): no",
		"route 192.0.2.16/28 is not put into the kernel (covers-pinned): no",
		"route 192.0.2.32/28 is not put into the kernel (covers-pinned): no"
	for _, c := range []struct {
		name   string
		change func(*snapshot)
		health control.Health
		want   []string
	}{
		{"all works", func(*snapshot) {}, control.HealthOK, []string{}},
		{"nothing is configured", func(s *snapshot) { *s = snapshot{} }, control.HealthOK, []string{}},
		{"no tunnels", func(s *snapshot) { s.Tunnels = nil }, control.HealthOK, []string{}},
		{"the only tunnel is gone", tunnelDown, control.HealthDown, []string{gone}},
		{"one of two tunnels is gone", func(s *snapshot) {
			s.Tunnels = append(s.Tunnels, upTunnel("tr1"))
			tunnelDown(s)
		}, control.HealthDegraded, []string{gone}},
		{"tunnel cannot be made", func(s *snapshot) {
			tunnelDown(s)
			s.Tunnels[0].Err = errors.New("address in use")
		}, control.HealthDown, []string{"tunnel tr0: address in use; tried again every second"}},
		{"peer does not answer ARP", func(s *snapshot) { s.Tunnels[0].Up = false }, control.HealthDown, []string{
			"tunnel tr0: peer MAC not resolved: 169.254.77.2 does not answer inside the tunnel",
		}},
		{"one instance", sessionDown(1), control.HealthDegraded, []string{"route server ars: instance 192.0.2.69 is down (1 of 2)"}},
		{"both instances", sessionDown(0, 1), control.HealthDegraded, []string{"route server ars: instances 192.0.2.68 and 192.0.2.69 are down (2 of 2)"}},
		{"the tunnel's session", sessionDown(2), control.HealthDegraded, []string{"tunnel tr0: BGP session with 169.254.77.2 is down (active)"}},
		{"all sessions", sessionDown(0, 1, 2), control.HealthDown, []string{
			"route server ars: instances 192.0.2.68 and 192.0.2.69 are down (2 of 2)",
			"tunnel tr0: BGP session with 169.254.77.2 is down (active)",
		}},
		{"with the cause", func(s *snapshot) {
			sessionDown(0, 2)(s)
			s.Sessions[0].LastError, s.Sessions[2].LastError = "hold timer expired", "connection refused"
		}, control.HealthDegraded, []string{
			"route server ars: instance 192.0.2.68 is down (1 of 2): hold timer expired",
			"tunnel tr0: BGP session with 169.254.77.2 is down (active): connection refused",
		}},
		{"kernel refuses", func(s *snapshot) { s.Routes.Err = errors.New("no buffer space") }, control.HealthDegraded, []string{"kernel: no buffer space"}},
		{"as many refused routes as are named", func(s *snapshot) { s.Routes.Refused = refused(3) }, control.HealthDegraded, []string{r0, r1, r2}},
		{"more refused routes", func(s *snapshot) { s.Routes.Refused = refused(5) }, control.HealthDegraded, []string{
			r0, r1, r2, "and 2 more routes are not put into the kernel: transitctl routes",
		}},
		{"the daemon's own problem", func(s *snapshot) { s.Problems = []string{"half a reload"} }, control.HealthDegraded, []string{"half a reload"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := healthy()
			c.change(s)
			health, warnings := s.health()
			if health != c.health {
				t.Errorf("health %s, want %s", health, c.health)
			}
			if d := diff(c.want, warnings); d != "" { // never nil: the API's list is never null
				t.Errorf("warnings (-want +got):\n%s", d)
			}
		})
	}
}

// TestStatus checks that every field of the API gets the value that it says.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := healthy()
	s.Node, s.Uptime = Identity{Name: "hub-nva", ASN: 64512, Site: "hub"}, 3999*time.Millisecond
	s.Site, s.Remote, s.Repaired, s.Strangers = 3, 4, 5, 6
	s.Tunnels[0].Rebuilt = 2
	s.Tunnels[0].Path = pmtud.Status{MTU: 1350, Phase: pmtud.Complete, Method: pmtud.MethodProbe, PeerMTU: 1390}
	s.Tunnels[0].Stats = tunnel.Stats{TXPackets: 1, TXBytes: 2, RXPackets: 3, RXBytes: 4, Drops: map[string]uint64{"mtu": 7}}
	s.Tunnels = append(s.Tunnels, TunnelView{Plan: TunnelPlan{Name: "tr1", Encapsulation: "vxlan", Pump: pump.TunnelConfig{Remote: addrPort("[2001:db8::1]:4790"), MTU: 1300}}, Err: errors.New("x")})
	s.Sessions = s.Sessions[:1]
	s.Sessions[0].Received, s.Sessions[0].Announced, s.Sessions[0].Uptime, s.Sessions[0].LastError = 10, 11, 61*time.Second, "once"
	s.Sessions[0].Accepted, s.Sessions[0].Flaps = 9, 3
	s.Budgets = []bgp.BudgetView{{Neighbor: "ars", Level: policy.BudgetWarning, Count: 12, Limit: 13, Aggregated: 14, Held: true, Reason: "full"}}
	const narrow = "tunnel tr0: the way to 198.51.100.4 carries inner packets of 1350 bytes only, 1400 are configured: a hop on it has a smaller MTU"
	want := control.Status{
		Version: control.V1(),
		Node:    control.Node{Name: "hub-nva", ASN: 64512, Site: "hub", Version: version.Get().Version, UptimeS: 3},
		Health:  control.HealthDegraded,
		Tunnels: []control.Tunnel{
			{
				Name: "tr0", Encapsulation: "vxlan", State: "up", Remote: "198.51.100.4", MTU: 1350, MTUConfigured: 1400, Rebuilt: 2,
				Path:      control.PathMTU{State: "complete", Method: "probe", PeerMTU: 1390},
				TXPackets: 1, TXBytes: 2, RXPackets: 3, RXBytes: 4, Drops: map[string]uint64{"mtu": 7},
			},
			{Name: "tr1", Encapsulation: "vxlan", State: "down", Remote: "2001:db8::1", MTU: 1300, MTUConfigured: 1300, Path: control.PathMTU{State: "unconfirmed", Method: "none"}, Drops: map[string]uint64{}},
		},
		BGP: []control.Session{{
			Peer: "192.0.2.68", Name: "ars", Role: "route-server", ASN: 64513, State: "established",
			Received: 10, Accepted: 9, Announced: 11, Flaps: 3, UptimeS: 61, LastError: "once",
		}},
		Routes:   control.RouteCounts{Site: 3, Remote: 4, Repaired: 5},
		Loops:    control.Loops{Tunnels: []control.TunnelLoop{}},
		Refused:  control.Refused{BGP: 6},
		Budgets:  []control.Budget{{RouteServer: "ars", Level: "warning", Used: 12, Limit: 13, Aggregated: 14, Held: true, Reason: "full"}},
		Warnings: []string{"tunnel tr1: x; tried again every second", "route server ars: full", narrow},
		Advice: []control.Advice{
			{Warning: "tunnel tr1: x; tried again every second", Run: "ip -d link show tr1"},
			{Warning: "route server ars: full", Run: "transitctl bgp routes --announced ars"},
			{Warning: narrow, Run: "transitctl pmtu tr0"},
		},
	}
	if d := diff(want, s.status()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestStatusEmpty checks that lists without entries are lists: a program that reads null has to be told.
func TestStatusEmpty(t *testing.T) {
	t.Parallel()
	st := (&snapshot{}).status()
	if st.Tunnels == nil || st.BGP == nil || st.Warnings == nil || st.Budgets == nil || st.Advice == nil {
		t.Errorf("a list is null: %+v", st)
	}
}
