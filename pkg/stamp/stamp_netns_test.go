package stamp

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

const us, peer = "192.0.2.1", "192.0.2.2"

// wire joins two namespaces.
func wire(t *testing.T) (a, b netns.NS) {
	t.Helper()
	a, b = netnstest.New(t, "a"), netnstest.New(t, "b")
	run(t, a, "ip link add eth0 type veth peer name eth0 netns "+b.Name)
	for ns, addr := range map[netns.NS]string{a: us, b: peer} {
		run(t, ns, "ip addr add "+addr+"/24 dev eth0")
		run(t, ns, "ip link set eth0 up")
	}
	return a, b
}

func run(t *testing.T, ns netns.NS, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := ns.Command(t.Context(), f[0], f[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// begin starts a session in a namespace.
func begin(t *testing.T, ns netns.NS, from, to string) (s *Session) {
	t.Helper()
	if err := ns.Do(func() (err error) {
		s, err = Start(Path{Device: "eth0", Local: netip.MustParseAddr(from), Peer: netip.MustParseAddr(to)}, 10*time.Millisecond)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// soon waits for what the other end has to do first.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// Two sessions measure each other; what is lost in one direction is told of that
// direction by both. tshark takes what is on the wire for STAMP's kind.
func TestNetnsDirections(t *testing.T) {
	a, b := wire(t)
	pcap := filepath.Join(t.TempDir(), "wire.pcap")
	ctx, cancel := context.WithCancel(t.Context())
	dump := a.Command(ctx, "tcpdump", "-ni", "eth0", "-U", "-c", "40", "-w", pcap, "udp", "port", "862")
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	soon(t, "tcpdump listens", func() bool { _, err := os.Stat(pcap); return err == nil })
	near, far := begin(t, a, us, peer), begin(t, b, peer, us)
	soon(t, "sixty answers", func() bool { return near.Stats().Received == 60 && far.Stats().Received == 60 })
	for _, s := range []*Session{near, far} {
		if x := s.Stats(); x.Method != STAMP || x.Loss != 0 || x.Min <= 0 || x.Median > 100*time.Millisecond {
			t.Errorf("%+v", x)
		}
	}
	if err := dump.Wait(); err != nil {
		t.Error(err)
	}
	cancel()
	out, err := exec.Command("tshark", "-r", pcap, "-d", "udp.port==862,twamp.test", "-T", "fields", "-e", "twamp.test.seq_number", "-e", "twamp.test.sender_ttl").CombinedOutput()
	if n := strings.Count(string(out), "\t64"); err != nil || n < 10 {
		t.Errorf("tshark finds %d reflected packets with TTL 64: %v\n%s", n, err, out)
	}

	run(t, b, "nft add table inet lossy")
	run(t, b, "nft add chain inet lossy in { type filter hook input priority 0; }")
	run(t, b, "nft add rule inet lossy in udp dport 862 numgen inc mod 4 == 0 drop")
	soon(t, "loss is told of the right direction", func() bool {
		n, f := near.Stats(), far.Stats()
		return n.LossThere > 0.2 && n.LossThere < 0.3 && n.LossBack < 0.02 && f.LossThere < 0.02 && f.LossBack < 0.02
	})
	t.Logf("near %+v\nfar %+v", near.Stats(), far.Stats())
}

// A peer without STAMP is measured by echo; when it learns STAMP, by that.
func TestNetnsEcho(t *testing.T) {
	a, b := wire(t)
	near := begin(t, a, us, peer)
	soon(t, "echo", func() bool { s := near.Stats(); return s.Method == ICMP && s.Received > 20 })
	if s := near.Stats(); s.Loss != 0 || s.LossThere != 0 || s.Min <= 0 {
		t.Errorf("%+v", s)
	}
	far := begin(t, b, peer, us)
	soon(t, "STAMP", func() bool { return near.Stats().Method == STAMP && far.Stats().Method == STAMP })
}

// Strangers are not answered.
func TestNetnsStranger(t *testing.T) {
	a, b := wire(t)
	begin(t, b, peer, "192.0.2.9")
	if err := a.Do(func() error {
		p, err := NewProber(Path{Device: "eth0", Local: netip.MustParseAddr(us), Peer: netip.MustParseAddr(peer)}, nil)
		if err != nil {
			return err
		}
		for range 20 {
			p.Send()
		}
		soon(t, "echo answers", func() bool { return p.Stats().Received > 10 })
		if s := p.Stats(); s.Method != ICMP {
			t.Errorf("%+v", s)
		}
		return errors.Join(p.Close())
	}); err != nil {
		t.Fatal(err)
	}
}
