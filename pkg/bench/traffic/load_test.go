package traffic

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// documentation is a load that is valid, between documentation addresses.
func documentation() Load {
	return Load{
		From: Endpoint{Addr: netip.MustParseAddr("192.0.2.1")}, To: Endpoint{Addr: netip.MustParseAddr("192.0.2.2")},
		Port: 9, Sizes: Fixed(64), PPS: 1000, Duration: time.Second,
	}
}

func TestIMIXIsSpread(t *testing.T) {
	t.Parallel()
	l := documentation()
	l.Sizes = IMIX()
	round := l.round()
	got := map[int]int{}
	for i, n := range round {
		got[n+28]++
		if n == 1400-28 && round[(i+1)%len(round)] == n {
			t.Errorf("two large packets in a row at %d of %v", i, round)
		}
	}
	if diff := cmp.Diff(map[int]int{64: 28, 570: 16, 1400: 4}, got); diff != "" {
		t.Errorf("packets by IP length in a round (-want +got):\n%s", diff)
	}
}

func TestSizesAreOfTheIPPacket(t *testing.T) {
	t.Parallel()
	l := documentation()
	if got := l.round(); !cmp.Equal(got, []int{36}) {
		t.Errorf("IPv4 payloads %v, want 36", got)
	}
	l.From.Addr, l.To.Addr = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	if got := l.round(); !cmp.Equal(got, []int{16}) {
		t.Errorf("IPv6 payloads %v, want 16", got)
	}
	if _, err := l.validate(); err != nil {
		t.Errorf("64 bytes with IPv6: %v", err)
	}
}

func TestLoadThatCannotBe(t *testing.T) {
	t.Parallel()
	if l, err := documentation().validate(); err != nil || l.Flows != 1 {
		t.Fatalf("a valid load: %v, %d flows", err, l.Flows)
	}
	for name, change := range map[string]func(*Load){
		"two families":         func(l *Load) { l.To.Addr = netip.MustParseAddr("2001:db8::2") },
		"no address":           func(l *Load) { l.From.Addr = netip.Addr{} },
		"a zone":               func(l *Load) { l.From.Addr, l.To.Addr = netip.MustParseAddr("fe80::1%lo"), netip.IPv6Loopback() },
		"negative flows":       func(l *Load) { l.Flows = -1 },
		"more flows than kept": func(l *Load) { l.Flows = maxFlows + 1 },
		"negative rate":        func(l *Load) { l.PPS = -1 },
		"no number":            func(l *Load) { l.PPS = math.NaN() },
		"no time":              func(l *Load) { l.Duration = 0 },
		"no sizes":             func(l *Load) { l.Sizes = nil },
		"smaller than headers": func(l *Load) { l.Sizes = Fixed(43) },
		"larger than IP":       func(l *Load) { l.Sizes = Fixed(65536) },
		"no weight":            func(l *Load) { l.Sizes = []Size{{64, 0}} },
		"weights too large":    func(l *Load) { l.Sizes = []Size{{64, maxRound}, {65, 1}} },
	} {
		l := documentation()
		change(&l)
		if _, err := l.validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLoss(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sent, received uint64
		want           float64
	}{{0, 0, 0}, {10, 10, 0}, {10, 9, 0.1}, {10, 0, 1}} {
		if got := (Result{Sent: c.sent, Received: c.received}).Loss(); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%d of %d: loss %g, want %g", c.received, c.sent, got, c.want)
		}
	}
}
