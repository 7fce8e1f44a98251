package bench

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/version"
)

// Machine is where the numbers come from.
type Machine struct {
	Kernel   string            `json:"kernel"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	MemoryMB uint64            `json:"memory_mb"`
	Go       string            `json:"go"`
	Transitd string            `json:"transitd"`
	Iperf3   string            `json:"iperf3"`
	Peers    map[string]string `json:"peers,omitempty"`
}

// ThisMachine describes where the program runs.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Transitd: version.Get().Version, Iperf3: firstLine("iperf3", "--version")}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		m.MemoryMB = uint64(s.Totalram) * uint64(s.Unit) >> 20
	}
	m.CPU = cpuModel()
	m.Peers = map[string]string{"wireguard-go": wireguardGoVersion}
	if v := firstLine(charon, "--version"); v != "" {
		m.Peers["strongswan"] = v
	}
	return m
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// firstLine is what a program says first, nothing if it is not there.
func firstLine(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
