package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/sse"
)

const (
	// maxProbers is how many of these requests may be under way at once.
	maxProbers = 4
	// probeTimeout bounds a measurement and a trace.
	probeTimeout = 90 * time.Second
	// flushInterval is how long captured packets may wait for others.
	flushInterval = 200 * time.Millisecond
)

// streamer is an answer that takes a while and is sent piece by piece.
type streamer interface {
	stream(s *Server, w http.ResponseWriter, r *http.Request)
}

// job is a request that tells how it goes on: events until "result" or "error".
type job struct {
	limit time.Duration
	run   func(ctx context.Context, tell func(event string, v any)) (any, error)
}

// enter takes a place among the probers.
func (s *Server) enter() error {
	select {
	case s.probers <- struct{}{}:
		return nil
	default:
		return &Error{Code: CodeBusy, Message: fmt.Sprintf("%d measurements, traces and captures are under way already; no more can", maxProbers)}
	}
}

// bounded is the context of a job: it ends with the client, the server and the time.
func bounded(r *http.Request, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	stop, _ := r.Context().Value(stopKey{}).(<-chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-stop:
			cancel()
		}
	}()
	return ctx, cancel
}

func (j *job) stream(s *Server, w http.ResponseWriter, r *http.Request) {
	if err := s.enter(); err != nil {
		status, answer := s.failure(r, err)
		s.write(w, r, status, answer)
		return
	}
	defer func() { <-s.probers }()
	ctx, cancel := bounded(r, j.limit)
	defer cancel()
	var out *sse.Writer // from the first word on, so that an error before it has its own status
	tell := func(event string, v any) {
		data, err := json.Marshal(v)
		if err != nil {
			s.log.Error("cannot encode an answer", zap.String("path", r.URL.Path), zap.Error(err))
			cancel()
			return
		}
		if out == nil {
			out = sse.NewWriter(w)
		}
		if out.Send(event, "", data) != nil {
			cancel() // nobody listens any more
		}
	}
	result, err := j.run(ctx, tell)
	switch {
	case err == nil:
		tell("result", result)
	case out == nil:
		status, answer := s.failure(r, err)
		s.write(w, r, status, answer)
	default:
		_, answer := s.failure(r, err)
		tell("error", answer)
	}
}

func (s *Server) pmtu(_ *http.Request, q url.Values) (any, error) {
	return &job{limit: probeTimeout, run: func(ctx context.Context, tell func(string, any)) (any, error) {
		return s.daemon.MeasurePath(ctx, q.Get("tunnel"), func(text string) { tell("progress", text) })
	}}, nil
}

func (s *Server) trace(_ *http.Request, q url.Values) (any, error) {
	query := TraceQuery{Target: q.Get("target"), From: q.Get("from")}
	p, err := ParseTarget(query.Target)
	if err != nil || !p.IsSingleIP() {
		return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("%.60q is no address", query.Target)}
	}
	return &job{limit: probeTimeout, run: func(ctx context.Context, tell func(string, any)) (any, error) {
		return s.daemon.Trace(ctx, query, func(step TraceStep) { tell("step", step) })
	}}, nil
}

// recording is a capture under way.
type recording struct{ query CaptureQuery }

func (s *Server) capture(_ *http.Request, q url.Values) (any, error) {
	query, err := parseCapture(q)
	if err != nil {
		return nil, &Error{Code: CodeBadRequest, Message: err.Error()}
	}
	return &recording{query}, nil
}

// parseCapture reads and bounds a query.
func parseCapture(v url.Values) (q CaptureQuery, err error) {
	q = CaptureQuery{Tunnel: v.Get("tunnel"), Layer: Layer(v.Get("layer")), Filter: v.Get("filter")}
	switch q.Layer {
	case "":
		q.Layer = LayerInner
	case LayerInner, LayerOuter, LayerDecrypted:
	default:
		return q, fmt.Errorf("layer %.50q is neither inner, outer nor decrypted", q.Layer)
	}
	if len(q.Filter) > 1000 {
		return q, errors.New("the filter is longer than 1000 bytes")
	}
	if q.Count, err = number(v, "count", DefaultCaptureCount, MaxCaptureCount); err != nil {
		return q, err
	}
	if q.Snap, err = number(v, "snaplen", DefaultCaptureSnap, MaxCaptureSnap); err != nil {
		return q, err
	}
	ms, err := number(v, "duration_ms", int(DefaultCaptureDuration/time.Millisecond), int(MaxCaptureDuration/time.Millisecond))
	q.Duration = time.Duration(ms) * time.Millisecond
	return q, err
}

// number reads a parameter of 1 to most.
func number(v url.Values, name string, or, most int) (int, error) {
	text := v.Get(name)
	if text == "" {
		return or, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s is a number of 1 to %d, not %.50q", name, most, text)
	}
	return n, nil
}

// The trailers of a capture, which say how it ended.
const (
	trailerPackets = "Transitd-Packets"
	trailerDropped = "Transitd-Dropped"
	trailerEnded   = "Transitd-Ended"
	trailerError   = "Transitd-Error"
)

func (c *recording) stream(s *Server, w http.ResponseWriter, r *http.Request) {
	if err := s.enter(); err != nil {
		status, answer := s.failure(r, err)
		s.write(w, r, status, answer)
		return
	}
	defer func() { <-s.probers }()
	ctx, cancel := bounded(r, c.query.Duration+writeTimeout)
	defer cancel()
	out := &flusher{w: w, ctrl: http.NewResponseController(w)}
	done, err := s.daemon.Capture(ctx, c.query, out)
	if err != nil && !out.begun {
		status, answer := s.failure(r, err)
		s.write(w, r, status, answer)
		return
	}
	h := w.Header()
	h.Set(trailerPackets, strconv.FormatUint(done.Packets, 10))
	h.Set(trailerDropped, strconv.FormatUint(done.Dropped, 10))
	h.Set(trailerEnded, done.Ended)
	if err != nil {
		h.Set(trailerError, err.Error())
	}
}

// flusher sends what is written soon, and gives each write a deadline.
type flusher struct {
	w     http.ResponseWriter
	ctrl  *http.ResponseController
	begun bool
	at    time.Time
}

func (f *flusher) Write(b []byte) (int, error) {
	if !f.begun {
		f.begun = true
		h := f.w.Header()
		h.Set("Content-Type", "application/x-pcapng")
		for _, name := range []string{trailerPackets, trailerDropped, trailerEnded, trailerError} {
			h.Add("Trailer", name)
		}
		f.w.WriteHeader(http.StatusOK)
	}
	_ = f.ctrl.SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection without deadlines (in a test) is no reason not to send
	n, err := f.w.Write(b)
	if err != nil {
		return n, fmt.Errorf("send packets: %w", err)
	}
	if now := time.Now(); now.Sub(f.at) >= flushInterval {
		f.at = now
		if err := f.ctrl.Flush(); err != nil {
			return n, fmt.Errorf("send packets: %w", err)
		}
	}
	return n, nil
}

// MeasurePath measures what a tunnel's path carries; progress gets sentences meanwhile.
func (c *Client) MeasurePath(ctx context.Context, tunnel string, progress func(string)) (p PMTU, err error) {
	err = c.job(ctx, "/v1/pmtu", url.Values{"tunnel": {tunnel}}, &p, map[string]func([]byte) error{
		"progress": func(b []byte) error {
			var text string
			err := json.Unmarshal(b, &text)
			progress(text)
			return err
		},
	})
	return p, err
}

// Trace finds the way to an address; each gets the hops as they are found.
func (c *Client) Trace(ctx context.Context, q TraceQuery, each func(TraceStep)) (t Trace, err error) {
	v := url.Values{"target": {q.Target}}
	if q.From != "" {
		v.Set("from", q.From)
	}
	err = c.job(ctx, "/v1/trace", v, &t, map[string]func([]byte) error{
		"step": func(b []byte) error {
			var s TraceStep
			err := json.Unmarshal(b, &s)
			each(s)
			return err
		},
	})
	return t, err
}

// begin sends a request whose answer is read piece by piece. The caller closes the body.
func (c *Client) begin(ctx context.Context, path, contentType string, q url.Values) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "transitd", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("control: make the request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK && resp.Header.Get("Content-Type") == contentType {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, c.unreachable(ctx, fmt.Errorf("read the answer: %w", err))
	}
	if err := c.decode(path, resp.StatusCode, b, &Version{}); err != nil {
		return nil, err
	}
	return nil, c.stranger(fmt.Sprintf("answered %s with %.200q", path, b))
}

// within ends a request that the daemon does not end in time; the longest that it takes by itself is known.
func (c *Client) within(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	limit := most + writeTimeout
	if c.Timeout > 0 {
		limit = c.Timeout
	}
	return context.WithTimeoutCause(ctx, limit, silent(limit))
}

// job runs a job to its result.
func (c *Client) job(ctx context.Context, path string, q url.Values, result any, on map[string]func([]byte) error) error {
	ctx, cancel := c.within(ctx, probeTimeout)
	defer cancel()
	resp, err := c.begin(ctx, path, "text/event-stream", q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := sse.NewReader(resp.Body)
	for {
		m, err := in.Next()
		switch {
		case errors.Is(context.Cause(ctx), ErrSilent):
			return c.unreachable(ctx, err)
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return &UnreachableError{Socket: c.socket, Err: errors.New("the daemon ended the answer")}
		case m.Name == "result":
			return c.decode(path, http.StatusOK, m.Data, result)
		case m.Name == "error":
			return c.decode(path, http.StatusInternalServerError, m.Data, nil)
		}
		if f := on[m.Name]; f != nil {
			if err := f(m.Data); err != nil {
				return fmt.Errorf("control: decode a part of the answer of %s: %w", path, err)
			}
		}
	}
}

// Capture writes captured packets as pcapng to w until the capture ends or ctx
// is done, which is no error.
func (c *Client) Capture(ctx context.Context, q CaptureQuery, w io.Writer) (Captured, error) {
	v := url.Values{"tunnel": {q.Tunnel}, "layer": {string(q.Layer)}, "filter": {q.Filter}}
	for name, n := range map[string]int{"count": q.Count, "snaplen": q.Snap, "duration_ms": int(q.Duration / time.Millisecond)} {
		if n != 0 {
			v.Set(name, strconv.Itoa(n))
		}
	}
	ctx, cancel := c.within(ctx, cmp.Or(q.Duration, DefaultCaptureDuration)+writeTimeout)
	defer cancel()
	resp, err := c.begin(ctx, "/v1/capture", "application/x-pcapng", v)
	if err != nil {
		return Captured{}, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(w, resp.Body)
	done := Captured{Bytes: uint64(n), Ended: resp.Trailer.Get(trailerEnded)}
	done.Packets, _ = strconv.ParseUint(resp.Trailer.Get(trailerPackets), 10, 64)
	done.Dropped, _ = strconv.ParseUint(resp.Trailer.Get(trailerDropped), 10, 64)
	switch text := resp.Trailer.Get(trailerError); {
	case errors.Is(context.Cause(ctx), ErrSilent):
		return done, c.unreachable(ctx, err)
	case ctx.Err() != nil:
		done.Ended = "client"
		return done, nil
	case err != nil:
		return done, fmt.Errorf("copy the packets: %w", err)
	case text != "":
		return done, &Error{Code: CodeInternal, Message: text}
	}
	return done, nil
}
