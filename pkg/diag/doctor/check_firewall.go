package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// bfdPort is where BFD's control packets arrive (RFC 5881, section 4).
const bfdPort = 3784

// trial is a packet that has to get through the firewall.
type trial struct {
	id      ID
	subject string
	what    string // "the tunnel's packets from 10.1.2.4"
	p       packet
	hooks   []string
	accept  string // the match of a rule that lets it through, in nft's words
}

// checkFirewall sends imaginary packets of the tunnels, of BGP and BFD in them,
// and of the traffic through the rules. All are the first of their flow: a rule
// that accepts what is established is of no help when both ends start anew.
func (d *doctor) checkFirewall() {
	if d.h.Firewall == nil {
		return
	}
	list := d.trials()
	if len(list) == 0 { // at least what holds for every node; of this packet nothing is known
		list = []trial{{id: FirewallForward, subject: "forwarded packets", what: "packets that are not of a known flow", p: packet{state: "new"}, hooks: []string{"forward"}}}
		d.skip("the firewall on the tunnels' way", "it is not known which packets have to get through", "transitctl doctor -c /etc/transitd/NODE.yaml")
	}
	for _, t := range list {
		v := d.h.Firewall.judge(t.p, t.hooks...)
		switch {
		case !v.drop, v.accept && t.accept == "":
			d.ok(t.id, t.subject, "%s get through", t.what)
		case !v.accept:
			d.find(t.id, d.h.Firewall.severity(t), t.subject, d.h.Firewall.mend(v.by, t), "%s are dropped by %s", t.what, v.by)
		default:
			d.find(FirewallUnclear, SeverityWarning, t.subject, d.h.Firewall.mend(v.by, t),
				"%s may be dropped by %s: it depends on %s", t.what, v.by, v.unsure)
		}
	}
}

// severity is a warning where answers get through: of BGP one end that may call is enough.
func (r *Ruleset) severity(t trial) Severity {
	answer := t.p
	answer.sport, answer.dport, answer.state = t.p.dport, 0, "established"
	if v := r.judge(answer, t.hooks...); t.id == FirewallBGP && v.accept {
		return SeverityWarning
	}
	return SeverityError
}

// trials are the packets of the node.
func (d *doctor) trials() (list []trial) {
	card := d.n.Interface
	for _, t := range d.n.Tunnels {
		if t.Port != 0 && t.Remote.IsValid() && card != "" {
			in := packet{ipv6: t.Remote.Is6(), in: card, from: t.Remote, to: d.n.Address, proto: "udp", dport: t.Port, state: "new"}
			if t.Raw {
				esp := in
				esp.proto, esp.dport = "esp", 0
				list = append(list, d.outer(t, "the tunnel's packets", esp)...)
				list = append(list, d.outer(t, "the tunnel's IKE messages", in)...)
			} else {
				list = append(list, d.outer(t, "the tunnel's packets", in)...)
			}
		}
		list = append(list, calls(FirewallBGP, t.Name, "BGP's packets", "tunnel "+t.Name, packet{in: t.Name, from: t.Peer, to: t.Address, proto: "tcp", dport: bgpPort, state: "new"})...)
		if t.BFD {
			list = append(list, calls(FirewallBFD, t.Name, "BFD's packets", "tunnel "+t.Name, packet{in: t.Name, from: t.Peer, to: t.Address, proto: "udp", dport: bfdPort, state: "new"})...)
		}
		if card != "" {
			through := []string{"ingress", "prerouting", "forward", "postrouting"}
			list = append(list,
				trial{FirewallForward, t.Name, fmt.Sprintf("packets from %s into tunnel %s", card, t.Name), packet{in: card, out: t.Name, state: "new"}, through, fmt.Sprintf("oifname %q", t.Name)},
				trial{FirewallForward, t.Name, fmt.Sprintf("packets out of tunnel %s to %s", t.Name, card), packet{in: t.Name, out: card, state: "new"}, through, fmt.Sprintf("iifname %q", t.Name)})
		}
	}
	for _, s := range d.n.RouteServers {
		if card != "" {
			list = append(list, calls(FirewallBGP, s.String(), "BGP's packets", "the Route Server's "+s.String(), packet{ipv6: s.Is6(), in: card, from: s, to: d.n.Address, proto: "tcp", dport: bgpPort, state: "new"})...)
		}
	}
	return list
}

// outer are outer packets of a tunnel, in and out.
func (d *doctor) outer(t Tunnel, what string, in packet) []trial {
	list := calls(FirewallTunnel, t.Name, what, t.Remote.String(), in)
	out := &list[1]
	out.p.mark = d.n.Mark
	if in.dport != 0 {
		out.p.dport = t.PeerPort
	}
	out.accept = out.p.words("oifname", in.in, "daddr", t.Remote)
	return list
}

// calls are a packet from a neighbour, and its like from here.
func calls(id ID, subject, what, neighbor string, p packet) []trial {
	back := p
	back.in, back.out, back.from, back.to = "", p.in, p.to, p.from
	return []trial{
		{id, subject, what + " from " + neighbor, p, []string{"ingress", "prerouting", "input"}, p.words("iifname", p.in, "saddr", p.from)},
		{id, subject, what + " to " + neighbor, back, []string{"output", "postrouting"}, p.words("oifname", p.in, "daddr", p.from)},
	}
}

// words write a packet as nft does, with one interface and one address.
func (p packet) words(name, device, side string, a netip.Addr) string {
	words := fmt.Sprintf("%s %q %s %s %s ", name, device, family(a), side, a)
	if p.dport == 0 { // of a protocol without ports
		return words + "meta l4proto " + p.proto
	}
	return words + fmt.Sprintf("%s dport %d", p.proto, p.dport)
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "ip6"
	}
	return "ip"
}

// mend is the command that lets a packet through, in the words of the program that made the rules.
func (r *Ruleset) mend(by string, t trial) string {
	_, name, _ := strings.Cut(by, "chain ")
	name, _, _ = strings.Cut(name, " (")
	f := strings.Fields(name)
	if len(f) != 3 {
		return "nft list ruleset"
	}
	c := r.chain(f[0], f[1], f[2])
	// The rule belongs into the chain of the hook, before what jumps away.
	for _, base := range r.chains {
		if c != nil && c.Hook == "" && base.Family == c.Family && base.Table == c.Table && slices.Contains(t.hooks, base.Hook) && base.Type != "nat" {
			c = base
		}
	}
	switch {
	case c == nil || t.accept == "":
		return "nft list ruleset # which rule should let through what is forwarded?"
	case c.Family == "netdev":
		return fmt.Sprintf("nft -a list chain netdev %s %s # then change the rule", c.Table, c.Name)
	case slices.ContainsFunc(r.chains, func(x *chain) bool { return strings.HasPrefix(x.Name, "ufw-") }):
		return ufw(c, t)
	case c.Name == strings.ToUpper(c.Name):
		return iptables(c, t)
	case strings.HasPrefix(c.Table, "firewalld"):
		return "firewall-cmd --list-all-zones # firewalld makes these rules; let it accept: " + t.accept
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s accept # and in the file that is loaded at boot", c.Family, c.Table, c.Name, t.accept)
}

// iptables says the same for a chain that iptables-nft made.
func iptables(c *chain, t trial) string {
	program := "iptables"
	if c.Family == "ip6" {
		program = "ip6tables"
	}
	return fmt.Sprintf("%s -I %s%s -j ACCEPT # and in the file that is loaded at boot", program, c.Name, words(t.p, " -i ", " -o ", " -s ", " -d ", " -p ", " --dport "))
}

// ufw says the same for Ubuntu's front end.
func ufw(c *chain, t trial) string {
	if c.Hook == "forward" {
		return "ufw route allow" + words(t.p, " in on ", " out on ", " from ", " to ", " proto ", " port ")
	}
	direction, from, to := "in on "+t.p.in, "any", "any"
	if t.p.out != "" {
		direction = "out on " + t.p.out
	}
	if t.p.from.IsValid() {
		from = t.p.from.String()
	}
	if t.p.to.IsValid() {
		to = t.p.to.String()
	}
	allow := fmt.Sprintf("ufw allow %s proto %s from %s to %s", direction, t.p.proto, from, to)
	if t.p.dport == 0 {
		return allow
	}
	return allow + fmt.Sprintf(" port %d", t.p.dport)
}

// words writes what is known of a packet, each behind its flag.
func words(p packet, in, out, from, to, proto, port string) string {
	var b strings.Builder
	add := func(flag string, known bool, value any) {
		if known {
			fmt.Fprint(&b, flag, value)
		}
	}
	add(in, p.in != "", p.in)
	add(out, p.out != "", p.out)
	add(from, p.from.IsValid(), p.from)
	add(to, p.to.IsValid(), p.to)
	add(proto, p.proto != "", p.proto)
	add(port, p.dport != 0, p.dport)
	return b.String()
}

// checkConntrack looks at whether connection tracking sees the outer packets.
func (d *doctor) checkConntrack() {
	r := d.h.Firewall
	if r == nil {
		return
	}
	if !r.tracks() {
		d.ok(ConntrackFull, "connection tracking", "no rule needs it")
		return
	}
	count, limit := d.number("net/netfilter/nf_conntrack_count"), d.number("net/netfilter/nf_conntrack_max")
	const most = 80 // per cent
	if limit > 0 && count*100 >= limit*most {
		d.find(ConntrackFull, SeverityError, "connection tracking", fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 4*limit), "%d of %d connections are tracked", count, limit)
	} else {
		d.ok(ConntrackFull, "connection tracking", "%d of %d connections are tracked", count, limit)
	}
	for _, port := range d.n.UDPPorts() {
		subject := fmt.Sprintf("UDP port %d", port)
		if r.untracked(port) {
			d.ok(ConntrackTunnel, subject, "the outer packets are not tracked")
			continue
		}
		// Not a warning: it costs time, and breaks nothing.
		d.ok(ConntrackTunnel, subject, "the outer packets are tracked, which costs time for each; nft add table inet transitd_notrack; "+
			"nft add chain inet transitd_notrack in '{ type filter hook prerouting priority raw; }'; nft add rule inet transitd_notrack in udp dport %d notrack; and so in output", port)
	}
}

// tracks reports whether any rule makes the kernel track connections.
func (r *Ruleset) tracks() bool {
	for _, c := range r.chains {
		if c.Type == "nat" && len(c.rules) > 0 {
			return true
		}
		for _, x := range c.rules {
			if slices.ContainsFunc(x.Expr, usesTracking) {
				return true
			}
		}
	}
	return false
}

func usesTracking(statement map[string]any) bool {
	for kind, arg := range statement {
		name, _ := field(arg, "name").(string)
		switch {
		case kind == "match" && field(field(arg, "left"), "ct") != nil, kind == "vmap" && field(field(arg, "key"), "ct") != nil,
			kind == "xt" && (name == "conntrack" || name == "state"), kind == "ct helper", kind == "flow":
			return true
		}
	}
	return false
}

// untracked reports whether a rule takes the packets to a port out of connection tracking.
func (r *Ruleset) untracked(port uint16) bool {
	e := &evaluation{r: r, p: packet{proto: "udp", dport: port, hook: "prerouting"}, steps: maxSteps}
	for _, c := range r.chains {
		if c.Hook != "prerouting" {
			continue
		}
		for _, x := range c.rules {
			m := yes
			for _, statement := range x.Expr {
				for kind, arg := range statement {
					name, _ := field(arg, "name").(string)
					if kind == "match" {
						m = and(m, e.match(c, arg))
					} else if m != no && (kind == "notrack" || kind == "xt" && name == "CT") {
						return true
					}
				}
			}
		}
	}
	return false
}
