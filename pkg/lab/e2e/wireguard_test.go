package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

var updateInterop = flag.Bool("update-interop", false, "write docs/interop.md from what the runs measured")

// wgPeers are the implementations that our tunnel is tried against.
var wgPeers = []struct {
	name  string
	make  func(*testing.T, netns.NS) wgPeer
	psk   []bool
	bytes []int64 // each way, for each of psk; the tenth part unless TRANSITD_LONG is set
	pings int     // a second, in the long test
}{
	{"wireguard-go", wireguardGo, []bool{false, true}, []int64{200e6, 1e9}, 1000},
	{"kernel", kernelWireGuard, []bool{true}, []int64{50e6}, 200}, // a guest has no speed
}

// Either side begins, either side is restarted, and the peer's own tools find nothing strange.
func TestWireGuardInterop(t *testing.T) {
	report := interopReport{section: "WireGuard", test: "TestWireGuardInterop", introduction: wireguardIntroduction, end: wireguardEnd, least: 3}
	t.Run("with", func(t *testing.T) {
		for _, x := range wgPeers {
			for i, psk := range x.psk {
				t.Run(fmt.Sprintf("%s/preshared key %v", x.name, psk), func(t *testing.T) {
					p := newWGPair(t, psk, x.make)
					r := p.interop(unlessLong(x.bytes[i]))
					if !t.Failed() {
						report.add(x.name, r)
					}
				})
			}
		}
	})
	report.compare(t)
}

// unlessLong is the tenth part, but in the long tests.
func unlessLong(bytes int64) int64 {
	if os.Getenv("TRANSITD_LONG") == "" {
		return bytes / 10
	}
	return bytes
}

func (p *wgPair) interop(bytes int64) (r interopRow) {
	t := p.t
	r.peer, r.psk, r.bytes = p.peer.version(), p.psk, bytes
	p.begins("transitd")
	p.startFar()
	p.startNear()
	r.begun = p.reach(15 * time.Second)
	t.Logf("we begin: up after %v", r.begun)
	p.run("ping -n -q -c 20 -i 0.01 -W 2 -s 1372 -M do " + wgFarInner)
	r.rates = p.transfer(bytes)

	p.peer.remove()
	p.begins("peer")
	p.daemon.kill()
	p.startNear()
	p.startFar()
	r.answered = p.reach(15 * time.Second)
	t.Logf("the peer begins: up after %v", r.answered)

	p.begins("")
	p.peer.remove()
	p.startFar()
	// The peer has nothing to send, so it is we who have to find out that nobody
	// answers: after 10 + 5 s (paper, section 6.5), and a handshake is tried each 5 s.
	r.theirRestart = soon(t, "packets come back from the restarted peer", 25*time.Second, p.pingFar)
	t.Logf("the peer restarted and is silent: its answers come after %v", r.theirRestart)
	p.reach(2 * time.Second)
	p.daemon.kill()
	p.startNear()
	r.ourRestart = p.reach(5 * time.Second)
	t.Logf("transitd restarted: both ways again after %v", r.ourRestart)
	p.transfer(10e6)

	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	if tn := s.Tunnels[0]; tn.State != "up" || tn.WireGuard.Handshakes == 0 || tn.WireGuard.PeerPublicKey != p.public[1] ||
		tn.WireGuard.Refused+tn.Drops["auth_failed"]+tn.Drops["replayed"] > 0 || tn.WireGuard.KeyLogged {
		t.Errorf("%+v", tn)
	}
	if out := p.far("wg show " + p.peer.device() + " latest-handshakes"); strings.HasSuffix(strings.TrimSpace(out), "\t0") {
		t.Errorf("the peer knows of no handshake: %s", out)
	}
	if logs, err := filepath.Glob(p.file("*.wg.keys")); err != nil || len(logs) > 0 {
		t.Errorf("a key log that nobody asked for: %v, %v", logs, err)
	}
	p.wg()
	return r
}

// wg asks our device as it would any other: there is no secret in the answers.
func (p *wgPair) wg() {
	p.t.Helper()
	show := p.run("wg show " + p.tunnel)
	for _, want := range []string{"peer: " + p.public[1], "endpoint: " + wgFar + ":51820", "latest handshake: ", "transfer: "} {
		if !strings.Contains(show, want) {
			p.t.Errorf("wg show has no %q:\n%s", want, show)
		}
	}
	conf := p.run("wg showconf " + p.tunnel)
	if !strings.Contains(conf, "PublicKey = "+p.public[1]) || strings.Contains(conf, "PrivateKey") || strings.Contains(conf, "PresharedKey") {
		p.t.Errorf("wg showconf:\n%s", conf)
	}
	everything := show + conf + p.run("wg show "+p.tunnel+" dump") + p.run("wg show "+p.tunnel+" private-key") + p.run("wg show "+p.tunnel+" preshared-keys")
	for _, name := range []string{"near.key", "psk"} {
		if secret := strings.TrimSpace(p.run("cat " + p.file(name))); strings.Contains(everything, secret) {
			p.t.Errorf("wg tells the secret of %s:\n%s", name, everything)
		}
	}
	if out, err := output(p.near.Command(p.t.Context(), "wg", "set", p.tunnel, "listen-port", "1")); err == nil {
		p.t.Errorf("wg set is allowed: %s", out)
	}
}

// Keys are agreed on anew after two minutes, by whoever began, while packets go both ways.
func TestWireGuardRekey(t *testing.T) {
	if os.Getenv("TRANSITD_LONG") == "" {
		t.Skip("takes over two minutes: TRANSITD_LONG=1 runs it")
	}
	for _, x := range wgPeers {
		for _, beginner := range []string{"transitd", "peer"} {
			t.Run(x.name+"/"+beginner+" begins", func(t *testing.T) {
				p := newWGPair(t, true, x.make)
				p.begins(beginner)
				p.startNear()
				p.startFar()
				p.reach(15 * time.Second)
				const seconds = 135
				out := p.run(fmt.Sprintf("ping -n -q -i %v -c %d -W 2 -s 1000 %s", 1/float64(x.pings), seconds*x.pings, wgFarInner))
				m := pingCounts.FindStringSubmatch(out)
				s, err := p.status()
				if m == nil || err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				t.Logf("%s packets there, %s back, %d handshakes", m[1], m[2], s.Tunnels[0].WireGuard.Handshakes)
				if n := s.Tunnels[0].WireGuard.Handshakes; m[1] != m[2] || n < 2 {
					t.Errorf("packets were lost, or there was no second handshake (%d): %s", n, out)
				}
			})
		}
	}
}

// tshark decrypts what we send with the key log, and finds the packets inside whole.
func TestWireGuardKeyLog(t *testing.T) {
	logs := t.TempDir()
	p := newWGPair(t, true, wireguardGo, "--keylog", logs)
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
	p.run("ping -n -q -c 25 -i 0.01 -W 2 -s 999 " + wgFarInner)
	s, err := p.status()
	if err != nil || !s.Tunnels[0].WireGuard.KeyLogged || !strings.Contains(strings.Join(s.Warnings, "\n"), "secrets are being written") {
		t.Errorf("the key log is not told: %+v, %v", s, err)
	}
	keys := filepath.Join(logs, p.tunnel+".wg.keys")
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

// interopRow is what a run with a peer measured.
type interopRow struct {
	peer                     string // with its version
	psk                      bool
	bytes                    int64
	begun, answered          time.Duration // until packets go both ways, by who began
	theirRestart, ourRestart time.Duration
	rates                    rates
}

func (x interopRow) String() string {
	return fmt.Sprintf("| %s | %v | %s | %s | %s | %s | %d MB, %.1f and %.1f Gbit/s |", x.peer, map[bool]string{true: "yes", false: "no"}[x.psk],
		inSeconds(x.begun), inSeconds(x.answered), inSeconds(x.theirRestart), inSeconds(x.ourRestart), x.bytes/1e6, x.rates.there/1e9, x.rates.back/1e9)
}

const wireguardIntroduction = `transitd's tunnel was run with other WireGuards, set up by their own tools. Each run does the same: only we may begin handshakes, then
only the peer; TCP carries the given amount each way, and the SHA-256 of what was sent and of what came are equal; packets of
the tunnel's full MTU pass; the peer is restarted and says nothing by itself, so we have to find out (WireGuard gives that 15 s);
transitd is killed and restarted. ` + "`wg show`" + ` works on both ends, and on ours tells no secret.

| peer | version | preshared key | up if we begin | up if it begins | it restarted | we restarted | TCP each way |
|---|---|---|---|---|---|---|---|
`

const wireguardEnd = `

The figures are of the last run with ` + "`-update-interop`" + `, on a machine that did other things too: they show what works, and
[performance.md](performance.md) how fast it is. The kernel runs in a guest that qemu emulates in software, for a host's kernel may have no WireGuard.

With ` + "`TRANSITD_LONG=1`" + `, the amounts are as above (a tenth otherwise), and TestWireGuardRekey has both peers agree on new keys after two minutes under load, begun by either side, and no
packet may be lost. TestWireGuardRotation replaces the keys of two transitds the same way without TRANSITD_LONG, TestWireGuardKeyLog has tshark decrypt what is on the wire.
`
