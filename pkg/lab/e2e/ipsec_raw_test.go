package e2e

import (
	"context"
	"encoding/json"
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

// rawEnd is one of two transitds whose ESP is in no UDP.
type rawEnd struct {
	t            *testing.T
	ns           netns.NS
	dir          string
	outer, inner string
	daemon       *farProgram
}

// rawOuters are the ends' addresses by family.
var rawOuters = map[string][2]string{"IPv4": {ipsecNear, ipsecFar}, "IPv6": {"2001:db8::1", "2001:db8::2"}}

func newRawEnds(t *testing.T, outers [2]string) (w [2]*rawEnd) {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Parallel()
	for i := range w {
		w[i] = &rawEnd{t: t, ns: netnstest.New(t, "raw"), dir: t.TempDir(), outer: outers[i], inner: fmt.Sprintf("169.254.77.%d", i+1)}
	}
	w[0].exec("ip link add eth0 type veth peer name eth0 netns " + w[1].ns.Name)
	for i, n := range w {
		for _, c := range []string{
			fmt.Sprintf("ip addr add 192.0.2.%d/24 dev eth0", i+1), fmt.Sprintf("ip addr add 2001:db8::%d/64 dev eth0 nodad", i+1),
			"ip link set eth0 up", "ip link set lo up", "ethtool -K eth0 tx off", "ip route add default via 192.0.2.254",
		} {
			n.exec(c)
		}
		writeFile(t, filepath.Join(n.dir, "psk"), ipsecSecret+"\n")
		n.configure(w[1-i], "udp_encapsulation: false")
		n.daemon = &farProgram{t: t, ns: n.ns, dir: n.dir, name: "transitd", argv: []string{filepath.Join(binDir, "transitd"), "run", "-c", filepath.Join(n.dir, "transitd.yaml")}}
	}
	return w
}

// configure writes the end's configuration, with the largest MTU that the wire takes.
func (n *rawEnd) configure(other *rawEnd, how string) {
	n.t.Helper()
	ours := int(n.inner[len(n.inner)-1] - '1')
	writeFile(n.t, filepath.Join(n.dir, "transitd.yaml"), fmt.Sprintf(`node: {name: raw, asn: %d, site: s%d}
underlay: {interface: eth0}
tunnels:
  - name: tr0
    remote: %s
    address: %s/30
    peer_address: %s
    mtu: %d
    encapsulation: ipsec
    ipsec: {local_id: %s.test, remote_id: %s.test, psk_file: %s, initiate: %v, dpd_delay: 1s, %s}
    bgp: {asn: %d}
observe: {listen: ""}
control: {socket: %s}
log: {format: console}
`, 64512+ours, ours, other.outer, n.inner, other.inner, n.mtu(), n.inner, other.inner, filepath.Join(n.dir, "psk"), ours == 0, how, 64513-ours, n.socket()))
}

// mtu is the wire's 1,500 bytes without IP and what ESP adds at most.
func (n *rawEnd) mtu() int {
	if strings.Contains(n.outer, ":") {
		return 1500 - 77
	}
	return 1500 - 57
}

func (n *rawEnd) socket() string { return filepath.Join(n.dir, "ctl.sock") }

func (n *rawEnd) exec(line string) string {
	n.t.Helper()
	f := strings.Fields(line)
	out, err := output(n.ns.Command(n.t.Context(), f[0], f[1:]...))
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

func (n *rawEnd) ctl(args string) string {
	n.t.Helper()
	return n.exec(filepath.Join(binDir, "transitctl") + " " + args + " --socket " + n.socket())
}

type rawStatus struct {
	Tunnels []struct {
		State, Remote string
		TXPackets     uint64 `json:"tx_packets"`
		Drops         map[string]uint64
		IPsec         struct {
			UDPEncapsulation *bool  `json:"udp_encapsulation"`
			IKERekeys        uint64 `json:"ike_rekeys"`
			ChildRekeys      uint64 `json:"child_rekeys"`
			Why, Problem     string
		}
	}
}

func (n *rawEnd) status() (s rawStatus, err error) {
	out, err := output(exec.Command(filepath.Join(binDir, "transitctl"), "status", "--socket", n.socket(), "-o", "json"))
	if jerr := json.Unmarshal([]byte(out), &s); jerr != nil || len(s.Tunnels) != 1 {
		return s, fmt.Errorf("status: %q: %w", out, err)
	}
	return s, nil
}

// folder and sh are what a mover asks of a peer.
func (n *rawEnd) folder() string { return n.dir }

func (n *rawEnd) sh(line string) (string, error) {
	return output(n.ns.Command(n.t.Context(), "sh", "-c", line))
}

// watchWire captures all that eth0 of a namespace has; the function that it returns
// ends that, and counts what a display filter of tshark shows.
func watchWire(t *testing.T, ns netns.NS) (count func(display string) int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	pcap := filepath.Join(t.TempDir(), "wire.pcap")
	dump := ns.Command(ctx, "tcpdump", "-ni", "eth0", "-s", "200", "-B", "16384", "-U", "-w", pcap)
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = dump.Wait() })
	soon(t, "tcpdump listens", 10*time.Second, func() error { _, err := os.Stat(pcap); return err })
	return func(display string) int {
		_ = dump.Process.Signal(os.Interrupt)
		_ = dump.Wait()
		out, err := output(exec.Command("tshark", "-r", pcap, "-Y", display, "-T", "fields", "-e", "frame.number"))
		if err != nil {
			t.Fatal(err)
		}
		return len(strings.Fields(out))
	}
}

// Two transitds without UDP: the wire has ESP by itself and IKE at port 500 and
// nothing at 4500, packets of the whole MTU go through, TCP carries what was
// sent, and new keys lose nothing.
func TestIPsecRaw(t *testing.T) {
	for family, outers := range rawOuters {
		t.Run(family, func(t *testing.T) {
			w := newRawEnds(t, outers)
			near, far := w[0], w[1]
			count := watchWire(t, near.ns)
			for _, n := range w {
				n.daemon.start()
			}
			soon(t, "a ping comes back", 20*time.Second, func() error {
				_, err := output(near.ns.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "1", far.inner))
				return err
			})
			full := fmt.Sprintf("ping -n -q -c 20 -i 0.01 -W 2 -M do -s %d ", near.mtu()-28)
			near.exec(full + far.inner)
			far.exec(full + near.inner)
			for _, step := range []struct {
				n    *rawEnd
				args string
			}{{near, "ipsec rekey"}, {far, "ipsec rekey"}, {near, "ipsec rekey --ike"}, {far, "ipsec rekey --ike"}} {
				if lost := (&ipsecPair{t: t, near: near.ns}).underPing(func() { step.n.ctl(step.args) }); lost != "" {
					t.Errorf("%s: %s", step.args, lost)
				}
			}
			mover{t, near.ns, far}.transfer(unlessLong(100e6))
			for i, n := range w {
				s, err := n.status()
				if err != nil {
					t.Fatal(err)
				}
				x := s.Tunnels[0]
				if x.IPsec.UDPEncapsulation == nil || *x.IPsec.UDPEncapsulation || x.IPsec.ChildRekeys != 2 || x.IPsec.IKERekeys != 2 || x.Remote != outers[1-i] {
					t.Errorf("%+v", x)
				}
				for reason, k := range x.Drops {
					if reason != "no_session" && reason != "no_route" && reason != "tun_queue_full" { // before there were keys; the device's own neighbour discovery; TCP's way to find the rate
						t.Errorf("%s dropped %d: %s", n.ns.Name, k, reason)
					}
				}
				if text, _ := n.sh(filepath.Join(binDir, "transitctl") + " tunnel --socket " + n.socket()); !strings.Contains(text, "ESP is IP protocol 50, without UDP") {
					t.Errorf("transitctl tunnel: %s", text)
				}
			}
			esp := count("(ip.proto == 50 || ipv6.nxt == 50) && esp && !udp")
			ike, port4500, fragments := count("isakmp && udp.port == 500"), count("udp.port == 4500"), count("ip.flags.mf == 1 || ip.frag_offset > 0 || ipv6.fraghdr")
			t.Logf("on the wire: %d packets of ESP, %d of IKE at port 500, %d at port 4500, %d fragments", esp, ike, port4500, fragments)
			if esp < 1000 || ike < 12 || port4500 != 0 || fragments != 0 {
				t.Error("that is not what the wire should have")
			}
		})
	}
}

// A NAT on the path, and a peer that wants UDP, are told in words.
func TestIPsecRawRefused(t *testing.T) {
	why := func(n *rawEnd, want string) func() error {
		return func() error {
			s, err := n.status()
			if err == nil && (s.Tunnels[0].State == "up" || !strings.Contains(s.Tunnels[0].IPsec.Why, want)) {
				err = fmt.Errorf("%+v", s.Tunnels[0])
			}
			return err
		}
	}
	t.Run("a NAT", func(t *testing.T) {
		w := newRawEnds(t, rawOuters["IPv4"])
		// What the initiator says it is, is not where it comes from.
		w[0].exec("ip addr add 192.0.2.9/24 dev eth0")
		w[0].exec("nft add table ip nat")
		w[0].exec("nft add chain ip nat post { type nat hook postrouting priority 100 ; }")
		w[0].exec("nft add rule ip nat post oifname eth0 ip saddr " + w[0].outer + " snat to 192.0.2.9")
		text, err := os.ReadFile(filepath.Join(w[1].dir, "transitd.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(w[1].dir, "transitd.yaml"), strings.Replace(string(text), "remote: "+w[0].outer, "remote: 192.0.2.9", 1))
		for _, n := range w {
			n.daemon.start()
		}
		soon(t, "the responder says that there is a NAT", 20*time.Second, why(w[1], "a NAT is on the path"))
		soon(t, "it says what to do", time.Second, why(w[1], "set udp_encapsulation: true"))
		soon(t, "the initiator thinks of one", 20*time.Second, why(w[0], "and sees a NAT on the path"))
	})
	t.Run("a peer with UDP", func(t *testing.T) {
		w := newRawEnds(t, rawOuters["IPv4"])
		w[1].configure(w[0], "port: 4500")
		text, err := os.ReadFile(filepath.Join(w[1].dir, "transitd.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(w[1].dir, "transitd.yaml"), strings.Replace(string(text), fmt.Sprintf("mtu: %d", w[1].mtu()), "mtu: 1400", 1))
		for _, n := range w {
			n.daemon.start()
		}
		soon(t, "the end without UDP says that the other one wants it", 20*time.Second, why(w[0], "the peer wants ESP in UDP"))
	})
}
