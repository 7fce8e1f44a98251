package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// usoSince is the first kernel whose TUN devices take UDP in large pieces.
const usoMajor, usoMinor = 6, 2

// SocketBuffer is what each of the tunnels' sockets asks for, in bytes.
const SocketBuffer = 8 << 20

// The capabilities that a running daemon needs (capability.h).
const (
	capNetBindService = 10
	capNetAdmin       = 12
	capNetRaw         = 13
)

// checkKernel looks at what the kernel can.
func (d *doctor) checkKernel() {
	if d.h.TUN != "" {
		d.find(TUNMissing, SeverityError, "/dev/net/tun", "modprobe tun; ls -l /dev/net/tun", "%s", d.h.TUN)
	} else {
		d.ok(TUNMissing, "/dev/net/tun", "TUN devices can be made")
	}
	if d.h.UDPSegmentation != "" {
		d.find(SegmentationBroken, SeverityWarning, "UDP_SEGMENT", "apt-get update && apt-get full-upgrade && reboot", "%s", d.h.UDPSegmentation)
	} else {
		d.ok(SegmentationBroken, "UDP_SEGMENT", "three datagrams sent as one arrived whole")
	}
	switch major, minor, err := kernelVersion(d.h.Kernel); {
	case err != nil:
		d.skip("the kernel's version", err.Error(), "uname -r")
	case major < usoMajor || major == usoMajor && minor < usoMinor:
		d.find(KernelOld, SeverityWarning, "linux "+d.h.Kernel, "apt-get install linux-azure && reboot", "linux %s is older than %d.%d", d.h.Kernel, usoMajor, usoMinor)
	default:
		d.ok(KernelOld, "linux "+d.h.Kernel, "it has all that is used")
	}
}

func kernelVersion(release string) (major, minor int, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("%q does not look like one", release)
	}
	return major, minor, nil
}

func (d *doctor) checkClock() {
	switch {
	case d.h.Clock == nil:
	case !d.h.Clock.Synchronised && slices.ContainsFunc(d.n.Tunnels, func(t Tunnel) bool { return t.Certificates }):
		d.find(ClockFree, SeverityWarning, "clock", "timedatectl set-ntp true; timedatectl timesync-status || chronyc tracking", "the kernel says that nothing synchronises the clock, and IPsec's certificates are judged by it")
	case !d.h.Clock.Synchronised:
		d.find(ClockFree, SeverityWarning, "clock", "timedatectl set-ntp true; timedatectl timesync-status || chronyc tracking", "the kernel says that nothing synchronises the clock")
	default:
		d.ok(ClockFree, "clock", "it is synchronised")
	}
}

// checkProcess looks at what the running daemon may.
func (d *doctor) checkProcess() {
	p := d.h.Daemon
	if p == nil {
		return
	}
	subject := fmt.Sprintf("transitd (%d)", p.PID)
	var missing []string
	for _, c := range []struct {
		bit  int
		name string
	}{{capNetAdmin, "CAP_NET_ADMIN"}, {capNetRaw, "CAP_NET_RAW"}, {capNetBindService, "CAP_NET_BIND_SERVICE"}} {
		if p.Capabilities&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		d.find(CapabilitiesMissing, SeverityError, subject, "systemctl edit transitd@"+d.node()+" # [Service] CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE; then restart it",
			"the daemon runs without %s", strings.Join(missing, ", "))
	} else {
		d.ok(CapabilitiesMissing, subject, "it has the three that it needs")
	}
	const most = 80 // per cent
	if p.FileLimit > 0 && p.Files*100 > p.FileLimit*most {
		d.find(FilesFew, SeverityWarning, subject, "systemctl edit transitd@"+d.node()+" # [Service] LimitNOFILE=65536; then restart it",
			"the daemon has %d files and sockets open, %d are allowed", p.Files, p.FileLimit)
	} else {
		d.ok(FilesFew, subject, "%d files and sockets are open, %d are allowed", p.Files, p.FileLimit)
	}
}

// node is the node's name for a command.
func (d *doctor) node() string {
	if d.n.Name == "" {
		return "NODE"
	}
	return d.n.Name
}

// checkSocketBuffers compares the system's limit with what the tunnels ask for.
// CAP_NET_ADMIN goes beyond it (socket(7), SO_RCVBUFFORCE), so it matters only without.
func (d *doctor) checkSocketBuffers() {
	forced := d.h.Daemon == nil || d.h.Daemon.Capabilities&(1<<capNetAdmin) != 0
	for _, key := range []string{"net/core/rmem_max", "net/core/wmem_max"} {
		n, err := strconv.Atoi(d.h.sysctl(key))
		switch {
		case err != nil:
			// Only the first network namespace has it before Linux 6.11 or so.
		case n >= SocketBuffer:
			d.ok(BuffersSmall, sysctlName(key), "%d bytes are allowed, %d asked for", n, SocketBuffer)
		case forced:
			d.ok(BuffersSmall, sysctlName(key), "%d bytes are allowed, %d asked for, which CAP_NET_ADMIN may", n, SocketBuffer)
		default:
			fix := setting(key, strconv.Itoa(SocketBuffer))
			d.find(BuffersSmall, SeverityWarning, sysctlName(key), fix.command(), "%s allows %d bytes, the tunnels ask for %d and have no CAP_NET_ADMIN", sysctlName(key), n, SocketBuffer).with(fix)
		}
	}
}
