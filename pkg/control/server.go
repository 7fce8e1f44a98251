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
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/events"
)

// Limits of a server. They are generous for a person with curl and tight for anything that misbehaves.
const (
	maxBody        = 64 << 10         // bytes; a ReloadRequest has about 20
	maxHeader      = 8 << 10          // bytes
	maxConns       = 64               // connections at once; more wait in the socket's backlog
	maxStreams     = 16               // of them following events, so that there is always room for a question
	headerTimeout  = 5 * time.Second  // from the connection to the end of the request's header
	readTimeout    = 10 * time.Second // to the end of its body
	writeTimeout   = 10 * time.Second // from the complete answer in memory to its last byte
	idleTimeout    = 30 * time.Second // between two requests of a connection
	requestTimeout = 60 * time.Second // for the daemon to find the answer; a reload may have to wait for peers
	stopTimeout    = 2 * time.Second  // for answers that are under way when the daemon stops
)

// Daemon is what a Server asks. All methods may be called at once and must not
// wait for a client. An *Error says which code the client gets; any other error
// becomes CodeInternal.
type Daemon interface {
	Status() Status
	BGPRoutes(BGPRoutesQuery) (BGPRoutes, error)
	Routes() (Routes, error)
	Explain(ctx context.Context, target, from string) (Explanation, error)
	Reload(ctx context.Context, req ReloadRequest) (Reload, error)
	// Drain begins to take the node out of the traffic, or brings it back, and
	// returns at once; Status tells how far it is.
	Drain(ctx context.Context, back bool) (Drained, error)
	// Events remembers what happened.
	Events() *events.Log
	Prober
	Keyer
}

// Error is a failure with the code that the client is told.
type Error struct {
	Code    string        // one of the Code constants
	Message string        // for people
	Config  []ConfigError // what is wrong with the configuration
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Server answers requests; make one with NewServer.
type Server struct {
	daemon  Daemon
	log     *zap.Logger
	refused atomic.Uint64
	streams chan struct{} // a place for each that follows events
	probers chan struct{} // and for each measurement, trace and capture
}

// NewServer makes a server that asks d. A nil log discards.
func NewServer(d Daemon, log *zap.Logger) *Server {
	if log == nil {
		log = zap.NewNop()
	}
	return &Server{daemon: d, log: log, streams: make(chan struct{}, maxStreams), probers: make(chan struct{}, maxProbers)}
}

// Refused counts requests that were garbage, unknown or too slow.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Run serves until ctx is done, lets answers that are under way finish (2 s), and
// returns when all its goroutines have ended. It closes l. A clean stop is nil.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	stop := ctx.Done()
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		// For what net/http says by itself; write sets a shorter one.
		WriteTimeout:   requestTimeout + writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		// "OPTIONS *" is an unknown path like any other.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     zap.NewStdLog(s.log.Named("http")),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(context.WithValue(ctx, connKey{}, c.(*trackedConn)), stopKey{}, stop)
		},
		ConnState: s.connState,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		// ctx is done already: the last answers get a deadline of their own.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // the clients that are still there had their time
		}
	}()
	limited := newLimitListener(l, maxConns)
	err := srv.Serve(limited)
	if ctx.Err() == nil {
		_ = srv.Close()
		return fmt.Errorf("control: serve on %s: %w", l.Addr(), err)
	}
	<-stopped
	limited.wait()
	return nil
}

// connKey finds a request's connection in its context.
type connKey struct{}

// stopKey finds in a request's context the channel that is closed when the server is to stop.
type stopKey struct{}

// connState counts connections whose request never reached serve: what came was not HTTP, or not in time.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	t := c.(*trackedConn)
	switch state {
	case http.StateActive: // the first bytes of a request came
		t.pending.Store(true)
	case http.StateClosed:
		if t.pending.Load() {
			s.refused.Add(1)
		}
	case http.StateNew, http.StateIdle, http.StateHijacked: // nothing was asked
	}
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if t, ok := r.Context().Value(connKey{}).(*trackedConn); ok {
		t.pending.Store(false)
	}
	s.answer(w, r, false)
}

// Reading answers what changes nothing, for a server that anybody may reach:
// GET and HEAD. What is refused there is not counted.
func (s *Server) Reading() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, true) })
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, reading bool) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	answer, err := s.dispatch(r.WithContext(ctx), reading)
	if f, ok := answer.(streamer); ok && err == nil {
		f.stream(s, w, r)
		return
	}
	status := http.StatusOK
	if err != nil {
		status, answer = s.failure(r, err)
		if !reading && status < http.StatusInternalServerError && status != http.StatusUnprocessableEntity {
			s.refused.Add(1)
		}
	}
	s.write(w, r, status, answer)
}

// write sends an answer that is complete in memory.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, answer any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetIndent("", "  ")
	if err := enc.Encode(answer); err != nil {
		s.log.Error("cannot encode an answer", zap.String("path", r.URL.Path), zap.Error(err))
		http.Error(w, `{"schema_version":1,"error":{"code":"internal","message":"cannot encode the answer"}}`, http.StatusInternalServerError)
		return
	}
	// The deadline starts here, so that a long reload does not use it up. A
	// connection without deadlines (in a test) is no reason not to answer.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(body.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client may be gone: nobody left to tell
}

// statusOf gives the HTTP status of an error code.
func statusOf(code string) int {
	switch code {
	case CodeNotFound:
		return http.StatusNotFound
	case CodeMethod:
		return http.StatusMethodNotAllowed
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeConfig:
		return http.StatusUnprocessableEntity
	case CodeStopping, CodeBusy, CodeDown:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// failure turns an error into an answer. What the daemon did wrong is logged.
func (s *Server) failure(r *http.Request, err error) (int, Failure) {
	known, ok := errors.AsType[*Error](err)
	if !ok {
		known = &Error{Code: CodeInternal, Message: err.Error()}
		s.log.Error("cannot answer a request", zap.String("path", r.URL.Path), zap.Error(err))
	}
	return statusOf(known.Code), Failure{Version: V1(), Error: ErrorBody{Code: known.Code, Message: known.Message, Config: known.Config}}
}

// decodeBody reads an optional JSON object. An empty body leaves v as it is.
func decodeBody(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil && dec.More() {
		err = errors.New("something follows the JSON object")
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	if err != nil {
		return &Error{Code: CodeBadRequest, Message: "the body is not the JSON object that is expected here: " + err.Error()}
	}
	return nil
}
