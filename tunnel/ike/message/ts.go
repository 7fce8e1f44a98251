package message

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// TS is a Traffic Selector payload (RFC 7296, section 3.13).
type TS struct {
	Of        PayloadType // TypeTSi or TypeTSr
	Selectors []Selector
}

// Selector is a range of addresses, all IPv4 or all IPv6, for a protocol and a
// range of ports.
type Selector struct {
	Protocol           uint8  // 0 is any
	StartPort, EndPort uint16 // 0 to 65535 is any, 65535 to 0 is OPAQUE (RFC 7296, section 3.13.1)
	Start, End         netip.Addr
}

const (
	selectorIPv4 = 7
	selectorIPv6 = 8

	maxSelectors = 255
)

// Type implements Payload.
func (p TS) Type() PayloadType { return p.Of }

// decodeTS leaves out selectors of unknown types: that is narrowing them away.
// So there may be none.
func decodeTS(t PayloadType, b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, errShort
	}
	p, n := TS{Of: t}, int(b[0])
	b = b[4:]
	for i := range n {
		if len(b) < 8 {
			return nil, fmt.Errorf("selector %d of %d: %w", i+1, n, errShort)
		}
		size := int(binary.BigEndian.Uint16(b[2:]))
		if size < 8 || size > len(b) {
			return nil, fmt.Errorf("selector %d of %d: a length of %d, %d bytes are left", i+1, n, size, len(b))
		}
		kind, v := b[0], b[:size]
		b = b[size:]
		width := 4
		switch kind {
		case selectorIPv4:
		case selectorIPv6:
			width = 16
		default:
			continue
		}
		if size != 8+2*width {
			return nil, fmt.Errorf("selector %d of %d: type %d with a length of %d", i+1, n, kind, size)
		}
		start, _ := netip.AddrFromSlice(v[8 : 8+width])
		end, _ := netip.AddrFromSlice(v[8+width:])
		s := Selector{v[1], binary.BigEndian.Uint16(v[4:]), binary.BigEndian.Uint16(v[6:]), start, end}
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("selector %d of %d: %w", i+1, n, err)
		}
		p.Selectors = append(p.Selectors, s)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes after %d selectors", len(b), n)
	}
	return p, nil
}

func (s Selector) check() error {
	if !s.Start.IsValid() || s.Start.Is4() != s.End.Is4() || s.End.Less(s.Start) {
		return fmt.Errorf("%s to %s is no range", s.Start, s.End)
	}
	if s.StartPort > s.EndPort && (s.StartPort != 65535 || s.EndPort != 0) {
		return fmt.Errorf("ports %d to %d are no range", s.StartPort, s.EndPort)
	}
	return nil
}

func (p TS) appendBody(b []byte) ([]byte, error) {
	if p.Of != TypeTSi && p.Of != TypeTSr {
		return nil, fmt.Errorf("selectors of %s", p.Of)
	}
	if len(p.Selectors) > maxSelectors {
		return nil, fmt.Errorf("%d selectors, %d are allowed", len(p.Selectors), maxSelectors)
	}
	b = append(b, byte(len(p.Selectors)), 0, 0, 0)
	for _, s := range p.Selectors {
		if err := s.check(); err != nil {
			return nil, err
		}
		kind, width := byte(selectorIPv6), 16
		if s.Start.Is4() {
			kind, width = selectorIPv4, 4
		}
		b = append(b, kind, s.Protocol)
		b = binary.BigEndian.AppendUint16(b, uint16(8+2*width))
		b = binary.BigEndian.AppendUint16(b, s.StartPort)
		b = binary.BigEndian.AppendUint16(b, s.EndPort)
		b = append(append(b, s.Start.AsSlice()...), s.End.AsSlice()...)
	}
	return b, nil
}

// SelectorOf is the selector of a prefix for all protocols and ports.
func SelectorOf(p netip.Prefix) Selector {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for i := range last {
		if host := 8*(i+1) - p.Bits(); host > 0 {
			last[i] |= byte(1<<min(host, 8) - 1)
		}
	}
	end, _ := netip.AddrFromSlice(last)
	return Selector{EndPort: 65535, Start: p.Addr(), End: end}
}

// String is the selector as a person writes it: a prefix where it is one, the
// protocol and the ports only where they are not all.
func (s Selector) String() string {
	text := s.Start.String() + "-" + s.End.String()
	for bits := range s.Start.BitLen() + 1 {
		if p := netip.PrefixFrom(s.Start, bits); SelectorOf(p).Start == s.Start && SelectorOf(p).End == s.End {
			text = p.String()
			break
		}
	}
	if s.Protocol != 0 {
		text += fmt.Sprintf(" protocol %d", s.Protocol)
	}
	switch {
	case s.StartPort > s.EndPort:
		text += " opaque ports"
	case s.StartPort == s.EndPort:
		text += fmt.Sprintf(" port %d", s.StartPort)
	case s.StartPort != 0 || s.EndPort != 65535:
		text += fmt.Sprintf(" ports %d-%d", s.StartPort, s.EndPort)
	}
	return text
}
