package speaker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Sizes of a message in octets (RFC 4271, section 4.1). RFC 8654's extended
// messages are not spoken, as Route Servers do not.
const (
	headerSize  = 19
	markerSize  = 16
	maxMessage  = 4096
	minOpen     = 29
	minUpdate   = 23
	minNotify   = 21
	refreshSize = 23
)

// MessageType is the type octet of a message's header.
type MessageType uint8

// Message types (RFC 4271, section 4.1; RFC 2918, section 3).
const (
	TypeOpen         MessageType = 1
	TypeUpdate       MessageType = 2
	TypeNotification MessageType = 3
	TypeKeepalive    MessageType = 4
	TypeRouteRefresh MessageType = 5
)

// A Message is one BGP message: *Open, *Update, *Notification, *Keepalive or *RouteRefresh.
type Message interface {
	// Type is the header's type octet.
	Type() MessageType
	// appendBody appends what follows the header.
	appendBody(b []byte) ([]byte, error)
}

// Keepalive is the KEEPALIVE message, a header only.
type Keepalive struct{}

// Type returns TypeKeepalive.
func (*Keepalive) Type() MessageType { return TypeKeepalive }

func (*Keepalive) appendBody(b []byte) ([]byte, error) { return b, nil }

// Address family numbers (IANA) of what is spoken and what is only announced.
const (
	afiIPv4     uint16 = 1
	afiIPv6     uint16 = 2
	safiUnicast uint8  = 1
)

// RouteRefresh is the ROUTE-REFRESH message (RFC 2918, section 3).
type RouteRefresh struct {
	AFI uint16
	// Subtype is 0 for a request (RFC 7313, section 3.2).
	Subtype uint8
	SAFI    uint8
}

// Type returns TypeRouteRefresh.
func (*RouteRefresh) Type() MessageType { return TypeRouteRefresh }

func (m *RouteRefresh) appendBody(b []byte) ([]byte, error) {
	return append(binary.BigEndian.AppendUint16(b, m.AFI), m.Subtype, m.SAFI), nil
}

// AppendMessage appends the message in wire form to b. It fails if the message
// is longer than 4,096 octets or could not be parsed again.
func AppendMessage(b []byte, m Message) ([]byte, error) {
	start := len(b)
	b = append(b, bytes.Repeat([]byte{0xff}, markerSize)...)
	b = append(b, 0, 0, byte(m.Type()))
	b, err := m.appendBody(b)
	if err != nil {
		return b[:start], err
	}
	n := len(b) - start
	if n > maxMessage {
		return b[:start], fmt.Errorf("speaker: message of type %d has %d octets (at most %d)", m.Type(), n, maxMessage)
	}
	binary.BigEndian.PutUint16(b[start+markerSize:], uint16(n))
	return b, nil
}

// ParseMessage parses exactly one message. The result shares no memory with b.
// The error is a *MessageError: what to send in a NOTIFICATION.
//
// An UPDATE whose attributes are wrong, but whose prefixes can be told, is not
// an error: see Update.AttributeError.
func ParseMessage(b []byte) (Message, error) {
	if len(b) < headerSize {
		return nil, headerError(headerBadLength, nil, "header of %d octets", len(b))
	}
	t, n, err := parseHeader([headerSize]byte(b))
	if err != nil {
		return nil, err
	}
	if n != len(b) {
		return nil, headerError(headerBadLength, b[16:18], "length %d in a message of %d octets", n, len(b))
	}
	body := b[headerSize:]
	switch t {
	case TypeOpen:
		return parseOpen(body)
	case TypeUpdate:
		return parseUpdate(body)
	case TypeNotification:
		return &Notification{Code: body[0], Subcode: body[1], Data: bytes.Clone(body[2:])}, nil
	case TypeKeepalive:
		return &Keepalive{}, nil
	default: // parseHeader lets nothing else through
		return &RouteRefresh{AFI: binary.BigEndian.Uint16(body), Subtype: body[2], SAFI: body[3]}, nil
	}
}

// parseHeader checks a header (RFC 4271, section 6.1) and returns the type and
// the length of the whole message, which is right for the type.
func parseHeader(h [headerSize]byte) (MessageType, int, error) {
	for _, m := range h[:markerSize] {
		if m != 0xff {
			return 0, 0, headerError(headerNotSynchronized, nil, "marker is not all ones")
		}
	}
	n, t := int(binary.BigEndian.Uint16(h[16:18])), MessageType(h[18])
	low, high := headerSize, maxMessage
	switch t {
	case TypeOpen:
		low = minOpen
	case TypeUpdate:
		low = minUpdate
	case TypeNotification:
		low = minNotify
	case TypeKeepalive:
		high = headerSize
	case TypeRouteRefresh:
		low, high = refreshSize, refreshSize
	default:
		return 0, 0, headerError(headerBadType, h[18:19], "message type %d is unknown", t)
	}
	if n < low || n > high {
		return 0, 0, headerError(headerBadLength, h[16:18], "message type %d has length %d (%d to %d)", t, n, low, high)
	}
	return t, n, nil
}

// appendPrefixes appends IPv4 prefixes as in RFC 4271, section 4.3.
func appendPrefixes(b []byte, prefixes []netip.Prefix) ([]byte, error) {
	for _, p := range prefixes {
		if !p.Addr().Is4() || p.Bits() < 0 {
			return b, fmt.Errorf("speaker: %v is not an IPv4 prefix", p)
		}
		a := p.Masked().Addr().As4()
		b = append(b, byte(p.Bits()))
		b = append(b, a[:prefixOctets(p.Bits())]...)
	}
	return b, nil
}

// parsePrefixes parses IPv4 prefixes; trailing bits are irrelevant and cleared.
func parsePrefixes(b []byte) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for len(b) > 0 {
		bits := int(b[0])
		n := prefixOctets(bits)
		if bits > 32 {
			return nil, fmt.Errorf("prefix length %d is over 32", bits)
		}
		if len(b) < 1+n {
			return nil, fmt.Errorf("prefix of length %d has %d of %d octets", bits, len(b)-1, n)
		}
		var a [4]byte
		copy(a[:], b[1:1+n])
		out = append(out, netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked())
		b = b[1+n:]
	}
	return out, nil
}

func prefixOctets(bits int) int { return (bits + 7) / 8 }
