package bench

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// wireguardGoVersion is what is built.
const wireguardGoVersion = "v0.0.0-20260522210424-ecfc5a8d5446"

// wireguardGo is upstream's own program.
type wireguardGo struct {
	binary string
	procs  processes
}

// Name is "wireguard-go".
func (*wireguardGo) Name() string { return "wireguard-go" }

// Prepare builds the program once into the user's cache. Without Go it takes
// what a package has installed, which may be years older.
func (w *wireguardGo) Prepare(ctx context.Context) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "transitbench", wireguardGoVersion)
	w.binary = filepath.Join(dir, "wireguard") // go install names it by the module's last element
	if _, err := os.Stat(w.binary); err == nil {
		return nil
	}
	c := exec.CommandContext(ctx, "go", "install", "golang.zx2c4.com/wireguard@"+wireguardGoVersion)
	c.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	if err == nil {
		return nil
	}
	if path, perr := exec.LookPath("wireguard-go"); perr == nil {
		w.binary = path
		return nil
	}
	return &MissingError{What: "wireguard-go", Install: fmt.Sprintf("apt-get install wireguard-go, or install Go to build it (%v: %s)", err, strings.TrimSpace(string(out)))}
}

// Up starts both ends and configures them over their UAPI sockets.
func (w *wireguardGo) Up(ctx context.Context, t *Testbed) ([2]netip.Addr, error) {
	in := inner(2)
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return in, fmt.Errorf("make a key: %w", err)
		}
		keys[i] = k
	}
	for i := range t.Ends {
		e := &t.Ends[i]
		// The sockets lie in one folder for all namespaces, so the names differ.
		dev := fmt.Sprintf("wg%s%d", e.Side, os.Getpid())
		if err := w.procs.start(t, e, nil, w.binary, "-f", dev); err != nil {
			return in, err
		}
		conf := fmt.Sprintf("set=1\nprivate_key=%x\nlisten_port=51820\nreplace_peers=true\npublic_key=%s\nendpoint=%s:51820\nreplace_allowed_ips=true\nallowed_ip=%s/32\n\n",
			keys[i].Bytes(), hex.EncodeToString(keys[1-i].PublicKey().Bytes()), e.Other, in[1-i])
		if err := eventually(ctx, func() error { return uapi(dev, conf) }); err != nil {
			return in, err
		}
		err := e.RunAll(ctx,
			fmt.Sprintf("ip link set %s mtu %d", dev, TunnelMTU),
			fmt.Sprintf("ip addr add %s/24 dev %s", in[i], dev),
			fmt.Sprintf("ip link set %s up", dev),
		)
		if err != nil {
			return in, err
		}
	}
	return in, nil
}

func uapi(dev, conf string) error {
	c, err := net.DialTimeout("unix", "/var/run/wireguard/"+dev+".sock", time.Second)
	if err != nil {
		return fmt.Errorf("configure wireguard-go: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return fmt.Errorf("configure wireguard-go: %w", err)
	}
	if _, err := io.WriteString(c, conf); err != nil {
		return fmt.Errorf("configure wireguard-go: %w", err)
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "errno=0") {
		return fmt.Errorf("configure wireguard-go: it answers %q, %w", b[:n], err)
	}
	return nil
}

// Down ends both ends.
func (w *wireguardGo) Down() error { return w.procs.stop() }
