package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// wgTwin is one of two transitds that a WireGuard tunnel joins.
type wgTwin struct {
	ns           netns.NS
	outer, inner string
	daemon       *farProgram
	dir, device  string
	key, next    string // files of private keys
	theirs, soon string // the other end's public keys
}

// newWGTwins starts both, with a session.
func newWGTwins(t *testing.T) [2]*wgTwin {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Parallel()
	var w [2]*wgTwin
	for i := range w {
		n := &wgTwin{ns: netnstest.New(t, "twin"), dir: t.TempDir(), outer: fmt.Sprintf("192.0.2.%d", i+1), inner: fmt.Sprintf("169.254.77.%d", i+1)}
		n.device = "t" + strings.TrimPrefix(n.ns.Name, "tdt-")[:9]
		n.key = filepath.Join(n.dir, "0.key")
		w[i] = n
	}
	w[0].exec(t, "ip link add eth0 type veth peer name eth0 netns "+w[1].ns.Name)
	for i, n := range w {
		for _, c := range []string{"ip addr add " + n.outer + "/24 dev eth0", "ip link set eth0 up", "ip link set lo up", "ethtool -K eth0 tx off", "ip route add default via 192.0.2.254"} {
			n.exec(t, c)
		}
		w[1-i].theirs = n.keygen(t, n.key)
	}
	for i, n := range w {
		n.configure(t, w[1-i])
		n.daemon = &farProgram{t: t, ns: n.ns, dir: n.dir, name: "transitd", argv: []string{filepath.Join(binDir, "transitd"), "run", "-c", filepath.Join(n.dir, "transitd.yaml")}}
		n.daemon.start()
	}
	soon(t, "the twins reach each other", 10*time.Second, func() error {
		_, err := output(w[0].ns.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "1", w[1].inner))
		return err
	})
	return w
}

func (n *wgTwin) exec(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := output(n.ns.Command(t.Context(), f[0], f[1:]...))
	if err != nil {
		t.Fatal(err)
	}
	return out
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
	writeFile(t, filepath.Join(n.dir, "transitd.yaml"), fmt.Sprintf(`node: {name: twin, asn: %d, site: %s}
underlay: {interface: eth0}
tunnels:
  - name: %s
    remote: %s
    address: %s/30
    peer_address: %s
    encapsulation: wireguard
    wireguard: {private_key_file: %s, peer_public_key: %s, paths: 4%s}
    bgp: {asn: %d}
observe: {listen: ""}
control: {socket: %s/ctl.sock}
log: {format: console}
`, 64512+int(n.outer[len(n.outer)-1]-'1'), n.device, n.device, other.outer, n.inner, other.inner, n.key, n.theirs, more, 64512+int(other.outer[len(other.outer)-1]-'1'), n.dir))
}

func (n *wgTwin) reload(t *testing.T) {
	t.Helper()
	out, err := output(exec.Command(filepath.Join(binDir, "transitctl"), "reload", "--socket", filepath.Join(n.dir, "ctl.sock")))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "its keys change") {
		t.Errorf("reload says:\n%s", out)
	}
}

// public is the key that the last handshake had.
func (n *wgTwin) public(t *testing.T) (ours string) {
	t.Helper()
	out, _ := output(exec.Command(filepath.Join(binDir, "transitctl"), "status", "--socket", filepath.Join(n.dir, "ctl.sock"), "-o", "json"))
	var s struct {
		Tunnels []struct {
			WireGuard struct {
				PublicKey string `json:"public_key"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || len(s.Tunnels) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return s.Tunnels[0].WireGuard.PublicKey
}

// udpSum is iperf3's count of a direction.
type udpSum struct {
	Packets     float64 `json:"packets"`
	LostPackets float64 `json:"lost_packets"`
}

// Both ends' keys are replaced, one after the other, under 5,000 datagrams a second each way, and none is lost.
func TestWireGuardRotation(t *testing.T) {
	w := newWGTwins(t)
	server := w[1].ns.Command(t.Context(), "iperf3", "-s", "-1", "-B", w[1].inner)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	type verdict struct {
		out string
		err error
	}
	done := make(chan verdict, 1)
	go func() {
		var v verdict
		time.Sleep(200 * time.Millisecond) // the server says nothing when it listens
		v.out, v.err = output(w[0].ns.Command(t.Context(), "iperf3", "-c", w[1].inner, "-u", "--bidir", "-b", "8M", "-l", "200", "-t", "12", "-w", "2M", "-J"))
		done <- v
	}()
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
			if have := n.public(t); have != other.soon {
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
	v := <-done
	if v.err != nil {
		t.Fatal(v.err)
	}
	_ = server.Wait()
	var r struct {
		End struct {
			There udpSum `json:"sum"`
			Back  udpSum `json:"sum_bidir_reverse"`
		}
	}
	if err := json.Unmarshal([]byte(v.out), &r); err != nil {
		t.Fatalf("%v: %s", err, v.out)
	}
	there, back := r.End.There, r.End.Back
	t.Logf("there: %.0f datagrams, %.0f lost; back: %.0f, %.0f lost", there.Packets, there.LostPackets, back.Packets, back.LostPackets)
	if there.Packets < 50000 || there.LostPackets > 0 || back.Packets < 50000 || back.LostPackets > 0 {
		t.Errorf("datagrams were lost")
	}
}
