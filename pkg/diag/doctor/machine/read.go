package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/diag/doctor"
)

// Query says what is asked beyond what every machine has.
type Query struct {
	// Root is put in front of the paths below /etc, /run and /usr; empty for the machine's own.
	Root string
	// UDPPorts are the tunnels' ports, Peers their peers.
	UDPPorts []uint16
	Peers    []netip.Addr
	Mark     uint32 // of the outer packets
	PID      int    // of the running daemon; 0 if there is none
	// SelfTest says whether UDP_SEGMENT works.
	SelfTest func() error
}

// Paths of the kernel. Those of the network are the calling thread's: other
// threads of the process may be in other namespaces.
const (
	proc    = "/proc"
	procSys = "/proc/sys"
	procNet = "/proc/thread-self/net"
)

// nftTime is what nft may take. A large ruleset takes a second.
const nftTime = 20 * time.Second

// Read looks at the machine.
func Read(ctx context.Context, q Query) doctor.Host {
	r := &reader{q: q}
	r.kernel()
	r.links()
	r.sysctls()
	r.routes()
	r.ways()
	r.owners()
	r.firewall(ctx)
	r.policies()
	r.networkd()
	r.sockets()
	r.daemon()
	return r.h
}

// reader collects; what fails becomes a note and stops nothing else.
type reader struct {
	q Query
	h doctor.Host
}

func (r *reader) unread(check string, err error, get string) {
	if errors.Is(err, fs.ErrPermission) {
		get = "sudo transitctl doctor"
	}
	r.h.Unread = append(r.h.Unread, doctor.Unchecked{Check: check, Why: err.Error(), Get: get})
}

// kernel reads the version, the clock, and tries what the tunnels use.
func (r *reader) kernel() {
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		r.h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	state, err := unix.Adjtimex(&unix.Timex{})
	if err != nil {
		r.unread("the clock", fmt.Errorf("read the clock's state: %w", err), "timedatectl")
	} else {
		r.h.Clock = &doctor.Clock{Synchronised: state != unix.TIME_ERROR}
	}
	if fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		r.h.TUN = fmt.Sprintf("/dev/net/tun cannot be opened: %v", err)
	} else {
		_ = unix.Close(fd) // nothing was made with it
	}
	if r.q.SelfTest != nil {
		if err := r.q.SelfTest(); err != nil {
			r.h.UDPSegmentation = err.Error()
		}
	}
}

// sysctls reads the settings of the kernel and of each interface.
func (r *reader) sysctls() {
	keys := []string{
		"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports",
		"net/core/rmem_max", "net/core/wmem_max", "net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max",
	}
	names := []string{"all"}
	for _, l := range r.h.Links {
		names = append(names, l.Name)
		keys = append(keys, "net/ipv6/conf/"+l.Name+"/accept_ra")
	}
	for _, n := range names {
		for _, key := range []string{"rp_filter", "send_redirects", "accept_redirects"} {
			keys = append(keys, "net/ipv4/conf/"+n+"/"+key)
		}
	}
	r.h.Sysctls = map[string]string{}
	for _, key := range keys {
		if b, err := os.ReadFile(filepath.Join(procSys, key)); err == nil {
			r.h.Sysctls[key] = strings.TrimSpace(string(b))
		} else if !errors.Is(err, fs.ErrNotExist) {
			r.unread(strings.ReplaceAll(key, "/", "."), err, "")
		}
	}
}

// owners finds the locks of running daemons: sockets with an abstract name, which belong to the network namespace.
func (r *reader) owners() {
	b, err := os.ReadFile(filepath.Join(procNet, "unix"))
	if err != nil {
		r.unread("running daemons", err, "")
		return
	}
	for _, m := range regexp.MustCompile(`(?m) @transitd/protocol/(\d+)$`).FindAllSubmatch(b, -1) {
		if n, err := strconv.Atoi(string(m[1])); err == nil && !slices.Contains(r.h.Owners, n) {
			r.h.Owners = append(r.h.Owners, n)
		}
	}
}

// firewall asks nft.
func (r *reader) firewall(ctx context.Context) {
	r.legacy()
	path, err := lookPath("nft")
	if err != nil {
		r.unread("the firewall", errors.New("the program nft is not installed"), "apt-get install nftables")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nftTime)
	defer cancel()
	var out, problem bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "-j", "list", "ruleset")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &problem, time.Second
	switch err := cmd.Run(); {
	case err != nil:
		line, _, _ := strings.Cut(strings.TrimSpace(problem.String()), "\n")
		r.unread("the firewall", fmt.Errorf("nft: %w: %s", err, line), "sudo transitctl doctor")
	default:
		rules, err := doctor.ParseRuleset(out.Bytes())
		if err != nil {
			r.unread("the firewall", err, "nft list ruleset")
			return
		}
		r.h.Firewall = rules
		for family, program := range map[string]string{"ip": "iptables-nft-save", "ip6": "ip6tables-nft-save"} {
			if rules.NeedsIptables(family) {
				r.iptables(ctx, rules, family, program)
			}
		}
	}
}

// iptables asks for what nft does not show of its rules. Without, they may or may not match.
func (r *reader) iptables(ctx context.Context, rules *doctor.Ruleset, family, program string) {
	path, err := lookPath(program)
	if err == nil {
		var out []byte
		out, err = exec.CommandContext(ctx, path).Output()
		rules.AddIptables(family, string(out))
	}
	if err != nil {
		r.unread("states of connections in the rules of iptables", fmt.Errorf("%s: %w", program, err), program)
	}
}

// legacy notes rules of the old kind.
func (r *reader) legacy() {
	for _, f := range []struct{ file, program string }{{"ip_tables_names", "iptables-legacy"}, {"ip6_tables_names", "ip6tables-legacy"}} {
		if b, err := os.ReadFile(filepath.Join(procNet, f.file)); err == nil && len(b) > 0 {
			r.h.Unread = append(r.h.Unread, doctor.Unchecked{Check: "rules of " + f.program, Why: "the kernel has tables of the old kind, which nft does not show", Get: f.program + "-save"})
		}
	}
}

// lookPath finds a program also where the shell of a user without rights does not look.
func lookPath(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// networkd reads the files of systemd-networkd in the order of networkd.conf(5):
// the main one, then the drop-ins by name, where a folder of /etc hides one of /usr.
func (r *reader) networkd() {
	var files []doctor.ConfigFile
	read := func(path string) bool {
		b, err := os.ReadFile(filepath.Join(r.q.Root, path))
		if err == nil {
			files = append(files, doctor.ConfigFile{Path: path, Text: string(b)})
		} else if !errors.Is(err, fs.ErrNotExist) {
			r.unread("systemd-networkd's configuration", err, "")
		}
		return err == nil
	}
	dirs := []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"}
	for _, d := range dirs {
		if read(filepath.Join(d, "networkd.conf")) {
			break
		}
	}
	dropIns := map[string]string{}
	for _, d := range slices.Backward(dirs) {
		folder := filepath.Join(d, "networkd.conf.d")
		entries, _ := os.ReadDir(filepath.Join(r.q.Root, folder)) // most are not there
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") {
				dropIns[e.Name()] = filepath.Join(folder, e.Name())
			}
		}
	}
	names := make([]string, 0, len(dropIns))
	for n := range dropIns {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		read(dropIns[n])
	}
	n := doctor.ReadNetworkd(r.networkdUsed(), files)
	r.h.Networkd = &n
}

// networkdUsed reports whether it runs or is started at boot.
func (r *reader) networkdUsed() bool {
	for _, link := range []string{"multi-user.target.wants/systemd-networkd.service", "dbus-org.freedesktop.network1.service"} {
		if _, err := os.Lstat(filepath.Join(r.q.Root, "/etc/systemd/system", link)); err == nil {
			return true
		}
	}
	return slices.ContainsFunc(processes(), func(pid int) bool { return program(pid) == "systemd-network" }) // cut to 15 bytes
}

// daemon reads what the running daemon may.
func (r *reader) daemon() {
	if r.q.PID == 0 {
		return
	}
	dir := filepath.Join(proc, strconv.Itoa(r.q.PID))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		r.unread("the daemon's process", err, "")
		return
	}
	limits, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		r.unread("the daemon's limits", err, "")
	}
	p := &doctor.Process{PID: r.q.PID}
	if m := regexp.MustCompile(`(?m)^CapEff:\s*([0-9a-f]+)$`).FindSubmatch(status); m != nil {
		p.Capabilities, _ = strconv.ParseUint(string(m[1]), 16, 64) // the expression allows nothing else
	}
	if m := regexp.MustCompile(`(?m)^Max open files\s+(\d+)`).FindSubmatch(limits); m != nil {
		p.FileLimit, _ = strconv.Atoi(string(m[1]))
	}
	if open, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil {
		p.Files = len(open)
	} else {
		r.unread("the daemon's open files", err, "")
	}
	r.h.Daemon = p
}
