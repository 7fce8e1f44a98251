package daemon

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestNotifier reads what a service manager would. It sets an environment variable, so it is not parallel.
func TestNotifier(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	t.Setenv("NOTIFY_SOCKET", socket)
	log, logs := observed()
	n := &notifier{log: log}
	n.ready()
	n.status("%s: %d tunnels", "ok", 1)
	n.status("%s: %d tunnels", "ok", 1) // the same again is not sent
	n.status("%s: %d tunnels", "down", 1)
	n.reloading()
	n.ready()
	n.stopping()
	for _, want := range []string{
		`^READY=1$`, `^STATUS=ok: 1 tunnels$`, `^STATUS=down: 1 tunnels$`, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*\n?$`, `^READY=1$`, `^STOPPING=1$`,
	} {
		if got := receive(t, c); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("got %q, want %s", got, want)
		}
	}
	if got := messages(logs); len(got) != 0 {
		t.Errorf("logged %q", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	n.stopping()
	if d := diff([]string{"cannot tell the service manager"}, messages(logs)); d != "" {
		t.Errorf("log without a service manager (-want +got):\n%s", d)
	}
}

// TestNotifierAlone checks that without a service manager nothing happens.
func TestNotifierAlone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	log, logs := observed()
	n := &notifier{log: log}
	n.ready()
	n.stopping()
	if got := messages(logs); len(got) != 0 {
		t.Errorf("logged %q", got)
	}
}

// receive reads one datagram.
func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
