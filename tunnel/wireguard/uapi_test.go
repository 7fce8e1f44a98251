package wireguard

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serveUAPI serves wg(8) for a device with a session, under a name of its own.
func serveUAPI(t *testing.T) (name string, a, b *Device, secrets []string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the sockets are in " + uapiDir)
	}
	ka, kb, psk := testKey(t), testKey(t), PresharedKey(testKey(t))
	a = newDevice(t, Config{PrivateKey: ka, PeerPublicKey: kb.Public(), PresharedKey: psk})
	b = newDevice(t, Config{PrivateKey: kb, PeerPublicKey: ka.Public(), PresharedKey: psk})
	deliver(t, time.Now(), a, b)
	about := func() Interface {
		return Interface{ListenPort: 51820, Mark: 0x54, Remote: netip.MustParseAddrPort("192.0.2.2:51821"), TXBytes: 1234, RXBytes: 98765, Keepalive: 25 * time.Second}
	}
	name = fmt.Sprintf("wgt%d", os.Getpid())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeUAPI(ctx, name, a, about) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Stat(filepath.Join(uapiDir, name+".sock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left over: %v", err)
		}
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(uapiDir, name+".sock"))
		if err == nil {
			c.Close()
			return name, a, b, []string{hex.EncodeToString(ka[:]), ka.Base64(), hex.EncodeToString(psk[:]), PrivateKey(psk).Base64()}
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// ask sends a request and reads one answer, up to the empty line.
func ask(t *testing.T, name, request string) string {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(uapiDir, name+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for buf := make([]byte, 1024); !bytes.HasSuffix(got.Bytes(), []byte("\n\n")); {
		n, err := c.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
	}
	return got.String()
}

func TestUAPI(t *testing.T) {
	name, a, b, secrets := serveUAPI(t)
	peer := b.m.ours[0].public
	at := a.Status().LastHandshake
	want := strings.Join([]string{
		"listen_port=51820", "fwmark=84", "public_key=" + hex.EncodeToString(peer[:]), "protocol_version=1", "endpoint=192.0.2.2:51821",
		fmt.Sprintf("last_handshake_time_sec=%d", at.Unix()), fmt.Sprintf("last_handshake_time_nsec=%d", at.Nanosecond()),
		"tx_bytes=1234", "rx_bytes=98765", "persistent_keepalive_interval=25", "allowed_ip=0.0.0.0/0", "allowed_ip=::/0", "errno=0", "", "",
	}, "\n")
	got := ask(t, name, "get=1\n\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, s := range secrets {
		if strings.Contains(got, s) {
			t.Error("a secret is told")
		}
	}
	for request, want := range map[string]string{
		"set=1\nprivate_key=00\n\n": "errno=-1\n\n",
		"get=2\n\n":                 "errno=-22\n\n",
		"hello\n\n":                 "errno=-22\n\n",
		"\n\nget=0\n\n":             "errno=-22\n\n",
	} {
		if got := ask(t, name, request); got != want {
			t.Errorf("%q: %q, want %q", request, got, want)
		}
	}
	if !a.Resolved() || a.m.ours[0].public == (PublicKey{}) {
		t.Error("something was set")
	}
}

// wg itself understands it.
func TestUAPIWithWG(t *testing.T) {
	if _, err := exec.LookPath("wg"); err != nil {
		t.Skip("wg is not installed (package wireguard-tools)")
	}
	name, _, b, secrets := serveUAPI(t)
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "wg", args...).CombinedOutput()
		for _, s := range secrets {
			if strings.Contains(string(out), s) {
				t.Errorf("wg %v tells a secret", args)
			}
		}
		return string(out), err
	}
	public := b.m.ours[0].public.String()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"show", name}, []string{"interface: " + name, "listening port: 51820", "peer: " + public, "endpoint: 192.0.2.2:51821", "allowed ips: 0.0.0.0/0, ::/0", "latest handshake: ", "96.45 KiB received, 1.21 KiB sent", "every 25 seconds"}},
		{[]string{"show", name, "latest-handshakes"}, []string{public}},
		{[]string{"show", "interfaces"}, []string{name}},
		{[]string{"showconf", name}, []string{"[Interface]", "ListenPort = 51820", "PublicKey = " + public, "Endpoint = 192.0.2.2:51821", "PersistentKeepalive = 25"}},
	} {
		out, err := run(c.args...)
		if err != nil {
			t.Errorf("wg %v: %v\n%s", c.args, err, out)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("wg %v: no %q in\n%s", c.args, w, out)
			}
		}
		if strings.Contains(out, "PrivateKey") || strings.Contains(out, "PresharedKey") {
			t.Errorf("wg %v tells keys:\n%s", c.args, out)
		}
	}
	if out, err := run("set", name, "listen-port", "1"); err == nil || !strings.Contains(out, "Operation not permitted") {
		t.Errorf("wg set: %v\n%s", err, out)
	}
}

// Somebody else's socket is not taken away; one that nobody listens at is.
func TestUAPISocketInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sock")
	first, err := listenUAPI(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := listenUAPI(path); err == nil || !strings.Contains(err.Error(), "somebody else's") {
		t.Errorf("%v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as if it had been killed
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listenUAPI(path)
	if err != nil {
		t.Fatalf("a socket that is left over: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
