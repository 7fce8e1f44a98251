package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/lab/fabric"
)

// haLab is a plan with the parsed configuration of each of its NVAs.
func haLab(t *testing.T, o Options) (Plan, map[string]*config.Config) {
	t.Helper()
	p, err := NewPlan(o)
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]*config.Config{}
	for _, n := range nvas(p) {
		b, err := nvaConfig(state{"x"}, p.Options, n.Name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse(n.Name+".yaml", b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		configs[n.Name] = c
	}
	return p, configs
}

func TestSeveralNVAsInThePlan(t *testing.T) {
	t.Parallel()
	for count := 1; count <= maxNVAs; count++ {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			t.Parallel()
			p, err := NewPlan(Options{NVAs: count})
			if err != nil {
				t.Fatal(err)
			}
			want, have := map[string]string{}, map[string]string{}
			for i := range count {
				suffix := ""
				if i > 0 {
					suffix = fmt.Sprintf("-%d", i+1)
				}
				want["hub-nva"+suffix] = fmt.Sprintf("AS 64512 at 10.0.2.%d with hub-ars-0 hub-ars-1, public true", 4+i)
				want["transit-nva"+suffix] = fmt.Sprintf("AS 64513 at 10.1.2.%d with transit-ars-0 transit-ars-1, public false", 4+i)
			}
			for _, n := range nvas(p) {
				nic, _ := p.Fabric.NIC(n.Name)
				var peers []string
				for _, s := range n.Sessions {
					peers = append(peers, s.Peer)
				}
				have[n.Name] = fmt.Sprintf("AS %d at %s with %s, public %v", n.ASN, nic.Address, strings.Join(peers, " "), nic.Public)
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			addresses := map[netip.Addr]string{}
			for _, nic := range p.Fabric.NICs {
				if other := addresses[nic.Address]; other != "" {
					t.Errorf("%s and %s are both at %s", nic.Name, other, nic.Address)
				}
				addresses[nic.Address] = nic.Name
			}
		})
	}
}

func TestTunnelsOfSeveralNVAsFitTogether(t *testing.T) {
	t.Parallel()
	for count := 2; count <= maxNVAs; count++ {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			t.Parallel()
			p, configs := haLab(t, Options{NVAs: count})
			if len(configs) != 2*count {
				t.Fatalf("%d NVAs, want %d", len(configs), 2*count)
			}
			used := map[string]string{} // overlay addresses by their owner
			for name, c := range configs {
				if len(c.Tunnels) != 2*count-1 {
					t.Errorf("%s: %d tunnels, want %d", name, len(c.Tunnels), 2*count-1)
				}
				for _, tun := range c.Tunnels {
					if other := used[tun.Address.Addr().String()]; other != "" {
						t.Errorf("%s %s and %s are both %s", name, tun.Name, other, tun.Address)
					}
					used[tun.Address.Addr().String()] = name + " " + tun.Name
					fitsFarEnd(t, p, configs, name, tun)
				}
			}
		})
	}
}

// fitsFarEnd: exactly one tunnel of the NVA at the other end is the other half of this one.
func fitsFarEnd(t *testing.T, p Plan, configs map[string]*config.Config, name string, tun config.Tunnel) {
	t.Helper()
	nic, _ := p.Fabric.NIC(name)
	i := slices.IndexFunc(p.Fabric.NICs, func(n fabric.NIC) bool { return n.Address == tun.Remote })
	if i < 0 || configs[p.Fabric.NICs[i].Name] == nil {
		t.Errorf("%s %s leads to %s, which is no NVA", name, tun.Name, tun.Remote)
		return
	}
	far := configs[p.Fabric.NICs[i].Name]
	if tun.BGP.ASN != far.Node.ASN {
		t.Errorf("%s %s expects AS %d of %s, which has %d", name, tun.Name, tun.BGP.ASN, far.Node.Name, far.Node.ASN)
	}
	halves := 0
	for _, o := range far.Tunnels {
		if o.VXLAN.VNI != tun.VXLAN.VNI {
			continue
		}
		halves++
		if o.Remote != nic.Address || o.Address.Addr() != tun.PeerAddress || o.PeerAddress != tun.Address.Addr() ||
			o.Address.Masked() != tun.Address.Masked() || tun.Address.Bits() != 30 {
			t.Errorf("%s %s %s → %s does not fit %s %s %s → %s", name, tun.Name, tun.Address, tun.PeerAddress,
				far.Node.Name, o.Name, o.Address, o.PeerAddress)
		}
	}
	if halves != 1 {
		t.Errorf("%s %s: VNI %d is used by %d tunnels of %s, want 1", name, tun.Name, tun.VXLAN.VNI, halves, far.Node.Name)
	}
}

// The numbers that people and other tests rely on.
func TestTunnelsOfTwoNVAsAreTheContract(t *testing.T) {
	t.Parallel()
	_, configs := haLab(t, Options{NVAs: 2})
	have := map[string][]string{}
	for name, c := range configs {
		for _, tun := range c.Tunnels {
			have[name] = append(have[name], fmt.Sprintf("%s to %s: %s, VNI %d", tun.Name, tun.Remote, tun.Address, tun.VXLAN.VNI))
		}
	}
	want := map[string][]string{
		"hub-nva": {
			"tr1 to 10.1.2.4: 169.254.77.1/30, VNI 7700", "tr2 to 10.1.2.5: 169.254.77.5/30, VNI 7701", "ha2 to 10.0.2.5: 169.254.78.5/30, VNI 7801",
		},
		"hub-nva-2": {
			"tr1 to 10.1.2.4: 169.254.77.9/30, VNI 7702", "tr2 to 10.1.2.5: 169.254.77.13/30, VNI 7703", "ha1 to 10.0.2.4: 169.254.78.6/30, VNI 7801",
		},
		"transit-nva": {
			"hub1 to 10.0.2.4: 169.254.77.2/30, VNI 7700", "hub2 to 10.0.2.5: 169.254.77.10/30, VNI 7702", "ha2 to 10.1.2.5: 169.254.79.5/30, VNI 7901",
		},
		"transit-nva-2": {
			"hub1 to 10.0.2.4: 169.254.77.6/30, VNI 7701", "hub2 to 10.0.2.5: 169.254.77.14/30, VNI 7703", "ha1 to 10.1.2.4: 169.254.79.6/30, VNI 7901",
		},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPrioritiesCapsAndMoreConfiguration(t *testing.T) {
	t.Parallel()
	for _, ha := range []HA{ActiveStandby, ECMP} {
		t.Run(string(ha), func(t *testing.T) {
			t.Parallel()
			_, configs := haLab(t, Options{NVAs: 3, HA: ha, Cap: 1000, NVAConfig: "log:\n  level: debug\n"})
			for i := range 3 {
				for _, vnet := range []string{"hub", "transit"} {
					c, want := configs[nvaName(vnet, i)], uint8(i)
					if ha == ECMP {
						want = 0
					}
					if c.Node.Priority != want {
						t.Errorf("%s: priority %d, want %d", c.Node.Name, c.Node.Priority, want)
					}
					if c.RouteServers[0].MaxRoutes != 1000 || c.Log.Level != "debug" {
						t.Errorf("%s: max_routes %d, log level %s: the cap or what was appended is not there", c.Node.Name, c.RouteServers[0].MaxRoutes, c.Log.Level)
					}
					// The hub's NVAs originate a default to all on the other side, and to none of their own.
					var to []string
					for _, o := range c.Originate {
						to = append(to, o.Prefix.String())
						to = append(to, o.To...)
					}
					wantTo := []string{"0.0.0.0/0", "tr1", "tr2", "tr3"}
					if vnet == "transit" {
						wantTo = nil
					}
					if diff := cmp.Diff(wantTo, to); diff != "" {
						t.Errorf("%s originates (-want +got):\n%s", c.Node.Name, diff)
					}
				}
			}
		})
	}
}

func TestCarriers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "[10.1.2.4]"},
		{Options{NVAs: 3}, "[10.1.2.4]"},
		{Options{NVAs: 3, HA: ECMP}, "[10.1.2.4 10.1.2.5 10.1.2.6]"},
	} {
		p, err := NewPlan(tt.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(carriers(p, "transit")); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.o, got, tt.want)
		}
	}
}

// The Route Servers of a lab take the cap and the burst that were asked for, from NVAs and not from gateways.
func TestRouteServersKeepTheCap(t *testing.T) {
	t.Parallel()
	p, err := NewPlan(Options{NVAs: 2, Cap: 1000, Burst: 3e9})
	if err != nil {
		t.Fatal(err)
	}
	n, _ := p.Node("hub-ars-0")
	nic, _ := p.Fabric.NIC("hub-ars-0")
	have := map[string]string{}
	for _, peer := range routeServerConfig(nodeConfig{Node: n, NIC: nic, Options: p.Options}).Peers {
		have[peer.Name] = fmt.Sprintf("%d %v %v", peer.MaxPrefixes, peer.Burst, peer.CountIncoming)
	}
	want := map[string]string{"hub-nva": "1000 3s true", "hub-nva-2": "1000 3s true", "msee-onprem": "0 0s false"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhoAnnounces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		edge Edge
		node string
		want string // part of the error; empty: it does
	}{
		{Embedded, "onprem", ""},
		{Embedded, "avs-edge", ""},
		{Embedded, "msee-avs", ""},
		{Embedded, "hub-ars-1", ""},
		{Embedded, "hub-nva", "announces nothing of its own"},
		{Embedded, "spoke", "announces nothing of its own"},
		{Embedded, "fabric", "announces nothing of its own"},
		{BIRD, "onprem", "--edge gobgp, or msee-onprem"},
		{FRR, "avs-edge", "--edge gobgp, or msee-avs"},
		{FRR, "msee-avs", ""},
	} {
		p, err := NewPlan(Options{Edge: tt.edge})
		if err != nil {
			t.Fatal(err)
		}
		n, _ := p.Node(tt.node)
		err = announces(p, n)
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s with edge %s: %v, want %q", tt.node, tt.edge, err, tt.want)
		}
	}
}
