package tun

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/netns"
	"github.com/transitd/transitd/pkg/netns/netnstest"
)

func open(t *testing.T, ns netns.NS, cfg Config) (*Device, error) {
	t.Helper()
	var d *Device
	err := ns.Do(func() (err error) { d, err = Open(cfg); return err })
	if err == nil {
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return d, err
}

func command(t *testing.T, ns netns.NS, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := ns.Command(context.Background(), f[0], f[1:]...).CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	return string(out)
}

func TestOpen(t *testing.T) {
	ns := netnstest.New(t, "tun")
	d, err := open(t, ns, Config{Name: "tr0", Queues: 2, MTU: 1400, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/30")}})
	if err != nil {
		t.Fatal(err)
	}
	if d.Queues() != 2 || d.Name() != "tr0" || d.Index() == 0 {
		t.Errorf("%d queues, name %q, index %d", d.Queues(), d.Name(), d.Index())
	}
	out := command(t, ns, "ip addr show dev tr0")
	for _, want := range []string{"mtu 1400", "qlen 4000", "inet 192.0.2.1/30", "UP"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "inet6") {
		t.Errorf("an IPv6 address that nobody asked for:\n%s", out)
	}
}

func TestOpenIPv6(t *testing.T) {
	ns := netnstest.New(t, "tun")
	if _, err := open(t, ns, Config{Name: "tr0", Queues: 1, MTU: 1400, Addrs: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}}); err != nil {
		t.Fatal(err)
	}
	out := command(t, ns, "ip -6 addr show dev tr0")
	if !strings.Contains(out, "inet6 2001:db8::1/64") || strings.Contains(out, "tentative") || strings.Contains(out, "fe80") {
		t.Errorf("want the address at once, and no link-local one:\n%s", out)
	}
}

// A device of somebody else's is neither taken over nor harmed.
func TestNameTaken(t *testing.T) {
	ns := netnstest.New(t, "tun")
	for name, make := range map[string]string{
		"br0": "ip link add br0 type bridge", "tap0": "ip tuntap add tap0 mode tap", "tun0": "ip tuntap add tun0 mode tun multi_queue vnet_hdr",
	} {
		command(t, ns, make)
		_, err := open(t, ns, Config{Name: name, Queues: 1, MTU: 1400})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "there is one of that name") {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(command(t, ns, "ip link show "+name), name) {
			t.Errorf("%s is gone", name)
		}
	}
	if _, err := open(t, ns, Config{Name: "a-name-of-16-bytes", Queues: 1, MTU: 1400}); err == nil {
		t.Error("a name that is too long was accepted")
	}
}

// What is written comes out of the kernel, and what the kernel sends can be read.
func TestReadWrite(t *testing.T) {
	ns := netnstest.New(t, "tun")
	d, err := open(t, ns, Config{Name: "tr0", Queues: 1, MTU: 1400, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
	if err != nil {
		t.Fatal(err)
	}
	q, v, header := d.Queue(0), new(Vector), new([HeaderLen]byte)
	buf := make([]byte, MaxPacket)
	if _, err := q.Read(v, header, buf); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("reading nothing: %v", err)
	}
	// An echo request from 192.0.2.9, which the kernel answers.
	ping := []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0xf6, 0xd6, 192, 0, 2, 9, 192, 0, 2, 1,
		8, 0, 0xf7, 0xff, 0, 0, 0, 0,
	}
	if err := q.Write(v, header, [][]byte{ping[:20], ping[20:]}); err != nil {
		t.Fatal(err)
	}
	fds := []unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 2000); n != 1 || err != nil {
		t.Fatalf("no answer: %d, %v", n, err)
	}
	n, err := q.Read(v, header, buf)
	if err != nil || n != 28 || buf[20] != 0 {
		t.Errorf("read % x, %v; want an echo reply", buf[:n], err)
	}
	command(t, ns, "ip link del tr0")
	if _, err := q.Read(v, header, buf); !errors.Is(err, unix.EBADFD) {
		t.Errorf("reading from a deleted device: %v", err)
	}
	present := true
	if err := ns.Do(func() error { present = d.Present(); return nil }); err != nil || present {
		t.Errorf("present: %v, %v", present, err)
	}
}

// Packets that nobody reads are counted.
func TestDropped(t *testing.T) {
	ns := netnstest.New(t, "tun")
	d, err := open(t, ns, Config{Name: "tr0", Queues: 1, MTU: 1400, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
	if err != nil {
		t.Fatal(err)
	}
	command(t, ns, "ip link set tr0 txqueuelen 10")
	command(t, ns, "ping -q -c 30 -i 0.002 -W 0.01 192.0.2.2")
	var n uint64
	if err := ns.Do(func() error { n = d.Dropped(); return nil }); err != nil || n == 0 {
		t.Errorf("dropped %d, %v", n, err)
	}
}
