package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// tri is yes, no, or not known.
type tri int

const (
	no tri = iota
	maybe
	yes
)

func and(x, y tri) tri { return min(x, y) }
func or(x, y tri) tri  { return max(x, y) }
func not(x tri) tri    { return yes - x }

func truth(b bool) tri {
	if b {
		return yes
	}
	return no
}

// packet is what is known about a packet; zero values are not known.
type packet struct {
	ipv6         bool
	in, out      string // interfaces
	from, to     netip.Addr
	proto        string // "udp", "tcp" or "esp"
	sport, dport uint16
	mark         uint32
	state        string // of connection tracking
	hook         string
}

// at is the packet when it comes to a hook: what leaves has not come in, and the other way round.
func (p packet) at(hook string) packet {
	p.hook = hook
	return p
}

// passes reports whether a base chain sees the packet.
func (p packet) passes(c *chain) bool {
	switch c.Family {
	case "ip":
		return !p.ipv6
	case "ip6":
		return p.ipv6
	case "inet":
		return true
	case "netdev":
		list, _ := c.Dev.([]any)
		return c.Dev == nil || c.Dev == any(p.in) || slices.Contains(list, any(p.in))
	}
	return false
}

// protocols has the numbers of what rules name.
func protocols() map[string]float64 {
	return map[string]float64{"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132, "udplite": 136}
}

// match evaluates {"op": …, "left": …, "right": …}.
func (e *evaluation) match(c *chain, arg any) tri {
	op, _ := field(arg, "op").(string)
	return e.compare(c, field(arg, "left"), op, field(arg, "right"))
}

// compare holds what the packet has against what a rule wants.
func (e *evaluation) compare(c *chain, left any, op string, right any) tri {
	if parts, ok := field(left, "concat").([]any); ok {
		return e.compareAll(c, parts, op, right)
	}
	have, t := e.p.value(left)
	if t != yes {
		return t
	}
	switch op {
	case "==", "in", "":
		return e.equal(c, have, right)
	case "!=":
		return not(e.equal(c, have, right))
	}
	x, okX := have.(float64)
	y, okY := right.(float64)
	switch {
	case !okX || !okY:
		return maybe
	case op == "<":
		return truth(x < y)
	case op == ">":
		return truth(x > y)
	case op == "<=":
		return truth(x <= y)
	case op == ">=":
		return truth(x >= y)
	}
	return maybe
}

// compareAll holds several fields against tuples.
func (e *evaluation) compareAll(c *chain, left []any, op string, right any) tri {
	if op != "==" && op != "in" && op != "" {
		return maybe
	}
	if list, ok := e.elements(c, right); ok {
		m := no
		for _, el := range list {
			m = or(m, e.compareAll(c, left, op, el))
		}
		return m
	}
	values, ok := field(right, "concat").([]any)
	if !ok || len(values) != len(left) {
		return maybe
	}
	m := yes
	for i := range left {
		m = and(m, e.compare(c, left[i], op, values[i]))
	}
	return m
}

// elements lists a set, named or not.
func (e *evaluation) elements(c *chain, v any) ([]any, bool) {
	if name, ok := v.(string); ok && strings.HasPrefix(name, "@") {
		list, known := e.r.sets[setKey{c.Family, c.Table, name[1:]}]
		return list, known
	}
	if list, ok := field(v, "set").([]any); ok {
		return list, true
	}
	if list, ok := field(v, "|").([]any); ok { // of flags
		return list, true
	}
	list, ok := v.([]any)
	return list, ok
}

// equal reports whether a value is, or is in, what a rule has.
func (e *evaluation) equal(c *chain, have, want any) tri {
	if list, ok := e.elements(c, want); ok {
		m := no
		for _, el := range list {
			m = or(m, e.equal(c, have, el))
		}
		return m
	}
	switch w := want.(type) {
	case float64:
		if name, ok := have.(string); ok {
			return truth(protocols()[name] == w)
		}
		return truth(have == any(w))
	case string:
		return equalText(have, w)
	case map[string]any:
		if el, ok := w["elem"]; ok {
			return e.equal(c, have, field(el, "val"))
		}
		if p, ok := w["prefix"]; ok {
			return inPrefix(have, p)
		}
		if r, ok := w["range"].([]any); ok && len(r) == 2 {
			return inRange(have, r[0], r[1])
		}
	}
	return maybe
}

// equalText compares names, with the star of interfaces, and addresses.
func equalText(have any, want string) tri {
	switch h := have.(type) {
	case string:
		if prefix, star := strings.CutSuffix(want, "*"); star {
			return truth(strings.HasPrefix(h, prefix))
		}
		return truth(h == want)
	case netip.Addr:
		a, err := netip.ParseAddr(want)
		if err != nil {
			return maybe
		}
		return truth(a == h)
	}
	return maybe // a name of a service or a mark
}

func inPrefix(have, prefix any) tri {
	a, ok := have.(netip.Addr)
	addr, okAddr := field(prefix, "addr").(string)
	bits, okBits := field(prefix, "len").(float64)
	if !ok || !okAddr || !okBits {
		return maybe
	}
	base, err := netip.ParseAddr(addr)
	if err != nil {
		return maybe
	}
	p, err := base.Prefix(int(bits))
	if err != nil {
		return maybe
	}
	return truth(p.Contains(a))
}

func inRange(have, low, high any) tri {
	switch h := have.(type) {
	case float64:
		l, okL := low.(float64)
		u, okU := high.(float64)
		if okL && okU {
			return truth(l <= h && h <= u)
		}
	case netip.Addr:
		lowText, _ := low.(string)
		highText, _ := high.(string)
		l, errL := netip.ParseAddr(lowText)
		u, errU := netip.ParseAddr(highText)
		if errL == nil && errU == nil {
			return truth(l.Compare(h) <= 0 && h.Compare(u) <= 0)
		}
	}
	return maybe
}

// value is a field of the packet. The answer is no if it has no such field, so
// that the rule does not match whatever it compares with.
func (p packet) value(left any) (any, tri) {
	if m := field(left, "meta"); m != nil {
		key, _ := field(m, "key").(string)
		return p.meta(key)
	}
	if ct := field(left, "ct"); ct != nil {
		if field(ct, "key") == any("state") && p.state != "" {
			return p.state, yes
		}
		return nil, maybe
	}
	if load := field(left, "payload"); load != nil {
		protocol, _ := field(load, "protocol").(string)
		name, _ := field(load, "field").(string)
		return p.payload(protocol, name)
	}
	return nil, maybe
}

func (p packet) meta(key string) (any, tri) {
	switch key {
	case "iif", "iifname":
		if p.hook == "output" || p.hook == "postrouting" && p.in == "" {
			return "", yes
		}
		return p.in, known(p.in != "")
	case "oif", "oifname":
		if slices.Contains([]string{"ingress", "prerouting", "input"}, p.hook) {
			return "", yes
		}
		return p.out, known(p.out != "")
	case "l4proto":
		return p.proto, known(p.proto != "")
	case "nfproto":
		return map[bool]string{false: "ipv4", true: "ipv6"}[p.ipv6], yes
	case "protocol":
		return map[bool]string{false: "ip", true: "ip6"}[p.ipv6], yes
	case "mark":
		return float64(p.mark), known(p.mark != 0)
	case "pkttype":
		return "host", yes
	}
	return nil, maybe
}

func (p packet) payload(protocol, name string) (any, tri) {
	switch protocol {
	case "ip", "ip6":
		if p.ipv6 != (protocol == "ip6") {
			return nil, no
		}
		switch name {
		case "saddr":
			return p.from, known(p.from.IsValid())
		case "daddr":
			return p.to, known(p.to.IsValid())
		case "protocol", "nexthdr":
			return p.proto, known(p.proto != "")
		}
	case "udp", "tcp", "th":
		if p.proto == "" {
			return nil, maybe
		}
		if protocol != "th" && protocol != p.proto {
			return nil, no
		}
		switch name {
		case "sport":
			return float64(p.sport), known(p.sport != 0)
		case "dport":
			return float64(p.dport), known(p.dport != 0)
		}
	case "icmp", "icmpv6", "sctp", "dccp", "esp", "ah", "udplite", "igmp", "gre":
		if p.proto != "" && p.proto != protocol {
			return nil, no
		}
	}
	return nil, maybe
}

// known is yes, or else maybe.
func known(is bool) tri {
	if is {
		return yes
	}
	return maybe
}
