package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// checkLeftovers looks for routes and rules of a daemon that is dead, or of a
// running one in tables that it should not have.
func (d *doctor) checkLeftovers() {
	if d.h.Routes == nil || d.h.Rules == nil {
		return
	}
	protocol := d.n.Protocol
	if protocol == 0 {
		protocol = defaultProtocol
	}
	if d.h.owned(protocol) {
		d.checkTables(protocol)
		return
	}
	if d.n.running() {
		return // it runs in another network namespace, or with a number that is not known
	}
	routes, tables := 0, []string{}
	for _, r := range d.h.Routes {
		if r.Protocol == protocol {
			routes += r.Count
			if t := fmt.Sprint(r.Table); !slices.Contains(tables, t) {
				tables = append(tables, t)
			}
		}
	}
	var del []string
	for _, r := range d.h.Rules {
		if r.Protocol == protocol {
			del = append(del, ruleDelete(r))
		}
	}
	if routes+len(del) == 0 {
		d.ok(Leftover, fmt.Sprintf("protocol %d", protocol), "no daemon runs, and it left nothing")
		return
	}
	mend := strings.Join(append(del, fmt.Sprintf("ip route flush table all proto %d; ip -6 route flush table all proto %d", protocol, protocol)), "; ") +
		" # or start the daemon, which adopts them: systemctl start transitd@" + d.node()
	d.find(Leftover, SeverityWarning, fmt.Sprintf("protocol %d", protocol), mend,
		"no daemon runs, and there are %d routes (%s) and %d rules with its protocol number %d", routes, tableList(tables), len(del), protocol)
}

func tableList(tables []string) string {
	if len(tables) == 0 {
		return "no tables"
	}
	return "table " + strings.Join(tables, ", ")
}

// ruleDelete removes one rule.
func ruleDelete(r Rule) string {
	family := ""
	if r.IPv6 {
		family = "-6 "
	}
	return fmt.Sprintf("ip %srule del pref %d", family, r.Priority)
}

// checkTables looks at the kernel's tables while the daemon that owns a protocol number runs.
func (d *doctor) checkTables(protocol int) {
	if len(d.n.Tables) == 0 {
		return
	}
	wrong := 0
	for _, r := range d.h.Routes {
		switch ours := slices.Contains(d.n.Tables, r.Table); {
		case ours && r.Protocol != protocol:
			wrong++
			d.find(TableShared, SeverityWarning, fmt.Sprintf("table %d", r.Table), fmt.Sprintf("ip route show table %d # find out whose they are, and give that program another table", r.Table),
				"%d routes of protocol %d stand in table %d, as %s", r.Count, r.Protocol, r.Table, r.Example)
		case !ours && r.Protocol == protocol && d.n.Basis == BasisConfiguration:
			wrong++
			d.find(TableUnknown, SeverityWarning, fmt.Sprintf("table %d", r.Table), fmt.Sprintf("ip route flush table %d protocol %d; ip -6 route flush table %d protocol %d", r.Table, protocol, r.Table, protocol),
				"%d routes with our protocol number %d stand in table %d, which the configuration does not name, as %s", r.Count, protocol, r.Table, r.Example)
		}
	}
	if wrong == 0 {
		d.ok(TableShared, "tables", "nobody else writes to ours")
	}
}

// checkForeignRoutes tells that another program deletes or changes what the daemon put into the kernel.
func (d *doctor) checkForeignRoutes() {
	if !d.n.running() {
		return
	}
	n := d.n.Status.Routes.Repaired
	if n == 0 {
		d.ok(RoutesDeleted, "routes", "nobody has touched ours")
		return
	}
	what := fmt.Sprintf("another program has removed or changed our routes or rules: %d put right since the daemon's start", n)
	for _, w := range d.n.Status.Warnings {
		if strings.HasPrefix(w, repairs) {
			what = w // names the last ones
		}
	}
	if w := d.h.Networkd; w != nil && w.Used && len(w.Deletes) > 0 {
		what += "; systemd-networkd does so whenever it restarts"
	}
	severity := SeverityWarning
	if d.n.Before != nil && n > d.n.Before.Routes.Repaired {
		severity, what = SeverityError, what+"; it goes on just now"
	}
	d.find(RoutesDeleted, severity, "routes", "journalctl -u transitd@"+d.node()+" | grep repaired # when? Then, to see the next time: ip -t monitor route rule", "%s", what)
}
