package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestServerAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method, target, body string
		daemonErr                  error
		wantStatus                 int
		wantBody                   string // a part of it
		wantRefused                uint64
	}{
		{name: "status", method: "GET", target: "/v1/status", wantStatus: 200, wantBody: `"health": "ok"`},
		{name: "tunnels", method: "GET", target: "/v1/tunnels", wantStatus: 200, wantBody: `"wrong_vni": 2`},
		{name: "not measured is null", method: "GET", target: "/v1/tunnels", wantStatus: 200, wantBody: `"rtt_us": null`},
		{name: "sessions", method: "GET", target: "/v1/bgp", wantStatus: 200, wantBody: `"asn": 64512`},
		{name: "received is the default", method: "GET", target: "/v1/bgp/routes", wantStatus: 200, wantBody: `"direction": "received"`},
		{name: "announced to a peer", method: "GET", target: "/v1/bgp/routes?direction=announced&peer=tr0", wantStatus: 200, wantBody: `"neighbor": "tr0"`},
		{name: "routes", method: "GET", target: "/v1/routes", wantStatus: 200, wantBody: `"schema_version": 1`},
		{name: "explain", method: "GET", target: "/v1/explain?target=192.0.2.1", wantStatus: 200, wantBody: `"target": "192.0.2.1"`},
		{name: "reload", method: "POST", target: "/v1/reload", wantStatus: 200, wantBody: `"dry_run": false`},
		{name: "dry run", method: "POST", target: "/v1/reload", body: `{"dry_run":true}`, wantStatus: 200, wantBody: `"dry_run": true`},

		{name: "unknown path", method: "GET", target: "/v2/status", wantStatus: 404, wantBody: `no such path`, wantRefused: 1},
		{name: "path trick", method: "GET", target: "/v1/../v1/status", wantStatus: 404, wantBody: `no such path`, wantRefused: 1},
		{name: "wrong method", method: "DELETE", target: "/v1/status", wantStatus: 405, wantBody: `wants GET`, wantRefused: 1},
		{name: "reload by GET", method: "GET", target: "/v1/reload", wantStatus: 405, wantBody: `wants POST`, wantRefused: 1},
		{name: "unknown parameter", method: "GET", target: "/v1/status?verbose=1", wantStatus: 400, wantBody: `no parameter`, wantRefused: 1},
		{name: "repeated parameter", method: "GET", target: "/v1/explain?target=192.0.2.1&target=::1", wantStatus: 400, wantBody: `once each`, wantRefused: 1},
		{name: "broken query", method: "GET", target: "/v1/explain?target=%zz", wantStatus: 400, wantBody: `cannot be read`, wantRefused: 1},
		{name: "wrong direction", method: "GET", target: "/v1/bgp/routes?direction=up", wantStatus: 400, wantBody: `neither received nor announced`, wantRefused: 1},
		{name: "no target", method: "GET", target: "/v1/explain", wantStatus: 400, wantBody: `neither an address nor a prefix`, wantRefused: 1},
		{name: "bad target", method: "GET", target: "/v1/explain?target=hub", wantStatus: 400, wantBody: `\"hub\"`, wantRefused: 1},
		{name: "body is no JSON", method: "POST", target: "/v1/reload", body: "reload!", wantStatus: 400, wantBody: `not the JSON object`, wantRefused: 1},
		{name: "unknown field", method: "POST", target: "/v1/reload", body: `{"force":true}`, wantStatus: 400, wantBody: `force`, wantRefused: 1},
		{name: "two objects", method: "POST", target: "/v1/reload", body: `{}{}`, wantStatus: 400, wantBody: `something follows`, wantRefused: 1},
		{name: "body too large", method: "POST", target: "/v1/reload", body: strings.Repeat(" ", maxBody+1), wantStatus: 413, wantBody: `too_large`, wantRefused: 1},

		{name: "the daemon's own fault is not the client's", method: "GET", target: "/v1/routes", daemonErr: errBroken, wantStatus: 500, wantBody: `interrupted`},
		{
			name: "invalid configuration", method: "POST", target: "/v1/reload", wantStatus: 422, wantBody: `"line": 3`,
			daemonErr: &Error{Code: CodeConfig, Message: "invalid", Config: []ConfigError{{File: "hub.yaml", Line: 3, Column: 7, Message: "no"}}},
		},
		{name: "stopping", method: "POST", target: "/v1/reload", daemonErr: &Error{Code: CodeStopping, Message: "stopping"}, wantStatus: 503, wantBody: `stopping`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.err = tt.daemonErr
			s := NewServer(f, nil)
			w := httptest.NewRecorder()
			s.serve(w, httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body)))
			if w.Code != tt.wantStatus || !strings.Contains(w.Body.String(), tt.wantBody) {
				t.Errorf("got %d %s\nwant %d with %q", w.Code, w.Body, tt.wantStatus, tt.wantBody)
			}
			checkEnvelope(t, w.Code, w.Body.Bytes())
			if s.Refused() != tt.wantRefused {
				t.Errorf("counted %d refusals, want %d", s.Refused(), tt.wantRefused)
			}
		})
	}
}

// checkEnvelope: every answer is one JSON object with the version, and an error has a code and a text.
func checkEnvelope(t *testing.T, code int, body []byte) {
	t.Helper()
	var v struct {
		SchemaVersion int `json:"schema_version"`
		Error         *ErrorBody
	}
	if err := json.Unmarshal(body, &v); err != nil || v.SchemaVersion != 1 {
		t.Fatalf("not an answer of version 1 (%v): %s", err, body)
	}
	if (code == http.StatusOK) != (v.Error == nil) || (v.Error != nil && (v.Error.Code == "" || v.Error.Message == "")) {
		t.Errorf("status %d with error %+v", code, v.Error)
	}
}

// TestServerGarbage sends bytes that are not HTTP: each connection is refused and counted, and the next client is served.
func TestServerGarbage(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := NewServer(f, nil)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, s, l)
	defer stop()
	garbage := []string{
		"\x00\x01\x02\x03\r\n\r\n",
		"GET\r\n\r\n",
		"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\n\r\n", // no Host
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 2*maxHeader+8192) + "\r\n\r\n",
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n",
		`{"jsonrpc":"2.0"}` + "\n",
	}
	for _, g := range garbage {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, g) // the server may have hung up before the end
		_ = c.(*net.UnixConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 5")) && len(answer) > 0 {
			t.Errorf("%.40q was answered with %q", g, answer)
		}
		c.Close()
	}
	got, err := NewClient(socket).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop() // every connection's end is counted now
	if n := s.Refused(); n != uint64(len(garbage)) {
		t.Errorf("counted %d refusals, want %d", n, len(garbage))
	}
	got.Refused = Refused{}
	if diff := cmp.Diff(f.status, got); diff != "" {
		t.Errorf("status after garbage (-want +got):\n%s", diff)
	}
}

// TestServerSlowClients fills every place with clients that say half a request
// and then nothing: they are cut off after the deadline, and who waits behind them is served.
func TestServerSlowClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(newFake(), nil)
		l := newPipeListener()
		stop := start(t, s, l)
		var slow []chan string
		for range maxConns {
			c := l.dial(t)
			if _, err := io.WriteString(c, "GET /v1/sta"); err != nil {
				t.Fatal(err)
			}
			answer := make(chan string, 1)
			go func() {
				b, _ := io.ReadAll(c)
				answer <- string(b)
			}()
			slow = append(slow, answer)
		}
		begin := time.Now()
		c := l.dial(t)
		go io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") //nolint:errcheck // the answer is checked
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("the client behind the slow ones got %v, %v", resp, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		checkEnvelope(t, resp.StatusCode, body)
		if waited := time.Since(begin); waited != headerTimeout {
			t.Errorf("waited %v, want exactly %v", waited, headerTimeout)
		}
		for _, answer := range slow {
			if got := <-answer; strings.Contains(got, "200 OK") {
				t.Errorf("a slow client got an answer: %q", got)
			}
		}
		stop()
		if n := s.Refused(); n != maxConns {
			t.Errorf("counted %d slow clients, want %d", n, maxConns)
		}
	})
}

// TestServerClientThatDoesNotRead: the daemon's answer is not held by who asked for it.
func TestServerClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(newFake(), nil)
		l := newPipeListener()
		stop := start(t, s, l)
		begin := time.Now()
		c := l.dial(t)
		if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second) // the bubble's time: the client does not read meanwhile
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("the connection did not end: %v", err)
		}
		stop()
		if took := time.Since(begin); took > writeTimeout+2*time.Second {
			t.Errorf("the server needed %v to get rid of the client", took)
		}
	})
}

// TestServerStops: Run returns although a request hangs in the daemon and a client keeps its connection open.
func TestServerStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.block = make(chan struct{})
		l := newPipeListener()
		stop := start(t, NewServer(f, nil), l)
		l.dial(t) // says nothing
		hanging := l.dial(t)
		if _, err := io.WriteString(hanging, "POST /v1/reload HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > stopTimeout {
			t.Errorf("stopped after %v, more than %v", took, stopTimeout)
		}
		close(f.block)
	})
}

// FuzzControlRequest: whatever request comes, the answer is the envelope and the fault is the client's.
func FuzzControlRequest(f *testing.F) {
	for _, seed := range []string{
		"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/bgp/routes?direction=announced&peer=tr0 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/explain?target=2001:db8::/32 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n{\"dry_run\":true}",
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return // net/http answers that itself
		}
		w := httptest.NewRecorder()
		NewServer(newFake(), nil).serve(w, r)
		checkEnvelope(t, w.Code, w.Body.Bytes())
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("the daemon took the blame: %d %s", w.Code, w.Body)
		}
	})
}
