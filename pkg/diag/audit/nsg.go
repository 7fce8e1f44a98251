package audit

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// SecurityGroup is a network security group: its rules with the default ones, by priority.
type SecurityGroup struct {
	Source string
	ID     resourceID
	Rules  []SecurityRule
}

// SecurityRule is one rule.
type SecurityRule struct {
	Name           string
	Priority       int64
	Inbound, Allow bool
	Protocol       string // "Udp", "Tcp", "*", …
	From, To       []string
	FromPorts      []string
	ToPorts        []string
}

// securityGroup reads `az network nsg show`.
func (r reader) securityGroup(o object) {
	g := SecurityGroup{Source: r.where, ID: resourceID(o.text("id"))}
	for _, e := range append(o.objects("securityRules"), o.objects("defaultSecurityRules")...) {
		priority := e.number("priority")
		if priority == nil || !e.has("access") || !e.has("direction") {
			r.note("%s: rule %q lacks priority, access or direction: left out", r.where, e.text("name"))
			continue
		}
		g.Rules = append(g.Rules, SecurityRule{
			Name: e.text("name"), Priority: *priority,
			Inbound: strings.EqualFold(e.text("direction"), "Inbound"), Allow: strings.EqualFold(e.text("access"), "Allow"),
			Protocol:  e.text("protocol"),
			From:      append(e.texts("sourceAddressPrefix"), e.texts("sourceAddressPrefixes")...),
			To:        append(e.texts("destinationAddressPrefix"), e.texts("destinationAddressPrefixes")...),
			FromPorts: append(e.texts("sourcePortRange"), e.texts("sourcePortRanges")...),
			ToPorts:   append(e.texts("destinationPortRange"), e.texts("destinationPortRanges")...),
		})
	}
	slices.SortStableFunc(g.Rules, func(a, b SecurityRule) int { return cmp.Compare(a.Priority, b.Priority) })
	r.took(KindSecurityGroup, len(g.Rules))
	r.azure.Groups = append(r.azure.Groups, g)
}

// Source ports of outer packets that are spread over several: a stable hash of the inner flow chooses.
const (
	firstSourcePort = 49152
	lastSourcePort  = 65535
)

// flow is what a tunnel sends in one direction.
type flow struct {
	from, to netip.Addr
	port     uint16 // of the destination
	source   uint16 // the one source port; 0 if it is any from firstSourcePort to lastSourcePort
	esp      bool   // it is ESP, and not UDP: without ports
}

func (f flow) String() string {
	if f.esp {
		return fmt.Sprintf("ESP from %s to %s", f.from, f.to)
	}
	return fmt.Sprintf("UDP from %s to %s port %d", f.from, f.to, f.port)
}

// protocol is what a rule of a security group calls it.
func (f flow) protocol() string {
	if f.esp {
		return "Esp"
	}
	return "Udp"
}

// flows are all that a tunnel's packets look like.
func (t IntentTunnel) flows(inbound bool, own netip.Addr) []flow {
	f := t.flow(inbound, own)
	if !t.Raw {
		return []flow{f}
	}
	return []flow{f, {from: f.from, to: f.to, esp: true}}
}

// flow is what a tunnel's packets look like to this node's card.
func (t IntentTunnel) flow(inbound bool, own netip.Addr) flow {
	f := flow{from: own, to: t.Remote, port: t.PeerPort, source: t.Port}
	if inbound {
		f = flow{from: t.Remote, to: own, port: t.Port, source: t.PeerPort}
	}
	if t.Spread {
		f.source = 0
	}
	return f
}

// blocks finds the rule that denies a tunnel's packets in one direction; ok is false if they pass.
func (g SecurityGroup) blocks(inbound bool, f flow) (rule SecurityRule, ok bool) {
	first, last, to, toLast := int(f.source), int(f.source), int(f.port), int(f.port)
	switch {
	case f.esp: // a rule for some ports is for none of it
		first, last, to, toLast = 0, lastSourcePort, 0, lastSourcePort
	case f.source == 0:
		first, last = firstSourcePort, lastSourcePort
	}
	for _, r := range g.Rules {
		if r.Inbound != inbound || r.Protocol != "*" && !strings.EqualFold(r.Protocol, f.protocol()) ||
			!anyAddress(r.From, f.from) || !anyAddress(r.To, f.to) || !anyPort(r.ToPorts, to, toLast, false) {
			continue
		}
		// All source ports have to be allowed; one that is denied is a flow that dies.
		if !anyPort(r.FromPorts, first, last, !r.Allow && !f.esp) {
			continue
		}
		return r, !r.Allow
	}
	return SecurityRule{}, false
}

// anyAddress reports whether a list of prefixes, addresses and service tags has an address.
// Of the tags only those that can mean another NVA count: VirtualNetwork has the peered VNets in it.
func anyAddress(list []string, a netip.Addr) bool {
	for _, s := range list {
		if s == "*" || strings.EqualFold(s, "Any") || strings.EqualFold(s, "VirtualNetwork") && a.IsPrivate() || strings.EqualFold(s, "Internet") && !a.IsPrivate() {
			return true
		}
		if p, err := netip.ParsePrefix(s); err == nil && p.Contains(a) {
			return true
		}
		if b, err := netip.ParseAddr(s); err == nil && b == a {
			return true
		}
	}
	return false
}

// anyPort reports whether one range of a list covers first to last; with touch, whether one has any port of it.
func anyPort(list []string, first, last int, touch bool) bool {
	for _, s := range list {
		if s == "*" {
			return true
		}
		low, high, isRange := strings.Cut(s, "-")
		if !isRange {
			high = low
		}
		lo, err1 := strconv.Atoi(strings.TrimSpace(low))
		hi, err2 := strconv.Atoi(strings.TrimSpace(high))
		switch {
		case err1 != nil || err2 != nil:
		case touch && lo <= last && hi >= first, lo <= first && hi >= last:
			return true
		}
	}
	return false
}
