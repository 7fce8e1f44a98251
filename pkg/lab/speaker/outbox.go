package speaker

import (
	"net/netip"
	"slices"
	"sync"
)

// outbox gathers what one session is to be told: the RIB puts in, the
// connection's writer takes out. A prefix that changes twice before the writer comes by
// is told once.
type outbox struct {
	// as4 is the session's: AS_PATH has four-octet AS numbers. Set before the RIB sees the outbox.
	as4 bool
	// wakeC has capacity 1.
	wakeC chan struct{}

	mu      sync.Mutex
	pending map[netip.Prefix]change
}

// change is an announcement, or a withdrawal.
type change struct {
	path     Path
	announce bool
}

func newOutbox() *outbox {
	return &outbox{wakeC: make(chan struct{}, 1), pending: make(map[netip.Prefix]change)}
}

func (o *outbox) announce(prefix netip.Prefix, path Path) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending[prefix] = change{path: path, announce: true}
}

func (o *outbox) withdraw(prefix netip.Prefix) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending[prefix] = change{}
}

// signal wakes the writer.
func (o *outbox) signal() {
	select {
	case o.wakeC <- struct{}{}:
	default:
	}
}

// take empties the outbox and returns its content as UPDATE messages in wire form.
func (o *outbox) take() ([][]byte, error) {
	o.mu.Lock()
	pending := o.pending
	o.pending = make(map[netip.Prefix]change)
	o.mu.Unlock()
	return pack(pending, o.as4)
}

// group is the prefixes that share their attributes.
type group struct {
	attrs    []RawAttribute
	prefixes []netip.Prefix
}

// pack makes as few UPDATEs as it can, in an order that depends on the changes
// only: withdrawals first, then one group of prefixes for each set of attributes.
func pack(pending map[netip.Prefix]change, as4 bool) ([][]byte, error) {
	var withdrawn []netip.Prefix
	var groups []*group
	byAttrs := make(map[string]*group)
	for _, prefix := range sortedPrefixes(pending) {
		c := pending[prefix]
		if !c.announce {
			withdrawn = append(withdrawn, prefix)
			continue
		}
		attrs := encodeAttributes(c.path, as4)
		key, err := appendAttributes(nil, attrs)
		if err != nil || minUpdate+len(key)+5 > maxMessage {
			withdrawn = append(withdrawn, prefix) // cannot be told (RFC 4271, section 9.2)
			continue
		}
		g := byAttrs[string(key)]
		if g == nil {
			g = &group{attrs: attrs}
			byAttrs[string(key)] = g
			groups = append(groups, g)
		}
		g.prefixes = append(g.prefixes, prefix)
	}
	out, err := packGroup(nil, withdrawn, 0, func(p []netip.Prefix) *Update { return &Update{Withdrawn: p} })
	for _, g := range groups {
		if err != nil {
			return nil, err
		}
		size := attributesSize(g.attrs)
		out, err = packGroup(out, g.prefixes, size, func(p []netip.Prefix) *Update {
			return &Update{Attributes: g.attrs, NLRI: p}
		})
	}
	return out, err
}

// packGroup appends UPDATEs with as many of the prefixes as fit beside size octets of attributes.
func packGroup(out [][]byte, prefixes []netip.Prefix, size int, update func([]netip.Prefix) *Update) ([][]byte, error) {
	for len(prefixes) > 0 {
		n, room := 0, maxMessage-minUpdate-size
		for n < len(prefixes) && room >= 1+prefixOctets(prefixes[n].Bits()) {
			room -= 1 + prefixOctets(prefixes[n].Bits())
			n++
		}
		b, err := AppendMessage(nil, update(prefixes[:n]))
		if err != nil {
			return nil, err
		}
		out, prefixes = append(out, b), prefixes[n:]
	}
	return out, nil
}

func attributesSize(attrs []RawAttribute) int {
	n := 0
	for _, a := range attrs {
		n += 3 + len(a.Value)
		if len(a.Value) > 255 {
			n++
		}
	}
	return n
}

func sortedPrefixes(m map[netip.Prefix]change) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
