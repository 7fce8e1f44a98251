package observe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/control"
)

func at(seconds float64) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func carried(name string, n uint64) control.Tunnel {
	return control.Tunnel{Name: name, State: control.TunnelUp, TXBytes: 100 * n, RXBytes: 200 * n, TXPackets: n, RXPackets: 2 * n, Drops: map[string]uint64{"a": n, "b": n}}
}

func TestRates(t *testing.T) {
	t.Parallel()
	var m meter
	for _, step := range []struct {
		name    string
		at      float64
		tunnels []control.Tunnel
		want    []Rate
	}{
		{"the first look", 0, []control.Tunnel{carried("tr0", 5)}, []Rate{}},
		{"two seconds later", 2, []control.Tunnel{carried("tr0", 9), carried("tr1", 3)}, []Rate{{"tr0", 1600, 3200, 2, 4, 4}}},
		{"nothing was carried", 4, []control.Tunnel{carried("tr0", 9), carried("tr1", 3)}, []Rate{{Tunnel: "tr0"}, {Tunnel: "tr1"}}},
		{"one was made anew", 5, []control.Tunnel{carried("tr0", 1), carried("tr1", 4)}, []Rate{{"tr1", 800, 1600, 1, 2, 2}}},
		{"the clock went back", 3, []control.Tunnel{carried("tr0", 2)}, []Rate{}},
		{"and goes on", 4, []control.Tunnel{carried("tr0", 3)}, []Rate{{"tr0", 800, 1600, 1, 2, 2}}},
	} {
		if d := cmp.Diff(step.want, m.rates(at(step.at), step.tunnels)); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
	}
}

// The history has an hour, gaps where nothing is known, and forgets tunnels that are gone.
func TestHistory(t *testing.T) {
	t.Parallel()
	var h history
	for i := range samples + 10 {
		h.add(at(float64(10*i)), []control.Tunnel{carried("tr0", uint64(i))})
	}
	down := carried("tr1", 1)
	down.State = control.TunnelDown
	h.add(at(10*(samples+10)), []control.Tunnel{carried("tr0", samples+10), down})
	v := h.view()
	if len(v.Tunnels) != 2 || len(v.Tunnels[0].TXBits) != samples || len(v.Tunnels[1].TXBits) != 1 {
		t.Fatalf("%d tunnels, %d samples", len(v.Tunnels), len(v.Tunnels[0].TXBits))
	}
	for i, x := range v.Tunnels[0].RXBits {
		if x == nil || *x != 160 {
			t.Fatalf("sample %d is %v", i, x)
		}
	}
	if v.Tunnels[1].TXBits[0] != nil || *v.Tunnels[1].Up[0] != 0 || *v.Tunnels[0].Up[0] != 1 {
		t.Error("a tunnel that is new and down has a rate, or is up")
	}
	h.add(at(10*(samples+10)+1), nil) // too soon to be a sample
	if v := h.view(); len(v.Tunnels) != 2 {
		t.Errorf("a second later: %+v", v.Tunnels)
	}
	h.add(at(10*(samples+11)), nil)
	if v := h.view(); len(v.Tunnels) != 0 || v.Tunnels == nil {
		t.Errorf("left: %+v", v.Tunnels)
	}
}
