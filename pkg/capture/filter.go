package capture

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// node is a part of a filter: it jumps to one of two labels.
type node interface {
	emit(g *program, yes, no label)
}

type (
	both    struct{ a, b node } // a and b
	either  struct{ a, b node } // a or b
	inverse struct{ a node }

	// family is IPv4 or IPv6.
	family struct{ v6 bool }
	arp    struct{}
	// proto is an IP protocol of one family.
	proto struct {
		v6     bool
		number uint8
	}
	// host is an address or a prefix; the side says of which.
	host struct {
		side   side
		prefix netip.Prefix
	}
	// port is a range of ports of TCP, UDP or both.
	port struct {
		side     side
		from, to uint16
		protos   []uint8
	}
	// length is of the whole frame, with its link header.
	length struct {
		least bool // greater: at least n; else less: at most n
		n     uint32
	}
)

// side is src, dst, or either of them.
type side uint8

const (
	anySide side = iota
	source
	destination
)

// maxDepth and maxWords bound a filter; with them no program becomes too long for the kernel.
const (
	maxDepth = 32
	maxWords = 256
)

// parse reads a filter; an empty one is nil.
func parse(text string) (node, error) {
	for _, sign := range []string{"(", ")", "!", "&&", "||"} {
		text = strings.ReplaceAll(text, sign, " "+sign+" ")
	}
	p := parser{words: strings.Fields(text)}
	switch {
	case len(p.words) == 0:
		return nil, nil
	case len(p.words) > maxWords:
		return nil, fmt.Errorf("the filter has %d words, at most %d are allowed", len(p.words), maxWords)
	}
	n, err := p.expression(0)
	if err == nil && p.at < len(p.words) {
		err = p.fail("and, or, or the end", p.next())
	}
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return n, nil
}

type parser struct {
	words []string
	at    int
}

func (p *parser) next() string {
	if p.at == len(p.words) {
		return ""
	}
	p.at++
	return p.words[p.at-1]
}

func (p *parser) peek(words ...string) bool {
	for _, w := range words {
		if p.at < len(p.words) && p.words[p.at] == w {
			p.at++
			return true
		}
	}
	return false
}

// fail says what was expected in place of the word that was taken last.
func (p *parser) fail(want, got string) error {
	if got == "" {
		return fmt.Errorf("it ends after %q, where %s is expected", strings.Join(p.words, " "), want)
	}
	return fmt.Errorf("word %d is %q, where %s is expected", p.at, got, want)
}

// expression reads terms with "and" and "or" between them. As tcpdump has it,
// both bind alike, from the left (pcap-filter(7)).
func (p *parser) expression(depth int) (node, error) {
	n, err := p.term(depth)
	for err == nil {
		var b node
		switch {
		case p.peek("and", "&&"):
			if b, err = p.term(depth); err == nil {
				n = both{n, b}
			}
		case p.peek("or", "||"):
			if b, err = p.term(depth); err == nil {
				n = either{n, b}
			}
		default:
			return n, nil
		}
	}
	return nil, err
}

func (p *parser) term(depth int) (node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d parentheses and negations inside each other", maxDepth)
	}
	switch {
	case p.peek("not", "!"):
		n, err := p.term(depth + 1)
		return inverse{n}, err
	case p.peek("("):
		n, err := p.expression(depth + 1)
		if err == nil && !p.peek(")") {
			err = p.fail(")", p.next())
		}
		return n, err
	}
	return p.primitive()
}

// Protocol numbers (IANA).
const (
	icmpNumber, tcpNumber, udpNumber, icmp6Number, espNumber = 1, 6, 17, 58, 50
)

func (p *parser) primitive() (node, error) {
	switch {
	case p.peek("arp"):
		return arp{}, nil
	case p.peek("icmp"):
		return proto{false, icmpNumber}, nil
	case p.peek("icmp6"):
		return proto{true, icmp6Number}, nil
	case p.peek("less"):
		n, err := p.number(1 << 18)
		return length{false, uint32(n)}, err
	case p.peek("greater"):
		n, err := p.number(1 << 18)
		return length{true, uint32(n)}, err
	case p.peek("proto"):
		n, err := p.protocol()
		return either{proto{false, n}, proto{true, n}}, err
	case p.peek("esp"):
		return either{proto{false, espNumber}, proto{true, espNumber}}, nil
	case p.peek("ip"):
		return p.ofFamily(false)
	case p.peek("ip6"):
		return p.ofFamily(true)
	case p.peek("tcp"):
		return p.ofTransport(tcpNumber)
	case p.peek("udp"):
		return p.ofTransport(udpNumber)
	}
	return p.sided(nil)
}

// ofFamily reads what may follow ip or ip6.
func (p *parser) ofFamily(v6 bool) (node, error) {
	if p.peek("proto") {
		n, err := p.protocol()
		return proto{v6, n}, err
	}
	if !p.addressFollows() {
		return family{v6}, nil
	}
	n, err := p.sided(nil)
	return both{family{v6}, n}, err
}

// ofTransport reads what may follow tcp or udp.
func (p *parser) ofTransport(number uint8) (node, error) {
	if p.at < len(p.words) {
		switch p.words[p.at] {
		case "src", "dst", "port", "portrange":
			return p.sided([]uint8{number})
		}
	}
	return either{proto{false, number}, proto{true, number}}, nil
}

func (p *parser) addressFollows() bool {
	if p.at == len(p.words) {
		return false
	}
	switch p.words[p.at] {
	case "src", "dst", "host", "net":
		return true
	}
	return false
}

// sided reads [src|dst] and host, net, port or portrange; with protos only the ports.
func (p *parser) sided(protos []uint8) (node, error) {
	s := anySide
	switch {
	case p.peek("src"):
		s = source
	case p.peek("dst"):
		s = destination
	}
	ports := protos
	if ports == nil {
		ports = []uint8{tcpNumber, udpNumber}
	}
	switch {
	case p.peek("port"):
		n, err := p.number(65535)
		return port{s, uint16(n), uint16(n), ports}, err
	case p.peek("portrange"):
		from, to, err := p.portRange()
		return port{s, from, to, ports}, err
	case protos != nil:
		return nil, p.fail("port or portrange", p.next())
	case p.peek("net"):
		return p.network(s)
	}
	if !p.peek("host") && s == anySide {
		return nil, p.fail("one of ip, ip6, arp, icmp, icmp6, esp, tcp, udp, proto, src, dst, host, net, port, portrange, less, greater, not", p.next())
	}
	word := p.next()
	a, err := netip.ParseAddr(word)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return nil, p.fail("an address", word)
	}
	return host{s, netip.PrefixFrom(a, a.BitLen())}, nil
}

func (p *parser) network(s side) (node, error) {
	word := p.next()
	prefix, err := netip.ParsePrefix(word)
	if err != nil || prefix.Addr().Is4In6() {
		return nil, p.fail("a prefix such as 10.0.0.0/8", word)
	}
	if prefix != prefix.Masked() {
		return nil, fmt.Errorf("%s has bits behind its length: %s is meant?", prefix, prefix.Masked())
	}
	return host{s, prefix}, nil
}

func (p *parser) portRange() (from, to uint16, err error) {
	word := p.next()
	a, b, ok := strings.Cut(word, "-")
	x, errX := strconv.ParseUint(a, 10, 16)
	y, errY := strconv.ParseUint(b, 10, 16)
	if !ok || errX != nil || errY != nil || x > y {
		return 0, 0, p.fail("a range of ports such as 100-200", word)
	}
	return uint16(x), uint16(y), nil
}

func (p *parser) number(most uint64) (uint64, error) {
	word := p.next()
	n, err := strconv.ParseUint(word, 10, 32)
	if err != nil || n > most {
		return 0, p.fail(fmt.Sprintf("a number of 0 to %d", most), word)
	}
	return n, nil
}

// protocol reads a protocol's number. tcpdump wants names here behind a
// backslash; the words icmp, icmp6, tcp, udp and esp say the same.
func (p *parser) protocol() (uint8, error) {
	n, err := p.number(255)
	return uint8(n), err
}
