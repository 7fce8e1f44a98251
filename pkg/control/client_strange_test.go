package control

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/events"
)

// standIn listens where a daemon should, and gives each connection the bytes of
// an answer; then it keeps the connection and says nothing more.
func standIn(t *testing.T, answer string) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			if answer == "" {
				continue // takes the connection, and that is all
			}
			buf := make([]byte, 4096)
			if _, err := conn.Read(buf); err == nil {
				_, _ = io.WriteString(conn, answer)
			}
		}
	}()
	c := NewClient(socket)
	c.Timeout = 300 * time.Millisecond
	return c
}

// body makes an HTTP answer.
func body(status, text string) string {
	return "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text
}

// TestClientStrange: whatever listens on the socket, the client ends in time and says what it met.
func TestClientStrange(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, answer, want string
		version            bool // a VersionError, not an UnreachableError
	}{
		{"takes the connection only", "", "no answer within 300ms", false},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-", "no answer within 300ms", false},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"schema_version\":1", "no answer within 300ms", false},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed HTTP", false},
		{"text", body("200 OK", "hello"), "something else listens there", false},
		{"a teapot", body("418 I'm a teapot", "hello"), "something else listens there", false},
		{"another API", body("200 OK", `{"version":3}`), "no schema_version", false},
		{"another API's error", body("404 Not Found", `{"error":{}}`), "something else listens there", false},
		{"newer", body("200 OK", `{"schema_version":2,"node":[]}`), "answers with schema_version 2, this program understands 1", true},
		{"newer, with other types", body("200 OK", `{"schema_version":1,"node":[]}`), "does not understand", true},
		{"older", body("404 Not Found", `{"schema_version":1,"error":{"code":"not_found","message":"no such path: \"/v1/status\""}}`), "does not know /v1/status: it is older", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := standIn(t, tc.answer).Status(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			_, unreachable := errors.AsType[*UnreachableError](err)
			_, version := errors.AsType[*VersionError](err)
			if unreachable == tc.version || version != tc.version {
				t.Errorf("%T", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestClientNewerFields: fields that this version does not know are passed over.
func TestClientNewerFields(t *testing.T) {
	t.Parallel()
	s, err := standIn(t, body("200 OK", `{"schema_version":1,"node":{"name":"hub-nva","planet":"earth"},"health":"splendid","moons":[1]}`)).Status(t.Context())
	if err != nil || s.Node.Name != "hub-nva" || s.Health != "splendid" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestFollowSilence: a stream without beats is given up, in the middle, too.
func TestFollowSilence(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	for name, answer := range map[string]string{
		"nothing": "", "header only": head, "one event": head + `data: {"seq":7,"text":"x"}` + "\n\n", "half an event": head + "data: {",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := standIn(t, answer)
			c.silence = 200 * time.Millisecond
			n := 0
			err := c.Follow(t.Context(), 0, func(events.Event) error { n++; return nil })
			if _, ok := errors.AsType[*UnreachableError](err); !ok || !errors.Is(err, ErrSilent) {
				t.Errorf("%v", err)
			}
			if want := strings.Count(answer, "seq"); n != want {
				t.Errorf("%d events, want %d", n, want)
			}
		})
	}
}
