package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
)

// arguments are what commands need beside their names to ask the daemon.
func arguments() map[string][]string {
	return map[string][]string{
		"explain": {"10.0.0.0/8"},
		"audit":   {"../../pkg/diag/audit/testdata/hub/nic.json"},
		"drain":   {"--wait=0s"},
		"trace":   {"10.0.0.1"},
	}
}

// alone are the commands that ask no daemon, or go on without one.
func alone() []string { return []string{"keygen", "bgp", "ipsec", "completion", "bugreport", "doctor"} }

// runApp runs a command line as the program would.
func runApp(t *testing.T, socketDir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	a := &app{stdout: &out, stderr: &errs, env: func(string) string { return "" }, socketDir: socketDir}
	code = a.run(t.Context(), args)
	return code, out.String(), errs.String()
}

// answer listens on a socket and gives each connection an HTTP answer; none at all if it is empty.
func answer(t *testing.T, text string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s.sock")
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
			if text == "" {
				continue
			}
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 "+text)
			}
		}
	}()
	return socket
}

func httpAnswer(status, body string) string {
	return status + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\nConnection: close\r\n\r\n" + body
}

// TestStrangeDaemons: whatever is on the other end of the socket, every command
// ends in time with the right status, says why, and prints no half answer.
func TestStrangeDaemons(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		socket func(t *testing.T) string
		code   int
		says   string
	}{
		{"hung", func(t *testing.T) string { return answer(t, "") }, exitUnreachable, "no answer within 200ms"},
		{"hangs in the middle", func(t *testing.T) string { return answer(t, "200 OK\r\nContent-Length: 99\r\n\r\n{") }, exitUnreachable, "no answer within 200ms"},
		{"no socket", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none.sock") }, exitUnreachable, "is it running?"},
		{"a file", func(t *testing.T) string {
			f := filepath.Join(t.TempDir(), "file.sock")
			if err := os.WriteFile(f, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return f
		}, exitUnreachable, "connection refused"},
		{"a stranger", func(t *testing.T) string { return answer(t, httpAnswer("200 OK", "<html>")) }, exitUnreachable, "something else listens there"},
		{"older", func(t *testing.T) string {
			return answer(t, httpAnswer("404 Not Found", `{"schema_version":1,"error":{"code":"not_found","message":"no such path: \"/v1/x\""}}`))
		}, exitDegraded, "it is older than this program"},
		{"newer", func(t *testing.T) string { return answer(t, httpAnswer("200 OK", `{"schema_version":2}`)) }, exitDegraded, "use the one that came with the daemon"},
		{"stopping", func(t *testing.T) string {
			return answer(t, httpAnswer("503 Service Unavailable", `{"schema_version":1,"error":{"code":"stopping","message":"the daemon is stopping"}}`))
		}, exitDegraded, "the daemon is stopping"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			socket := tc.socket(t)
			walk(newApp("").entries(), func(words []string, _ entry) {
				name := strings.Join(words, " ")
				if slices.Contains(alone(), name) {
					return
				}
				began := time.Now()
				args := slices.Concat(words, arguments()[name], []string{"--socket", socket, "--timeout", "200ms"})
				code, stdout, stderr := runApp(t, "", args...)
				if code != tc.code || !strings.Contains(stderr, tc.says) || !strings.HasPrefix(stderr, "transitctl: error: ") || stdout != "" {
					t.Errorf("%s: exit status %d, want %d\n%s%s", name, code, tc.code, stdout, stderr)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("%s took %s", name, took)
				}
			})
		})
	}
}

// TestBugreportOfAHungDaemon: it asks everything, waits for little, and packs the rest.
func TestBugreportOfAHungDaemon(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	began := time.Now()
	code, stdout, stderr := runApp(t, "", "bugreport", file, "--timeout", "100ms", "--socket", answer(t, ""))
	if code != exitDegraded || stdout != file+"\n" || !strings.Contains(stderr, "not complete: status.json: exit status 3: no transitd answers") {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
	if i, err := os.Stat(file); err != nil || i.Size() < 500 || i.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", i, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestInterrupt: Ctrl-C ends what waits for a hung daemon, and is not taken for a missing one.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs strings.Builder
	a := &app{stdout: &out, stderr: &errs, env: func(string) string { return "" }}
	time.AfterFunc(100*time.Millisecond, cancel)
	if code := a.run(ctx, []string{"status", "--socket", answer(t, "")}); code != exitDegraded || errs.String() != "transitctl: error: interrupted\n" || out.Len() > 0 {
		t.Errorf("exit status %d\n%s%s", code, out.String(), errs.String())
	}
}

// TestCompletionOfAHungDaemon: a TAB never waits long and never says anything.
func TestCompletionOfAHungDaemon(t *testing.T) {
	t.Parallel()
	socket := answer(t, "")
	began := time.Now()
	code, stdout, _ := runApp(t, "", "__complete", "--socket", socket, "explain", "")
	if code != 0 || stdout != ":4\n" {
		t.Errorf("exit status %d: %q", code, stdout)
	}
	if took := time.Since(began); took > completionTimeout+2*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestNoPermission: somebody who may not open the socket is told who may. The
// program runs as nobody, through the link to itself: the way to the test's own file is closed to nobody.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become nobody")
	}
	dir, err := os.MkdirTemp("", "transitctl-perm-") //nolint:usetesting // the folders above t.TempDir are closed to nobody
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := control.Acquire(filepath.Join(dir, "hub.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := lock.Listen() // mode 0660, as the daemon's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(l.Close(), lock.Release()) })
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "status")
	cmd.Args[0] = "transitctl"
	cmd.Env = []string{"SOCKET_DIR=" + dir}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitUnreachable {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "permission denied") || !strings.Contains(string(out), "use sudo") {
		t.Errorf("it says:\n%s", out)
	}
}
