package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

// maxAnswer bounds an answer, in bytes: 10,000 routes have about 3 MB.
const maxAnswer = 256 << 20

// UnreachableError says that no daemon answers on the socket.
type UnreachableError struct {
	Socket string
	Err    error
}

// Error names the socket and the cause.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no transitd answers on %s: %v", e.Socket, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Client asks a daemon. It may be used by several goroutines at once.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client for a socket; nothing is opened before the first call.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// PID asks the kernel which process listens on the socket (unix(7), SO_PEERCRED);
// it is 0 for one of another PID namespace.
func (c *Client) PID(ctx context.Context) (int, error) {
	conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: c.socket, Net: "unix"})
	if err != nil {
		return 0, &UnreachableError{Socket: c.socket, Err: err}
	}
	defer func() { _ = conn.Close() }() // nothing was written
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", c.socket, err)
	}
	var cred *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) { cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, asked); err != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", c.socket, err)
	}
	return int(cred.Pid), nil
}

// Status asks for one screen about the node.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/status", nil, nil, &s)
	return s, err
}

// Tunnels asks for the tunnels.
func (c *Client) Tunnels(ctx context.Context) (t Tunnels, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/tunnels", nil, nil, &t)
	return t, err
}

// Sessions asks for the BGP sessions.
func (c *Client) Sessions(ctx context.Context) (s Sessions, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/bgp", nil, nil, &s)
	return s, err
}

// BGPRoutes asks for routes of BGP neighbours.
func (c *Client) BGPRoutes(ctx context.Context, q BGPRoutesQuery) (r BGPRoutes, err error) {
	v := url.Values{}
	if q.Direction != "" {
		v.Set("direction", string(q.Direction))
	}
	if q.Peer != "" {
		v.Set("peer", q.Peer)
	}
	err = c.do(ctx, http.MethodGet, "/v1/bgp/routes", v, nil, &r)
	return r, err
}

// Routes asks for the routes that transitd keeps in the kernel.
func (c *Client) Routes(ctx context.Context) (r Routes, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/routes", nil, nil, &r)
	return r, err
}

// Explain asks why packets to a prefix or an address go where they go.
// A site, a tunnel or a Route Server in from leaves out packets from elsewhere; empty is from everywhere.
func (c *Client) Explain(ctx context.Context, target, from string) (e Explanation, err error) {
	q := url.Values{"target": {target}}
	if from != "" {
		q.Set("from", from)
	}
	err = c.do(ctx, http.MethodGet, "/v1/explain", q, nil, &e)
	return e, err
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context, req ReloadRequest) (r Reload, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/reload", nil, req, &r)
	return r, err
}

// Drain begins to take the node out of the traffic, or brings it back.
func (c *Client) Drain(ctx context.Context, back bool) (d Drained, err error) {
	path := "/v1/drain"
	if back {
		path = "/v1/undrain"
	}
	err = c.do(ctx, http.MethodPost, path, nil, nil, &d)
	return d, err
}

// do sends one request and decodes the answer. The error is an
// *UnreachableError if nobody answers and an *Error if the daemon refuses.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body, answer any) error {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("control: encode the request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	u := url.URL{Scheme: "http", Host: "transitd", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return fmt.Errorf("control: make the request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the made-up URL
		}
		return &UnreachableError{Socket: c.socket, Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &UnreachableError{Socket: c.socket, Err: fmt.Errorf("read the answer: %w", err)}
	}
	return decodeAnswer(path, resp.StatusCode, b, answer)
}

// decodeAnswer reads an answer or the Failure in its place.
func decodeAnswer(path string, status int, b []byte, answer any) error {
	if status != http.StatusOK {
		var f Failure
		if err := json.Unmarshal(b, &f); err != nil || f.Error.Code == "" {
			return fmt.Errorf("control: %s answered with status %d: %.200q", path, status, b)
		}
		return &Error{Code: f.Error.Code, Message: f.Error.Message, Config: f.Error.Config}
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("control: decode the answer of %s: %w", path, err)
	}
	return nil
}
