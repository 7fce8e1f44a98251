package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/pkg/sse"
)

// followQueue is how many events may wait for a client that reads slowly. One
// that is slower is cut off, and comes back with the last number that it has.
const followQueue = 64

// follower is the answer to somebody who wants new events as they come.
type follower struct{ since uint64 }

func (s *Server) events(_ *http.Request, q url.Values) (any, error) {
	var since uint64
	if text := q.Get("since"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("since is the number of an event, not %.50q", text)}
		}
		since = n
	}
	switch q.Get("follow") {
	case "", "0":
		return Events{Version: V1(), Events: s.daemon.Events().Since(since)}, nil
	case "1":
		return &follower{since}, nil
	}
	return nil, &Error{Code: CodeBadRequest, Message: fmt.Sprintf("follow is 0 or 1, not %.50q", q.Get("follow"))}
}

// stream sends events until the client leaves, is too slow, or the server stops.
func (f *follower) stream(s *Server, w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		status, answer := s.failure(r, &Error{Code: CodeBusy, Message: fmt.Sprintf("%d clients follow events already; no more can", maxStreams)})
		s.write(w, r, status, answer)
		return
	}
	stop, _ := r.Context().Value(stopKey{}).(<-chan struct{})
	list, sub := s.daemon.Events().Subscribe(f.since, followQueue)
	defer sub.Close()
	out := sse.NewWriter(w)
	for _, e := range list {
		if sendEvent(out, e) != nil {
			return
		}
	}
	beat := sse.NewBeat()
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-stop:
			return
		case <-beat.C:
			if out.Beat() != nil {
				return
			}
		case e, ok := <-sub.Events():
			if !ok || sendEvent(out, e) != nil {
				return
			}
		}
	}
}

func sendEvent(out *sse.Writer, e events.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	return out.Send("event", strconv.FormatUint(e.Seq, 10), data)
}

// Events asks for the remembered events with a number above since.
func (c *Client) Events(ctx context.Context, since uint64) (e Events, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/events", url.Values{"since": {strconv.FormatUint(since, 10)}}, nil, &e)
	return e, err
}

// Follow calls f with the events above since, those that are remembered and then
// each new one, until ctx is done (nil), f returns an error, or the daemon is
// gone (an *UnreachableError).
func (c *Client) Follow(ctx context.Context, since uint64, f func(events.Event) error) error {
	for {
		got, err := c.follow(ctx, &since, f)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case !got: // no progress: do not come back at once for ever
			return &UnreachableError{Socket: c.socket, Err: errors.New("the daemon ended the stream of events")}
		}
	}
}

// streamSilence is how long a stream may say nothing: the daemon beats every 10 s.
const streamSilence = 35 * time.Second

// follow reads one stream to its end; got says whether anything came.
func (c *Client) follow(ctx context.Context, since *uint64, f func(events.Event) error) (got bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := c.timeout(http.MethodGet)
	watchdog := time.AfterFunc(limit, func() { cancel(silent(limit)) })
	defer watchdog.Stop()
	u := url.URL{Scheme: "http", Host: "transitd", Path: "/v1/events", RawQuery: fmt.Sprintf("follow=1&since=%d", *since)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return false, fmt.Errorf("control: make the request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		if err != nil {
			return false, c.unreachable(ctx, fmt.Errorf("read the answer: %w", err))
		}
		return false, c.decode(u.Path, resp.StatusCode, b, nil)
	}
	// From here on another silence counts, and each byte ends it.
	watchdog.Stop()
	alarm := time.AfterFunc(c.silence, func() { cancel(silent(c.silence)) })
	defer alarm.Stop()
	in := sse.NewReader(wakeful{resp.Body, func() { alarm.Reset(c.silence) }})
	for {
		m, err := in.Next()
		if errors.Is(context.Cause(ctx), ErrSilent) {
			return got, c.unreachable(ctx, err)
		}
		if err != nil {
			return got, nil //nolint:nilerr // the stream ended; Follow comes back for the rest
		}
		var e events.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return got, fmt.Errorf("control: decode an event: %w", err)
		}
		got, *since = true, e.Seq
		if err := f(e); err != nil {
			return got, err
		}
	}
}

// wakeful tells of every byte that comes.
type wakeful struct {
	io.Reader
	heard func()
}

// Read reads, and tells if something came.
func (w wakeful) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.heard()
	}
	return n, err
}
