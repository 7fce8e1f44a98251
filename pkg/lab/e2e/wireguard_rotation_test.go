package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wgTwin is one of two transitds that a WireGuard tunnel joins.
type wgTwin struct {
	*twin
	key, next    string // files of private keys
	theirs, soon string // the other end's public keys
}

// newWGTwins starts both, with a session.
func newWGTwins(t *testing.T) [2]*wgTwin {
	t.Helper()
	pair := newTwins(t, wgPort)
	var w [2]*wgTwin
	for i, n := range pair {
		w[i] = &wgTwin{twin: n, key: filepath.Join(n.dir, "0.key")}
	}
	for i, n := range w {
		w[1-i].theirs = n.keygen(t, n.key)
	}
	for i, n := range w {
		n.configure(t, w[1-i])
	}
	startTwins(t, pair)
	return w
}

func (n *wgTwin) keygen(t *testing.T, file string) (public string) {
	t.Helper()
	return strings.TrimSpace(n.exec(t, filepath.Join(binDir, "transitctl")+" keygen "+file))
}

func (n *wgTwin) configure(t *testing.T, other *wgTwin) {
	t.Helper()
	more := ""
	if n.next != "" {
		more += ", next_private_key_file: " + n.next
	}
	if n.soon != "" {
		more += ", next_peer_public_key: " + n.soon
	}
	n.write(t, other.twin, fmt.Sprintf("encapsulation: wireguard\n    wireguard: {private_key_file: %s, peer_public_key: %s, paths: 4%s}", n.key, n.theirs, more))
}

func (n *wgTwin) reload(t *testing.T) {
	t.Helper()
	out, err := output(n.transitctl(t, "reload"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "its keys change") {
		t.Errorf("reload says:\n%s", out)
	}
}

// Both ends' keys are replaced, one after the other, under 5,000 datagrams a second each way, and none is lost.
func TestWireGuardRotation(t *testing.T) {
	w := newWGTwins(t)
	traffic := w[0].startDatagrams(t, w[1].twin, "5201", "8M", 200, 12)
	time.Sleep(2 * time.Second) // some traffic before
	for i, n := range w {
		other := w[1-i]
		n.next = filepath.Join(n.dir, "1.key")
		other.soon = n.keygen(t, n.next)
		other.configure(t, n)
		other.reload(t)
		n.configure(t, other)
		n.reload(t)
		soon(t, "the new key is used", 10*time.Second, func() error {
			if have := n.wgStatus(t).Tunnels[0].WireGuard.PublicKey; have != other.soon {
				return fmt.Errorf("it is %s, not %s", have, other.soon)
			}
			return nil
		})
		n.key, n.next = n.next, ""
		n.configure(t, other)
		n.reload(t)
		other.theirs, other.soon = other.soon, ""
		other.configure(t, n)
		other.reload(t)
	}
	traffic.none(50000)
}
