package speaker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// version is BGP's (RFC 4271, section 4.2).
const version = 4

// parameterCapabilities is the only optional parameter in use (RFC 5492, section 4).
const parameterCapabilities = 2

// Capability codes (IANA "Capability Codes").
const (
	capMultiprotocol uint8 = 1
	capRouteRefresh  uint8 = 2
	capFourOctetAS   uint8 = 65
)

// A Capability is one of an OPEN's capabilities (RFC 5492, section 4).
type Capability struct {
	Code  uint8
	Value []byte
}

// String names the capability.
func (c Capability) String() string {
	switch {
	case c.Code == capMultiprotocol && bytes.Equal(c.Value, []byte{0, 1, 0, 1}):
		return "ipv4-unicast"
	case c.Code == capMultiprotocol && bytes.Equal(c.Value, []byte{0, 2, 0, 1}):
		return "ipv6-unicast"
	case c.Code == capRouteRefresh:
		return "route-refresh"
	case c.Code == capFourOctetAS:
		return "four-octet-as"
	}
	return fmt.Sprintf("unknown(%d)", c.Code)
}

// Open is the OPEN message (RFC 4271, section 4.2).
type Open struct {
	// AS is the two-octet field: AS_TRANS if the real one needs four.
	AS uint16
	// HoldTime is in seconds; 1 and 2 are not allowed.
	HoldTime uint16
	// RouterID is not 0.0.0.0.
	RouterID netip.Addr
	// Capabilities in the order of the wire, unknown ones included.
	Capabilities []Capability
}

// Type returns TypeOpen.
func (*Open) Type() MessageType { return TypeOpen }

// ASN is the sender's AS number: that of the four-octet AS capability if there is one.
func (o *Open) ASN() uint32 {
	for _, c := range o.Capabilities {
		if c.Code == capFourOctetAS {
			return binary.BigEndian.Uint32(c.Value)
		}
	}
	return uint32(o.AS)
}

func (o *Open) has(code uint8) bool {
	for _, c := range o.Capabilities {
		if c.Code == code {
			return true
		}
	}
	return false
}

// hasIPv4 reports whether the sender speaks IPv4 unicast, which it does without
// any multiprotocol capability too (RFC 4760, section 8).
func (o *Open) hasIPv4() bool {
	for _, c := range o.Capabilities {
		if c.Code == capMultiprotocol && bytes.Equal(c.Value, []byte{0, 1, 0, 1}) {
			return true
		}
	}
	return !o.has(capMultiprotocol)
}

// newOpen makes what the speaker opens with.
func newOpen(asn uint32, id netip.Addr, hold time.Duration, ipv6 bool) *Open {
	o := &Open{AS: uint16(min(asn, 65535)), HoldTime: uint16(hold / time.Second), RouterID: id}
	if asn > 65535 {
		o.AS = uint16(asTrans)
	}
	o.Capabilities = append(o.Capabilities, Capability{Code: capMultiprotocol, Value: []byte{0, 1, 0, 1}})
	if ipv6 {
		o.Capabilities = append(o.Capabilities, Capability{Code: capMultiprotocol, Value: []byte{0, 2, 0, 1}})
	}
	o.Capabilities = append(o.Capabilities,
		Capability{Code: capRouteRefresh},
		Capability{Code: capFourOctetAS, Value: binary.BigEndian.AppendUint32(nil, asn)})
	return o
}

// validate holds what a parsed and a sent OPEN have in common (RFC 4271, section 6.2).
func (o *Open) validate() error {
	switch {
	case o.HoldTime == 1 || o.HoldTime == 2:
		return openError(openHoldTime, nil, "hold time of %d s (0 or at least 3)", o.HoldTime)
	case !o.RouterID.Is4() || o.RouterID.IsUnspecified():
		return openError(openIdentifier, nil, "BGP identifier %v", o.RouterID)
	}
	for _, c := range o.Capabilities {
		if c.Code == capFourOctetAS && len(c.Value) != 4 || c.Code == capMultiprotocol && len(c.Value) != 4 {
			return openError(openUnspecified, nil, "capability %d has %d octets (4)", c.Code, len(c.Value))
		}
	}
	if o.ASN() == 0 {
		return openError(openPeerAS, nil, "AS number 0")
	}
	return nil
}

func (o *Open) appendBody(b []byte) ([]byte, error) {
	if err := o.validate(); err != nil {
		return b, err
	}
	id := o.RouterID.As4()
	b = append(b, version)
	b = binary.BigEndian.AppendUint16(b, o.AS)
	b = binary.BigEndian.AppendUint16(b, o.HoldTime)
	b = append(b, id[:]...)
	var caps []byte
	for _, c := range o.Capabilities {
		if len(c.Value) > 255 {
			return b, fmt.Errorf("speaker: capability %d has %d octets (at most 255)", c.Code, len(c.Value))
		}
		caps = append(caps, c.Code, byte(len(c.Value)))
		caps = append(caps, c.Value...)
	}
	if len(caps) == 0 {
		return append(b, 0), nil
	}
	if len(caps) > 253 {
		return b, fmt.Errorf("speaker: capabilities have %d octets (at most 253)", len(caps))
	}
	b = append(b, byte(len(caps)+2), parameterCapabilities, byte(len(caps)))
	return append(b, caps...), nil
}

func parseOpen(b []byte) (Message, error) {
	if b[0] != version {
		return nil, openError(openVersion, []byte{0, version}, "version %d (%d)", b[0], version)
	}
	o := &Open{
		AS:       binary.BigEndian.Uint16(b[1:]),
		HoldTime: binary.BigEndian.Uint16(b[3:]),
		RouterID: netip.AddrFrom4([4]byte(b[5:9])),
	}
	params := b[10:]
	if int(b[9]) != len(params) {
		return nil, openError(openUnspecified, nil, "optional parameters of %d octets, %d are there", b[9], len(params))
	}
	for len(params) > 0 {
		if len(params) < 2 || len(params) < 2+int(params[1]) {
			return nil, openError(openUnspecified, nil, "optional parameter is cut off")
		}
		if params[0] != parameterCapabilities {
			return nil, openError(openParameter, params[:1], "optional parameter %d", params[0])
		}
		caps, err := parseCapabilities(params[2 : 2+int(params[1])])
		if err != nil {
			return nil, err
		}
		o.Capabilities = append(o.Capabilities, caps...)
		params = params[2+int(params[1]):]
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	return o, nil
}

func parseCapabilities(b []byte) ([]Capability, error) {
	var out []Capability
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return nil, openError(openUnspecified, nil, "capability is cut off")
		}
		out = append(out, Capability{Code: b[0], Value: bytes.Clone(b[2 : 2+int(b[1])])})
		b = b[2+int(b[1]):]
	}
	return out, nil
}
