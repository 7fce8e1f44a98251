package speaker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Path attribute types (IANA "BGP Path Attributes").
const (
	attrOrigin          uint8 = 1
	attrASPath          uint8 = 2
	attrNextHop         uint8 = 3
	attrMED             uint8 = 4
	attrLocalPref       uint8 = 5
	attrAtomicAggregate uint8 = 6
	attrAggregator      uint8 = 7
	attrCommunities     uint8 = 8
	attrMPReach         uint8 = 14
	attrMPUnreach       uint8 = 15
	attrAS4Path         uint8 = 17
	attrAS4Aggregator   uint8 = 18
	attrLarge           uint8 = 32
)

// attributes is what the attributes of one UPDATE say.
type attributes struct {
	// path has everything but Prefix, Preference, From and Peer.
	path Path
	// reach and unreach are IPv4 prefixes out of MP_REACH_NLRI and
	// MP_UNREACH_NLRI; mpNextHop belongs to reach.
	reach, unreach []netip.Prefix
	mpNextHop      netip.Addr
	// foreign counts multiprotocol attributes of families not spoken.
	foreign int

	seen       map[uint8]bool
	as4Path    Path
	hasAS4Path bool
}

// decodeAttributes reads the attributes of an UPDATE. fatal is a
// *MessageError that ends the session; malformed means that the UPDATE's prefixes are
// to be treated as withdrawn (RFC 7606, section 2). as4 says how long AS
// numbers are in AS_PATH.
func decodeAttributes(raw []RawAttribute, as4 bool) (a attributes, malformed, fatal error) {
	a.seen = make(map[uint8]bool)
	for _, r := range raw {
		if a.seen[r.Type] {
			if r.Type == attrMPReach || r.Type == attrMPUnreach {
				return a, nil, updateError(updateAttributeList, "attribute %d is there twice", r.Type)
			}
			continue // the first one holds (RFC 7606, section 3(g))
		}
		a.seen[r.Type] = true
		if r.Type == attrMPReach || r.Type == attrMPUnreach {
			if err := a.decodeMP(r); err != nil {
				return a, nil, updateError(updateAttributeList, "attribute %d: %v", r.Type, err)
			}
			continue
		}
		if err := a.decode(r, as4); err != nil && malformed == nil {
			malformed = fmt.Errorf("attribute %d: %w", r.Type, err)
		}
	}
	if a.hasAS4Path && !as4 {
		a.path = mergeAS4Path(a.path, a.as4Path)
	}
	return a, malformed, nil
}

// missing names the mandatory attribute that is not there, for an UPDATE that
// announces something; 0 if all are (RFC 4271, section 5; RFC 7606, section 3(d)).
func (a *attributes) missing(nlri bool) uint8 {
	switch {
	case !a.seen[attrOrigin]:
		return attrOrigin
	case !a.seen[attrASPath]:
		return attrASPath
	case nlri && !a.seen[attrNextHop]:
		return attrNextHop
	}
	return 0
}

func (a *attributes) decode(r RawAttribute, as4 bool) error {
	if err := checkFlags(r); err != nil {
		return err
	}
	p := &a.path
	switch r.Type {
	case attrOrigin:
		if len(r.Value) != 1 || r.Value[0] > OriginIncomplete {
			return fmt.Errorf("ORIGIN is %x", r.Value)
		}
		p.Origin = r.Value[0]
	case attrASPath:
		var err error
		p.ASPath, p.ASSet, err = parseASPath(r.Value, as4)
		return err
	case attrNextHop:
		return a.decodeNextHop(r.Value)
	case attrMED:
		if len(r.Value) != 4 {
			return fmt.Errorf("MED has %d octets (4)", len(r.Value))
		}
		p.MED, p.HasMED = binary.BigEndian.Uint32(r.Value), true
	case attrLocalPref:
		// Not for us from another AS (RFC 7606, section 7.5).
	case attrCommunities:
		var err error
		p.Communities, err = parseCommunities(r.Value)
		return err
	case attrLarge:
		var err error
		p.Large, err = parseLarge(r.Value)
		return err
	case attrAS4Path:
		// A broken one is discarded alone (RFC 6793, section 6).
		if seq, set, err := parseASPath(r.Value, true); err == nil {
			a.as4Path, a.hasAS4Path = Path{ASPath: seq, ASSet: set}, true
		}
	default:
		return a.decodeOther(r, as4)
	}
	return nil
}

// decodeOther keeps what is passed on without being used.
func (a *attributes) decodeOther(r RawAttribute, as4 bool) error {
	switch {
	case r.Type == attrAS4Aggregator:
		return nil
	case r.Type == attrAtomicAggregate:
		if len(r.Value) == 0 { // else discarded (RFC 7606, section 7.6)
			a.path.Unknown = append(a.path.Unknown, r)
		}
	case r.Type == attrAggregator:
		if v, ok := wideAggregator(r.Value, as4); ok { // else discarded (RFC 7606, section 7.7)
			a.path.Unknown = append(a.path.Unknown, RawAttribute{Flags: r.Flags, Type: r.Type, Value: v})
		}
	case r.Flags&flagOptional == 0:
		// Deviation: RFC 4271, section 6.3 ends the session over an unknown
		// well-known attribute; in the spirit of RFC 7606 the route is enough.
		return fmt.Errorf("unknown well-known attribute")
	case r.Flags&flagTransitive != 0:
		r.Flags |= flagPartial // RFC 4271, section 5
		a.path.Unknown = append(a.path.Unknown, r)
	}
	return nil
}

func (a *attributes) decodeNextHop(v []byte) error {
	if len(v) != 4 {
		return fmt.Errorf("NEXT_HOP has %d octets (4)", len(v))
	}
	hop := netip.AddrFrom4([4]byte(v))
	if !usableNextHop(hop) {
		return fmt.Errorf("NEXT_HOP %v is no host", hop)
	}
	a.path.NextHop = hop
	return nil
}

func usableNextHop(hop netip.Addr) bool {
	return !hop.IsUnspecified() && !hop.IsMulticast() && !hop.IsLoopback() && hop.As4()[0] < 240
}

// checkFlags compares the optional and transitive bits of the attributes that
// are known (RFC 4271, section 6.3; RFC 7606, section 3(c)).
func checkFlags(r RawAttribute) error {
	var want uint8
	switch r.Type {
	case attrOrigin, attrASPath, attrNextHop, attrLocalPref, attrAtomicAggregate:
		want = flagTransitive
	case attrMED:
		want = flagOptional
	case attrAggregator, attrCommunities, attrLarge, attrAS4Path, attrAS4Aggregator:
		want = flagOptional | flagTransitive
	default:
		return nil
	}
	if got := r.Flags & (flagOptional | flagTransitive); got != want {
		return fmt.Errorf("flags %#02x (%#02x)", got, want)
	}
	return nil
}

// decodeMP reads MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760, sections 3 and 4).
func (a *attributes) decodeMP(r RawAttribute) error {
	b := r.Value
	if len(b) < 3 {
		return fmt.Errorf("%d octets (at least 3)", len(b))
	}
	family := [2]uint16{binary.BigEndian.Uint16(b), uint16(b[2])}
	if family != [2]uint16{afiIPv4, uint16(safiUnicast)} {
		a.foreign++
		return nil
	}
	b = b[3:]
	var err error
	if r.Type == attrMPUnreach {
		a.unreach, err = parsePrefixes(b)
		return err
	}
	if len(b) < 6 || b[0] != 4 {
		return fmt.Errorf("next hop of IPv4 prefixes is not an IPv4 address")
	}
	a.mpNextHop = netip.AddrFrom4([4]byte(b[1:5]))
	a.reach, err = parsePrefixes(b[6:])
	return err
}

// wideAggregator returns AGGREGATOR with a four-octet AS number.
func wideAggregator(v []byte, as4 bool) ([]byte, bool) {
	switch {
	case as4 && len(v) == 8:
		return v, true
	case !as4 && len(v) == 6:
		return append([]byte{0, 0}, v...), true
	}
	return nil, false
}

// encodeAttributes writes a path's attributes, sorted by type as RFC 4271,
// section 5 recommends.
func encodeAttributes(p Path, as4 bool) []RawAttribute {
	hop := p.NextHop.As4()
	out := []RawAttribute{
		{Flags: flagTransitive, Type: attrOrigin, Value: []byte{p.Origin}},
		{Flags: flagTransitive, Type: attrASPath, Value: appendASPath(nil, p, as4)},
		{Flags: flagTransitive, Type: attrNextHop, Value: hop[:]},
	}
	if p.HasMED {
		out = append(out, RawAttribute{Flags: flagOptional, Type: attrMED, Value: binary.BigEndian.AppendUint32(nil, p.MED)})
	}
	both := flagOptional | flagTransitive
	if len(p.Communities) > 0 {
		out = append(out, RawAttribute{Flags: both, Type: attrCommunities, Value: appendUint32s(nil, p.Communities)})
	}
	if !as4 && needsAS4(p) {
		out = append(out, RawAttribute{Flags: both, Type: attrAS4Path, Value: appendASPath(nil, p, true)})
	}
	if len(p.Large) > 0 {
		var v []byte
		for _, l := range p.Large {
			v = appendUint32s(v, []uint32{l.Global, l.Data1, l.Data2})
		}
		out = append(out, RawAttribute{Flags: both, Type: attrLarge, Value: v})
	}
	for _, u := range p.Unknown {
		if u.Type == attrAggregator && !as4 && len(u.Value) == 8 {
			u.Value = narrowAggregator(u.Value)
		}
		out = append(out, u)
	}
	slices.SortStableFunc(out, func(a, b RawAttribute) int { return int(a.Type) - int(b.Type) })
	return out
}

// narrowAggregator puts AS_TRANS for an AS number over 65535 (RFC 6793, section 4.2.2).
func narrowAggregator(v []byte) []byte {
	asn := binary.BigEndian.Uint32(v)
	if asn > 65535 {
		asn = asTrans
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(asn)), v[4:]...)
}

func appendUint32s(b []byte, vs []uint32) []byte {
	for _, v := range vs {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// parseCommunities refuses no octets as well (RFC 7606, section 7.8).
func parseCommunities(b []byte) ([]uint32, error) {
	if len(b) == 0 || len(b)%4 != 0 {
		return nil, fmt.Errorf("COMMUNITIES has %d octets (a multiple of 4)", len(b))
	}
	out := make([]uint32, 0, len(b)/4)
	for ; len(b) > 0; b = b[4:] {
		out = append(out, binary.BigEndian.Uint32(b))
	}
	return out, nil
}

// parseLarge refuses no octets as well (RFC 8092, section 6).
func parseLarge(b []byte) ([]LargeCommunity, error) {
	if len(b) == 0 || len(b)%12 != 0 {
		return nil, fmt.Errorf("LARGE_COMMUNITIES has %d octets (a multiple of 12)", len(b))
	}
	out := make([]LargeCommunity, 0, len(b)/12)
	for ; len(b) > 0; b = b[12:] {
		out = append(out, LargeCommunity{
			Global: binary.BigEndian.Uint32(b), Data1: binary.BigEndian.Uint32(b[4:]), Data2: binary.BigEndian.Uint32(b[8:]),
		})
	}
	return out, nil
}
