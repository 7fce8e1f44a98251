package control

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMeasurePath(t *testing.T) {
	t.Parallel()
	f := newFake()
	_, c, _ := serving(t, f)
	var said []string
	p, err := c.MeasurePath(t.Context(), "tr0", func(s string) { said = append(said, s) })
	if err != nil || p.Tunnel != "tr0" || p.SchemaVersion != 1 || !cmp.Equal(said, []string{"the peer answers"}) {
		t.Errorf("%+v, %v, %q", p, err, said)
	}
	f.err = &Error{Code: CodeNotFound, Message: "there is no tunnel"}
	if _, err = c.MeasurePath(t.Context(), "x", nil); !isCode(err, CodeNotFound) {
		t.Errorf("refused: %v", err)
	}
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

func TestTrace(t *testing.T) {
	t.Parallel()
	f := newFake()
	_, c, _ := serving(t, f)
	var steps []TraceStep
	got, err := c.Trace(t.Context(), TraceQuery{Target: "192.0.2.1", From: "hub"}, func(s TraceStep) { steps = append(steps, s) })
	if err != nil || got.From != "hub" || !cmp.Equal(got.Steps, steps) || len(steps) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, target := range []string{"192.0.2.0/24", "example.com", ""} {
		if _, err := c.Trace(t.Context(), TraceQuery{Target: target}, nil); !isCode(err, CodeBadRequest) {
			t.Errorf("%q: %v", target, err)
		}
	}
	f.late = errBroken // after the first step: the status is sent already
	if _, err := c.Trace(t.Context(), TraceQuery{Target: "192.0.2.1"}, func(TraceStep) {}); !isCode(err, CodeInternal) {
		t.Errorf("a late error: %v", err)
	}
}

func TestCapture(t *testing.T) {
	t.Parallel()
	f := newFake()
	_, c, _ := serving(t, f)
	var out bytes.Buffer
	q := CaptureQuery{Tunnel: "tr0", Layer: LayerOuter, Filter: "tcp port 179 and not host ::1", Count: 7, Duration: 1500 * time.Millisecond, Snap: 96}
	done, err := c.Capture(t.Context(), q, &out)
	if want := `tr0 outer "tcp port 179 and not host ::1" 7 1.5s 96`; err != nil || out.String() != want {
		t.Errorf("%q, %v", &out, err)
	}
	if want := (Captured{Packets: 3, Dropped: 2, Ended: "count", Bytes: uint64(out.Len())}); done != want {
		t.Errorf("%+v", done)
	}
	out.Reset()
	if _, err := c.Capture(t.Context(), CaptureQuery{}, &out); err != nil || out.String() != ` inner "" 10000 1m0s 65535` {
		t.Errorf("the defaults: %q, %v", &out, err)
	}
	f.late = errBroken
	if _, err := c.Capture(t.Context(), q, &out); err == nil || !strings.Contains(err.Error(), errBroken.Error()) {
		t.Errorf("a late error: %v", err)
	}
	f.err = errBroken
	out.Reset()
	if _, err := c.Capture(t.Context(), q, &out); !isCode(err, CodeInternal) || out.Len() > 0 {
		t.Errorf("an early error: %v, %q", err, &out)
	}
}

func TestCaptureBounds(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"layer=middle": "neither inner", "count=0": "1 to 1000000", "count=x": "1 to 1000000", "count=1000001": "1 to 1000000",
		"duration_ms=600001": "1 to 600000", "snaplen=262145": "1 to 262144", "filter=" + strings.Repeat("x", 1001): "1000 bytes",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseCapture(q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", query, err, want)
		}
	}
}

// TestProbersEnd checks that work ends when its client leaves, that there is a
// limit at once, and that the server's stop ends what is left.
func TestProbersEnd(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.block = make(chan struct{})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, NewServer(f, nil), l)
	defer stop()
	c := NewClient(socket)
	ctx, leave := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}, maxProbers), make(chan error, maxProbers)
	for i := range maxProbers {
		go func() {
			if i == 0 {
				_, err := c.Capture(ctx, CaptureQuery{}, writerFunc(func() { begun <- struct{}{} }))
				ended <- err
				return
			}
			_, err := c.MeasurePath(ctx, "tr0", func(string) { begun <- struct{}{} })
			ended <- err
		}()
	}
	for range maxProbers {
		<-begun
	}
	if _, err := c.Trace(t.Context(), TraceQuery{Target: "192.0.2.1"}, nil); !isCode(err, CodeBusy) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("a question meanwhile: %v", err)
	}
	leave()
	for range maxProbers {
		<-ended                           //nolint:errcheck // what it ended with is the client's
		if err := <-f.ended; err == nil { // and so at the daemon
			t.Error("the daemon works on")
		}
	}
	go func() {
		_, err := c.MeasurePath(t.Context(), "tr0", func(string) { begun <- struct{}{} })
		ended <- err
	}()
	<-begun
	stop()
	if err := <-f.ended; err == nil {
		t.Error("it ended by itself")
	}
	if err := <-ended; err == nil {
		t.Error("a measurement that the stop ended has a result")
	}
}

// writerFunc is called for each write.
type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) { f(); return len(b), nil }

// TestProbersArePrivate checks that the web server offers none of this.
func TestProbersArePrivate(t *testing.T) {
	t.Parallel()
	h := NewServer(newFake(), nil).Reading()
	for _, path := range []string{"/v1/pmtu", "/v1/trace?target=192.0.2.1", "/v1/capture"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
			if w.Code != http.StatusNotFound {
				t.Errorf("%s %s: status %d", method, path, w.Code)
			}
		}
	}
}
