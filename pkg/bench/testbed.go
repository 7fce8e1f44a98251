package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/transitd/transitd/pkg/netns"
)

// Profile is what the wire between the ends can do.
type Profile string

const (
	// Super is a perfect NIC: packets of 64 KB cross whole.
	Super Profile = "super"
	// Wire is a cloud NIC without tunnel offloads: checksums and segments are
	// made in software before the wire, and joined again after it.
	Wire Profile = "wire"
	// Bare has no offload at all.
	Bare Profile = "bare"
)

// Profiles are all, in the order in which they are shown.
func Profiles() []Profile { return []Profile{Wire, Bare, Super} }

// offloads are ethtool's settings. What is not named stays as a veth has it: on.
func (p Profile) offloads() []string {
	const none = "tx off tso off gso off tx-udp-segmentation off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off gro "
	switch p {
	case Wire:
		return strings.Fields(none + "on")
	case Bare:
		return strings.Fields(none + "off")
	default:
		return []string{"gro", "on"}
	}
}

const (
	bedPrefix = "tdb-"
	wireMTU   = 1500
	// TunnelMTU is the inner MTU of all tunnels, in bytes.
	TunnelMTU = 1400
)

// Testbed is two ends and the wire between them.
type Testbed struct {
	Profile Profile
	Dir     string // for the subjects' files; removed by Close
	Ends    [2]End
}

// End is one side of the wire.
type End struct {
	NS    netns.NS
	Addr  netip.Addr // on eth0
	Other netip.Addr
	Side  string // "a" or "b"
}

// NewTestbed makes one. It needs root.
func NewTestbed(ctx context.Context, p Profile) (*Testbed, error) {
	if err := sweep(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "transitbench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	t := &Testbed{Profile: p, Dir: dir}
	for i, side := range []string{"a", "b"} {
		ns, err := netns.New(fmt.Sprintf("%s%d-%s", bedPrefix, os.Getpid(), side))
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.Ends[i] = End{NS: ns, Side: side, Addr: netip.AddrFrom4([4]byte{10, 99, 0, byte(1 + i)}), Other: netip.AddrFrom4([4]byte{10, 99, 0, byte(2 - i)})}
	}
	if err := t.wire(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Testbed) wire(ctx context.Context) error {
	a, b := &t.Ends[0], &t.Ends[1]
	if err := a.Run(ctx, "ip", "link", "add", "eth0", "mtu", strconv.Itoa(wireMTU), "type", "veth", "peer", "name", "eth0", "mtu", strconv.Itoa(wireMTU), "netns", b.NS.Name); err != nil {
		return err
	}
	for i := range t.Ends {
		e := &t.Ends[i]
		err := e.RunAll(ctx,
			"ip link set lo up",
			"ip addr add "+e.Addr.String()+"/24 dev eth0",
			"ip link set eth0 up",
			"ethtool -K eth0 "+strings.Join(t.Profile.offloads(), " "),
			"sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// Close ends all that runs in the namespaces and removes them.
func (t *Testbed) Close() error {
	var errs []error
	for _, e := range t.Ends {
		if e.NS.Name == "" {
			continue
		}
		kill(e.NS)
		errs = append(errs, e.NS.Delete())
	}
	return errors.Join(append(errs, os.RemoveAll(t.Dir))...)
}

// kill ends the processes of a namespace, this one excepted: it may have sockets there.
func kill(ns netns.NS) {
	var want syscall.Stat_t
	if syscall.Stat(ns.Path(), &want) != nil {
		return
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, l := range links {
		pid, err := strconv.Atoi(strings.Split(l, "/")[2])
		var have syscall.Stat_t
		if err == nil && pid != os.Getpid() && syscall.Stat(l, &have) == nil && have.Ino == want.Ino && have.Dev == want.Dev {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already: as well
		}
	}
}

// sweep removes namespaces of benchmarks that were killed.
func sweep() error {
	beds, err := owners()
	if err != nil {
		return err
	}
	for name, pid := range beds {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		ns := netns.NS{Name: name}
		kill(ns)
		if err := ns.Delete(); err != nil {
			return fmt.Errorf("remove what a killed benchmark left: %w", err)
		}
	}
	return nil
}

// owners are the processes of all testbeds' namespaces, by name.
func owners() (map[string]int, error) {
	names, err := netns.List(bedPrefix)
	if err != nil {
		return nil, err
	}
	beds := map[string]int{}
	for _, name := range names {
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, bedPrefix), "-")
		if n, err := strconv.Atoi(pid); err == nil {
			beds[name] = n
		}
	}
	return beds, nil
}

// Others are the processes that measure on this machine at the moment. Two that
// do so at once measure each other.
func Others() (pids []int, err error) {
	beds, err := owners()
	for _, pid := range beds {
		if pid != os.Getpid() && !slices.Contains(pids, pid) && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

// Run executes a program in the end's namespace.
func (e *End) Run(ctx context.Context, name string, args ...string) error {
	_, err := e.Output(ctx, name, args...)
	return err
}

// RunAll executes command lines, split at blanks, one after the other.
func (e *End) RunAll(ctx context.Context, lines ...string) error {
	for _, l := range lines {
		f := strings.Fields(l)
		if err := e.Run(ctx, f[0], f[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// Output is Run that returns what the program printed.
func (e *End) Output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := e.NS.Command(ctx, name, args...).Output()
	if err != nil {
		detail := ""
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
			detail = ": " + strings.TrimSpace(string(exit.Stderr))
		}
		return string(out), fmt.Errorf("%s %s (end %s): %w%s", name, strings.Join(args, " "), e.Side, err, detail)
	}
	return string(out), nil
}
