package observe

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
)

// stage is a node for the tests: what it answers can be changed while it is served.
type stage struct {
	mu     sync.Mutex
	status control.Status
	ready  []string // why not; empty: ready
	stuck  string
	log    events.Log
}

func newStage() *stage { return &stage{status: healthyStatus()} }

func (s *stage) change(f func(*stage)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *stage) Status() control.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *stage) Readiness() control.Readiness {
	s.mu.Lock()
	defer s.mu.Unlock()
	return control.Readiness{Version: control.V1(), Ready: len(s.ready) == 0, Reasons: append([]string{}, s.ready...)}
}

func (s *stage) Alive() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stuck == "", s.stuck
}

func (s *stage) Events() *events.Log { return &s.log }

func (s *stage) BGPRoutes(q control.BGPRoutesQuery) (control.BGPRoutes, error) {
	return control.BGPRoutes{Version: control.V1(), Direction: q.Direction, Routes: []control.BGPRoute{}}, nil
}

func (s *stage) Routes() (control.Routes, error) {
	return control.Routes{
		Version: control.V1(),
		Routes: []control.KernelRoute{
			{Prefix: "10.0.0.0/16", Table: "site", TableID: 7002, Type: "unicast", Device: "eth0", Gateway: "10.0.2.1", Neighbor: "hub-ars"},
			{Prefix: "172.16.0.0/16", Table: "remote", TableID: 7003, Type: "unicast", Device: "tr0", Neighbor: "tr0"},
			{Prefix: "172.17.0.0/16", Table: "remote", TableID: 7003, Type: "unicast", Device: "tr0", Neighbor: "tr0"},
			{Prefix: "10.1.2.4/32", Table: "underlay", TableID: 7001, Type: "unicast", Device: "eth0", Gateway: "10.0.2.1"},
		},
		Refused: []control.RefusedRoute{{Prefix: "10.1.2.0/28", Rule: "covers-pinned", Reason: "it would lead the tunnel's own packets into the tunnel"}},
	}, nil
}

func (s *stage) Explain(_ context.Context, target, _ string) (control.Explanation, error) {
	return control.Explanation{Version: control.V1(), Target: target, Story: []string{
		"tr0 tells " + target + ", AS path 64513 398656.", "It is announced to hub-ars.", "The kernel sends a packet from eth0 out of tr0, by table remote.",
	}}, nil
}

func (s *stage) Reload(context.Context, control.ReloadRequest) (control.Reload, error) {
	panic("the web server reloaded the node")
}

func (s *stage) Rekey(context.Context, string, bool) (control.IPsecDone, error) {
	return control.IPsecDone{}, nil
}

func (s *stage) Terminate(context.Context, string) (control.IPsecDone, error) {
	return control.IPsecDone{}, nil
}

func (s *stage) Drain(context.Context, bool) (control.Drained, error) {
	panic("the web server drained the node")
}

func (s *stage) Ping(context.Context, control.PingQuery, func(control.PingRound)) (control.Pinged, error) {
	return control.Pinged{}, nil
}

func (s *stage) MeasurePath(context.Context, string, func(string)) (control.PMTU, error) {
	panic("the web server measured a path")
}

func (s *stage) Trace(context.Context, control.TraceQuery, func(control.TraceStep)) (control.Trace, error) {
	panic("the web server traced")
}

func (s *stage) Capture(context.Context, control.CaptureQuery, io.Writer) (control.Captured, error) {
	panic("the web server captured packets")
}

// healthyStatus is a hub with a Route Server and two tunnels.
func healthyStatus() control.Status {
	rtt, loss := uint64(1240), 0.0
	tunnel := func(name, remote string) control.Tunnel {
		return control.Tunnel{
			Name: name, Encapsulation: "vxlan", State: control.TunnelUp, Remote: remote, MTU: 1400, RTTMicros: &rtt, Loss: &loss, Drops: map[string]uint64{"too_big": 12},
			BFD: &control.BFD{State: "up", IntervalUS: 300_000, DetectUS: 900_000},
		}
	}
	encrypted := func(t control.Tunnel) control.Tunnel {
		rekey, ours, theirs := int64(1750), int64(61*86400), int64(20*86400)
		t.Encapsulation = "ipsec"
		t.IPsec = &control.IPsec{
			IKE:                 []control.IKESA{{State: "established", Proposal: "aes256gcm16-prfsha384-ecp384"}},
			Child:               []control.ChildSA{{State: "installed", Proposal: "aes256gcm16-ecp384-esn", RekeyInS: &rekey}},
			CertificateExpiresS: &ours, PeerCertificateExpiresS: &theirs,
		}
		return t
	}
	session := func(peer, name, role string, asn uint32, received, announced int) control.Session {
		return control.Session{Peer: peer, Name: name, Role: role, ASN: asn, State: control.SessionEstablished, Received: received, Accepted: received - 1, Announced: announced, UptimeS: 93_784}
	}
	return control.Status{
		Version: control.V1(), Health: control.HealthOK,
		Node:    control.Node{Name: "hub-nva", ASN: 64512, Site: "hub", Version: "v0.9.0", UptimeS: 93_784},
		Tunnels: []control.Tunnel{tunnel("tr0", "10.1.2.4"), encrypted(tunnel("tr1", "10.1.2.5"))},
		BGP: []control.Session{
			session("10.0.1.4", "hub-ars", "route-server", 65515, 42, 118), session("10.0.1.5", "hub-ars", "route-server", 65515, 42, 118),
			session("169.254.77.2", "tr0", "tunnel", 64513, 118, 42), session("169.254.78.2", "tr1", "tunnel", 64513, 118, 42),
		},
		Routes:  control.RouteCounts{Site: 42, Remote: 118, Repaired: 2},
		Drain:   control.Drain{State: control.DrainNone},
		Budgets: []control.Budget{{RouteServer: "hub-ars", Level: "ok", Used: 118, Limit: 2000}}, Warnings: []string{}, Advice: []control.Advice{},
	}
}

// serve runs a server for a node on a loopback port until the test ends, and returns its URL.
func serve(t testing.TB, n *stage, prepare ...func(*Server)) (s *Server, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = New(n, control.NewServer(n, nil).Reading(), nil)
	for _, f := range prepare {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, "http://" + l.Addr().String()
}

// get asks for a path and returns the answer, whose body is closed with the test.
func get(t *testing.T, url string, change ...func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}
