package lab

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/config"
)

// The NVAs of the lab run with the files that docs/examples shows to operators; only the control socket is elsewhere.
func TestNVAConfigsAreTheDocumentedExamples(t *testing.T) {
	t.Parallel()
	for _, node := range []string{"hub-nva", "transit-nva"} {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			have, err := nvaConfig(state{"x"}, Options{Scenario: AVSTransit}, node)
			if err != nil {
				t.Fatal(err)
			}
			example, err := os.ReadFile(filepath.Join("../../docs/examples", node+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			want := string(example) + "control:\n  socket: /run/transitlab/x/" + node + ".sock\n"
			if diff := cmp.Diff(want, string(have)); diff != "" {
				t.Errorf("pkg/lab/templates/%s.yaml is not docs/examples/%s.yaml and a control socket (-docs +lab):\n%s", node, node, diff)
			}
		})
	}
}

func TestNVAConfigsAreValidAndFitThePlan(t *testing.T) {
	t.Parallel()
	for _, scenario := range []Scenario{AVSTransit, DefaultRoute} {
		p, err := NewPlan(Options{Scenario: scenario})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nvas(p) {
			b, err := nvaConfig(state{"x"}, p.Options, n.Name)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse(n.Name+".yaml", b)
			if err != nil {
				t.Fatal(err)
			}
			if c.Node.Name != n.Name || c.Node.ASN != n.ASN {
				t.Errorf("%s: the file is for %s, AS %d", n.Name, c.Node.Name, c.Node.ASN)
			}
			for _, s := range n.Sessions {
				found := false
				for _, rs := range c.RouteServers {
					for _, a := range rs.Addresses {
						found = found || a == s.Addr
					}
				}
				if !found {
					t.Errorf("%s: no session with %s (%s) in the file", n.Name, s.Peer, s.Addr)
				}
			}
			for _, tun := range c.Tunnels {
				if tun.MTU != TunnelMTU {
					t.Errorf("%s: tunnel MTU %d, the demonstration sends packets of %d", n.Name, tun.MTU, TunnelMTU)
				}
			}
		}
	}
}
