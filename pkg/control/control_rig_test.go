package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/transitd/transitd/pkg/events"
)

// fakeDaemon answers with fixed values; block, if set, holds Reload up.
type fakeDaemon struct {
	status  Status
	err     error
	reloads chan ReloadRequest
	block   chan struct{}
	log     events.Log
	late    error      // after something was told
	ended   chan error // why what was blocked ended
}

func newFake() *fakeDaemon {
	return &fakeDaemon{
		status: Status{
			Version: V1(), Health: HealthOK,
			Node:    Node{Name: "hub-nva", ASN: 64512, Site: "hub", Version: "devel", UptimeS: 7},
			Tunnels: []Tunnel{{Name: "tr0", State: TunnelUp, Drops: map[string]uint64{"wrong_vni": 2}}},
			BGP:     []Session{{Peer: "192.0.2.4", Name: "hub-ars", State: SessionEstablished}},
		},
		reloads: make(chan ReloadRequest, 10), ended: make(chan error, 10),
	}
}

func (f *fakeDaemon) Status() Status { return f.status }

func (f *fakeDaemon) BGPRoutes(q BGPRoutesQuery) (BGPRoutes, error) {
	return BGPRoutes{Version: V1(), Direction: q.Direction, Routes: []BGPRoute{{Prefix: "192.0.2.0/24", Neighbor: q.Peer}}}, f.err
}

func (f *fakeDaemon) Routes() (Routes, error) { return Routes{Version: V1()}, f.err }

func (f *fakeDaemon) Explain(_ context.Context, target, _ string) (Explanation, error) {
	return Explanation{Version: V1(), Target: target}, f.err
}

func (f *fakeDaemon) Reload(_ context.Context, req ReloadRequest) (Reload, error) {
	if f.block != nil {
		<-f.block
	}
	f.reloads <- req
	return Reload{Version: V1(), DryRun: req.DryRun}, f.err
}

// pipeListener is a listener in memory, whose time a synctest bubble rules.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial opens a connection; it is closed with the test.
func (l *pipeListener) dial(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	select {
	case l.conns <- server:
	case <-l.closed:
		t.Fatal("dial: the listener is closed")
	}
	return client
}

// start runs a server on l and stops it with the returned function, which waits.
func start(t *testing.T, s *Server, l net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

var errBroken = errors.New("read the kernel's table: interrupted")

func (f *fakeDaemon) Drain(_ context.Context, back bool) (Drained, error) {
	d := Drained{Version: V1(), Drain: Drain{State: DrainAvoid}}
	if back {
		d.Drain.State = DrainNone
	}
	return d, f.err
}

func (f *fakeDaemon) Rekey(_ context.Context, tunnel string, ike bool) (IPsecDone, error) {
	done := "child"
	if ike {
		done = "ike"
	}
	return IPsecDone{Version: V1(), Tunnel: tunnel, Done: done}, f.err
}

func (f *fakeDaemon) Terminate(_ context.Context, tunnel string) (IPsecDone, error) {
	return IPsecDone{Version: V1(), Tunnel: tunnel, Done: "terminated"}, f.err
}

func (f *fakeDaemon) Events() *events.Log { return &f.log }

func (f *fakeDaemon) Ping(ctx context.Context, q PingQuery, each func(PingRound)) (Pinged, error) {
	us := uint64(1500)
	for i := range q.Count {
		each(PingRound{Number: i + 1, TunnelUS: &us})
	}
	return Pinged{Version: V1(), Tunnel: q.Tunnel, Rounds: []PingRound{}, Inside: PingSide{Quality: Quality{Sent: q.Count}}, OK: true}, ctx.Err()
}

func (f *fakeDaemon) MeasurePath(ctx context.Context, tunnel string, progress func(string)) (PMTU, error) {
	if f.err != nil {
		return PMTU{}, f.err
	}
	progress("the peer answers")
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			f.ended <- ctx.Err()
			return PMTU{}, ctx.Err()
		}
	}
	return PMTU{Version: V1(), Tunnel: tunnel}, nil
}

func (f *fakeDaemon) Trace(_ context.Context, q TraceQuery, each func(TraceStep)) (Trace, error) {
	if f.err != nil {
		return Trace{}, f.err
	}
	step := TraceStep{Part: TraceInner, TTL: 1, Address: q.Target}
	each(step)
	if f.late != nil {
		return Trace{}, f.late
	}
	return Trace{Version: V1(), Target: q.Target, From: q.From, Steps: []TraceStep{step}}, nil
}

func (f *fakeDaemon) Capture(ctx context.Context, q CaptureQuery, w io.Writer) (Captured, error) {
	if f.err != nil {
		return Captured{}, f.err
	}
	fmt.Fprintf(w, "%s %s %q %d %s %d", q.Tunnel, q.Layer, q.Filter, q.Count, q.Duration, q.Snap)
	if f.block != nil {
		<-ctx.Done()
		f.ended <- ctx.Err()
	}
	return Captured{Packets: 3, Dropped: 2, Ended: "count"}, f.late
}
