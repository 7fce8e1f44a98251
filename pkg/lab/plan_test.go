package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryPlanIsConsistent(t *testing.T) {
	t.Parallel()
	for _, scenario := range []Scenario{AVSTransit, DefaultRoute} {
		for _, encapsulation := range []Encapsulation{None, VXLAN} {
			for _, edge := range []Edge{Embedded, BIRD, FRR} {
				o := Options{Scenario: scenario, Encapsulation: encapsulation, Edge: edge}
				t.Run(string(scenario)+"/"+string(encapsulation)+"/"+string(edge), func(t *testing.T) {
					t.Parallel()
					p, err := NewPlan(o)
					if err != nil {
						t.Fatal(err)
					}
					for _, n := range p.Nodes {
						if (n.ASN != 0) != (len(n.Sessions) > 0) || (n.ASN != 0 && !n.RouterID.Is4()) {
							t.Errorf("%s: AS %d, router id %s, %d sessions do not go together", n.Name, n.ASN, n.RouterID, len(n.Sessions))
						}
						if n.Role != RoleFabric && kindOf(p.Options, n) == "" {
							t.Errorf("%s: nothing runs there", n.Name)
						}
					}
					if p.Nodes[0].Role != RoleFabric {
						t.Error("the fabric does not start first, but Route Servers need its agent")
					}
				})
			}
		}
	}
}

func TestPlanIsTheContract(t *testing.T) {
	t.Parallel()
	p, err := NewPlan(Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"hub-ars-0": "10.0.1.4", "hub-ars-1": "10.0.1.5", "hub-nva": "10.0.2.4", "transit-ars-0": "10.1.1.4", "transit-ars-1": "10.1.1.5",
		"transit-nva": "10.1.2.4", "spoke": "10.2.0.4", "internet": "198.18.255.1", "msee-avs": "10.1.0.4", "msee-onprem": "10.0.0.4",
	}
	have := map[string]string{}
	for _, nic := range p.Fabric.NICs {
		have[nic.Name] = nic.Address.String()
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("NICs (-want +got):\n%s", diff)
	}
	asns := map[string]uint32{}
	for _, n := range p.Nodes {
		if n.ASN != 0 {
			asns[n.Name] = n.ASN
		}
	}
	if diff := cmp.Diff(map[string]uint32{
		"hub-ars-0": 65515, "hub-ars-1": 65515, "transit-ars-0": 65515, "transit-ars-1": 65515,
		"hub-nva": 64512, "transit-nva": 64513, "msee-avs": 12076, "msee-onprem": 12076, "avs-edge": 398656, "onprem": 65010,
	}, asns); diff != "" {
		t.Errorf("AS numbers (-want +got):\n%s", diff)
	}
	slash22 := netip.MustParsePrefix("10.50.0.0/22")
	for _, a := range p.AVS {
		if !slash22.Overlaps(a) || a.Bits() <= 22 {
			t.Errorf("AVS' %s is no piece of %s", a, slash22)
		}
	}
	nva, _ := p.Node("hub-nva")
	if i := slices.IndexFunc(nva.Sessions, func(s Session) bool { return s.Role == RoleNVA }); i >= 0 {
		t.Error("with an encapsulation the NVAs have a session outside of the tunnel")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		o    Options
	}{
		{"scenario", Options{Scenario: "x"}},
		{"encapsulation", Options{Encapsulation: "x"}},
		{"edge", Options{Edge: "x"}},
		{"name", Options{Name: "A/b"}},
		{"name that is too long", Options{Name: "a23456789012345678901234567890123"}},
		{"delay", Options{SDNDelay: time.Hour}},
		{"NVAs", Options{NVAs: 4}},
		{"no NVAs", Options{NVAs: -1}},
		{"NVAs that do not fit the scenario", Options{NVAs: 2, Scenario: DefaultRoute}},
		{"NVAs that would loop", Options{NVAs: 2, Encapsulation: None}},
		{"HA", Options{HA: "x"}},
		{"cap", Options{Cap: -1}},
		{"cap that no NVA can keep", Options{Cap: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.o.Check(); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestValidateFindsABrokenPlan(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(*Plan)
	}{
		{"node twice", func(p *Plan) { p.Nodes = append(p.Nodes, p.Nodes[3]) }},
		{"unknown to down", func(p *Plan) { p.Nodes = append(p.Nodes, Node{Name: "stranger"}) }},
		{"AS number", func(p *Plan) { p.Nodes[1].Sessions[0].ASN++ }},
		{"one-sided session", func(p *Plan) { p.Nodes[1].Sessions = p.Nodes[1].Sessions[:1] }},
		{"both passive", func(p *Plan) { p.Nodes[5].Sessions[0].Passive = true }},
		{"link", func(p *Plan) { p.Links[0].B.Address = netip.MustParsePrefix("192.0.2.1/30") }},
		{"NIC of nobody", func(p *Plan) { p.Fabric.NICs[0].Name = "nobody" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := NewPlan(Options{})
			if err != nil {
				t.Fatal(err)
			}
			tt.spoil(&p)
			if err := p.validate(); err == nil {
				t.Error("accepted")
			}
		})
	}
}
