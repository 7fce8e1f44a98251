package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/pkg/sse"
)

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	_, url := serve(t, newStage())
	for _, c := range []struct {
		path   string
		status int
		kind   string
		has    string
	}{
		{"/", 200, "text/html; charset=utf-8", "<title>"},
		{"/page.css", 200, "text/css; charset=utf-8", "prefers-color-scheme"},
		{"/page.js", 200, "text/javascript; charset=utf-8", "EventSource"},
		{"/picture.js", 200, "text/javascript; charset=utf-8", "svg"},
		{"/icon.svg", 200, "image/svg+xml", "<svg"},
		{"/metrics", 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "transitd_tunnel_up{tunnel=\"tr0\"} 1"},
		{"/healthz", 200, "text/plain; charset=utf-8", "alive"},
		{"/readyz", 200, "text/plain; charset=utf-8", "ready"},
		{"/v1/status", 200, "application/json", `"name": "hub-nva"`},
		{"/v1/routes", 200, "application/json", "covers-pinned"},
		{"/v1/explain?target=172.16.0.0/16", 200, "application/json", "398656"},
		{"/v1/reload", 404, "application/json", "no such path"},
		{"/v1/drain", 404, "application/json", "no such path"},
		{"/page/index.html", 404, "text/plain; charset=utf-8", "no such page"},
		{"/../observe.go", 404, "text/plain; charset=utf-8", "no such page"},
		{"/favicon.ico", 404, "text/plain; charset=utf-8", "no such page"},
	} {
		r := get(t, url+c.path)
		text := body(t, r)
		if r.StatusCode != c.status || r.Header.Get("Content-Type") != c.kind || !strings.Contains(text, c.has) {
			t.Errorf("%s: %d %s, want %d %s with %q:\n%.300s", c.path, r.StatusCode, r.Header.Get("Content-Type"), c.status, c.kind, c.has, text)
		}
		csp := r.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") || r.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: headers %v", c.path, r.Header)
		}
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	n := newStage()
	_, url := serve(t, n)
	n.change(func(s *stage) {
		s.ready, s.stuck = []string{"no tunnel to another site works", "the node is drained (avoid)"}, "the main loop has not gone round for 20s"
	})
	for path, want := range map[string]string{
		"/readyz":  "not ready: no tunnel to another site works\nnot ready: the node is drained (avoid)\n",
		"/healthz": "the main loop has not gone round for 20s\n",
	} {
		r := get(t, url+path)
		if got := body(t, r); r.StatusCode != http.StatusServiceUnavailable || got != want {
			t.Errorf("%s: %d %q, want 503 %q", path, r.StatusCode, got, want)
		}
	}
}

// Only looking, and on loopback only by its own names.
func TestGuard(t *testing.T) {
	t.Parallel()
	_, url := serve(t, newStage())
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"by address", host("127.0.0.1:9477"), 200},
		{"by a tunnel of ssh", host("localhost:8080"), 200},
		{"by an IPv6 address", host("[::1]:9477"), 200},
		{"without a port", host("127.0.0.1"), 200},
		{"by a name that was made to point here", host("evil.example"), 421},
		{"by one that looks like an address", host("127.0.0.1.evil.example:9477"), 421},
		{"HEAD", method("HEAD"), 200},
		{"POST", method("POST"), 405},
		{"DELETE", method("DELETE"), 405},
		{"OPTIONS", method("OPTIONS"), 405},
		{"an invented method", method("BREW"), 405},
	} {
		if r := get(t, url+"/v1/status", c.change); r.StatusCode != c.status {
			t.Errorf("%s: %d, want %d", c.name, r.StatusCode, c.status)
		}
	}
}

// messages reads the live stream.
func messages(t *testing.T, r *http.Response) func() sse.Message {
	t.Helper()
	in := sse.NewReader(r.Body)
	return func() sse.Message {
		t.Helper()
		m, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	n := newStage()
	n.log.Add(time.Now(), events.Event{Kind: events.BGP, Severity: events.Info, Text: "before"})
	_, url := serve(t, n)
	next := messages(t, get(t, url+"/v1/live"))
	var h History
	if m := next(); m.Name != "history" || json.Unmarshal(m.Data, &h) != nil || h.IntervalS != 10 || len(h.Tunnels) != 2 {
		t.Fatalf("%s %s", m.Name, m.Data)
	}
	if m := next(); m.Name != "events" || !strings.Contains(string(m.Data), "before") {
		t.Fatalf("%s %s", m.Name, m.Data)
	}
	var l Live
	if m := next(); m.Name != "live" || json.Unmarshal(m.Data, &l) != nil || l.Status.Node.Name != "hub-nva" || !l.Ready.Ready {
		t.Fatalf("%s %s", m.Name, m.Data)
	}
	n.log.Add(time.Now(), events.Event{Kind: events.Tunnel, Severity: events.Warning, Text: "now"})
	if m := next(); m.Name != "event" || m.ID != "2" {
		t.Fatalf("%s %s %s", m.Name, m.ID, m.Data)
	}
	n.change(func(s *stage) {
		s.status.Tunnels = append([]control.Tunnel{}, s.status.Tunnels...)
		s.status.Tunnels[0].TXBytes += 1 << 20
	})
	for {
		m := next()
		if err := json.Unmarshal(m.Data, &l); err != nil || m.Name != "live" {
			t.Fatalf("%s %s %v", m.Name, m.Data, err)
		}
		if len(l.Rates) == 2 && l.Rates[0].TXBits > 0 {
			break
		}
	}
}

// Pages that are open and do not read cost their own connection, nobody else's.
func TestClientsWhoDoNotRead(t *testing.T) {
	t.Parallel()
	n := newStage()
	s, url := serve(t, n)
	for range maxStreams {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprint(c, "GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	for s.feed.count() < maxStreams { // each is about to be served
		if r := get(t, url+"/healthz"); r.StatusCode != http.StatusOK {
			t.Fatalf("meanwhile: %d", r.StatusCode)
		}
	}
	if r := get(t, url+"/v1/live"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", r.StatusCode)
	}
	big := string(bytes.Repeat([]byte("x"), 400))
	began := time.Now()
	for range 20_000 { // 8 MB for each
		n.log.Add(time.Now(), events.Event{Kind: events.BGP, Severity: events.Info, Text: big})
		s.feed.tell([]byte(`{}`))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("telling them took %s", took)
	}
	for _, path := range []string{"/metrics", "/readyz", "/v1/status", "/"} {
		if r := get(t, url+path); r.StatusCode != http.StatusOK {
			t.Errorf("%s meanwhile: %d", path, r.StatusCode)
		}
	}
}

// A page that was closed gives its place back.
func TestPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	s, url := serve(t, newStage())
	for range 3 * maxStreams {
		r := get(t, url+"/v1/live")
		if r.StatusCode == http.StatusServiceUnavailable {
			for deadline := time.Now().Add(10 * time.Second); s.feed.count() > 0; {
				if time.Now().After(deadline) {
					t.Fatalf("%d places are still taken", s.feed.count())
				}
				get(t, url+"/healthz") // passes the time
			}
			continue
		}
		messages(t, r)()
		r.Body.Close()
	}
}

func TestRunFailsWithItsListener(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	n := newStage()
	if err := New(n, control.NewServer(n, nil).Reading(), nil).Run(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}
