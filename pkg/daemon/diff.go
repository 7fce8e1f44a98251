package daemon

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/pkg/control"
)

// Difference is what a reload has to do.
type Difference struct {
	// Refused are changes that a running daemon cannot make.
	Refused []control.ConfigError
	// Lines say for a person what changes, in the order in which it is done.
	Lines []string
	// Remove and Add are names of tunnels; one that changes is in both.
	Remove, Add []string
	// Rekey are tunnels whose running device can take the change: WireGuard's with
	// other keys, IPsec's with anything but other ends (rekeyed).
	Rekey    []string
	BGP, FIB bool
	LogLevel bool
}

// Empty reports whether there is nothing to do.
func (d *Difference) Empty() bool { return len(d.Lines) == 0 && len(d.Refused) == 0 }

func (d *Difference) line(format string, args ...any) {
	d.Lines = append(d.Lines, fmt.Sprintf(format, args...))
}

// compare finds what changes from one plan to the next.
func compare(file string, from, to *Plan) *Difference {
	d := &Difference{}
	d.fixed(file, from, to)
	d.tunnels(from, to)
	d.bgp(&from.BGP, &to.BGP)
	if from.Node.Site != to.Node.Site {
		d.line("node.site: %s becomes %s; all routes are judged and told anew", from.Node.Site, to.Node.Site)
	}
	if !reflect.DeepEqual(from.FIB, to.FIB) || !reflect.DeepEqual(from.Sysctls, to.Sysctls) {
		d.FIB = true
		if len(d.Lines) == 0 {
			d.line("rules and pinned routes change")
		}
	}
	if !reflect.DeepEqual(from.Probes, to.Probes) {
		d.BGP = true
		d.line("probes of originated prefixes change; they begin anew")
	}
	if from.Observe != to.Observe {
		d.line("observe.listen: %s becomes %s", place(from.Observe), place(to.Observe))
	}
	if from.Log.Level != to.Log.Level {
		d.LogLevel = true
		d.line("log.level: %s becomes %s", from.Log.Level, to.Log.Level)
	}
	return d
}

// place names where something listens.
func place(a netip.AddrPort) string {
	if !a.IsValid() {
		return "nowhere"
	}
	return a.String()
}

// fixed refuses what would be another daemon: its name, where it listens, the
// card that everything stands on, and the numbers that mark what is ours.
func (d *Difference) fixed(file string, from, to *Plan) {
	for _, f := range []struct {
		path     string
		from, to any
	}{
		{"node.name", from.Node.Name, to.Node.Name},
		{"control.socket", from.Socket, to.Socket},
		{"underlay.interface", from.Underlay.Interface, to.Underlay.Interface},
		{"underlay.address", from.Underlay.Address, to.Underlay.Address},
		{"underlay.gateway", from.Underlay.Gateway, to.Underlay.Gateway},
		{"underlay (IPv6 address)", from.Underlay.Address6, to.Underlay.Address6},
		{"routing.table_underlay", from.FIB.Tables.Underlay, to.FIB.Tables.Underlay},
		{"routing.table_site", from.FIB.Tables.Site, to.FIB.Tables.Site},
		{"routing.table_remote", from.FIB.Tables.Remote, to.FIB.Tables.Remote},
		{"routing.mark", from.FIB.Mark, to.FIB.Mark},
		{"routing.protocol", from.FIB.Protocol, to.FIB.Protocol},
		{"routing.rule_priority", from.FIB.RulePriority, to.FIB.RulePriority},
		{"routing.table_relay", from.FIB.Tables.Relay, to.FIB.Tables.Relay},
		{"ha.probe_listen", from.HealthListen, to.HealthListen},
		{"log.format", from.Log.Format, to.Log.Format},
	} {
		if f.from != f.to {
			d.Refused = append(d.Refused, control.ConfigError{
				File: file, Path: f.path, Message: fmt.Sprintf("cannot change from %v to %v while running", f.from, f.to), Hint: "restart transitd",
			})
		}
	}
}

func (d *Difference) tunnels(from, to *Plan) {
	for _, old := range from.Tunnels {
		i := slices.IndexFunc(to.Tunnels, func(t TunnelPlan) bool { return t.Name == old.Name })
		switch {
		case i < 0:
			d.Remove = append(d.Remove, old.Name)
			d.line("tunnel %s: removed", old.Name)
		case !equal(old.device(), to.Tunnels[i].device()) && old.rekeyed(to.Tunnels[i]):
			d.Rekey = append(d.Rekey, old.Name)
			if old.IPsec != nil {
				d.line("tunnel %s: %s", old.Name, ipsecChange(old.IPsec, to.Tunnels[i].IPsec))
				break
			}
			d.line("tunnel %s: its keys change; sessions of keys that stay go on", old.Name)
		case !equal(old.device(), to.Tunnels[i].device()):
			d.Remove, d.Add = append(d.Remove, old.Name), append(d.Add, old.Name)
			d.line("tunnel %s: changed; its device and its BGP session are made anew", old.Name)
		case !reflect.DeepEqual(old.BFD, to.Tunnels[i].BFD):
			d.line("tunnel %s: BFD changes; its session begins anew", old.Name)
		}
	}
	for _, t := range to.Tunnels {
		if !slices.ContainsFunc(from.Tunnels, func(o TunnelPlan) bool { return o.Name == t.Name }) {
			d.Add = append(d.Add, t.Name)
			d.line("tunnel %s: added", t.Name)
		}
	}
}

func equal(a, b TunnelPlan) bool { return reflect.DeepEqual(a, b) }

// device is what the device is made of.
func (t TunnelPlan) device() TunnelPlan {
	t.BFD, t.Sibling = nil, false
	return t
}

// rekeyed reports whether all that differs between two plans of a tunnel is what
// its running device can take: WireGuard's keys, or whatever IPsec's ends agree on,
// which is all but addresses and ports.
func (t TunnelPlan) rekeyed(to TunnelPlan) bool {
	if t.IPsec != nil && to.IPsec != nil && t.IPsec.Local == to.IPsec.Local && t.IPsec.Remote == to.IPsec.Remote {
		to.IPsec = t.IPsec
		return equal(t.device(), to.device())
	}
	if t.WireGuard == nil || to.WireGuard == nil {
		return false
	}
	same := *to.WireGuard
	same.PrivateKey, same.NextPrivateKey, same.PresharedKey = t.WireGuard.PrivateKey, t.WireGuard.NextPrivateKey, t.WireGuard.PresharedKey
	same.PeerPublicKey, same.NextPeerPublicKey = t.WireGuard.PeerPublicKey, t.WireGuard.NextPeerPublicKey
	same.PersistentKeepalive = t.WireGuard.PersistentKeepalive
	to.WireGuard = &same
	return equal(t.device(), to.device())
}

func (d *Difference) bgp(from, to *bgp.Config) {
	d.BGP = !reflect.DeepEqual(*from, *to)
	if !d.BGP {
		return
	}
	if from.ASN != to.ASN {
		d.line("node.asn: %d becomes %d; all BGP sessions start anew", from.ASN, to.ASN)
	}
	for _, n := range from.Neighbors {
		i := slices.IndexFunc(to.Neighbors, func(o bgp.Neighbor) bool { return o.Name == n.Name })
		if i < 0 {
			d.line("bgp neighbour %s: removed", n.Name)
		} else if !reflect.DeepEqual(n, to.Neighbors[i]) {
			d.line("bgp neighbour %s: changed", n.Name)
		}
	}
	for _, n := range to.Neighbors {
		if !slices.ContainsFunc(from.Neighbors, func(o bgp.Neighbor) bool { return o.Name == n.Name }) {
			d.line("bgp neighbour %s: added", n.Name)
		}
	}
	d.originations(from, to)
	if from.Priority != to.Priority {
		d.line("node.priority: %d becomes %d; all routes are told anew", from.Priority, to.Priority)
	}
	if !reflect.DeepEqual(from.VNet, to.VNet) || !reflect.DeepEqual(from.AllowHostRoutes, to.AllowHostRoutes) || !reflect.DeepEqual(from.Supernets, to.Supernets) {
		d.line("policy: changed; all routes are judged anew")
	}
}

func (d *Difference) originations(from, to *bgp.Config) {
	missing := func(list []bgp.Origination, o bgp.Origination) bool {
		return !slices.ContainsFunc(list, func(p bgp.Origination) bool { return reflect.DeepEqual(o, p) })
	}
	for _, o := range from.Originate {
		if missing(to.Originate, o) {
			d.line("originate: %s to %v removed", o.Prefix, o.To)
		}
	}
	for _, o := range to.Originate {
		if missing(from.Originate, o) {
			d.line("originate: %s to %v added", o.Prefix, o.To)
		}
	}
}
