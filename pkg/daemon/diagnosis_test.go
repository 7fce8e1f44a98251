package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/bgp/bfd"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/tunnel/vxlan"
)

func TestDiagnosis(t *testing.T) {
	t.Parallel()
	const long = 5 * time.Second
	heardDown := bfd.Status{State: bfd.Down, RemoteState: bfd.Down, DetectionTime: time.Second}
	for _, c := range []struct {
		name     string
		resolved bool
		symptoms symptoms
		bfd      bfd.Status
		want     string
	}{
		{"a route leads to ourselves", true, symptoms{For: long, CameBack: 3}, bfd.Status{}, "comes back to this node's card"},
		{"also before anything else is known", true, symptoms{CameBack: 1, Arrived: 1, WrongVNI: 1}, heardDown, "comes back to this node's card"},
		{"wrong VNI", false, symptoms{For: time.Second, Arrived: 4, WrongVNI: 2}, bfd.Status{}, "wrong VNI: 198.51.100.4 sends VNI 7701, this end has 7700"},
		{"silence", false, symptoms{For: long}, bfd.Status{}, "nothing arrives from 198.51.100.4"},
		{"silence after it worked", true, symptoms{For: long}, bfd.Status{Flaps: 1}, "nothing arrives from 198.51.100.4"},
		{"one way", true, symptoms{For: long, Arrived: 7}, heardDown, "UDP port 4789 is blocked on the way there"},
		{"one way from the beginning", false, symptoms{For: long, Arrived: 7}, bfd.Status{}, "UDP port 4789 is blocked on the way there"},
		{"the peer stopped on purpose", true, symptoms{For: long}, bfd.Status{State: bfd.Down, RemoteState: bfd.AdminDown}, "nothing arrives from 198.51.100.4"},
		{"too early to tell", false, symptoms{For: time.Second}, bfd.Status{}, "peer MAC not resolved"},
		{"too early to tell of BFD", true, symptoms{For: time.Second}, bfd.Status{State: bfd.Down, RemoteState: bfd.Down, Flaps: 1, Diagnostic: bfd.DetectionTimeExpired}, "BFD is down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := upTunnel("tr0")
			v.Up, v.ForeignVNI, v.Plan.VXLAN = c.resolved, 7701, &vxlan.Config{VNI: 7700}
			v.Plan.Endpoint.Local = addrPort("192.0.2.4:4789")
			if got := diagnosis(v, c.symptoms, c.bfd); !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// fakeWatch is a watch that counts what it is told to.
type fakeWatch struct {
	n      int
	closed bool
}

func (w *fakeWatch) Take() (n int) { n, w.n = w.n, 0; return n }
func (w *fakeWatch) Close() error  { w.closed = true; return nil }

func TestClinic(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var opened []*fakeWatch
	c := &clinic{list: map[string]*patient{}, open: func(to netip.Addr) (comebacks, error) {
		opened = append(opened, &fakeWatch{n: 2})
		return opened[len(opened)-1], nil
	}}
	s := healthy()
	if got := c.round(now, s); len(got)+len(opened) > 0 {
		t.Fatalf("a tunnel that works has symptoms: %v", got)
	}
	s.Tunnels[0].Up = false
	s.Tunnels[0].Stats.Arrived, s.Tunnels[0].Stats.Drops = 100, map[string]uint64{"wrong_vni": 5}
	if d := diff(map[string]symptoms{"tr0": {CameBack: 2}}, c.round(now, s)); d != "" {
		t.Errorf("what was counted before is no symptom (-want +got):\n%s", d)
	}
	s.Tunnels[0].Stats.Arrived, s.Tunnels[0].Stats.Drops = 107, map[string]uint64{"wrong_vni": 8}
	if d := diff(map[string]symptoms{"tr0": {For: 4 * time.Second, Arrived: 7, WrongVNI: 3, CameBack: 2}}, c.round(now.Add(4*time.Second), s)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := diff(map[string]symptoms{"tr0": {For: 8 * time.Second}}, c.round(now.Add(12*time.Second), s)); d != "" {
		t.Errorf("what was long ago is forgotten (-want +got):\n%s", d)
	}
	s.Tunnels[0].Plan.Pump.Remote = addrPort("198.51.100.5:4789")
	if c.round(now.Add(13*time.Second), s); len(opened) != 2 || !opened[0].closed {
		t.Errorf("another peer is not watched for: %d watches", len(opened))
	}
	s.Tunnels[0].Up = true
	if got := c.round(now.Add(14*time.Second), s); len(got) > 0 || !opened[1].closed || len(c.list) > 0 {
		t.Errorf("not well again: %v", got)
	}
}

// What was put right is said, and is no reason to be degraded.
func TestMeddling(t *testing.T) {
	t.Parallel()
	c, now := newChronicle(nil), time.Unix(1000, 0)
	c.meddle(now, "our routes or rules", 2, "put back a")
	c.meddle(now.Add(time.Minute), "our routes or rules", 3, "put back b")
	s := healthy()
	s.Meddling = c.meddled(now.Add(2 * time.Minute))
	health, warnings := s.health()
	want := []string{"another program changes our routes or rules: 5 put right, the last 1m0s ago: put back b"}
	if d := diff(want, warnings); d != "" || health != control.HealthOK {
		t.Errorf("%s (-want +got):\n%s", health, d)
	}
	if d := diff([]control.Advice{{Warning: want[0], Run: "transitctl doctor"}}, s.advice()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := c.meddled(now.Add(7 * time.Minute)); len(got) > 0 {
		t.Errorf("still said: %q", got)
	}
	c.meddle(now.Add(8*time.Minute), "our routes or rules", 1, "put back c")
	if got := c.meddled(now.Add(8 * time.Minute)); len(got) != 1 || !strings.Contains(got[0], ": 1 put right") {
		t.Errorf("%q", got)
	}
}
