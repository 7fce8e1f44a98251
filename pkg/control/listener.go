package control

import (
	"net"
	"sync"
	"sync/atomic"
)

// trackedConn is a connection of a limitListener.
type trackedConn struct {
	net.Conn
	// pending is set while bytes of a request came that no handler has seen yet.
	pending atomic.Bool
	release func()
}

// Close closes the connection and frees its place, once.
func (c *trackedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// limitListener has at most n connections open; the next client waits in the
// socket's backlog until one ends, which the server's deadlines see to.
type limitListener struct {
	net.Listener
	places chan struct{}
	open   sync.WaitGroup
	closed chan struct{}
	once   sync.Once
}

func newLimitListener(l net.Listener, n int) *limitListener {
	return &limitListener{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits for a free place, then for a client.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	l.open.Add(1)
	return &trackedConn{Conn: c, release: sync.OnceFunc(func() {
		<-l.places
		l.open.Done()
	})}, nil
}

// Close ends Accept.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// wait returns when all connections are closed.
func (l *limitListener) wait() { l.open.Wait() }
