package bgp

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// frr is FRR's bgpd with one session to our Speaker.
type frr struct{ *daemon }

// newFRR starts bgpd at local. Each route is "PREFIX ASN …", the path beyond its own AS.
func newFRR(t *testing.T, ns netns.NS, local netip.Addr, asn uint32, peer netip.Addr, routes []string) *frr {
	t.Helper()
	dir := t.TempDir()
	var networks, maps strings.Builder
	for i, r := range routes {
		f := strings.Fields(r)
		fmt.Fprintf(&networks, "  network %s route-map out%d\n", f[0], i)
		fmt.Fprintf(&maps, "route-map out%d permit 10\n", i)
		if len(f) > 1 {
			fmt.Fprintf(&maps, " set as-path prepend %s\n", strings.Join(f[1:], " "))
		}
	}
	multihop := ""
	if asn == arsASN {
		multihop = fmt.Sprintf(" neighbor %s ebgp-multihop 8\n", peer)
	}
	conf := fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor %s remote-as %d
 neighbor %s update-source %s
 neighbor %s timers connect 2
%s address-family ipv4 unicast
%s  neighbor %s soft-reconfiguration inbound
 exit-address-family
%s`, asn, local, peer, ourASN, peer, local, peer, multihop, networks.String(), peer, maps.String())
	path := filepath.Join(dir, "bgpd.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &frr{newDaemon(t, ns, dir, "/usr/lib/frr/bgpd", "-n", "-S", "-f", path, "-i", filepath.Join(dir, "pid"), "-z", filepath.Join(dir, "zserv"),
		"--vty_socket", dir, "-P", "0", "-l", local.String(), "--log", "stdout")}
	f.start()
	return f
}

// paths returns prefix to AS path of what FRR received from us.
func (f *frr) paths(from netip.Addr) (map[string]string, error) {
	out, err := exec.Command("vtysh", "--vty_socket", f.dir, "-d", "bgpd", "-c",
		fmt.Sprintf("show bgp ipv4 unicast neighbors %s received-routes json", from)).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("vtysh: %w: %s", err, out)
	}
	var reply struct {
		ReceivedRoutes map[string]struct{ Path string }
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		return nil, fmt.Errorf("vtysh: %w: %s", err, out)
	}
	m := map[string]string{}
	for p, r := range reply.ReceivedRoutes {
		m[p] = r.Path
	}
	return m, nil
}

func (f *frr) receives(within time.Duration, from netip.Addr, want map[string]string) {
	f.t.Helper()
	eventually(f.t, within, func() error {
		have, err := f.paths(from)
		if err != nil {
			return err
		}
		if !maps.Equal(have, want) {
			return fmt.Errorf("FRR has %v, want %v", have, want)
		}
		return nil
	})
}

func TestNetnsFRR(t *testing.T) {
	if !inside(t) {
		return
	}
	r := newRig(t)
	// FRR as the Route Server: a path with its own AS, 65515, would be dropped
	// by it as a loop; that it shows the AVS prefixes says that none is in it.
	ars := newFRR(t, r.ars, ars0, arsASN, nic, arsRoutes())
	far := newFRR(t, r.far, farNVA, farASN, overlay, farRoutes())
	c := r.config()
	c.Neighbors[0].Addrs = []netip.Addr{ars0}
	s := r.speak(c)
	s.established(10*time.Second, ars0, farNVA)
	toARS := map[string]string{"10.50.0.0/24": "64512 64513", "10.50.1.0/24": "64512 64513 64777"}
	ars.receives(6*time.Second, nic, toARS)
	far.receives(6*time.Second, overlay, map[string]string{
		"192.0.2.0/24": "64512", "10.2.0.0/16": "64512", "172.16.0.0/16": "64512 65010",
	})
	far.kill()
	ars.receives(2*time.Second, nic, map[string]string{})
	far.start()
	ars.receives(6*time.Second, nic, toARS)
}
