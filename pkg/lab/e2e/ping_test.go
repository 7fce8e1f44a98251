package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
)

// testPing: both ways answer; what is lost inside the tunnel in one direction is
// told of that direction, by ping at once and by the status after a while.
func testPing(t *testing.T, l *lab) {
	var p control.Pinged
	if code := l.ctl("hub-nva", &p, "ping", "-c", "10", "-i", "20ms"); code != 0 || p.Inside.Quality.Method != "stamp" || p.Inside.Quality.Received != 10 || p.Underlay.Quality.Received != 10 || !p.OK {
		t.Fatalf("exit status %d, %+v", code, p)
	}
	t.Logf("inside %d us, underlay %d us", p.Inside.MedianUS, p.Underlay.MedianUS)

	for _, rule := range []string{"add table inet lossy", "add chain inet lossy in { type filter hook input priority 0; }", "add rule inet lossy in udp dport 862 numgen inc mod 2 == 0 drop"} {
		l.must(l.in("transit-nva", "nft", rule))
	}
	if code := l.ctl("hub-nva", &p, "ping", "-c", "30", "-i", "20ms"); code != 1 || p.Underlay.Loss > 0 || p.Inside.Quality.There == nil || p.Inside.Quality.There.Loss < 0.3 || p.Inside.Quality.Back.Loss > 0 {
		t.Errorf("exit status %d, %+v", code, p)
	}
	l.must(l.in("transit-nva", "nft", "delete table inet lossy"))
	l.eventually("the status has the round trip", 10*time.Second, func() error {
		var s control.Status
		l.ctl("hub-nva", &s, "status")
		if q := s.Tunnels[0].Quality; q == nil || q.Method != "stamp" || s.Tunnels[0].RTTMicros == nil || *s.Tunnels[0].RTTMicros == 0 {
			return fmt.Errorf("%+v", s.Tunnels[0])
		}
		return nil
	})
}
