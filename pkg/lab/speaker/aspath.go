package speaker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// AS numbers with a meaning of their own.
const (
	// asTrans stands for an AS number that needs four octets, towards a
	// neighbour that knows two (RFC 6793, section 9).
	asTrans uint32 = 23456
	// Private use (RFC 6996, section 5).
	private2First, private2Last uint32 = 64512, 65534
	private4First, private4Last uint32 = 4200000000, 4294967294
)

// IsPrivateAS reports whether asn is for private use (RFC 6996). Azure's 65515 is.
func IsPrivateAS(asn uint32) bool {
	return asn >= private2First && asn <= private2Last || asn >= private4First && asn <= private4Last
}

// RemovePrivateAS returns the path without private AS numbers, wherever they stand.
func RemovePrivateAS(p Path) Path { return removeAS(p, IsPrivateAS) }

// RemoveAS returns the path without the AS numbers, wherever they stand.
func RemoveAS(p Path, asns ...uint32) Path {
	return removeAS(p, func(a uint32) bool { return slices.Contains(asns, a) })
}

func removeAS(p Path, gone func(uint32) bool) Path {
	p.ASPath = slices.DeleteFunc(slices.Clone(p.ASPath), gone)
	p.ASSet = slices.DeleteFunc(slices.Clone(p.ASSet), gone)
	return p
}

// prependAS returns the path with asn in front.
func prependAS(p Path, asn uint32) Path {
	p.ASPath = append([]uint32{asn}, p.ASPath...)
	return p
}

// Segment types of AS_PATH (RFC 4271, section 4.3). Confederation segments
// (RFC 5065) come from inside an AS only, so they are malformed here.
const (
	segmentSet      uint8 = 1
	segmentSequence uint8 = 2
	maxSegment            = 255 // AS numbers
)

// parseASPath parses the value of AS_PATH or AS4_PATH (RFC 7606, section 7.2).
// Everything after the first AS_SET becomes part of the set: only aggregation makes
// sets, at the end of a path, so nothing is lost but the order of odd paths.
func parseASPath(b []byte, as4 bool) (seq, set []uint32, err error) {
	size := 2
	if as4 {
		size = 4
	}
	for len(b) > 0 {
		if len(b) < 2 {
			return nil, nil, errors.New("AS path segment is cut off")
		}
		t, n := b[0], int(b[1])
		b = b[2:]
		if t != segmentSet && t != segmentSequence {
			return nil, nil, fmt.Errorf("AS path segment of type %d", t)
		}
		if n == 0 || len(b) < n*size {
			return nil, nil, fmt.Errorf("AS path segment of %d AS numbers in %d octets", n, len(b))
		}
		for range n {
			asn := uint32(binary.BigEndian.Uint16(b))
			if as4 {
				asn = binary.BigEndian.Uint32(b)
			}
			if asn == 0 { // RFC 7607, section 2
				return nil, nil, errors.New("AS number 0 in AS path")
			}
			if t == segmentSet || len(set) > 0 {
				set = append(set, asn)
			} else {
				seq = append(seq, asn)
			}
			b = b[size:]
		}
	}
	return seq, set, nil
}

// appendASPath appends the value of AS_PATH (or AS4_PATH, with as4).
func appendASPath(b []byte, p Path, as4 bool) []byte {
	b = appendSegments(b, segmentSequence, p.ASPath, as4)
	return appendSegments(b, segmentSet, p.ASSet, as4)
}

func appendSegments(b []byte, t uint8, asns []uint32, as4 bool) []byte {
	for part := range slices.Chunk(asns, maxSegment) {
		b = append(b, t, byte(len(part)))
		for _, a := range part {
			switch {
			case as4:
				b = binary.BigEndian.AppendUint32(b, a)
			case a > 65535:
				b = binary.BigEndian.AppendUint16(b, uint16(asTrans))
			default:
				b = binary.BigEndian.AppendUint16(b, uint16(a))
			}
		}
	}
	return b
}

// needsAS4 reports whether the AS path has a number that does not fit two octets.
func needsAS4(p Path) bool {
	wide := func(a uint32) bool { return a > 65535 }
	return slices.ContainsFunc(p.ASPath, wide) || slices.ContainsFunc(p.ASSet, wide)
}

// mergeAS4Path puts an AS_PATH of two-octet numbers and the AS4_PATH beside it
// together (RFC 6793, section 4.2.3).
func mergeAS4Path(p, wide Path) Path {
	extra := p.Length() - wide.Length()
	if extra < 0 || extra > len(p.ASPath) {
		return p // AS4_PATH is to be ignored
	}
	p.ASPath = append(slices.Clone(p.ASPath[:extra]), wide.ASPath...)
	p.ASSet = wide.ASSet
	return p
}
