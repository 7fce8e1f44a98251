package machine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/transitd/transitd/pkg/diag/doctor"
)

// bgpPort is where BGP sessions are accepted.
const bgpPort = 179

// sockets finds who has the tunnels' ports and that of BGP.
func (r *reader) sockets() {
	owners := map[string][]doctor.Socket{} // by inode
	for _, t := range []struct {
		file, network, state string
		ports                []uint16
	}{
		{"udp", "udp", "", r.q.UDPPorts},
		{"udp6", "udp", "", r.q.UDPPorts},
		{"tcp", "tcp", listening, []uint16{bgpPort}},
		{"tcp6", "tcp", listening, []uint16{bgpPort}},
	} {
		b, err := os.ReadFile(filepath.Join(procNet, t.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			r.unread("sockets of other programs", err, "ss -lnutp")
			return
		}
		for inode, local := range parseSockets(string(b), t.state) {
			if slices.Contains(t.ports, local.Port()) {
				owners[inode] = append(owners[inode], doctor.Socket{Network: t.network, Local: local})
			}
		}
	}
	r.h.Sockets = []doctor.Socket{}
	if len(owners) == 0 {
		return
	}
	add := func(s doctor.Socket) {
		if !slices.Contains(r.h.Sockets, s) {
			r.h.Sockets = append(r.h.Sockets, s)
		}
	}
	for _, pid := range processes() {
		for _, inode := range socketsOf(pid) {
			for _, s := range owners[inode] {
				s.PID, s.Program = pid, fmt.Sprintf("%s (%d)", program(pid), pid)
				add(s)
			}
			delete(owners, inode)
		}
	}
	for _, list := range owners {
		for _, s := range list {
			s.Program = "a VXLAN or WireGuard device of the kernel, or a program of another container,"
			if os.Geteuid() != 0 {
				s.Program = "a program of another user"
			}
			add(s)
		}
	}
	slices.SortFunc(r.h.Sockets, func(x, y doctor.Socket) int {
		return strings.Compare(x.Network+x.Local.String()+x.Program, y.Network+y.Local.String()+y.Program)
	})
}

// listening is the state of a TCP socket that takes connections (tcp_states.h).
const listening = "0A"

// parseSockets reads a table as /proc/net/udp, and returns the local addresses by
// inode; an empty state means any.
func parseSockets(table, state string) map[string]netip.AddrPort {
	out := map[string]netip.AddrPort{}
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		const inode = 9
		if len(f) <= inode || state != "" && f[3] != state {
			continue
		}
		if local, err := parseEndpoint(f[1]); err == nil {
			out[f[inode]] = local
		}
	}
	return out
}

// parseEndpoint reads "0100007F:12B5": the address is in words of the machine's
// order, which is little-endian on all that transitd is built for.
func parseEndpoint(s string) (netip.AddrPort, error) {
	addr, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	for w := range slices.Chunk(b, 4) {
		slices.Reverse(w)
	}
	a, ok := netip.AddrFromSlice(b)
	p, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}

// processes lists the process ids that can be seen.
func processes() (list []int) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// program is a process' name, cut to 15 bytes by the kernel; empty if it is gone.
func program(pid int) string {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// socketsOf lists the inodes of a process' sockets, those that we may see.
func socketsOf(pid int) (inodes []string) {
	dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if inode, is := strings.CutPrefix(target, "socket:["); err == nil && is {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}

// ConfigOf finds the configuration file that a running daemon was started with, by its command line.
func ConfigOf(pid int) (string, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	b, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return "", fmt.Errorf("read the daemon's command line: %w", err)
	}
	args := strings.Split(string(b), "\x00")
	for i, a := range args {
		file := ""
		switch {
		case (a == "-c" || a == "--config") && i+1 < len(args):
			file = args[i+1]
		case strings.HasPrefix(a, "--config="):
			file = strings.TrimPrefix(a, "--config=")
		case strings.HasPrefix(a, "-c") && !strings.HasPrefix(a, "--"):
			file = strings.TrimPrefix(strings.TrimPrefix(a, "-c"), "=")
		}
		if file == "" {
			continue
		}
		if filepath.IsAbs(file) {
			return file, nil
		}
		cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
		if err != nil {
			return "", fmt.Errorf("find the daemon's folder: %w", err)
		}
		return filepath.Join(cwd, file), nil
	}
	return "", errors.New("the daemon's command line names no configuration")
}
