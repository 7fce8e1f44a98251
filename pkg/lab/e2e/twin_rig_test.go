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

// twin is one of two transitds that a tunnel joins.
type twin struct {
	ns           netns.NS
	outer, inner string
	port         uint16 // of the tunnel, at both
	daemon       *farProgram
	dir, device  string
}

// newTwins makes both and the wire between them, and starts neither.
func newTwins(t *testing.T, port uint16) [2]*twin {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Parallel()
	var w [2]*twin
	for i := range w {
		n := &twin{ns: netnstest.New(t, "twin"), dir: t.TempDir(), outer: fmt.Sprintf("192.0.2.%d", i+1), inner: fmt.Sprintf("169.254.77.%d", i+1), port: port}
		n.device = "t" + strings.TrimPrefix(n.ns.Name, "tdt-")[:9]
		n.daemon = &farProgram{t: t, ns: n.ns, dir: n.dir, name: "transitd", argv: []string{filepath.Join(binDir, "transitd"), "run", "-c", filepath.Join(n.dir, "transitd.yaml")}}
		w[i] = n
	}
	w[0].exec(t, "ip link add eth0 type veth peer name eth0 netns "+w[1].ns.Name)
	for _, n := range w {
		for _, c := range []string{"ip addr add " + n.outer + "/24 dev eth0", "ip link set eth0 up", "ip link set lo up", "ethtool -K eth0 tx off", "ip route add default via 192.0.2.254"} {
			n.exec(t, c)
		}
	}
	return w
}

// startTwins starts both, and returns when packets go.
func startTwins(t *testing.T, w [2]*twin) {
	t.Helper()
	for _, n := range w {
		n.daemon.start()
	}
	soon(t, "the twins reach each other", 10*time.Second, func() error { return w[0].reach(t, w[1]) })
}

func (n *twin) reach(t *testing.T, other *twin) error {
	_, err := output(n.ns.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "1", other.inner))
	return err
}

func (n *twin) exec(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := output(n.ns.Command(t.Context(), f[0], f[1:]...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write writes the configuration; keys are the lines of the encapsulation.
func (n *twin) write(t *testing.T, other *twin, keys string) {
	t.Helper()
	writeFile(t, filepath.Join(n.dir, "transitd.yaml"), fmt.Sprintf(`node: {name: twin, asn: %d, site: %s}
underlay: {interface: eth0}
tunnels:
  - name: %s
    remote: %s
    address: %s/30
    peer_address: %s
    %s
    bgp: {asn: %d}
observe: {listen: ""}
control: {socket: %s}
log: {format: console}
`, 64512+int(n.outer[len(n.outer)-1]-'1'), n.device, n.device, other.outer, n.inner, other.inner, keys, 64512+int(other.outer[len(other.outer)-1]-'1'), n.socket()))
}

func (n *twin) socket() string { return filepath.Join(n.dir, "ctl.sock") }

// transitctl asks the twin's daemon, in its namespace.
func (n *twin) transitctl(t *testing.T, args ...string) *exec.Cmd {
	return n.ns.Command(t.Context(), filepath.Join(binDir, "transitctl"), append(args, "--socket", n.socket())...)
}

// askStatus asks a transitd for its status.
func askStatus(socket string, into any) error {
	out, err := output(exec.Command(filepath.Join(binDir, "transitctl"), "status", "--socket", socket, "-o", "json"))
	if !json.Valid([]byte(out)) {
		return fmt.Errorf("status: %q: %w", out, err)
	}
	return json.Unmarshal([]byte(out), into)
}

// listens starts iperf3's server at the twin's end of the tunnel.
func (n *twin) listens(t *testing.T, port string) {
	t.Helper()
	server := &farProgram{t: t, ns: n.ns, dir: n.dir, name: "iperf3-" + port, argv: []string{"iperf3", "-s", "-B", n.inner, "-p", port}}
	server.start()
	soon(t, "iperf3 listens", 10*time.Second, func() error {
		if out := n.exec(t, "ss -Hltn sport = :"+port); out == "" {
			return fmt.Errorf("no listener")
		}
		return nil
	})
}

// udpSum is iperf3's count of a direction.
type udpSum struct {
	Packets     float64 `json:"packets"`
	LostPackets float64 `json:"lost_packets"`
}

// datagrams is UDP both ways, a while.
type datagrams struct {
	t    *testing.T
	what string
	done chan error
	r    struct {
		End struct {
			There udpSum `json:"sum"`
			Back  udpSum `json:"sum_bidir_reverse"`
		}
	}
}

// startDatagrams sends that many bits a second in datagrams of a length, each way.
func (n *twin) startDatagrams(t *testing.T, other *twin, port, rate string, length, seconds int) *datagrams {
	t.Helper()
	other.listens(t, port)
	d := &datagrams{t: t, what: fmt.Sprintf("datagrams of %d bytes", length), done: make(chan error, 1)}
	c := n.ns.Command(t.Context(), "iperf3", "-c", other.inner, "-p", port, "-u", "--bidir", "-b", rate, "-l", fmt.Sprint(length), "-t", fmt.Sprint(seconds), "-w", "2M", "-J")
	go func() {
		out, err := output(c)
		if err == nil {
			err = json.Unmarshal([]byte(out), &d.r)
		}
		d.done <- err
	}()
	return d
}

// none holds them to none lost, of at least as many each way.
func (d *datagrams) none(least float64) {
	d.t.Helper()
	if err := <-d.done; err != nil {
		d.t.Fatal(err)
	}
	there, back := d.r.End.There, d.r.End.Back
	d.t.Logf("%s: there %.0f, %.0f lost; back %.0f, %.0f lost", d.what, there.Packets, there.LostPackets, back.Packets, back.LostPackets)
	if there.Packets < least || there.LostPackets > 0 || back.Packets < least || back.LostPackets > 0 {
		d.t.Errorf("%s were lost, or fewer than %.0f were sent", d.what, least)
	}
}
