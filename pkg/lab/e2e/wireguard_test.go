package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// wgPair is transitd and Debian's wireguard-go, each in a namespace, on one wire.
type wgPair struct {
	t            *testing.T
	near, far    netns.NS
	dir, dev     string // dev is wireguard-go's: its socket's folder is one for all namespaces
	daemon, peer *farProgram
	public       [2]string // ours, theirs
	psk          bool
}

const (
	wgNear, wgFar           = "192.0.2.1", "192.0.2.2"
	wgNearInner, wgFarInner = "169.254.77.1", "169.254.77.2"
)

func newWGPair(t *testing.T, psk bool, flags ...string) *wgPair {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Parallel()
	p := &wgPair{t: t, dir: t.TempDir(), near: netnstest.New(t, "near"), far: netnstest.New(t, "far"), psk: psk}
	p.dev = strings.TrimPrefix(p.far.Name, "tdt-") // unique, as the namespace is
	p.run(p.near, "ip link add eth0 type veth peer name eth0 netns "+p.far.Name)
	for ns, a := range map[netns.NS]string{p.near: wgNear, p.far: wgFar} {
		p.run(ns, "ip addr add "+a+"/24 dev eth0")
		p.run(ns, "ip link set eth0 up")
		p.run(ns, "ip link set lo up")
		p.run(ns, "ethtool -K eth0 tx off")
	}
	p.run(p.near, "ip route add default via 192.0.2.254")
	for i, file := range []string{p.file("near.key"), p.file("far.key")} {
		out := p.run(p.near, filepath.Join(binDir, "transitctl")+" keygen "+file)
		p.public[i] = strings.TrimSpace(out)
	}
	p.run(p.near, filepath.Join(binDir, "transitctl")+" keygen --preshared "+p.file("psk"))
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
`, p.ourDevice(), wgFar, wgNearInner, wgFarInner, p.file("near.key"), p.public[1], shared, p.file("ctl.sock")))
	argv := append([]string{filepath.Join(binDir, "transitd"), "run", "-c", p.file("transitd.yaml")}, flags...)
	p.daemon = &farProgram{t: t, ns: p.near, dir: p.dir, name: "transitd", argv: argv}
	p.peer = &farProgram{t: t, ns: p.far, dir: p.dir, name: "wireguard-go", argv: []string{"wireguard-go", "-f", p.dev}}
	return p
}

// ourDevice is named so that our socket for wg is not that of another test.
func (p *wgPair) ourDevice() string { return "o" + p.dev }

func (p *wgPair) file(name string) string { return filepath.Join(p.dir, name) }

func (p *wgPair) run(ns netns.NS, line string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	f := strings.Fields(line)
	out, err := output(ns.Command(ctx, f[0], f[1:]...))
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

// startFar starts wireguard-go and gives it its keys and addresses.
func (p *wgPair) startFar() {
	p.t.Helper()
	p.peer.start()
	shared := ""
	if p.psk {
		shared = " preshared-key " + p.file("psk")
	}
	set := fmt.Sprintf("wg set %s private-key %s listen-port 51820 peer %s allowed-ips 0.0.0.0/0%s endpoint %s:51820",
		p.dev, p.file("far.key"), p.public[0], shared, wgNear)
	soon(p.t, "wireguard-go takes its configuration", 10*time.Second, func() error {
		_, err := output(p.far.Command(p.t.Context(), "sh", "-c", set))
		return err
	})
	for _, c := range []string{"addr add " + wgFarInner + "/30 dev " + p.dev, "link set " + p.dev + " mtu 1400 up"} {
		p.run(p.far, "ip "+c)
	}
}

type wgStatus struct {
	Tunnels []struct {
		State     string
		Drops     map[string]uint64
		WireGuard struct {
			Handshakes      uint64
			PeerPublicKey   string `json:"peer_public_key"`
			KeyLogged       bool   `json:"key_logged"`
			Why             string
			CookiesReceived uint64 `json:"cookies_received"`
		}
	}
	Warnings []string
}

func (p *wgPair) status() (s wgStatus, err error) {
	out, err := output(exec.Command(filepath.Join(binDir, "transitctl"), "status", "--socket", p.file("ctl.sock"), "-o", "json"))
	if !json.Valid([]byte(out)) {
		return s, fmt.Errorf("status: %q: %w", out, err)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// reach waits until both ends reach each other.
func (p *wgPair) reach(within time.Duration) time.Duration {
	p.t.Helper()
	return soon(p.t, "both ends reach each other", within, func() error {
		for ns, a := range map[netns.NS]string{p.near: wgFarInner, p.far: wgNearInner} {
			if _, err := output(ns.Command(p.t.Context(), "ping", "-n", "-c", "1", "-W", "1", a)); err != nil {
				return err
			}
		}
		return nil
	})
}

// transfer moves bytes over TCP, both ways.
func (p *wgPair) transfer(bytes string) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	server := p.far.Command(ctx, "iperf3", "-s", "-B", wgFarInner)
	if err := server.Start(); err != nil {
		p.t.Fatal(err)
	}
	defer func() { cancel(); _ = server.Wait() }()
	for _, direction := range []string{"", " -R"} {
		soon(p.t, "iperf3 moves "+bytes+direction, time.Minute, func() error {
			out, err := output(p.near.Command(ctx, "iperf3", strings.Fields("-J -C cubic -c "+wgFarInner+" -n "+bytes+direction)...))
			var r struct {
				End struct {
					Received struct {
						Bytes float64
						Bps   float64 `json:"bits_per_second"`
					} `json:"sum_received"`
				}
			}
			if jerr := json.Unmarshal([]byte(out), &r); jerr != nil || err != nil {
				return errors.Join(jerr, err)
			}
			if r.End.Received.Bytes == 0 { // iperf3 does that when its control connection is late
				return fmt.Errorf("iperf3 has no figure: %s", out)
			}
			p.t.Logf("iperf3%s: %.0f MB at %.2f Gbit/s", direction, r.End.Received.Bytes/1e6, r.End.Received.Bps/1e9)
			return nil
		})
	}
}

// The peer is upstream's program, set up by wg(8). Either side begins, either side is restarted.
func TestWireGuardInterop(t *testing.T) {
	amount := "200M"
	if os.Getenv("TRANSITD_LONG") != "" {
		amount = "1G"
	}
	for _, psk := range []bool{false, true} {
		t.Run(fmt.Sprintf("preshared key %v", psk), func(t *testing.T) {
			p := newWGPair(t, psk)
			p.startFar() // it begins a handshake when it has a packet; we begin at once
			p.startNear()
			t.Logf("up after %v", p.reach(10*time.Second))
			p.transfer(amount)
			p.run(p.near, "ping -n -q -c 20 -i 0.01 -W 2 -s 1372 -M do "+wgFarInner)

			p.peer.kill()
			p.startFar()
			t.Logf("wireguard-go restarted: both ways again after %v", p.reach(30*time.Second))
			p.daemon.kill()
			p.startNear()
			t.Logf("transitd restarted: both ways again after %v", p.reach(30*time.Second))
			p.transfer("20M")

			s, err := p.status()
			if err != nil || len(s.Tunnels) != 1 {
				t.Fatalf("%+v, %v", s, err)
			}
			if tn := s.Tunnels[0]; tn.State != "up" || tn.WireGuard.Handshakes == 0 || tn.WireGuard.PeerPublicKey != p.public[1] || tn.Drops["auth_failed"]+tn.Drops["replayed"] > 0 {
				t.Errorf("%+v", tn)
			}
			p.wg()
		})
	}
}

// wg asks our device as it would any other: there is no secret in the answers.
func (p *wgPair) wg() {
	p.t.Helper()
	show := p.run(p.near, "wg show "+p.ourDevice())
	for _, want := range []string{"peer: " + p.public[1], "endpoint: " + wgFar + ":51820", "latest handshake: ", "transfer: "} {
		if !strings.Contains(show, want) {
			p.t.Errorf("wg show has no %q:\n%s", want, show)
		}
	}
	conf := p.run(p.near, "wg showconf "+p.ourDevice())
	if !strings.Contains(conf, "PublicKey = "+p.public[1]) || strings.Contains(conf, "PrivateKey") || strings.Contains(conf, "PresharedKey") {
		p.t.Errorf("wg showconf:\n%s", conf)
	}
	if out, err := output(p.near.Command(p.t.Context(), "wg", "set", p.ourDevice(), "listen-port", "1")); err == nil {
		p.t.Errorf("wg set is allowed: %s", out)
	}
}

// tshark decrypts what we send with the key log, and finds the packets inside whole.
func TestWireGuardKeyLog(t *testing.T) {
	logs := t.TempDir()
	p := newWGPair(t, true, "--keylog", logs)
	p.startFar()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pcap := p.file("outer.pcap")
	dump := p.near.Command(ctx, "tcpdump", "-ni", "eth0", "-U", "-w", pcap, "udp", "port", "51820")
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = dump.Wait() }()
	soon(t, "tcpdump listens", 10*time.Second, func() error { _, err := os.Stat(pcap); return err })
	p.startNear()
	p.reach(10 * time.Second)
	p.run(p.near, "ping -n -q -c 25 -i 0.01 -W 2 -s 999 "+wgFarInner)
	s, err := p.status()
	if err != nil || !s.Tunnels[0].WireGuard.KeyLogged || !strings.Contains(strings.Join(s.Warnings, "\n"), "secrets are being written") {
		t.Errorf("the key log is not told: %+v, %v", s, err)
	}
	keys := filepath.Join(logs, p.ourDevice()+".wg.keys")
	if info, err := os.Stat(keys); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	soon(t, "tshark finds 50 packets of a ping", 20*time.Second, func() error {
		out, err := output(exec.Command("tshark", "-r", pcap, "-o", "wg.keylog_file:"+keys, "-o", "ip.check_checksum:TRUE",
			"-Y", "wg && icmp && data.len == 991 && icmp.checksum.status == 1 && ip.checksum.status == 1", "-T", "fields", "-e", "icmp.seq"))
		if n := len(strings.Fields(out)); err != nil || n < 50 {
			return fmt.Errorf("%d packets, %w", n, err)
		}
		return nil
	})
}
