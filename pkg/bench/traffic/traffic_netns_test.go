package traffic

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// Two namespaces that are joined by a veth.
func veth(t testing.TB) (from, to Endpoint) {
	t.Helper()
	from = Endpoint{NS: netnstest.New(t, "from"), Addr: netip.MustParseAddr("192.0.2.1")}
	to = Endpoint{NS: netnstest.New(t, "to"), Addr: netip.MustParseAddr("192.0.2.2")}
	command(t, from.NS, "ip link add eth0 type veth peer name eth0 netns "+to.NS.Name)
	for _, e := range []Endpoint{from, to} {
		command(t, e.NS, "ip address add "+e.Addr.String()+"/24 dev eth0")
		command(t, e.NS, "ip link set eth0 up")
	}
	return from, to
}

func command(t testing.TB, ns netns.NS, line string) {
	t.Helper()
	words := strings.Fields(line)
	if out, err := ns.Command(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// load is 20,000 packets of 64 bytes per second in two flows, for half a second.
func load(t testing.TB) Load {
	from, to := veth(t)
	return Load{From: from, To: to, Port: 9000, Flows: 2, Sizes: Fixed(64), PPS: 20_000, Duration: 500 * time.Millisecond}
}

func TestNetnsNothingIsLost(t *testing.T) {
	l := load(t)
	l.Sizes = IMIX()
	threads, files := runtime.NumGoroutine(), openFiles(t)
	r, err := Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if r.Loss() != 0 || r.Received != r.Sent || r.Reordered+r.Duplicated+r.BadPayload+r.SinkOverflow+r.Foreign != 0 {
		t.Errorf("a veth changed something: %+v", r)
	}
	// Another process may take the processor; the generator then leaves out, it does not burst.
	if r.Sent < 5_000 || r.Sent > 10_001 {
		t.Errorf("sent %d packets, want 10000", r.Sent)
	}
	if mean := float64(r.Bits) / 8 / float64(r.Received); mean < 335 || mean > 352 {
		t.Errorf("packets of %.0f bytes, want 344", mean)
	}
	if n := runtime.NumGoroutine(); n > threads {
		t.Errorf("%d goroutines after, %d before", n, threads)
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d open files after, %d before", n, files)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestNetnsAsFastAsPossible(t *testing.T) {
	l := load(t)
	l.PPS, l.Flows = 0, 4
	for _, l.Segment = range []bool{false, true} {
		r, err := Run(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("segment %t: sent %.0f received %.0f per second, %+v", l.Segment, r.SendPPS, r.ReceivePPS, r)
		if r.SendPPS < 20_000 || r.BadPayload+r.Duplicated+r.Reordered != 0 || r.Received > r.Sent {
			t.Errorf("segment %t: %+v", l.Segment, r)
		}
	}
}

func TestNetnsIPv6(t *testing.T) {
	l := load(t)
	l.From.Addr, l.To.Addr, l.Port = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), 0
	for _, e := range []Endpoint{l.From, l.To} {
		command(t, e.NS, "ip address add "+e.Addr.String()+"/64 dev eth0 nodad")
	}
	r, err := Run(t.Context(), l)
	if err != nil || r.Loss() != 0 || r.Bits != r.Received*64*8 {
		t.Errorf("%v: %+v", err, r)
	}
}

// TestNetnsLossIsSeen drops every tenth packet on its way in.
func TestNetnsLossIsSeen(t *testing.T) {
	l := load(t)
	command(t, l.To.NS, "nft add table ip loss; add chain ip loss in { type filter hook prerouting priority 0; }; add rule ip loss in udp dport 9000 numgen inc mod 10 0 drop")
	r, err := Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if lost := r.Loss(); lost < 0.099 || lost > 0.101 || r.SinkOverflow != 0 {
		t.Errorf("loss %g, want 0.1: %+v", lost, r)
	}
}

// TestNetnsSinkOverflowIsSeen has a sink whose socket holds next to nothing.
func TestNetnsSinkOverflowIsSeen(t *testing.T) {
	l := load(t)
	l.PPS = 200_000
	r, err := run(t.Context(), l, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if r.SinkOverflow == 0 || r.Sent-r.Received != r.SinkOverflow {
		t.Errorf("%d of %d packets are missing, the sink has %d: %+v", r.Sent-r.Received, r.Sent, r.SinkOverflow, r)
	}
}

// TestNetnsDuplicatesAreSeen sends a copy of each packet.
func TestNetnsDuplicatesAreSeen(t *testing.T) {
	l := load(t)
	command(t, l.To.NS, "nft add table netdev twice; add chain netdev twice in { type filter hook ingress device eth0 priority 0; }; add rule netdev twice in udp dport 9000 dup to eth0")
	// The copy leaves where the packet came in; the other end sends it back, to the sink.
	command(t, l.From.NS, "nft add table netdev back; add chain netdev back in { type filter hook ingress device eth0 priority 0; }; add rule netdev back in udp dport 9000 fwd to eth0")
	_, err := Run(t.Context(), l)
	if err == nil {
		t.Error("a loop of copies: no error")
	}
}

func TestNetnsNothingArrives(t *testing.T) {
	l := load(t)
	command(t, l.To.NS, "nft add table ip loss; add chain ip loss in { type filter hook input priority 0; policy drop; }")
	if r, err := Run(t.Context(), l); !errors.Is(err, ErrNothing) || r.Sent == 0 {
		t.Errorf("Run: %v, %+v", err, r)
	}
	if r, err := Latency(t.Context(), l); !errors.Is(err, ErrNothing) || r.Sent == 0 {
		t.Errorf("Latency: %v, %+v", err, r)
	}
}

func TestNetnsTooLargeForThePath(t *testing.T) {
	l := load(t)
	l.Sizes = Fixed(1501)
	if _, err := Run(t.Context(), l); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("1501 bytes over an MTU of 1500: %v", err)
	}
}

func TestNetnsLatency(t *testing.T) {
	l := load(t)
	l.PPS = 1000
	r, err := Latency(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("sent %d, received %d, p50 %d ns, p99 %d ns, max %d ns", r.Sent, r.Received, r.Hist.ValueAtQuantile(50), r.Hist.ValueAtQuantile(99), r.Hist.Max())
	if r.Sent != 500 || r.Received != r.Sent || r.Hist.TotalCount() != 500 {
		t.Errorf("sent %d, received %d, %d in the histogram, want 500", r.Sent, r.Received, r.Hist.TotalCount())
	}
	if p50 := time.Duration(r.Hist.ValueAtQuantile(50)); p50 < 2*time.Microsecond || p50 > 10*time.Millisecond {
		t.Errorf("a median of %s", p50)
	}
	l.PPS = 0
	if _, err := Latency(t.Context(), l); err == nil {
		t.Error("no rate: no error")
	}
}

func TestNetnsSearch(t *testing.T) {
	l := load(t)
	// 20,000 packets per second pass; what is left of a burst of 100 does not help through a whole trial.
	command(t, l.To.NS, "nft add table ip loss; add chain ip loss in { type filter hook prerouting priority 0; }; add rule ip loss in udp dport 9000 limit rate over 20000/second burst 100 packets drop")
	s := Search{Load: l, Min: 2000, Max: 100_000, Resolution: 0.1, Trial: 200 * time.Millisecond, Retries: 1, Tolerance: 0.01}
	best, trials, err := s.Run(t.Context(), func(pps, loss float64) { t.Logf("%.0f pps: loss %.4f", pps, loss) })
	if err != nil {
		t.Fatalf("%v: %+v", err, trials)
	}
	if best < 12_000 || best > 24_000 {
		t.Errorf("best is %.0f, want about 20000: %+v", best, trials)
	}
}

func TestNetnsEndsWithItsContext(t *testing.T) {
	l := load(t)
	l.Duration = time.Minute
	for name, f := range map[string]func(context.Context) error{
		"Run":     func(ctx context.Context) error { _, err := Run(ctx, l); return err },
		"Latency": func(ctx context.Context) error { _, err := Latency(ctx, l); return err },
		"Search": func(ctx context.Context) error {
			_, _, err := Search{Load: l, Min: 1000, Max: 2000, Trial: time.Minute}.Run(ctx, nil)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		began := time.Now()
		err := f(ctx)
		took := time.Since(began)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || took > 500*time.Millisecond {
			t.Errorf("%s: %v after %s, want the end of the context after 300ms", name, err, took)
		}
	}
}

func TestNetnsWithoutThatNamespace(t *testing.T) {
	netnstest.RequireRoot(t)
	l := documentation()
	l.To.NS.Name = "no-such-namespace"
	if _, err := Run(t.Context(), l); err == nil {
		t.Error("no error")
	}
}
