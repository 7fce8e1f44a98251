package audit

import (
	"fmt"
	"net/netip"
	"slices"
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
			a.skip("whether the security group lets the tunnel "+t.Name+" through", "the daemon does not tell the UDP port", "transitctl audit -c FILE")
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
		direction, from, to := "Inbound", t.Remote, own
		if !inbound {
			direction, from, to = "Outbound", own, t.Remote
		}
		rule, blocked := g.blocks(inbound, from, to, t.Port)
		if !blocked {
			continue
		}
		mend := fmt.Sprintf("az network nsg rule create -g %s --nsg-name %s -n transitd-%s-%s --priority %d --direction %s --access Allow --protocol Udp "+
			"--source-address-prefixes %s --source-port-ranges '*' --destination-address-prefixes %s --destination-port-ranges %d",
			or(g.ID.part("resourceGroups"), "GROUP"), or(g.ID.name(), "NSG"), t.Name, map[bool]string{true: "in", false: "out"}[inbound],
			freePriority(g, inbound, rule.Priority), direction, from, to, t.Port)
		a.find(TunnelBlocked, t.Name, mend, "rule %s (priority %d) of the security group %s denies UDP from %s to %s port %d",
			rule.Name, rule.Priority, g.ID.name(), from, to, t.Port)
	}
}

// freePriority is a priority before a rule that no rule of the direction has; Azure takes 100 to 4096.
func freePriority(g SecurityGroup, inbound bool, before int64) int64 {
	p := min(before-1, 4096)
	for p > 100 && slices.ContainsFunc(g.Rules, func(r SecurityRule) bool { return r.Inbound == inbound && r.Priority == p }) {
		p--
	}
	return p
}
