package doctor

import (
	"slices"
	"strings"
)

// ConfigFile is one file of systemd-networkd's configuration.
type ConfigFile struct {
	Path string
	Text string
}

// Networkd is what systemd-networkd would do with what it did not make.
type Networkd struct {
	Used bool // it runs, or is started at boot
	// Deletes are the settings that are not "no", with the file that says so; empty where it is the default.
	Deletes map[string]string
}

// foreignKeys are the settings by which it deletes routes, rules and next hops
// of others whenever it restarts (systemd 246, 249, 256). All are "yes" by default.
func foreignKeys() []string {
	return []string{"ManageForeignRoutes", "ManageForeignRoutingPolicyRules", "ManageForeignNextHops"}
}

// ReadNetworkd reads the configuration files, in the order in which the later one wins (networkd.conf(5)).
func ReadNetworkd(used bool, files []ConfigFile) Networkd {
	n := Networkd{Used: used, Deletes: map[string]string{}}
	for _, key := range foreignKeys() {
		n.Deletes[key] = ""
	}
	for _, f := range files {
		section := ""
		for line := range strings.Lines(f.Text) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "[") {
				section = line
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			key, value = strings.TrimSpace(key), strings.ToLower(strings.TrimSpace(value))
			if !ok || section != "[Network]" || !slices.Contains(foreignKeys(), key) {
				continue
			}
			switch {
			case slices.Contains([]string{"no", "n", "false", "f", "off", "0"}, value):
				delete(n.Deletes, key)
			case slices.Contains([]string{"yes", "y", "true", "t", "on", "1"}, value):
				n.Deletes[key] = f.Path
			}
		}
	}
	return n
}

// checkNetworkd checks that a restart of systemd-networkd leaves our routes and rules alone.
func (d *doctor) checkNetworkd() {
	n := d.h.Networkd
	switch {
	case n == nil:
	case !n.Used:
		d.ok(NetworkdDeletes, "systemd-networkd", "it is not used")
	case len(n.Deletes) == 0:
		d.ok(NetworkdDeletes, "systemd-networkd", "it leaves alone what it did not make")
	default:
		mend := "transitctl doctor --fix && systemctl restart systemd-networkd"
		var list []string
		fixable := true
		for _, key := range foreignKeys() {
			file, deletes := n.Deletes[key]
			switch {
			case !deletes:
			case file == "" || file < NetworkdFile:
				list = append(list, key+" is on by default")
			default:
				list = append(list, key+" is on in "+file)
				// A drop-in of ours would come before that one and lose; it is somebody's decision.
				fixable, mend = false, "sed -i s/^ManageForeign.*=.*// "+file+" && transitctl doctor --fix && systemctl restart systemd-networkd"
			}
		}
		f := d.find(NetworkdDeletes, SeverityWarning, "systemd-networkd", mend, "systemd-networkd is used, and %s", strings.Join(list, ", "))
		if fixable {
			f.with(Fix{})
		}
	}
}
