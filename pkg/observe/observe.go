// Package observe shows a node over HTTP to whoever may look and not touch:
//
//	GET /            the status page: HTML, style, script and pictures are in the binary
//	GET /metrics     for Prometheus (pkg/metrics)
//	GET /healthz     200 while the process and its main loop are alive, else 503
//	GET /readyz      200 while packets would be carried, else 503 and the reasons
//	GET /v1/live     server-sent events for the page: history, events, and the status every 2 s
//	GET /v1/…        what of the API only reads (pkg/control)
//
// There is no password, so nothing here changes anything: GET and HEAD only, no
// cross-origin answer, a content security policy without exceptions, and on a
// loopback address only requests that name it (against DNS rebinding). The
// page loads nothing from elsewhere.
//
// Nobody who looks can hold the daemon up: connections, live streams and
// questions at once are bounded, everything has a deadline, the live status is
// made once for all clients, and a client that does not read loses what is old,
// then its connection.
//
// Server.Run owns all goroutines: net/http's, the sampler of the history and
// the maker of the live status.
package observe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"github.com/transitd/transitd/pkg/metrics"
)

const (
	maxConns      = 64               // at once; more wait in the backlog
	maxStreams    = 16               // of them live
	maxQuestions  = 4                // to the daemon at once
	maxHeader     = 8 << 10          // bytes
	headerTimeout = 5 * time.Second  // from the connection to the end of the request's header
	writeTimeout  = 30 * time.Second // from there to the end of the answer; a stream has one for each message
	idleTimeout   = 30 * time.Second // between two requests
	stopTimeout   = time.Second      // for answers that are under way when the daemon stops
	patience      = 3 * time.Second  // how long a question waits for its turn
)

// Node is what is shown.
type Node interface {
	metrics.Node
	// Alive says whether the main loop goes round, without waiting for anything; why, if it does not.
	Alive() (ok bool, why string)
}

// Server shows a node; make it with New. It remembers the last hour between two runs.
type Server struct {
	node      Node
	log       *zap.Logger
	history   *history
	feed      *feed
	mux       *http.ServeMux
	questions chan struct{} // a place for each
}

// New makes a server. api answers below /v1/ what only reads. A nil log discards.
func New(n Node, api http.Handler, log *zap.Logger) *Server {
	if log == nil {
		log = zap.NewNop()
	}
	s := &Server{
		node: n, log: log, history: &history{}, feed: newFeed(maxStreams),
		mux: http.NewServeMux(), questions: make(chan struct{}, maxQuestions),
	}
	s.mux.Handle("/metrics", s.inTurn(promhttp.HandlerFor(metrics.NewRegistry(n), promhttp.HandlerOpts{ErrorLog: zap.NewStdLog(log)})))
	s.mux.HandleFunc("/healthz", s.healthz)
	s.mux.HandleFunc("/readyz", s.readyz)
	s.mux.HandleFunc("/v1/live", s.live)
	s.mux.Handle("/v1/events", api) // may be a stream, which must not take a turn
	s.mux.Handle("/v1/", s.inTurn(api))
	s.mux.Handle("/", pages())
	return s
}

// Run serves until ctx is done and returns when all its goroutines have ended.
// It closes l. A clean stop is nil. It can be called again after it has returned.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler:           s.guard(l.Addr()),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(s.log),
		// Whoever follows something is let go when the daemon stops.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	var all sync.WaitGroup
	all.Go(func() { s.sample(ctx) })
	all.Go(func() { s.feed.run(ctx, s.now) })
	all.Go(func() {
		<-ctx.Done()
		grace, end := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer end()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // the clients that are still there had their time
		}
	})
	err := srv.Serve(netutil.LimitListener(l, maxConns))
	stopped := ctx.Err() != nil
	cancel()
	all.Wait()
	if !stopped {
		return fmt.Errorf("observe: serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// guard is in front of everything.
func (s *Server) guard(at net.Addr) http.Handler {
	loopback := false
	if a, err := netip.ParseAddrPort(at.String()); err == nil {
		loopback = a.Addr().IsLoopback()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case loopback && !namesLoopback(r.Host):
			http.Error(w, "this server is for this machine: ask for it by 127.0.0.1, [::1] or localhost", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "nothing can be changed here: GET and HEAD only", http.StatusMethodNotAllowed)
		default:
			s.mux.ServeHTTP(w, r)
		}
	})
}

// namesLoopback reports whether a Host header is an address or localhost. Any
// name may be made to point here, by a page that the browser of somebody on
// this machine has open; then the browser would take our answers for its own.
func namesLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// inTurn lets a few questions at once through to the daemon.
func (s *Server) inTurn(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case s.questions <- struct{}{}:
			defer func() { <-s.questions }()
			h.ServeHTTP(w, r)
		case <-wait.C:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "too many ask at once", http.StatusServiceUnavailable)
		case <-r.Context().Done():
		}
	})
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	ok, why := s.node.Alive()
	if ok {
		why = "alive"
	}
	say(w, ok, why)
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	r := s.node.Readiness()
	if r.Ready {
		say(w, true, "ready")
		return
	}
	say(w, false, "not ready: "+strings.Join(r.Reasons, "\nnot ready: "))
}

// say answers a probe.
func say(w http.ResponseWriter, ok bool, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, text)
}
