package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// wgPeer is another implementation of WireGuard. Commands reach it through sh,
// as it may be in a machine of its own.
type wgPeer interface {
	version() string
	device() string
	folder() string // for its files
	create()        // makes the device, which knows nothing yet
	remove()        // and everything it knew is forgotten
	// sh runs one line of shell where the peer is.
	sh(line string) (string, error)
}

// wgPair is transitd and a peer, on one wire.
type wgPair struct {
	t      *testing.T
	near   netns.NS
	dir    string
	daemon *farProgram
	tunnel string // our device; its socket for wg is in a folder that all namespaces share
	peer   wgPeer
	public [2]string // ours, theirs
	psk    bool
}

const (
	wgNear, wgFar           = "192.0.2.1", "192.0.2.2"
	wgNearInner, wgFarInner = "169.254.77.1", "169.254.77.2"
)

// newWGPair starts nothing yet; what makes the peer puts it at eth0 of a namespace.
func newWGPair(t *testing.T, psk bool, makePeer func(*testing.T, netns.NS) wgPeer, flags ...string) *wgPair {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Parallel()
	far := netnstest.New(t, "far")
	p := &wgPair{t: t, dir: t.TempDir(), near: netnstest.New(t, "near"), tunnel: "o" + strings.TrimPrefix(far.Name, "tdt-"), psk: psk}
	p.run("ip link add eth0 type veth peer name eth0 netns " + far.Name)
	p.run("ip addr add " + wgNear + "/24 dev eth0")
	p.run("ip link set eth0 up")
	p.run("ethtool -K eth0 tx off")
	p.run("ip route add default via 192.0.2.254")
	p.peer = makePeer(t, far)
	for i, file := range []string{p.file("near.key"), p.file("far.key")} {
		p.public[i] = strings.TrimSpace(p.run(filepath.Join(binDir, "transitctl") + " keygen " + file))
	}
	p.run(filepath.Join(binDir, "transitctl") + " keygen --preshared " + p.file("psk"))
	shared := ""
	if psk {
		shared = ", preshared_key_file: " + p.file("psk")
	}
	writeFile(t, p.file("transitd.yaml"), fmt.Sprintf(`node: {name: near, asn: 64512, site: near}
underlay: {interface: eth0}
tunnels:
  - name: %s
    remote: %s
    address: %s/30
    peer_address: %s
    encapsulation: wireguard
    wireguard: {private_key_file: %s, peer_public_key: %s%s}
    bgp: {asn: 64513}
    bfd: {enabled: false}
observe: {listen: ""}
control: {socket: %s}
log: {format: console}
`, p.tunnel, wgFar, wgNearInner, wgFarInner, p.file("near.key"), p.public[1], shared, p.file("ctl.sock")))
	argv := append([]string{filepath.Join(binDir, "transitd"), "run", "-c", p.file("transitd.yaml")}, flags...)
	p.daemon = &farProgram{t: t, ns: p.near, dir: p.dir, name: "transitd", argv: argv}
	return p
}

func (p *wgPair) file(name string) string { return filepath.Join(p.dir, name) }

// run runs a command at our end.
func (p *wgPair) run(line string) string {
	p.t.Helper()
	f := strings.Fields(line)
	out, err := output(p.near.Command(p.t.Context(), f[0], f[1:]...))
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// far runs a line of shell at the peer's.
func (p *wgPair) far(line string) string {
	p.t.Helper()
	out, err := p.peer.sh(line)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *wgPair) startNear() {
	p.t.Helper()
	p.daemon.start()
	soon(p.t, "transitd answers", 10*time.Second, func() error { _, err := p.status(); return err })
}

// startFar makes the peer's device and gives it its keys and addresses.
func (p *wgPair) startFar() {
	p.t.Helper()
	p.peer.create()
	dev, dir := p.peer.device(), p.peer.folder()
	set := fmt.Sprintf("wg set %s private-key %s/far.key listen-port 51820 peer %s allowed-ips 0.0.0.0/0 endpoint %s:51820", dev, dir, p.public[0], wgNear)
	files := []string{"far.key"}
	if p.psk {
		set, files = set+fmt.Sprintf(" preshared-key %s/psk", dir), append(files, "psk")
	}
	for _, name := range files {
		p.far(fmt.Sprintf("umask 077; echo %s >%s/%s", strings.TrimSpace(p.run("cat "+p.file(name))), dir, name))
	}
	soon(p.t, "the peer takes its configuration", 10*time.Second, func() error { _, err := p.peer.sh(set); return err })
	p.far(fmt.Sprintf("ip addr add %s/30 dev %s; ip link set %s mtu 1400 up", wgFarInner, dev, dev))
}

// begins lets only one end begin handshakes from now on: the initiations of the
// other, of which there is nothing else as long, are lost at our card.
func (p *wgPair) begins(end string) {
	p.t.Helper()
	const initiation = "udp dport 51820 udp length 156" // 148 bytes (paper, section 5.4.2) and the header
	rules := "add table ip roles; delete table ip roles; add table ip roles; "
	switch end {
	case "peer":
		rules += "add chain ip roles c {type filter hook output priority 0;}; add rule ip roles c " + initiation + " drop"
	case "transitd":
		rules += "add chain ip roles c {type filter hook input priority 0;}; add rule ip roles c " + initiation + " drop"
	}
	if _, err := output(p.near.Command(p.t.Context(), "nft", rules)); err != nil {
		p.t.Fatal(err)
	}
}

type wgStatus struct {
	Tunnels []struct {
		State     string
		Drops     map[string]uint64
		WireGuard struct {
			Handshakes      uint64
			Refused         uint64
			PublicKey       string `json:"public_key"`
			PeerPublicKey   string `json:"peer_public_key"`
			KeyLogged       bool   `json:"key_logged"`
			Why             string
			CookiesSent     uint64 `json:"cookies_sent"`
			CookiesReceived uint64 `json:"cookies_received"`
		}
	}
	Warnings []string
}

func (p *wgPair) status() (wgStatus, error) { return askWG(p.file("ctl.sock")) }

// askWG asks a transitd that has one tunnel.
func askWG(socket string) (s wgStatus, err error) {
	if err := askStatus(socket, &s); err != nil {
		return s, err
	}
	if len(s.Tunnels) != 1 {
		return s, fmt.Errorf("status: %d tunnels", len(s.Tunnels))
	}
	return s, nil
}

func (p *wgPair) pingFar() error {
	_, err := output(p.near.Command(p.t.Context(), "ping", "-n", "-c", "1", "-W", "1", wgFarInner))
	return err
}

func (p *wgPair) pingNear() error {
	_, err := p.peer.sh("ping -c 1 -W 1 " + wgNearInner)
	return err
}

// reach waits until a packet of each end comes back.
func (p *wgPair) reach(within time.Duration) time.Duration {
	p.t.Helper()
	return soon(p.t, "both ends reach each other", within, func() error { return errors.Join(p.pingFar(), p.pingNear()) })
}

// farProcess is wireguard-go, in the namespace.
type farProcess struct {
	t       *testing.T
	ns      netns.NS
	dir     string
	program *farProgram
}

func wireguardGo(t *testing.T, ns netns.NS) wgPeer {
	w := &farProcess{t: t, ns: ns, dir: t.TempDir()}
	w.program = &farProgram{t: t, ns: ns, dir: w.dir, name: "wireguard-go", argv: []string{"wireguard-go", "-f", w.device()}}
	for _, line := range []string{"ip addr add " + wgFar + "/24 dev eth0", "ip link set eth0 up", "ethtool -K eth0 tx off"} {
		if _, err := w.sh(line); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *farProcess) version() string {
	out, err := output(exec.Command("wireguard-go", "--version"))
	if f := strings.Fields(out); err == nil && len(f) > 1 {
		return strings.Join(f[:2], " ")
	}
	w.t.Fatalf("wireguard-go --version: %v: %q", err, out)
	return ""
}

// device is unique as the namespace is, which it is named after: its socket's folder is for all.
func (w *farProcess) device() string { return strings.TrimPrefix(w.ns.Name, "tdt-") }
func (w *farProcess) folder() string { return w.dir }

func (w *farProcess) create() {
	w.t.Helper()
	w.program.start()
	// Not by wg(8): it deletes a socket at which nobody listens yet.
	soon(w.t, "wireguard-go listens", 10*time.Second, func() error {
		c, err := net.Dial("unix", "/var/run/wireguard/"+w.device()+".sock")
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

func (w *farProcess) remove() { w.program.kill() }

func (w *farProcess) sh(line string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	return output(w.ns.Command(ctx, "sh", "-c", line))
}
