package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Files that a Fix writes, from the root of the file system.
const (
	SysctlFile   = "/etc/sysctl.d/90-transitd.conf"
	NetworkdFile = "/etc/systemd/networkd.conf.d/10-transitd.conf"
)

// Fix is a change of the machine that harms nobody: a kernel setting, now and
// for the next boot, or the file that tells systemd-networkd to leave our routes alone.
type Fix struct {
	// Key and Value are a kernel setting; empty for the file of systemd-networkd.
	Key, Value string
	// Volatile says that the setting goes with its interface and is not for the next boot.
	Volatile bool
}

// setting is the fix of a kernel setting.
func setting(key, value string) Fix { return Fix{Key: key, Value: value} }

// command is the same for a shell. Dots are written as slashes where an interface's name has dots (sysctl(8)).
func (f Fix) command() string { return fmt.Sprintf("sysctl -w %s=%s", sysctlName(f.Key), f.Value) }

func sysctlName(key string) string {
	if strings.Contains(key, ".") {
		return key
	}
	return strings.ReplaceAll(key, "/", ".")
}

const sysctlHead = "# Written by \"transitctl doctor --fix\": what a node that forwards needs from the first second on.\n"

// SysctlText returns what belongs into SysctlFile: the settings it has already, and the new ones.
func SysctlText(have string, fixes []Fix) string {
	settings := map[string]string{}
	for line := range strings.Lines(have) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(key, "#") && !strings.HasPrefix(key, ";") {
			settings[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	for _, f := range fixes {
		if f.Key != "" && !f.Volatile {
			settings[f.Key] = f.Value // with slashes, which is good for all names
		}
	}
	if len(settings) == 0 {
		return ""
	}
	keys := make([]string, 0, len(settings))
	for k := range settings {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteString(sysctlHead)
	for _, k := range keys {
		fmt.Fprintf(&b, "%s = %s\n", k, settings[k])
	}
	return b.String()
}

// NetworkdText is what belongs into NetworkdFile; packaging/networkd.conf.d has the same.
func NetworkdText() string {
	var b strings.Builder
	b.WriteString("# Written by \"transitctl doctor --fix\": systemd-networkd leaves alone what it did not make.\n[Network]\n")
	for _, key := range foreignKeys() {
		b.WriteString(key + "=no\n")
	}
	return b.String()
}
