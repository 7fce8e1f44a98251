package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/bgp/bfd"
	"github.com/transitd/transitd/pkg/control"
)

// Without UDP, packets have no port, and IKE is at port 500 at both ends.
func TestPlanRawESP(t *testing.T) {
	t.Parallel()
	raw := mustPlan(t, ipsecYAML(t, "a secret of the test, long enough\n", ", udp_encapsulation: false")).Tunnels[0]
	e := raw.Endpoint
	if e.Local != addrPort("192.0.2.4:0") || e.Protocol != 50 || raw.Pump.Remote != addrPort("198.51.100.4:0") || raw.Path.Overhead != 57 {
		t.Errorf("%+v to %s, overhead %d", e, raw.Pump.Remote, raw.Path.Overhead)
	}
	if c := raw.IPsec; !c.Raw || c.Local != addrPort("192.0.2.4:500") || c.Remote != addrPort("198.51.100.4:500") {
		t.Errorf("raw %v, %s to %s", c.Raw, c.Local, c.Remote)
	}
	udp := mustPlan(t, ipsecYAML(t, "a secret of the test, long enough\n", "")).Tunnels[0]
	if udp.IPsec.Raw || udp.Endpoint.Protocol != 0 || udp.Endpoint.Local.Port() != 4500 || udp.Path.Overhead != 65 {
		t.Errorf("with UDP: %+v, overhead %d", udp.Endpoint, udp.Path.Overhead)
	}
	if udp.rekeyed(raw) || raw.rekeyed(udp) {
		t.Error("a running tunnel would take another way of carrying packets for other keys")
	}
	if other := mustPlan(t, ipsecYAML(t, "a secret of the test, long enough\n", ", udp_encapsulation: false, child_lifetime: 5m")).Tunnels[0]; !raw.rekeyed(other) {
		t.Error("another lifetime would make the tunnel anew")
	}
}

// What people are told of such a tunnel does not speak of UDP ports.
func TestRawESPInWords(t *testing.T) {
	t.Parallel()
	raw := mustPlan(t, ipsecYAML(t, "a secret of the test, long enough\n", ", udp_encapsulation: false")).Tunnels[0]
	if got := raw.peer(); got != "198.51.100.4" {
		t.Errorf("the peer is %q", got)
	}
	c, err := captureConfig("hub-nva", raw, control.CaptureQuery{Layer: control.LayerOuter})
	if err != nil || len(c.Filter) == 0 {
		t.Errorf("capture: %d instructions, %v", len(c.Filter), err)
	}
	v := upTunnel("tr0")
	v.Plan = raw
	for want, x := range map[string]symptoms{
		"or ESP (IP protocol 50) is blocked on the way here": {For: time.Minute},
		"ESP (IP protocol 50) is blocked on the way there":   {For: time.Minute, Arrived: 3},
	} {
		if got := diagnosis(v, x, bfd.Status{RemoteState: bfd.Down, DetectionTime: time.Second}); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	s := healthy()
	s.Underlay, s.Tunnels[0] = "eth0", v
	s.Tunnels[0].Up = false
	if a := s.advice(); len(a) != 1 || a[0].Run != "tcpdump -c 10 -ni eth0 host 198.51.100.4 and (proto 50 or udp port 500)" {
		t.Errorf("%+v", a)
	}
}
