package health

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// checkOnce makes a probe and one check of it, with a timeout of its own.
func checkOnce(t *testing.T, cfg Config, timeout time.Duration) error {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return p.check(ctx)
}

// expect fails unless err contains want, or is nil if that is empty.
func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil && want != "":
		t.Errorf("succeeded, want %q", want)
	case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want %q", err, want)
	}
}

// hang keeps the handler until the client has gone.
func hang(r *http.Request) { <-r.Context().Done() }

func TestHTTP(t *testing.T) {
	t.Parallel()
	long := 10 * time.Second
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	var followed atomic.Bool
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		timeout time.Duration
		want    string
	}{
		"200": {status(200), long, ""},
		"204": {status(204), long, ""},
		"399": {status(399), long, ""},
		"400": {status(400), long, "status 400"},
		"500": {status(500), long, "status 500"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				followed.Store(true)
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, long, ""},
		"hanging": {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, 100 * time.Millisecond, "deadline exceeded"},
		"hanging body": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			hang(r)
		}, 100 * time.Millisecond, "read the body"},
		"cut body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
		}, long, "read the body: unexpected EOF"},
		"endless body": {func(w http.ResponseWriter, _ *http.Request) {
			for b := make([]byte, 4096); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, long, ""},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxBody))
		}, long, "request: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(c.handler)
			defer s.Close()
			expect(t, checkOnce(t, Config{HTTP: s.URL}, c.timeout), c.want)
			if followed.Load() {
				t.Error("the redirect was followed")
			}
		})
	}
}

// TestHTTPClosed: a server that went away is noticed, no old connection helps.
func TestHTTPClosed(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	p, err := New(Config{HTTP: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		expect(t, p.check(t.Context()), "")
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("3 checks made %d connections", n)
	}
	s.Close()
	expect(t, p.check(t.Context()), "connection refused")
}

func TestHTTPS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // that a handshake fails is what is wanted
	s.StartTLS()
	defer s.Close()
	expect(t, checkOnce(t, Config{HTTP: s.URL, TLSInsecure: true}, 10*time.Second), "")
	err := checkOnce(t, Config{HTTP: s.URL}, 10*time.Second)
	var unknown *tls.CertificateVerificationError
	if !errors.As(err, &unknown) {
		t.Errorf("a certificate of nobody: %v", err)
	}
}

// TestHTTPName: names are looked up, and the source is what was configured.
func TestHTTPName(t *testing.T) {
	t.Parallel()
	var from atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { from.Store(r.RemoteAddr) }))
	defer s.Close()
	url := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	expect(t, checkOnce(t, Config{HTTP: url, Source: netip.MustParseAddr("127.0.0.2")}, 10*time.Second), "")
	if got, _ := from.Load().(string); !strings.HasPrefix(got, "127.0.0.2:") {
		t.Errorf("the request came from %q", got)
	}
}

func TestTCP(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(l.Addr().String())
	expect(t, checkOnce(t, Config{TCP: to, Source: netip.MustParseAddr("127.0.0.2")}, 10*time.Second), "")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); !strings.HasPrefix(got, "127.0.0.2:") {
		t.Errorf("the connection came from %s", got)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the probe sent something")
	}
	l.Close()
	expect(t, checkOnce(t, Config{TCP: to}, 10*time.Second), "connection refused")
}
