package fabric

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Client talks to the agent. It is safe for concurrent use.
type Client struct {
	http http.Client
}

// NewClient returns a client for the agent's socket; nothing is dialled yet.
func NewClient(socket string) *Client {
	return &Client{http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}}
}

// State asks for counters and for what the Route Servers learned.
func (c *Client) State(ctx context.Context) (State, error) {
	var s State
	return s, c.get(ctx, "/state", &s)
}

// Effective asks for the effective routes of a NIC.
func (c *Client) Effective(ctx context.Context, nic string) ([]Route, error) {
	var routes []Route
	return routes, c.get(ctx, "/effective/"+nic, &routes)
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://fabric"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the fabric agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("ask the fabric agent for %s: %s", path, strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("read the fabric agent's answer to %s: %w", path, err)
	}
	return nil
}

// Feed is an instance's open connection to the agent. While it is open, what was sent last holds.
type Feed struct {
	w    *io.PipeWriter
	stop context.CancelFunc
	wg   sync.WaitGroup
	err  error // of the request; set before wg is done
}

// Feed connects a Route Server instance. The connection is made in the background; Send shows if it failed.
func (c *Client) Feed(ctx context.Context, routeServer, instance string) (*Feed, error) {
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://fabric/learn/"+routeServer+"/"+instance, r)
	if err != nil {
		stop()
		return nil, err
	}
	f := &Feed{w: w, stop: stop}
	f.wg.Go(func() {
		resp, err := c.http.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		if err == nil {
			err = io.ErrClosedPipe
		}
		f.err = err
		r.CloseWithError(err) // unblocks Send
	})
	return f, nil
}

// Send tells the agent all that the instance knows now. It blocks until it is on its way; Close unblocks it.
func (f *Feed) Send(routes []BGPRoute) error {
	if err := json.NewEncoder(f.w).Encode(Learned{Routes: routes}); err != nil {
		return fmt.Errorf("tell the fabric agent %d routes: %w", len(routes), err)
	}
	return nil
}

// Close ends the connection, and with it what the instance said.
func (f *Feed) Close() {
	f.w.CloseWithError(io.EOF)
	f.stop()
	f.wg.Wait()
}
