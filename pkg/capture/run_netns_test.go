package capture

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// pair is two namespaces on one wire, 192.0.2.1 and .2.
func pair(t *testing.T) (a, b netns.NS) {
	t.Helper()
	a, b = netnstest.New(t, "a"), netnstest.New(t, "b")
	for _, x := range []struct {
		ns   netns.NS
		line string
	}{
		{a, "link add eth0 type veth peer name eth0 netns " + b.Name},
		{a, "addr add 192.0.2.1/24 dev eth0"},
		{b, "addr add 192.0.2.2/24 dev eth0"},
		{a, "link set eth0 up"},
		{b, "link set eth0 up"},
	} {
		if out, err := x.ns.Command(t.Context(), "ip", strings.Fields(x.line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", x.line, err, out)
		}
	}
	return a, b
}

// record captures in a while pings go from b to a, and returns what tshark reads.
func record(t *testing.T, ctx context.Context, a, b netns.NS, c Config, filter string, fields ...string) (Result, []string) {
	t.Helper()
	var err error
	if c.Filter, err = Compile(Ethernet, "", filter); err != nil {
		t.Fatal(err)
	}
	c.Device, c.Name, c.Comment = "eth0", "eth0", "a test"
	ping := b.Command(t.Context(), "ping", "-q", "-i", "0.01", "-c", "1000", "-s", "200", "192.0.2.1")
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ping.Process.Kill(); _ = ping.Wait() }()
	var out bytes.Buffer
	var r Result
	if err := a.Do(func() (err error) { r, err = Run(ctx, c, &out); return err }); err != nil {
		t.Fatal(err)
	}
	if r.Bytes != uint64(out.Len()) {
		t.Errorf("%d bytes written, %d counted", out.Len(), r.Bytes)
	}
	args := []string{"-r", "-", "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	cmd.Stdin = &out
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	lines, err := cmd.Output()
	if err != nil || strings.Contains(stderr.String(), "cut short") {
		t.Fatalf("tshark: %v %s", err, &stderr)
	}
	return r, strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n")
}

func TestNetnsRun(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	bounds := Config{Count: 1000, Duration: 10 * time.Second, Snap: 65535, Bytes: 1 << 20}

	c := bounds
	c.Count, c.Snap = 20, 60
	r, lines := record(t, t.Context(), a, b, c, "icmp and src host 192.0.2.2", "ip.src", "icmp.type", "frame.len", "frame.cap_len", "frame.packet_flags_direction")
	if r.Packets != 20 || r.Ended != ByCount || r.Dropped != 0 || len(lines) != 20 {
		t.Errorf("%+v, %d lines", r, len(lines))
	}
	for _, l := range lines {
		if l != "192.0.2.2\t8\t242\t60\t0x00000001" { // cut at 60 bytes, inbound
			t.Fatalf("a packet is %q", l)
		}
	}

	c = bounds
	c.Duration = 300 * time.Millisecond
	began := time.Now()
	r, lines = record(t, t.Context(), a, b, c, "icmp", "icmp.type", "frame.packet_flags_direction")
	if took := time.Since(began); r.Ended != ByDuration || took > 5*time.Second || uint64(len(lines)) != r.Packets {
		t.Errorf("%+v after %v, %d lines", r, took, len(lines))
	}
	for _, l := range lines {
		if l != "8\t0x00000001" && l != "0\t0x00000002" {
			t.Errorf("direction %q", l)
		}
	}

	c = bounds
	c.Bytes = 5000
	if r, _ = record(t, t.Context(), a, b, c, "", "frame.len"); r.Ended != ByBytes || r.Bytes > 5200 {
		t.Errorf("%+v", r)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, _ = record(t, ctx, a, b, bounds, "icmp", "frame.len"); r.Ended != ByCaller || r.Packets == 0 {
		t.Errorf("%+v", r)
	}

	if err := a.Do(func() error {
		_, err := Run(t.Context(), Config{Device: "none", Count: 1, Duration: time.Second, Snap: 60, Bytes: 1000}, &bytes.Buffer{})
		return err
	}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a device that is not there: %v", err)
	}
}
