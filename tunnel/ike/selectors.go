package ike

import (
	"net/netip"
	"slices"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/sa"
)

// maxSelectors bounds what narrowing makes.
const maxSelectors = 32

// narrow is what is in both lists of selectors (RFC 7296, section 2.9), each part once.
func narrow(theirs, ours []message.Selector) []message.Selector {
	var out []message.Selector
	for _, o := range ours {
		for _, t := range theirs {
			n, ok := intersect(t, o)
			if !ok || slices.ContainsFunc(out, func(x message.Selector) bool { return within(n, x) }) {
				continue
			}
			out = slices.DeleteFunc(out, func(x message.Selector) bool { return within(x, n) })
			if len(out) < maxSelectors {
				out = append(out, n)
			}
		}
	}
	return out
}

// intersect is what is in both selectors.
func intersect(a, b message.Selector) (message.Selector, bool) {
	switch {
	case a.Start.Is4() != b.Start.Is4():
		return a, false
	case a.Protocol == 0:
		a.Protocol = b.Protocol
	case b.Protocol != 0 && b.Protocol != a.Protocol:
		return a, false
	}
	// OPAQUE ports (RFC 7296, section 3.13.1) are in any ports, and nothing else is in them.
	switch {
	case opaque(a) && opaque(b) || opaque(a) && anyPort(b):
	case opaque(b) && anyPort(a):
		a.StartPort, a.EndPort = b.StartPort, b.EndPort
	default:
		a.StartPort, a.EndPort = max(a.StartPort, b.StartPort), min(a.EndPort, b.EndPort)
		if a.StartPort > a.EndPort {
			return a, false
		}
	}
	a.Start, a.End = later(a.Start, b.Start), earlier(a.End, b.End)
	return a, !a.End.Less(a.Start)
}

func opaque(s message.Selector) bool  { return s.StartPort == 65535 && s.EndPort == 0 }
func anyPort(s message.Selector) bool { return s.StartPort == 0 && s.EndPort == 65535 }

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return a
	}
	return b
}

// within reports whether all of a selector is in another one.
func within(a, b message.Selector) bool {
	n, ok := intersect(a, b)
	return ok && n == a
}

// subset reports whether all of the selectors, not too many, are in one of the others.
func subset(list, of []message.Selector) bool {
	return len(list) > 0 && len(list) <= maxSelectors && !slices.ContainsFunc(list, func(a message.Selector) bool {
		return !slices.ContainsFunc(of, func(b message.Selector) bool { return within(a, b) })
	})
}

// forData are selectors as the data plane takes them.
func forData(list []message.Selector) []sa.Selector {
	out := make([]sa.Selector, len(list))
	for i, s := range list {
		out[i] = sa.Selector(s)
	}
	return out
}
