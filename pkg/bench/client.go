package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/bench/load"
	"github.com/transitd/transitd/pkg/netns"
)

// Network is the profile of what Client measures: whatever lies between two machines.
const Network Profile = "network"

// RemoteTests are what Client can measure.
func RemoteTests() []string { return []string{"tcp", "pps"} }

// RemoteOptions are what Client measures.
type RemoteOptions struct {
	Server   string // of Serve: IPv4 address and port
	Subject  string // what the results are called
	Tests    []string
	Rounds   int
	Duration time.Duration // of one measurement
	Progress func(done, total int, what string)
}

// Client measures the way to a machine where Serve runs, whatever it is.
func Client(ctx context.Context, o RemoteOptions) (*Report, error) {
	c, err := dialRemote(ctx, o)
	if err != nil {
		return nil, err
	}
	defer c.close()
	r := &Report{Version: schemaVersion, Machine: ThisMachine(), Settings: Settings{Rounds: o.Rounds, DurationS: o.Duration.Seconds()}}
	if r.Machine.Peers == nil {
		r.Machine.Peers = map[string]string{}
	}
	r.Machine.Peers["server"] = fmt.Sprintf("%s, %d processors, Linux %s", c.far.CPU, c.far.Cores, c.far.Kernel)
	all := newSeries()
	for round := range o.Rounds {
		for i, test := range o.Tests {
			if o.Progress != nil {
				o.Progress(round*len(o.Tests)+i, o.Rounds*len(o.Tests), fmt.Sprintf("round %d of %d: %s", round+1, o.Rounds, test))
			}
			samples, err := c.measure(ctx, test, r)
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			if err != nil {
				return r, fmt.Errorf("%s: %w", test, err)
			}
			for _, s := range samples {
				all.add(o.Subject, Network, round, s)
			}
		}
	}
	r.Results = all.results()
	return r, nil
}

type client struct {
	o    RemoteOptions
	addr netip.AddrPort
	own  netip.Addr
	w    *lines
	far  Machine
	stop func() bool
}

func dialRemote(ctx context.Context, o RemoteOptions) (*client, error) {
	conn, err := dialTCP(ctx, o.Server)
	if err != nil {
		return nil, fmt.Errorf("reach the server: %w (is \"transitbench serve\" running there?)", err)
	}
	c := &client{o: o, w: newLines(conn), stop: context.AfterFunc(ctx, func() { _ = conn.Close() })}
	// The route that the packets take decides from where they come.
	own, ownErr := netip.ParseAddrPort(conn.LocalAddr().String())
	addr, addrErr := netip.ParseAddrPort(conn.RemoteAddr().String())
	c.own, c.addr = own.Addr(), addr
	a, err := c.ask(request{Op: opControl})
	if err := errors.Join(ownErr, addrErr, err); err != nil {
		c.close()
		return nil, err
	}
	if a.Machine != nil {
		c.far = *a.Machine
	}
	return c, nil
}

func (c *client) close() {
	c.stop()
	_ = c.w.c.Close()
}

// dialTCP connects with the congestion control that all tests use.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") }); cerr != nil {
			return cerr
		}
		return err
	}}
	return d.DialContext(ctx, "tcp4", addr)
}

// ask sends a request and reads the answer.
func (c *client) ask(r request) (a answer, err error) {
	if err := c.w.write(r); err != nil {
		return a, fmt.Errorf("ask the server: %w", err)
	}
	if err := c.w.read(&a); err != nil {
		return a, fmt.Errorf("ask the server: %w", err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("the server says: %s", a.Error)
	}
	return a, nil
}

func (c *client) measure(ctx context.Context, test string, r *Report) ([]sample, error) {
	switch test {
	case "tcp":
		one, err := c.tcp(ctx, 1)
		if err != nil {
			return nil, err
		}
		eight, err := c.tcp(ctx, 8)
		if err != nil {
			return nil, err
		}
		return []sample{{TCP1, gbps, one}, {TCP8, gbps, eight}}, nil
	case "pps":
		return c.pps(ctx, r)
	}
	return nil, fmt.Errorf("there is no test %q", test)
}

// tcp returns what arrived, in Gbit/s.
func (c *client) tcp(ctx context.Context, flows int) (float64, error) {
	if _, err := c.ask(request{Op: opTCP}); err != nil {
		return 0, err
	}
	errs := make([]error, flows)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = c.flow(ctx) })
	}
	wg.Wait()
	a, err := c.ask(request{Op: opEnd})
	if err := errors.Join(append(errs, err)...); err != nil {
		return 0, err
	}
	if a.Bytes == 0 || a.Seconds <= 0 {
		return 0, errors.New("no byte arrived")
	}
	return float64(a.Bytes) * 8 / a.Seconds / 1e9, nil
}

// flow sends for the duration, and returns when the server has read it all.
func (c *client) flow(ctx context.Context) error {
	conn, err := dialTCP(ctx, c.addr.String())
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := newLines(conn).write(request{Op: opData}); err != nil {
		return err
	}
	end := time.Now().Add(c.o.Duration)
	if err := conn.SetDeadline(end.Add(remoteSilence / 4)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for buf := make([]byte, 256<<10); time.Now().Before(end); {
		if _, err := conn.Write(buf); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	if t, ok := conn.(*net.TCPConn); ok {
		if err := t.CloseWrite(); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return fmt.Errorf("wait for the server: %w", err)
	}
	return nil
}

func (c *client) pps(ctx context.Context, r *Report) ([]sample, error) {
	s := load.Search{
		Load: load.Load{
			From: load.Endpoint{NS: netns.NS{}, Addr: c.own}, To: load.Endpoint{NS: netns.NS{}, Addr: c.addr.Addr()},
			Port: c.addr.Port(), Flows: 1, Sizes: load.Fixed(smallBytes),
		},
		Resolution: 0.05, Trial: c.o.Duration / searchTrials, Retries: 1,
	}
	best, flood, trials, err := s.RunWith(ctx, c.packets)
	if err != nil {
		return nil, err
	}
	r.setLoss(lossCurve(c.o.Subject, Network, trials))
	return []sample{{LossFree, pps, best}, {Flood, pps, flood}}, nil
}

// packets sends a load, and says what the server received.
func (c *client) packets(ctx context.Context, l load.Load) (r load.Result, err error) {
	if _, err := c.ask(request{Op: opUDP, Flows: l.Flows}); err != nil {
		return r, err
	}
	r.Sent, r.Elapsed, err = load.Send(ctx, l)
	if err != nil {
		return r, err
	}
	a, err := c.ask(request{Op: opEnd})
	if err != nil {
		return r, err
	}
	r.Received, r.Reordered, r.Bits = a.Received, a.Reordered, a.Bits
	if r.Received == 0 {
		return r, fmt.Errorf("%d packets from %s to %s: %w", r.Sent, l.From.Addr, l.To.Addr, load.ErrNothing)
	}
	return r, nil
}
