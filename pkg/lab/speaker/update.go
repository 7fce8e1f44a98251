package speaker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Update is the UPDATE message (RFC 4271, section 4.3), with its attributes
// still in wire form: what an AS path means depends on the session.
type Update struct {
	Withdrawn  []netip.Prefix
	Attributes []RawAttribute
	NLRI       []netip.Prefix
	// AttributeError is set by ParseMessage if the attributes are cut off:
	// then Attributes is empty and NLRI is to be treated as withdrawn (RFC
	// 7606, section 4). Such an Update cannot be sent.
	AttributeError error
}

// Type returns TypeUpdate.
func (*Update) Type() MessageType { return TypeUpdate }

// Flags of a path attribute (RFC 4271, section 4.3).
const (
	flagOptional   uint8 = 0x80
	flagTransitive uint8 = 0x40
	flagPartial    uint8 = 0x20
	flagExtended   uint8 = 0x10
)

// A RawAttribute is one path attribute in wire form.
type RawAttribute struct {
	// Flags without the extended length bit, which follows from the length.
	Flags uint8  `json:"flags"`
	Type  uint8  `json:"type"`
	Value []byte `json:"value"`
}

func (u *Update) appendBody(b []byte) ([]byte, error) {
	if u.AttributeError != nil {
		return b, fmt.Errorf("speaker: UPDATE with broken attributes cannot be sent: %w", u.AttributeError)
	}
	var err error
	if b, err = appendCounted(b, func(b []byte) ([]byte, error) { return appendPrefixes(b, u.Withdrawn) }); err != nil {
		return b, err
	}
	if b, err = appendCounted(b, func(b []byte) ([]byte, error) { return appendAttributes(b, u.Attributes) }); err != nil {
		return b, err
	}
	return appendPrefixes(b, u.NLRI)
}

// appendCounted appends a two-octet length and what f appends.
func appendCounted(b []byte, f func([]byte) ([]byte, error)) ([]byte, error) {
	at := len(b)
	b, err := f(append(b, 0, 0))
	if err != nil {
		return b, err
	}
	n := len(b) - at - 2
	if n > 65535 {
		return b, fmt.Errorf("speaker: UPDATE has a field of %d octets", n)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(n))
	return b, nil
}

func appendAttributes(b []byte, attrs []RawAttribute) ([]byte, error) {
	for _, a := range attrs {
		flags := a.Flags &^ flagExtended
		switch {
		case len(a.Value) > 65535:
			return b, fmt.Errorf("speaker: attribute %d has %d octets", a.Type, len(a.Value))
		case len(a.Value) > 255:
			b = append(b, flags|flagExtended, a.Type)
			b = binary.BigEndian.AppendUint16(b, uint16(len(a.Value)))
		default:
			b = append(b, flags, a.Type, byte(len(a.Value)))
		}
		b = append(b, a.Value...)
	}
	return b, nil
}

func parseUpdate(b []byte) (Message, error) {
	withdrawn, b, ok := cutCounted(b)
	if !ok {
		return nil, updateError(updateAttributeList, "withdrawn routes are cut off")
	}
	attrs, nlri, ok := cutCounted(b)
	if !ok {
		return nil, updateError(updateAttributeList, "path attributes are cut off")
	}
	u := &Update{}
	var err error
	// Where prefixes end cannot be told after a wrong one, so the session
	// ends (RFC 7606, sections 3(j) and 5.3).
	if u.Withdrawn, err = parsePrefixes(withdrawn); err != nil {
		return nil, updateError(updateNetwork, "withdrawn routes: %v", err)
	}
	if u.NLRI, err = parsePrefixes(nlri); err != nil {
		return nil, updateError(updateNetwork, "NLRI: %v", err)
	}
	if u.Attributes, err = parseAttributes(attrs); err != nil {
		u.Attributes, u.AttributeError = nil, err
	}
	return u, nil
}

// cutCounted cuts a field with a two-octet length off b.
func cutCounted(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

func parseAttributes(b []byte) ([]RawAttribute, error) {
	var out []RawAttribute
	for len(b) > 0 {
		if len(b) < 3 {
			return nil, fmt.Errorf("attribute header is cut off after %d octets", len(b))
		}
		flags, t, n, h := b[0], b[1], int(b[2]), 3
		if flags&flagExtended != 0 {
			if len(b) < 4 {
				return nil, fmt.Errorf("attribute %d: length is cut off", t)
			}
			n, h = int(binary.BigEndian.Uint16(b[2:])), 4
		}
		if len(b) < h+n {
			return nil, fmt.Errorf("attribute %d: %d octets, %d are there", t, n, len(b)-h)
		}
		out = append(out, RawAttribute{Flags: flags &^ flagExtended, Type: t, Value: bytes.Clone(b[h : h+n])})
		b = b[h+n:]
	}
	return out, nil
}
