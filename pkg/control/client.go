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
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxAnswer bounds an answer, in bytes: 10,000 routes have about 3 MB.
const maxAnswer = 256 << 20

// How long a Client waits for an answer, if nothing else is asked for.
const (
	askTimeout    = 10 * time.Second
	changeTimeout = requestTimeout + writeTimeout // a reload may have to wait for peers
)

// ErrSilent is in an *UnreachableError if somebody took the connection and then said nothing in time.
var ErrSilent = errors.New("it hangs")

// VersionError says that client and daemon are of different versions and do not understand each other.
type VersionError struct {
	Socket string
	Msg    string
}

// Error names the socket and what was not understood.
func (e *VersionError) Error() string { return fmt.Sprintf("the daemon on %s %s", e.Socket, e.Msg) }

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
	// Timeout is how long to wait for an answer; 0 is 10 s, and 70 s for what changes something.
	Timeout time.Duration

	socket  string
	http    *http.Client
	silence time.Duration // of a stream, until it is given up
}

// NewClient makes a client for a socket; nothing is opened before the first call.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, silence: streamSilence, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Socket is the socket's name.
func (c *Client) Socket() string { return c.socket }

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

// timeout is how long to wait for the answer to a request.
func (c *Client) timeout(method string) time.Duration {
	switch {
	case c.Timeout > 0:
		return c.Timeout
	case method == http.MethodGet:
		return askTimeout
	default:
		return changeTimeout
	}
}

// silent is the cause that ends a request after d without an answer.
func silent(d time.Duration) error { return fmt.Errorf("no answer within %s: %w", d, ErrSilent) }

// unreachable says why a request failed, without the made-up URL that net/http names.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrSilent) {
		err = cause
	} else if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return &UnreachableError{Socket: c.socket, Err: err}
}

// do sends one request and decodes the answer. The error is an
// *UnreachableError if nobody answers in time, an *Error if the daemon refuses,
// and a *VersionError if it is too old or too new.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body, answer any) error {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("control: encode the request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	limit := c.timeout(method)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, silent(limit))
	defer cancel()
	u := url.URL{Scheme: "http", Host: "transitd", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return fmt.Errorf("control: make the request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, fmt.Errorf("read the answer: %w", err))
	}
	return c.decode(path, resp.StatusCode, b, answer)
}

// decode reads an answer or the Failure in its place.
func (c *Client) decode(path string, status int, b []byte, answer any) error {
	if status != http.StatusOK {
		var f Failure
		if err := json.Unmarshal(b, &f); err != nil || f.Error.Code == "" {
			return c.stranger(fmt.Sprintf("answered %s with status %d: %.200q", path, status, b))
		}
		if f.Error.Code == CodeNotFound && strings.HasPrefix(f.Error.Message, noSuchPath) {
			return &VersionError{Socket: c.socket, Msg: fmt.Sprintf("does not know %s: it is older than this program", path)}
		}
		return &Error{Code: f.Error.Code, Message: f.Error.Message, Config: f.Error.Config}
	}
	var v Version
	if err := json.Unmarshal(b, &v); err != nil {
		return c.stranger(fmt.Sprintf("answered %s with %.200q", path, b))
	}
	switch {
	case v.SchemaVersion == 0:
		return c.stranger(fmt.Sprintf("gave %s no schema_version", path))
	case v.SchemaVersion != SchemaVersion:
		return &VersionError{Socket: c.socket, Msg: fmt.Sprintf("answers with schema_version %d, this program understands %d: use the one that came with the daemon", v.SchemaVersion, SchemaVersion)}
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return &VersionError{Socket: c.socket, Msg: fmt.Sprintf("gave %s an answer that this program does not understand: %v", path, err)}
	}
	return nil
}

// stranger is for answers that no transitd gives.
func (c *Client) stranger(what string) error {
	return &UnreachableError{Socket: c.socket, Err: fmt.Errorf("something else listens there; it %s", what)}
}
