package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/stamp"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/pmtud"
	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// fakeDevice is a tunnel without packets.
type fakeDevice struct {
	up     bool
	stats  tunnel.Stats
	err    error // of Close
	closed int
}

func (d *fakeDevice) Close() error                 { d.closed++; return d.err }
func (d *fakeDevice) Stats() tunnel.Stats          { return d.stats }
func (d *fakeDevice) Up() bool                     { return d.up }
func (d *fakeDevice) WireGuard() *wireguard.Status { return nil }
func (d *fakeDevice) ForeignVNI() uint32           { return 0 }
func (d *fakeDevice) IPsec() *ike.Status           { return nil }
func (d *fakeDevice) Quality() stamp.Stats         { return stamp.Stats{} }
func (d *fakeDevice) Loops() (uint64, *pump.Loop)  { return 0, nil }
func (d *fakeDevice) Path() pmtud.Status           { return pmtud.Status{} }
func (d *fakeDevice) Measure(context.Context, func(string)) (pmtud.Result, error) {
	return pmtud.Result{}, d.err
}
func (d *fakeDevice) Reconfigure(TunnelPlan) error { return nil }

// bench makes the devices of a tunnelSet and is the kernel's list of them.
type bench struct {
	openErr, indexErr error
	index             map[string]int
	made              []*fakeDevice
}

func (b *bench) open(p TunnelPlan) (device, error) {
	if b.openErr != nil {
		return nil, b.openErr
	}
	d := &fakeDevice{up: true}
	b.made = append(b.made, d)
	b.index[p.Name] = 10 + len(b.made)
	return d, nil
}

// find is deviceIndex.
func (b *bench) find(name string) (int, error) {
	if b.indexErr != nil {
		return 0, b.indexErr
	}
	return b.index[name], nil
}

func newSet(names ...string) (*tunnelSet, *bench) {
	b := &bench{index: map[string]int{}}
	s := &tunnelSet{log: zap.NewNop(), open: b.open, index: b.find}
	for _, n := range names {
		_ = s.add(TunnelPlan{Name: n}) // newSet's bench refuses nothing
	}
	return s, b
}

func setNames(s *tunnelSet) (names []string) {
	for _, v := range s.views() {
		names = append(names, v.Plan.Name)
	}
	return names
}

// TestTunnelSetAddFails checks that a tunnel that could not be made is kept, shown, and made by a rebuild.
func TestTunnelSetAddFails(t *testing.T) {
	t.Parallel()
	s, b := newSet()
	b.openErr = errors.New("address in use")
	if err := s.add(TunnelPlan{Name: "tr0"}); !errors.Is(err, b.openErr) || !strings.Contains(err.Error(), "tunnel tr0") {
		t.Errorf("add: %v", err)
	}
	if v := s.views(); len(v) != 1 || v[0].Present || v[0].Up || !errors.Is(v[0].Err, b.openErr) {
		t.Errorf("views %+v", v)
	}
	if d := diff([]string{"tr0"}, s.vanished()); d != "" {
		t.Errorf("vanished (-want +got):\n%s", d)
	}
	if err := s.rebuild("tr0"); !errors.Is(err, b.openErr) {
		t.Errorf("rebuild: %v", err)
	}
	b.openErr = nil
	if err := s.rebuild("tr0"); err != nil {
		t.Fatal(err)
	}
	if v := s.views()[0]; !v.Present || !v.Up || v.Err != nil {
		t.Errorf("view after the rebuild %+v", v)
	}
	if got := s.vanished(); got != nil {
		t.Errorf("vanished after the rebuild: %v", got)
	}
}

// TestTunnelSetVanished checks that a device is known by its index: one of the same name is not ours.
func TestTunnelSetVanished(t *testing.T) {
	t.Parallel()
	s, b := newSet("tr0", "tr1", "tr2")
	if got := s.vanished(); got != nil {
		t.Fatalf("vanished at first: %v", got)
	}
	delete(b.index, "tr0")
	b.index["tr2"] = 99
	if d := diff([]string{"tr0", "tr2"}, s.vanished()); d != "" {
		t.Errorf("vanished (-want +got):\n%s", d)
	}
	v := s.views()
	if v[0].Present || v[0].Up || !v[1].Present || !v[1].Up || v[2].Present || v[2].Up {
		t.Errorf("views %+v", v)
	}
	// A kernel that cannot be asked is no reason to tear a working tunnel down, nor to call it up.
	b.indexErr = errors.New("interrupted")
	if got := s.vanished(); got != nil {
		t.Errorf("vanished while the kernel does not answer: %v", got)
	}
	if v := s.views()[1]; v.Present || v.Up {
		t.Errorf("view while the kernel does not answer: %+v", v)
	}
}

// TestTunnelSetVanishedAtOnce checks a device that is deleted between being made and being looked at.
func TestTunnelSetVanishedAtOnce(t *testing.T) {
	t.Parallel()
	s, b := newSet()
	s.index = func(string) (int, error) { return 0, nil }
	_ = s.add(TunnelPlan{Name: "tr0"}) // an error or not: it must not be taken for a tunnel that works
	if d := diff([]string{"tr0"}, s.vanished()); d != "" {
		t.Errorf("vanished (-want +got):\n%s", d)
	}
	if v := s.views()[0]; v.Present || v.Up {
		t.Errorf("view %+v", v)
	}
	s.index = b.find
	if err := s.rebuild("tr0"); err != nil || s.vanished() != nil {
		t.Errorf("rebuild: %v, vanished %v", err, s.vanished())
	}
	if b.made[0].closed != 1 {
		t.Error("what was left of the first device was not closed")
	}
}

// TestTunnelSetIndexFails checks that a tunnel whose index could not be read is told and put right.
func TestTunnelSetIndexFails(t *testing.T) {
	t.Parallel()
	s, b := newSet()
	b.indexErr = errors.New("interrupted")
	if err := s.add(TunnelPlan{Name: "tr0"}); !errors.Is(err, b.indexErr) {
		t.Errorf("add: %v", err)
	}
	b.indexErr = nil
	delete(b.index, "tr0") // and by now it is gone
	if d := diff([]string{"tr0"}, s.vanished()); d != "" {
		t.Errorf("vanished (-want +got):\n%s", d)
	}
	if err := s.rebuild("tr0"); err != nil || s.views()[0].Err != nil {
		t.Errorf("rebuild: %v, then %v", err, s.views()[0].Err)
	}
}

// TestTunnelSetStats checks that a tunnel's counters do not start anew with its device.
func TestTunnelSetStats(t *testing.T) {
	t.Parallel()
	s, b := newSet("tr0")
	b.made[0].stats = tunnel.Stats{TXPackets: 1, TXBytes: 10, RXPackets: 2, RXBytes: 20, Drops: map[string]uint64{"a": 1, "b": 2}}
	if err := s.rebuild("tr0"); err != nil {
		t.Fatal(err)
	}
	b.made[1].stats = tunnel.Stats{TXPackets: 100, TXBytes: 1000, RXPackets: 200, RXBytes: 2000, Drops: map[string]uint64{"b": 5, "c": 7}}
	want := tunnel.Stats{TXPackets: 101, TXBytes: 1010, RXPackets: 202, RXBytes: 2020, Drops: map[string]uint64{"a": 1, "b": 7, "c": 7}}
	for range 2 { // looking must not add
		if d := diff(want, s.views()[0].Stats); d != "" {
			t.Errorf("stats (-want +got):\n%s", d)
		}
	}
	if err := s.rebuild("tr0"); err != nil {
		t.Fatal(err)
	}
	if d := diff(want, s.views()[0].Stats); d != "" {
		t.Errorf("stats of the predecessors (-want +got):\n%s", d)
	}
	if n := s.views()[0].Rebuilt; n != 2 {
		t.Errorf("rebuilt %d times", n)
	}
	if b.made[1].stats.Drops["b"] != 5 {
		t.Error("adding up changed a device's own counters")
	}
}

func TestTunnelSetOrder(t *testing.T) {
	t.Parallel()
	s, _ := newSet("c", "a", "b")
	s.order([]TunnelPlan{{Name: "a"}, {Name: "b"}, {Name: "c"}})
	if d := diff([]string{"a", "b", "c"}, setNames(s)); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

func TestTunnelSetRemove(t *testing.T) {
	t.Parallel()
	s, b := newSet("a", "b")
	b.made[0].err = errors.New("busy")
	if err := s.remove("a"); !errors.Is(err, b.made[0].err) {
		t.Errorf("remove: %v", err)
	}
	if d := diff([]string{"b"}, setNames(s)); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	if err := errors.Join(s.remove("a"), s.rebuild("a")); err != nil {
		t.Errorf("a tunnel that is not there: %v", err)
	}
	b.openErr = errors.New("no")
	_ = s.add(TunnelPlan{Name: "c"}) // it has no device to close
	if err := s.remove("c"); err != nil {
		t.Errorf("remove a tunnel that could not be made: %v", err)
	}
}

// TestTunnelSetCloseAll checks that every device is closed once, also after one that fails.
func TestTunnelSetCloseAll(t *testing.T) {
	t.Parallel()
	s, b := newSet("a", "b", "c")
	b.made[0].err, b.made[1].err = errors.New("busy"), errors.New("lost")
	err := s.closeAll()
	if !errors.Is(err, b.made[0].err) || !errors.Is(err, b.made[1].err) {
		t.Errorf("closeAll: %v", err)
	}
	if err := s.closeAll(); err != nil {
		t.Errorf("closeAll again: %v", err)
	}
	for i, d := range b.made {
		if d.closed != 1 {
			t.Errorf("device %d was closed %d times", i, d.closed)
		}
	}
	if len(s.views()) != 0 {
		t.Error("tunnels are left")
	}
}
