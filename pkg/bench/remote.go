package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/transitd/transitd/pkg/bench/load"
	"github.com/transitd/transitd/pkg/netns"
)

// RemotePort is the port of Serve: TCP for control and data, and UDP for packets.
const RemotePort = 7779

// Everything on the wire between Client and Serve is a line of JSON, except for
// what follows opData: the bytes that are measured.
const (
	opControl = "control" // the first line of the connection that asks
	opData    = "data"    // the first line of a connection that carries bytes
	opTCP     = "tcp"     // count bytes of data connections until opEnd
	opUDP     = "udp"     // count packets until opEnd
	opEnd     = "end"     // answered with what was counted
)

type request struct {
	Op    string `json:"op"`
	Flows int    `json:"flows,omitempty"` // opUDP: how many the packets carry
}

type answer struct {
	Error     string   `json:"error,omitempty"`
	Machine   *Machine `json:"machine,omitempty"` // of opControl
	Bytes     uint64   `json:"bytes,omitempty"`   // of TCP
	Seconds   float64  `json:"seconds,omitempty"` // of TCP, from the first to the last byte
	Received  uint64   `json:"received,omitempty"`
	Reordered uint64   `json:"reordered,omitempty"`
	Bits      uint64   `json:"bits,omitempty"`
}

const (
	// remoteSilence is how long Serve waits for what has to come.
	remoteSilence = 2 * time.Minute
	remoteFlows   = 64
)

// Serve is the far end of a Client, for one of them at a time, until ctx is
// done. It asks nobody who they are: run it while you measure, no longer. It
// only receives, so it cannot be used to flood a third party.
func Serve(ctx context.Context, listen string, log func(format string, args ...any)) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", listen)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer l.Close()
	s := &server{log: log, machine: ThisMachine()}
	if s.addr, err = netip.ParseAddrPort(l.Addr().String()); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	log("listening on %s", s.addr)
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			if err := s.handle(ctx, c); err != nil && ctx.Err() == nil {
				log("%s: %v", c.RemoteAddr(), err)
			}
		})
	}
}

type server struct {
	log     func(string, ...any)
	machine Machine
	addr    netip.AddrPort
	session sync.Mutex // held by the control connection that is served

	mu    sync.Mutex
	bytes *byteCount // of the TCP test that is running
}

// byteCount is what the data connections of a test brought.
type byteCount struct {
	mu          sync.Mutex
	bytes       uint64
	first, last time.Time
}

func (b *byteCount) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Now()
	if b.bytes == 0 {
		b.first = b.last
	}
	b.bytes += uint64(n)
}

func (s *server) counter() *byteCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

func (s *server) setCounter(b *byteCount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes = b
}

func (s *server) handle(ctx context.Context, c net.Conn) error {
	w := newLines(c)
	var first request
	if err := w.read(&first); err != nil {
		return err
	}
	switch first.Op {
	case opData:
		return s.data(c, w.in)
	case opControl:
		if !s.session.TryLock() {
			return w.write(answer{Error: "busy with another client"})
		}
		defer s.session.Unlock()
		s.log("%s: measures", c.RemoteAddr())
		err := s.control(ctx, w)
		if errors.Is(err, io.EOF) {
			s.log("%s: done", c.RemoteAddr())
			return nil
		}
		return err
	}
	return fmt.Errorf("it asks for %q", first.Op)
}

// data counts the bytes of one connection; closing tells the client that all were read.
func (s *server) data(c net.Conn, in io.Reader) error {
	count := s.counter()
	if count == nil {
		return errors.New("data without a test")
	}
	buf := make([]byte, 256<<10)
	for {
		if err := c.SetReadDeadline(time.Now().Add(remoteSilence)); err != nil {
			return fmt.Errorf("read data: %w", err)
		}
		n, err := in.Read(buf)
		if n > 0 {
			count.add(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read data: %w", err)
		}
	}
}

func (s *server) control(ctx context.Context, w *lines) error {
	if err := w.write(answer{Machine: &s.machine}); err != nil {
		return err
	}
	for {
		var r request
		if err := w.read(&r); err != nil {
			return err
		}
		var a answer
		var err error
		switch r.Op {
		case opTCP:
			a, err = s.tcp(w)
		case opUDP:
			a, err = s.udp(ctx, w, r.Flows)
		default:
			a.Error = fmt.Sprintf("there is no %q", r.Op)
		}
		if err == nil {
			err = w.write(a)
		}
		if err != nil {
			return err
		}
	}
}

// tcp counts until the end, which the client says after its data connections were closed.
func (s *server) tcp(w *lines) (answer, error) {
	count := &byteCount{}
	s.setCounter(count)
	defer s.setCounter(nil)
	if err := w.untilEnd(); err != nil {
		return answer{}, err
	}
	count.mu.Lock()
	defer count.mu.Unlock()
	return answer{Bytes: count.bytes, Seconds: count.last.Sub(count.first).Seconds()}, nil
}

func (s *server) udp(ctx context.Context, w *lines, flows int) (answer, error) {
	if flows < 1 || flows > remoteFlows {
		return answer{Error: fmt.Sprintf("%d flows: there may be 1 to %d", flows, remoteFlows)}, nil
	}
	sink, err := load.NewSink(load.Endpoint{NS: netns.NS{}, Addr: s.addr.Addr()}, s.addr.Port())
	if err != nil {
		return answer{Error: err.Error()}, nil //nolint:nilerr // the client is told
	}
	defer sink.Close() //nolint:errcheck // nothing is buffered
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var got load.Result
	var countErr error
	wg.Go(func() { got, countErr = sink.Count(ctx, flows) })
	endErr := w.untilEnd()
	stop()
	wg.Wait()
	if err := errors.Join(endErr, countErr); err != nil {
		return answer{}, err
	}
	return answer{Received: got.Received, Reordered: got.Reordered, Bits: got.Bits}, nil
}

// lines are JSON values, one a line, with a limit to how long the other may be silent.
type lines struct {
	c  net.Conn
	in *bufio.Reader
}

func newLines(c net.Conn) *lines { return &lines{c, bufio.NewReaderSize(c, 16<<10)} }

func (l *lines) read(v any) error {
	if err := l.c.SetReadDeadline(time.Now().Add(remoteSilence)); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	line, err := l.in.ReadSlice('\n') // at most the buffer
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

func (l *lines) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := l.c.SetWriteDeadline(time.Now().Add(remoteSilence)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if _, err := l.c.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// untilEnd says that the test can begin, and waits for its end.
func (l *lines) untilEnd() error {
	if err := l.write(answer{}); err != nil {
		return err
	}
	var r request
	if err := l.read(&r); err != nil {
		return err
	}
	if r.Op != opEnd {
		return fmt.Errorf("%q instead of the end", r.Op)
	}
	return nil
}
