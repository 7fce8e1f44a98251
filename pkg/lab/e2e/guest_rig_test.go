package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/netns"
)

// guest is a machine with a Linux kernel of its own: that of the host may have
// no WireGuard and no ESP. It is emulated in software, so it shows what works and not how
// fast; testdata/vm has what it consists of.
type guest struct {
	t       *testing.T
	program *farProgram
	shell   net.Conn // its second serial port
	answers *bufio.Reader
}

// kernelWireGuard is the guest's own WireGuard.
func kernelWireGuard(t *testing.T, ns netns.NS) wgPeer { return boot(t, ns, "wireguard", 256) }

// boot starts a guest of a kind that testdata/vm/build knows, with so many megabytes. Its card is bridged to eth0 of a namespace.
func boot(t *testing.T, ns netns.NS, kind string, memory int) *guest {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	files, err := output(exec.Command("testdata/vm/build", filepath.Join(cache, "transitd", "vm"), kind))
	if err != nil {
		// Not every system has a package of a kernel; where tests have to be complete, that is a failure.
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 77 && os.Getenv("CI") == "" {
			t.Skipf("there is no kernel to boot: %v", err)
		}
		t.Fatal(err)
	}
	files = strings.TrimSpace(files)
	for _, c := range []string{
		"link add br0 type bridge", "link set eth0 master br0", "tuntap add tap0 mode tap", "link set tap0 master br0",
		"link set eth0 up", "link set tap0 up", "link set br0 up",
	} {
		if _, err := output(ns.Command(t.Context(), "ip", strings.Fields(c)...)); err != nil {
			t.Fatal(err)
		}
	}
	g := &guest{t: t}
	dir := t.TempDir()
	socket := filepath.Join(dir, "shell")
	g.program = &farProgram{t: t, ns: ns, dir: dir, name: "qemu", argv: append([]string{"qemu-system-x86_64"}, strings.Fields(
		fmt.Sprintf("-M q35,accel=tcg -cpu max -smp 1 -m %d -nodefaults -no-user-config -display none -no-reboot", memory)+
			" -kernel "+filepath.Join(files, "vmlinuz")+" -initrd "+filepath.Join(files, "initrd")+
			" -serial file:"+filepath.Join(dir, "console")+" -serial unix:"+socket+",server=on,wait=off"+
			" -netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n0,romfile=")...)}
	g.program.argv = append(g.program.argv, "-append", "console=ttyS0 quiet mitigations=off rdinit=/init net.ifnames=0 panic=-1")
	t.Cleanup(func() {
		if text, err := os.ReadFile(filepath.Join(dir, "console")); err == nil && t.Failed() {
			t.Logf("the guest's console:\n%s", text[max(0, len(text)-3000):])
		}
	})
	g.program.start()
	soon(t, "the guest has a serial port", 20*time.Second, func() (err error) {
		g.shell, err = net.Dial("unix", socket)
		return err
	})
	t.Cleanup(func() { _ = g.shell.Close() })
	g.answers = bufio.NewReader(g.shell)
	if _, err := g.answer(time.Minute); err != nil {
		t.Fatalf("the guest does not boot: %v", err)
	}
	g.must("ip addr add " + wgFar + "/24 dev eth0 && ip link set eth0 up")
	return g
}

// answer reads what a line printed.
func (g *guest) answer(within time.Duration) (string, error) {
	if err := g.shell.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	var out strings.Builder
	for {
		line, err := g.answers.ReadString('\n')
		if err != nil {
			return out.String(), fmt.Errorf("the guest is silent after %q: %w", out.String(), err)
		}
		if status, ok := strings.CutPrefix(line, "= "); ok {
			if status != "0\n" {
				return out.String(), fmt.Errorf("exit status %s%s", status, out.String())
			}
			return out.String(), nil
		}
		out.WriteString(line)
	}
}

func (g *guest) sh(line string) (string, error) { return g.ask(line, 5*time.Minute) }

func (g *guest) ask(line string, within time.Duration) (string, error) {
	if strings.Contains(line, "\n") {
		return "", fmt.Errorf("more than one line: %q", line)
	}
	if _, err := fmt.Fprintln(g.shell, line); err != nil {
		return "", err
	}
	out, err := g.answer(within)
	if err != nil {
		return out, fmt.Errorf("in the guest: %s: %w", line, err)
	}
	return out, nil
}

func (g *guest) version() string {
	out, err := g.sh("uname -r")
	if err != nil {
		g.t.Fatal(err)
	}
	return "Linux " + strings.TrimSpace(out)
}

func (g *guest) device() string { return "wg0" }
func (g *guest) folder() string { return "/tmp" }

func (g *guest) create() { g.must("ip link add wg0 type wireguard") }
func (g *guest) remove() { g.must("ip link del wg0") }

func (g *guest) must(line string) {
	g.t.Helper()
	if _, err := g.sh(line); err != nil {
		g.t.Fatal(err)
	}
}
