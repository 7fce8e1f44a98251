package speaker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func addr(s string) netip.Addr                { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix            { return netip.MustParsePrefix(s) }
func diff(want, got any) string               { return cmp.Diff(want, got, options()...) }
func testRoute(p string, path ...uint32) Path { return Path{Prefix: prefix(p), ASPath: path} }
func testConfig(asn uint32, id string) Config {
	return Config{ASN: asn, RouterID: addr(id), Listen: at(id)}
}
func at(a string) netip.AddrPort               { return netip.AddrPortFrom(addr(a), DefaultPort) }
func testPeer(name, a string, asn uint32) Peer { return Peer{Name: name, Addr: addr(a), ASN: asn} }

func options() []cmp.Option {
	return []cmp.Option{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmpopts.EquateEmpty(),
	}
}

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, prefix(s))
	}
	return out
}

// pipeNet is a network of net.Pipe connections for synctest bubbles. It is
// every speaker's transport; a speaker dials from its Peer.Local.
type pipeNet struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*pipeListener
	dials     int
}

func newPipeNet() *pipeNet { return &pipeNet{listeners: make(map[netip.AddrPort]*pipeListener)} }

type pipeListener struct {
	n       *pipeNet
	addr    netip.AddrPort
	acceptC chan net.Conn
	doneC   chan struct{}
	once    sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.acceptC:
		return nc, nil
	case <-l.doneC:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		delete(l.n.listeners, l.addr)
		close(l.doneC)
	})
	return nil
}

func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// pipeConn is a net.Pipe end with addresses.
type pipeConn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c pipeConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c pipeConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (n *pipeNet) listen(_ context.Context, a netip.AddrPort) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[a] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := &pipeListener{n: n, addr: a, acceptC: make(chan net.Conn), doneC: make(chan struct{})}
	n.listeners[a] = l
	return l, nil
}

func (n *pipeNet) dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dials++
	l := n.listeners[remote]
	n.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	a, b := net.Pipe()
	from := netip.AddrPortFrom(local, 40000)
	select {
	case l.acceptC <- pipeConn{Conn: b, local: remote, remote: from}:
		return pipeConn{Conn: a, local: from, remote: remote}, nil
	case <-l.doneC:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *pipeNet) dialed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// start runs a speaker on the network; the returned function ends it and waits.
func (n *pipeNet) start(t *testing.T, cfg Config) (*Speaker, func()) {
	t.Helper()
	for i := range cfg.Peers {
		if !cfg.Peers[i].Local.IsValid() {
			cfg.Peers[i].Local = cfg.RouterID
		}
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.transport = n
	ctx, cancel := context.WithCancel(context.Background())
	errC := make(chan error, 1)
	go func() { errC <- s.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-errC; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return s, stop
}

// scripted is the far end of one connection, driven by the test message by message.
type scripted struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

func (n *pipeNet) connect(t *testing.T, from string, to string) *scripted {
	t.Helper()
	synctest.Wait() // for the listener
	nc, err := n.dial(t.Context(), addr(from), at(to))
	if err != nil {
		t.Fatal(err)
	}
	return newScripted(t, nc)
}

func newScripted(t *testing.T, nc net.Conn) *scripted {
	t.Cleanup(func() { _ = nc.Close() })
	return &scripted{t: t, nc: nc, r: bufio.NewReader(nc)}
}

func (s *scripted) send(m Message) {
	s.t.Helper()
	b, err := AppendMessage(nil, m)
	if err != nil {
		s.t.Fatal(err)
	}
	s.sendBytes(b)
}

func (s *scripted) sendBytes(b []byte) {
	s.t.Helper()
	if _, err := s.nc.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scripted) receive() Message {
	s.t.Helper()
	m, err := readMessage(s.r)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// want receives one message and compares it.
func (s *scripted) want(want Message) {
	s.t.Helper()
	if d := diff(want, s.receive()); d != "" {
		s.t.Fatalf("received message (-want +got):\n%s", d)
	}
}

// wantClosed checks that nothing comes any more.
func (s *scripted) wantClosed() {
	s.t.Helper()
	if m, err := readMessage(s.r); !errors.Is(err, io.EOF) {
		s.t.Fatalf("received %#v, %v; want the end of the connection", m, err)
	}
}

// establish goes through OPEN and KEEPALIVE.
func (s *scripted) establish(open *Open) *Open {
	s.t.Helper()
	s.send(open)
	got, ok := s.receive().(*Open)
	if !ok {
		s.t.Fatal("first message is no OPEN")
	}
	s.want(&Keepalive{})
	s.send(&Keepalive{})
	synctest.Wait()
	return got
}

// waitStates lets time pass until all neighbours of the speakers are established.
func waitEstablished(t *testing.T, speakers ...*Speaker) {
	t.Helper()
	for range 30 {
		synctest.Wait()
		if allEstablished(speakers) {
			return
		}
		time.Sleep(time.Second)
	}
	for _, s := range speakers {
		t.Errorf("not established: %+v", s.Status())
	}
	t.FailNow()
}

func allEstablished(speakers []*Speaker) bool {
	for _, s := range speakers {
		for _, p := range s.Status().Peers {
			if p.State != Established {
				return false
			}
		}
	}
	return true
}

func peerStatus(t *testing.T, s *Speaker, name string) PeerStatus {
	t.Helper()
	for _, p := range s.Status().Peers {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no neighbour %q", name)
	return PeerStatus{}
}

// seen renders routes as "prefix via hop: path", for tables a person can read.
func seen(paths []Path, err error) []string {
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, p := range paths {
		out = append(out, p.Prefix.String()+" via "+p.NextHop.String()+": "+p.ASPathString())
	}
	return out
}
