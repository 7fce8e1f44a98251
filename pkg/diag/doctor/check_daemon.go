package doctor

import (
	"strings"

	"github.com/transitd/transitd/pkg/control"
)

// cause is what a reason for dropping packets says about the network.
type cause struct {
	id   ID
	what string
	mend string
}

// causes are the reasons that have their cause outside of this daemon; the names are the API's.
func causes() map[string]cause {
	return map[string]cause{
		"wrong_vni":            {DropsVNI, "carry another VNI", "grep vni: /etc/transitd/*.yaml # at both ends: they have to be the same"},
		"auth_failed":          {DropsKey, "are encrypted with another key, or altered", "transitctl keygen --public KEYFILE # at both ends: each one's is the other's peer_public_key"},
		"selector":             {DropsSelector, "are outside of the addresses that IPsec's ends agreed on", "transitctl tunnel # which selectors? Widen local_ts and remote_ts at both ends, or narrow the routes"},
		"wrong_source":         {DropsSource, "come from an address that is no tunnel's peer", "tcpdump -c 10 -ni CARD udp port PORT # which address is it? Not a peer's: its packets are translated, or it is none"},
		"bad_header":           {DropsForeign, "are not of this encapsulation", "tcpdump -c 10 -vni CARD udp port PORT # what does the peer send?"},
		"bad_ethertype":        {DropsForeign, "carry neither IP nor ARP", "tcpdump -c 10 -vni CARD udp port PORT # what does the peer send?"},
		"vlan_tagged":          {DropsForeign, "carry a VLAN tag", "send untagged frames at the other end"},
		"truncated":            {DropsMTU, "are larger than the tunnel's MTU", "grep mtu: /etc/transitd/*.yaml # at both ends: they have to be the same"},
		"udp_send":             {DropsMTU, "could not be sent: too large for the card's MTU, no route, or a firewall", "transitctl routes; ip -s link show CARD"},
		"receive_queue_full":   {DropsOverload, "came faster than they were taken", "top -H -p $(pidof transitd) # all processors busy: a larger machine"},
		"tun_queue_full":       {DropsOverload, "came faster than they were taken", "top -H -p $(pidof transitd) # all processors busy: a larger machine"},
		"handshake_queue_full": {DropsOverload, "are handshakes that came faster than they were taken", "tcpdump -c 10 -ni CARD udp port PORT # who sends them?"},
	}
}

// checkDrops names the causes of what the daemon drops. A count that stands
// while its tunnel works is history.
func (d *doctor) checkDrops() {
	if !d.n.running() {
		return
	}
	for _, t := range d.n.Status.Tunnels {
		broken := t.State != control.TunnelUp || t.BFD != nil && t.BFD.State != "up"
		for reason, n := range t.Drops {
			c, known := causes()[reason]
			if !known || n == 0 {
				continue
			}
			before := d.before(t.Name, reason)
			rises := d.n.Before != nil && n > before
			mend := strings.ReplaceAll(c.mend, "CARD", d.card())
			if t.IPsec != nil && c.id == DropsKey {
				mend = "transitctl tunnel " + t.Name + " # at both ends: the same SPIs?"
			}
			switch {
			case broken:
				d.find(c.id, SeverityError, t.Name, mend, "%d packets for %s %s, and the tunnel does not work", n, t.Name, c.what)
			case rises:
				d.find(c.id, SeverityWarning, t.Name, mend, "packets for %s %s: %d since the daemon's start, %d in the last moment", t.Name, c.what, n, n-before)
			default:
				d.ok(c.id, t.Name, "%d packets for %s: not any more (they %s)", n, t.Name, c.what)
			}
		}
		if x := t.IPsec; x != nil && x.Why != "" {
			d.find(DropsKey, SeverityError, t.Name, d.advice(x.Why, "transitctl tunnel # at both ends: proposals, identities and selectors have to fit"), "%s is not up: %s", t.Name, x.Why)
		}
		if w := t.WireGuard; w != nil && w.Why != "" {
			d.find(DropsKey, SeverityError, t.Name, "transitctl keygen --public KEYFILE # at both ends: each one's is the other's peer_public_key", "%s is not up: %s", t.Name, w.Why)
		}
	}
}

// advice is the command that the daemon names for a warning with a text, or another.
func (d *doctor) advice(text, or string) string {
	for _, a := range d.n.Status.Advice {
		if strings.Contains(a.Warning, text) {
			return a.Run
		}
	}
	return or
}

// before is what a reason had counted a moment earlier.
func (d *doctor) before(tunnel, reason string) uint64 {
	if d.n.Before == nil {
		return 0
	}
	for _, t := range d.n.Before.Tunnels {
		if t.Name == tunnel {
			return t.Drops[reason]
		}
	}
	return 0
}

// card is the card's name for a command.
func (d *doctor) card() string {
	if d.n.Interface == "" {
		return "CARD"
	}
	return d.n.Interface
}

// repairs is how the daemon's warning about foreign changes of routes begins; RoutesDeleted has it.
const repairs = "another program changes our routes or rules"

// checkWarnings passes on what the daemon says of itself, so that nobody has to run two commands.
func (d *doctor) checkWarnings() {
	if !d.n.running() {
		return
	}
	name, severity := d.n.Status.Node.Name, SeverityWarning
	if d.n.Status.Health == control.HealthDown {
		severity = SeverityError
	}
	for _, w := range d.n.Status.Warnings {
		if strings.HasPrefix(w, repairs) {
			continue
		}
		mend := "transitctl status"
		for _, a := range d.n.Status.Advice {
			if a.Warning == w && !strings.HasPrefix(a.Run, "transitctl doctor") {
				mend = a.Run
			}
		}
		d.find(DaemonWarning, severity, name, mend, "%s", w)
	}
	if len(d.n.Status.Warnings) == 0 {
		d.ok(DaemonWarning, name, "the daemon has no warnings")
	}
}
