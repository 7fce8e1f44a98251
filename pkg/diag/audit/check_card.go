package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// checkCards looks at the node's network card.
func (a *auditor) checkCards() {
	if a.card == nil {
		a.skip("IP forwarding and the security group of the network card", "no network card of this node was given", "az network nic show -g GROUP -n NIC")
		return
	}
	c := a.card
	switch {
	case c.Forwarding == nil:
		a.skip("IP forwarding of "+c.ID.name(), "the network card has no enableIPForwarding", "")
	case !*c.Forwarding:
		a.find(ForwardingOff, or(c.ID.name(), "network card"), "az network nic update "+target(c.ID, "NIC")+" --ip-forwarding true",
			"IP forwarding of the network card %s is off", c.ID.name())
	}
}

// checkGroups asks the security groups whether a tunnel's packets pass.
func (a *auditor) checkGroups() {
	if len(a.az.Groups) == 0 {
		if a.card != nil && a.card.Group != "" {
			a.skip("whether the security group lets the tunnel through", "its rules were not given", "az network nsg show "+target(a.card.Group, "NSG"))
		}
		return
	}
	if len(a.own) == 0 {
		return // told already
	}
	for _, t := range a.in.Tunnels {
		if t.Port == 0 {
			a.skip("whether the security group lets the tunnel "+t.Name+" through", "the daemon does not tell the UDP port", "transitctl audit -c FILE AZURE.json")
			continue
		}
		i := slices.IndexFunc(a.own, func(x netip.Addr) bool { return x.Is4() == t.Remote.Is4() })
		if i < 0 {
			continue
		}
		for _, g := range a.az.Groups {
			a.checkGroup(g, t, a.own[i])
		}
	}
}

func (a *auditor) checkGroup(g SecurityGroup, t IntentTunnel, own netip.Addr) {
	for _, inbound := range []bool{true, false} {
		for _, f := range t.flows(inbound, own) {
			if rule, blocked := g.blocks(inbound, f); blocked {
				a.find(TunnelBlocked, t.Name, allow(g, rule, t.Name, f), "rule %s (priority %d) of the security group %s denies %s", rule.Name, rule.Priority, g.ID.name(), f)
			}
		}
	}
}

// allow is the command that lets a flow pass before a rule. If there is no room
// before the rule, the rule makes room first.
func allow(g SecurityGroup, before SecurityRule, tunnel string, f flow) string {
	where := fmt.Sprintf("-g %s --nsg-name %s", or(g.ID.part("resourceGroups"), "GROUP"), or(g.ID.name(), "NSG"))
	direction, suffix := "Outbound", "out"
	if before.Inbound {
		direction, suffix = "Inbound", "in"
	}
	priority, room := g.free(before.Inbound, min(before.Priority-1, maxPriority), -1)
	move := ""
	if !room {
		priority = before.Priority
		if next, ok := g.free(before.Inbound, before.Priority+1, 1); ok {
			move = fmt.Sprintf("az network nsg rule update %s -n %s --priority %d && ", where, before.Name, next)
		}
	}
	port := strconv.Itoa(int(f.port))
	if f.esp {
		port, suffix = "'*'", suffix+"-esp"
	}
	return move + fmt.Sprintf("az network nsg rule create %s -n transitd-%s-%s --priority %d --direction %s --access Allow --protocol %s "+
		"--source-address-prefixes %s --source-port-ranges '*' --destination-address-prefixes %s --destination-port-ranges %s",
		where, tunnel, suffix, priority, direction, f.protocol(), f.from, f.to, port)
}

// Priorities that Azure takes for rules of one's own.
const (
	minPriority = 100
	maxPriority = 4096
)

// free is the next priority from p on, up or down, that no rule of a direction has.
func (g SecurityGroup) free(inbound bool, p, step int64) (int64, bool) {
	for ; p >= minPriority && p <= maxPriority; p += step {
		if !slices.ContainsFunc(g.Rules, func(r SecurityRule) bool { return r.Inbound == inbound && r.Priority == p }) {
			return p, true
		}
	}
	return 0, false
}
