package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

func TestAnsweredBy(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		e := echo{v6: v6, id: 0x1234, seq: 7, token: 0x0102030405060708}
		kind := byte(echoReply4)
		if v6 {
			kind = echoReply6
		}
		if !e.answeredBy(e.message(kind)) {
			t.Error("its own answer is not known")
		}
		for name, other := range map[string][]byte{
			"the request":      e.request(),
			"another id":       echo{v6, 0x1235, 7, e.token}.message(kind),
			"another sequence": echo{v6, e.id, 6, e.token}.message(kind),
			"another token":    echo{v6, e.id, 7, 1}.message(kind),
			"other family":     e.message(echoReply4 + echoReply6 - kind),
			"cut":              e.message(kind)[:echoLen-1],
			"longer":           append(e.message(kind), 0),
			"nothing":          nil,
		} {
			if e.answeredBy(other) {
				t.Errorf("%s is taken for the answer (IPv6: %v)", name, v6)
			}
		}
	}
}

// TestChecksum is the example of RFC 1071, section 3.
func TestChecksum(t *testing.T) {
	t.Parallel()
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("checksum %#x", got)
	}
	b := echo{id: 1, seq: 2, token: 0xffffffffffffffff}.request()
	if got := checksum(b); got != 0 {
		t.Errorf("with its checksum in it, a message sums up to %#x", got)
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	s := &pingSocket{raw: true}
	header := append([]byte{0x46}, make([]byte, 23)...)
	if got := s.payload(append(header, 1, 2)); len(got) != 2 || got[0] != 1 {
		t.Errorf("after a header with an option: %v", got)
	}
	if got := s.payload([]byte{0x4f, 1}); len(got) != 0 {
		t.Errorf("of a cut header: %v", got)
	}
	if got := s.payload(nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// run runs commands of iproute2 in the namespace.
func run(t *testing.T, ns netns.NS, commands ...string) {
	t.Helper()
	for _, c := range commands {
		args := strings.Fields(c)
		if out, err := ns.Command(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
}

// sysctl writes a setting of the namespace's own.
func sysctl(t *testing.T, ns netns.NS, name, value string) {
	t.Helper()
	if err := ns.Do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// pingIn makes one check inside the namespace. It opens its socket on the
// calling goroutine, so that is where it has to be.
func pingIn(t *testing.T, ns netns.NS, cfg Config) error {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ns.Do(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return p.check(ctx)
	})
}

// TestICMPNetns checks both kinds of sockets and both families.
func TestICMPNetns(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t, "health")
	for _, group := range []string{"1 0", "0 2147483647"} { // nobody, so raw sockets; everybody
		sysctl(t, ns, "ipv4/ping_group_range", group)
		for _, to := range []string{"127.0.0.1", "::1"} {
			t.Run(group+"/"+to, func(t *testing.T) {
				addr := netip.MustParseAddr(to)
				if err := ns.Do(func() error { return checkKind(addr, group == "1 0") }); err != nil {
					t.Error(err)
				}
				expect(t, pingIn(t, ns, Config{ICMP: addr}), "")
				expect(t, pingIn(t, ns, Config{ICMP: addr, Source: addr}), "")
			})
		}
		v4 := netip.MustParseAddr("127.0.0.1")
		expect(t, pingIn(t, ns, Config{ICMP: v4, Source: netip.MustParseAddr("127.9.9.9")}), "")
		expect(t, pingIn(t, ns, Config{ICMP: v4, Source: netip.MustParseAddr("192.0.2.1")}), "use the source")
		expect(t, pingIn(t, ns, Config{ICMP: netip.MustParseAddr("192.0.2.1")}), "network is unreachable")
		sysctl(t, ns, "ipv4/icmp_echo_ignore_all", "1")
		expect(t, pingIn(t, ns, Config{ICMP: v4}), "wait for an echo reply: context deadline exceeded")
		sysctl(t, ns, "ipv4/icmp_echo_ignore_all", "0")
	}
}

// checkKind reports an error unless the socket is of the kind that the test means.
func checkKind(addr netip.Addr, raw bool) error {
	s, err := openPing(&Config{ICMP: addr})
	if err != nil {
		return err
	}
	defer s.file.Close()
	if s.raw != raw {
		return fmt.Errorf("raw is %v, want %v", s.raw, raw)
	}
	return nil
}

// TestMarkNetns: the kernel stops the packets with the mark, and only those.
func TestMarkNetns(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t, "mark")
	run(t, ns, "ip rule add pref 1 lookup local", "ip rule del pref 0", "ip rule add pref 0 fwmark 7 prohibit")
	v4 := netip.MustParseAddr("127.0.0.1")
	port := netip.AddrPortFrom(v4, 9) // nobody listens: the answer is a refusal
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{ICMP: v4}, ""},
		{Config{ICMP: v4, Mark: 8}, ""},
		{Config{ICMP: v4, Mark: 7}, "permission denied"},
		{Config{TCP: port, Mark: 8}, "connection refused"},
		{Config{TCP: port, Mark: 7}, "permission denied"},
	} {
		expect(t, pingIn(t, ns, c.cfg), c.want)
	}
}

// TestRunNetns is a whole probe: up, then down while nothing answers, then its end.
func TestRunNetns(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t, "probe")
	changes := make(chan bool, 4)
	p, err := New(Config{
		ICMP: netip.MustParseAddr("127.0.0.1"), Interval: minInterval, Timeout: minInterval,
		OnChange: func(up bool, _ string) { changes <- up },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ns.Do(func() error { return p.Run(ctx) }) }()
	for _, step := range []struct {
		ignore string
		up     bool
	}{{"0", true}, {"1", false}, {"0", true}} {
		sysctl(t, ns, "ipv4/icmp_echo_ignore_all", step.ignore)
		if up := <-changes; up != step.up {
			t.Fatalf("up is %v", up)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := p.Status(); !s.Up || s.Failed < 3 || s.RTT <= 0 || s.RTT > time.Second {
		t.Errorf("status %+v", s)
	}
}

// TestPingEnds: a check that waits is broken off by its context.
func TestPingEnds(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t, "ends")
	sysctl(t, ns, "ipv4/icmp_echo_ignore_all", "1")
	p, err := New(Config{ICMP: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = ns.Do(func() error { return p.check(ctx) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		t.Errorf("the reason is hidden by %v", errno)
	}
}
