package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/events"
)

// serving runs a server on a real socket.
func serving(t *testing.T, f *fakeDaemon) (*Server, *Client, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(f, nil)
	t.Cleanup(start(t, s, l))
	return s, NewClient(socket), socket
}

func happen(f *fakeDaemon, n int) {
	for range n {
		f.log.Add(time.Now(), events.Event{Kind: events.BGP, Severity: events.Info, Text: "x"})
	}
}

func TestEventsSince(t *testing.T) {
	t.Parallel()
	f := newFake()
	happen(f, 3)
	_, client, _ := serving(t, f)
	e, err := client.Events(t.Context(), 1)
	if err != nil || e.SchemaVersion != 1 || len(e.Events) != 2 || e.Events[0].Seq != 2 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	f := newFake()
	happen(f, 3)
	_, client, _ := serving(t, f)
	var got []uint64
	enough := errors.New("enough")
	err := client.Follow(t.Context(), 1, func(e events.Event) error {
		if got = append(got, e.Seq); e.Seq == 3 {
			happen(f, 2) // while we follow
		}
		if len(got) == 4 {
			return enough
		}
		return nil
	})
	if d := cmp.Diff([]uint64{2, 3, 4, 5}, got); d != "" || !errors.Is(err, enough) {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

// A daemon that stops ends its streams at once, and the client says what happened.
func TestFollowUntilTheDaemonStops(t *testing.T) {
	t.Parallel()
	f := newFake()
	happen(f, 1)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, NewServer(f, nil), l)
	stopped := make(chan struct{})
	began := time.Now()
	err = NewClient(socket).Follow(t.Context(), 0, func(events.Event) error {
		go func() { stop(); close(stopped) }()
		return nil
	})
	<-stopped
	if _, ok := errors.AsType[*UnreachableError](err); !ok {
		t.Errorf("Follow: %v", err)
	}
	if took := time.Since(began); took > stopTimeout {
		t.Errorf("the stop took %s: a stream held it up", took)
	}
}

func TestFollowUntilInterrupted(t *testing.T) {
	t.Parallel()
	f := newFake()
	happen(f, 1)
	_, client, _ := serving(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	if err := client.Follow(ctx, 0, func(events.Event) error { cancel(); return nil }); err != nil {
		t.Errorf("Follow: %v", err)
	}
}

// Streams have places of their own; questions are answered while all are taken.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFake()
	happen(f, 1)
	_, client, _ := serving(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready := make(chan struct{}, maxStreams)
	done := make(chan error, maxStreams)
	for range maxStreams {
		go func() {
			done <- client.Follow(ctx, 0, func(events.Event) error { ready <- struct{}{}; return nil })
		}()
	}
	for range maxStreams {
		<-ready
	}
	err := client.Follow(t.Context(), 0, func(events.Event) error { return nil })
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeBusy {
		t.Errorf("one more: %v", err)
	}
	if _, err := client.Status(t.Context()); err != nil {
		t.Errorf("a question meanwhile: %v", err)
	}
	cancel()
	for range maxStreams {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A client that does not read holds nobody up: events are added, others are served.
func TestFollowerWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	f := newFake()
	_, client, socket := serving(t, f)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprint(c, "GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	big := string(bytes.Repeat([]byte("x"), 400))
	for range 20_000 { // 8 MB: more than sockets hold
		f.log.Add(time.Now(), events.Event{Kind: events.BGP, Severity: events.Info, Text: big})
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("adding took %s", took)
	}
	if _, err := client.Status(t.Context()); err != nil {
		t.Errorf("a question meanwhile: %v", err)
	}
}

// Reading is for whoever may only look.
func TestReading(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := NewServer(f, nil)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/status", 200},
		{"HEAD", "/v1/status", 200},
		{"GET", "/v1/explain?target=192.0.2.1", 200},
		{"GET", "/v1/events?since=4", 200},
		{"GET", "/v1/events?since=x", 400},
		{"GET", "/v1/events?follow=2", 400},
		{"GET", "/v1/events?n=1", 400},
		{"POST", "/v1/status", 405},
		{"POST", "/v1/reload", 404},
		{"GET", "/v1/reload", 404},
		{"POST", "/v1/drain", 404},
		{"POST", "/v1/undrain", 404},
		{"GET", "/v1/nothing", 404},
	} {
		rec := httptest.NewRecorder()
		s.Reading().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody))
		if rec.Code != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, rec.Code, c.status, rec.Body)
		}
	}
	if len(f.reloads) != 0 || s.Refused() != 0 {
		t.Errorf("%d reloads, %d counted as refused", len(f.reloads), s.Refused())
	}
}
