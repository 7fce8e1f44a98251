package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
)

// A user-defined route at the hub's NVA sends what is for on-prem to the other
// NVA: what AVS says goes round through the tunnel. The NVA on which it enters
// the tunnel again and again names it.
func TestLoopIsNamed(t *testing.T) {
	l := upLab(t, "loop")
	l.healthy()
	var r control.LoopReport
	if code := l.ctl("transit-nva", &r, "loops"); code != 0 || r.Detected != 0 {
		t.Fatalf("a loop in a lab that works: exit status %d, %+v", code, r)
	}
	l.must(l.in("fabric", "ip", "route", "add", "172.16.0.0/16", "via", transitNIC, "dev", "transit-nva", "onlink", "table", "9998"))
	mend := l.fabricRule("iif", "hub-nva", "to", "172.16.0.0/16", "lookup", "9998")
	_, _ = l.ping("avs", onpremHost, 100, 56, "-i", "0.01")
	l.eventually("the loop is named", 10*time.Second, func() error {
		var s control.Status
		l.ctl("transit-nva", &s, "status")
		if w := strings.Join(s.Warnings, "\n"); s.Health != "degraded" || !strings.Contains(w, "packets go round: from") || !strings.Contains(w, "to "+onpremHost+" enter tunnel tr0 again and again") || !strings.Contains(w, "route 172.16.0.0/16 of tr0 leads into it") {
			return fmt.Errorf("%s: %q", s.Health, s.Warnings)
		}
		return nil
	})
	if code := l.ctl("transit-nva", &r, "loops"); code != 1 || len(r.Tunnels) != 1 || r.Tunnels[0].Destination != onpremHost || !r.Tunnels[0].Now {
		t.Errorf("exit status %d, %+v", code, r)
	}
	t.Logf("%+v", r)
	mend()
}
