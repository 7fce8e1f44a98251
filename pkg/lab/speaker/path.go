package speaker

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Well-known communities (IANA "BGP Well-known Communities").
const (
	// NoExport is 65535:65281 (RFC 1997).
	NoExport uint32 = 0xffffff01
	// NoAdvertise is 65535:65282 (RFC 1997): not to be announced to any neighbour.
	NoAdvertise uint32 = 0xffffff02
)

// Values of the ORIGIN attribute (RFC 4271, section 4.3).
const (
	OriginIGP        uint8 = 0
	OriginEGP        uint8 = 1
	OriginIncomplete uint8 = 2
)

// A LargeCommunity is one value of the LARGE_COMMUNITIES attribute (RFC 8092).
type LargeCommunity struct {
	Global uint32 `json:"global"`
	Data1  uint32 `json:"data1"`
	Data2  uint32 `json:"data2"`
}

// String returns the canonical form, 64500:1:2.
func (c LargeCommunity) String() string {
	return fmt.Sprintf("%d:%d:%d", c.Global, c.Data1, c.Data2)
}

// A Path is one way to one prefix. Paths are values: the slices of a path that
// came out of this package are shared and must not be changed in place; an
// Import or Export hook that changes one assigns a new slice.
type Path struct {
	// Prefix is an IPv4 prefix without host bits.
	Prefix netip.Prefix `json:"prefix"`
	// NextHop is what the neighbour named. On an own path it may be left
	// out, which means the address of each session.
	NextHop netip.Addr `json:"next_hop"`
	// ASPath is the AS_SEQUENCE, nearest AS first, without the speaker's own AS.
	ASPath []uint32 `json:"as_path"`
	// ASSet is the AS_SET at its end, empty without aggregation.
	ASSet []uint32 `json:"as_set,omitempty"`
	// Origin is OriginIGP, OriginEGP or OriginIncomplete.
	Origin uint8 `json:"origin"`
	// MED is the MULTI_EXIT_DISC if HasMED. It is not compared, and not
	// passed on to another neighbour (RFC 4271, section 5.1.4).
	MED    uint32 `json:"med,omitempty"`
	HasMED bool   `json:"has_med,omitempty"`
	// Communities holds RFC 1997 values, high half the AS.
	Communities []uint32 `json:"communities,omitempty"`
	// Large holds RFC 8092 values.
	Large []LargeCommunity `json:"large_communities,omitempty"`
	// Unknown holds the transitive attributes that this package carries without knowing them.
	Unknown []RawAttribute `json:"unknown,omitempty"`
	// Preference decides before the AS path, higher first; it is the
	// neighbour's, and never on the wire.
	Preference int `json:"preference,omitempty"`
	// From is the neighbour's name; empty on an own path.
	From string `json:"from"`
	// Peer is the neighbour's address; invalid on an own path.
	Peer netip.Addr `json:"peer"`
}

// Length is the AS path's length as best path selection counts it: an AS_SET
// counts as one (RFC 4271, section 9.1.2.2).
func (p Path) Length() int {
	if len(p.ASSet) > 0 {
		return len(p.ASPath) + 1
	}
	return len(p.ASPath)
}

// HasAS reports whether asn is anywhere in the AS path, sets included.
func (p Path) HasAS(asn uint32) bool {
	return slices.Contains(p.ASPath, asn) || slices.Contains(p.ASSet, asn)
}

// HasCommunity reports whether the path carries the community.
func (p Path) HasCommunity(c uint32) bool { return slices.Contains(p.Communities, c) }

// ASPathString prints the AS path as routers do: "65515 12076 {64500 64501}".
func (p Path) ASPathString() string {
	var b strings.Builder
	for i, a := range p.ASPath {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d", a)
	}
	if len(p.ASSet) > 0 {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "{%s}", strings.Trim(fmt.Sprint(p.ASSet), "[]"))
	}
	return b.String()
}

// sameRoute reports whether two paths say the same to a neighbour.
func (p Path) sameRoute(q Path) bool {
	return p.Prefix == q.Prefix && p.NextHop == q.NextHop && p.Origin == q.Origin &&
		p.MED == q.MED && p.HasMED == q.HasMED &&
		slices.Equal(p.ASPath, q.ASPath) && slices.Equal(p.ASSet, q.ASSet) &&
		slices.Equal(p.Communities, q.Communities) && slices.Equal(p.Large, q.Large) &&
		slices.EqualFunc(p.Unknown, q.Unknown, RawAttribute.equal)
}

// equal reports whether two paths are the same in everything.
func (p Path) equal(q Path) bool {
	return p.sameRoute(q) && p.From == q.From && p.Peer == q.Peer && p.Preference == q.Preference
}

func (a RawAttribute) equal(b RawAttribute) bool {
	return a.Flags == b.Flags && a.Type == b.Type && bytes.Equal(a.Value, b.Value)
}

// Best is what the speaker uses for one prefix.
type Best struct {
	Prefix netip.Prefix `json:"prefix"`
	// Paths holds the best path first, then the others that are as good
	// (same preference, same AS path length): the ECMP set. Never empty.
	Paths []Path `json:"paths"`
}

// Local reports whether the best path is the speaker's own.
func (b Best) Local() bool { return b.Paths[0].From == "" }

// NextHops returns the next hops of the ECMP set, sorted, without doubles;
// empty for a prefix of the speaker's own.
func (b Best) NextHops() []netip.Addr {
	var hops []netip.Addr
	for _, p := range b.Paths {
		if p.From != "" && p.NextHop.IsValid() {
			hops = append(hops, p.NextHop)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops)
}
