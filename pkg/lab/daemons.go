package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func (s state) birdSocket(node string) string { return filepath.Join(s.private(node), "bird.ctl") }

// runBIRD runs BIRD 2 in the foreground with a configuration made from the plan.
func runBIRD(ctx context.Context, s state, c nodeConfig, log *zap.Logger) error {
	dir := s.private(c.Node.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make BIRD's folder: %w", err)
	}
	conf := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(conf, []byte(birdConfig(c)), 0o644); err != nil {
		return fmt.Errorf("write BIRD's configuration: %w", err)
	}
	return runDaemon(ctx, log, "bird", "-f", "-c", conf, "-s", s.birdSocket(c.Node.Name), "-P", filepath.Join(dir, "bird.pid"))
}

func birdConfig(c nodeConfig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# made by transitlab for %s\nlog stderr all;\nrouter id %s;\nprotocol device {}\n", c.Node.Name, c.Node.RouterID)
	b.WriteString("protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }\nprotocol static own { ipv4;\n")
	for _, p := range c.Node.Announce {
		fmt.Fprintf(&b, "  route %s unreachable;\n", p)
	}
	b.WriteString("}\n")
	accept := "all"
	if filtersDefault(c) {
		accept = "where net != 0.0.0.0/0"
	}
	for i, n := range c.Node.Sessions {
		fmt.Fprintf(&b, `protocol bgp peer%d { # %s
  local %s as %d;
  neighbor %s as %d;
  hold time %d;
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  ipv4 { import %s; export where proto = "own"; };
}
`, i, n.Peer, n.Local, c.Node.ASN, n.Addr, n.ASN, int(n.HoldTime.Seconds()), accept)
	}
	return b.String()
}

// runFRR runs zebra and bgpd in the foreground. "ip netns exec" has given this process a mount namespace of its own,
// so the private /run/frr and /var/tmp are seen by nobody else.
func runFRR(ctx context.Context, s state, c nodeConfig, log *zap.Logger) error {
	dir := s.private(c.Node.Name)
	if err := frrFolders(dir); err != nil {
		return err
	}
	for daemon, conf := range map[string]string{"zebra": "hostname " + c.Node.Name + "\n", "bgpd": frrConfig(c)} {
		if err := os.WriteFile(filepath.Join(dir, daemon+".conf"), []byte(conf), 0o644); err != nil {
			return fmt.Errorf("write FRR's configuration: %w", err)
		}
	}
	zapi := filepath.Join(dir, "zserv.api")
	args := func(daemon string, more ...string) []string {
		return append([]string{
			"-A", "127.0.0.1", "-z", zapi, "--vty_socket", dir, "--log", "stdout",
			"-f", filepath.Join(dir, daemon+".conf"), "-i", filepath.Join(dir, daemon+".pid"),
		}, more...)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return watchDaemon(ctx, log, "/usr/lib/frr/zebra", args("zebra")...) })
	g.Go(func() error {
		if err := await(ctx, 30*time.Second, func() error { _, err := os.Stat(zapi); return err }); err != nil {
			return fmt.Errorf("wait for zebra's socket: %w", err)
		}
		// Port 0: it connects, nobody connects to it.
		return watchDaemon(ctx, log, "/usr/lib/frr/bgpd", args("bgpd", "-p", "0")...)
	})
	return g.Wait()
}

// watchDaemon does for one of FRR's daemons what watchfrr does: one that ends by itself is started again, but not for ever.
func watchDaemon(ctx context.Context, log *zap.Logger, name string, args ...string) error {
	const starts = 4
	for n := 1; ; n++ {
		err := runDaemon(ctx, log, name, args...)
		if err == nil || n == starts {
			return err
		}
		log.Warn("a daemon is started again", zap.Int("start", n+1), zap.Error(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// frrFolders makes the daemons' folder, which their own user writes to, and puts it in the place of the machine's.
func frrFolders(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make FRR's folder: %w", err)
	}
	u, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("FRR is not installed: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("user frr: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("give FRR its folder: %w", err)
	}
	if err := os.MkdirAll("/run/frr", 0o755); err != nil {
		return fmt.Errorf("make FRR's folder: %w", err)
	}
	if err := unix.Mount(dir, "/run/frr", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("put %s in the place of /run/frr: %w", dir, err)
	}
	if err := unix.Mount("transitlab", "/var/tmp", "tmpfs", 0, "mode=1777"); err != nil {
		return fmt.Errorf("mount a private /var/tmp: %w", err)
	}
	return nil
}

func frrConfig(c nodeConfig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "! made by transitlab for %s\nhostname %s\n", c.Node.Name, c.Node.Name)
	if filtersDefault(c) {
		b.WriteString("ip prefix-list no-default seq 5 deny 0.0.0.0/0\nip prefix-list no-default seq 10 permit 0.0.0.0/0 le 32\n")
	}
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check\n", c.Node.ASN, c.Node.RouterID)
	for _, n := range c.Node.Sessions {
		fmt.Fprintf(&b, " neighbor %s remote-as %d\n neighbor %s description %s\n", n.Addr, n.ASN, n.Addr, n.Peer)
		fmt.Fprintf(&b, " neighbor %s timers %d %d\n neighbor %s timers connect 2\n neighbor %s advertisement-interval 0\n",
			n.Addr, int(n.HoldTime.Seconds())/3, int(n.HoldTime.Seconds()), n.Addr, n.Addr)
	}
	b.WriteString(" address-family ipv4 unicast\n")
	for _, p := range c.Node.Announce {
		fmt.Fprintf(&b, "  network %s\n", p)
	}
	for _, n := range c.Node.Sessions {
		if filtersDefault(c) {
			fmt.Fprintf(&b, "  neighbor %s prefix-list no-default in\n", n.Addr)
		}
	}
	b.WriteString(" exit-address-family\n")
	return b.String()
}

// runDaemon runs a program until ctx ends, then ends it; that it ends by itself is an error.
func runDaemon(ctx context.Context, log *zap.Logger, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	log.Info("start", zap.String("program", name), zap.Strings("args", args))
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s ended: %w", name, err)
}

// await polls something outside of this process, which cannot be waited for, until it is there.
func await(ctx context.Context, wait time.Duration, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", wait, err)
		case <-tick.C:
		}
	}
}
