package message

import (
	"encoding/binary"
	"fmt"
)

// SA is a Security Association payload (RFC 7296, section 3.3).
type SA struct{ Proposals []Proposal }

// Proposal is one of the alternatives of an SA payload.
type Proposal struct {
	Number     uint8 // 1 and upwards in an offer; in the answer that of the one accepted
	Protocol   Protocol
	SPI        []byte // the sender's; none for an IKE SA in IKE_SA_INIT
	Transforms []Transform
}

// Transform is an algorithm. Of those with one type in a proposal one is chosen.
type Transform struct {
	Type    TransformType
	ID      uint16 // as the registry of the type says
	KeyBits uint16 // the Key Length attribute; 0 is without
	// Strange says that it came with an attribute that is not known: it
	// must not be chosen (RFC 7296, section 3.3.6), and cannot be sent.
	Strange bool
}

const (
	attributeKeyLength = 14
	attributeFixed     = 0x8000 // the value stands in place of a length
)

// Type implements Payload.
func (SA) Type() PayloadType { return TypeSA }

func decodeSA(b []byte) (Payload, error) {
	var p SA
	for more := true; more; {
		if len(p.Proposals) == MaxProposals {
			return nil, fmt.Errorf("more than %d proposals", MaxProposals)
		}
		if len(b) < 8 {
			return nil, errShort
		}
		size, end := int(binary.BigEndian.Uint16(b[2:])), 8+int(b[6])
		if size > len(b) || end > size {
			return nil, fmt.Errorf("proposal %d: a length of %d, %d bytes are left", b[4], size, len(b))
		}
		if last := b[0]; last != 0 && last != 2 {
			return nil, fmt.Errorf("proposal %d: neither the last nor followed by another, but %d", b[4], last)
		}
		transforms, err := decodeTransforms(b[end:size], int(b[7]))
		if err != nil {
			return nil, fmt.Errorf("proposal %d: %w", b[4], err)
		}
		p.Proposals = append(p.Proposals, Proposal{b[4], Protocol(b[5]), b[8:end], transforms})
		more, b = b[0] != 0, b[size:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes after the last proposal", len(b))
	}
	return p, nil
}

func decodeTransforms(b []byte, n int) ([]Transform, error) {
	if n > MaxTransforms {
		return nil, fmt.Errorf("%d transforms, %d are allowed", n, MaxTransforms)
	}
	var out []Transform
	for i := range n {
		if len(b) < 8 {
			return nil, fmt.Errorf("transform %d of %d: %w", i+1, n, errShort)
		}
		size := int(binary.BigEndian.Uint16(b[2:]))
		if size < 8 || size > len(b) {
			return nil, fmt.Errorf("transform %d of %d: a length of %d, %d bytes are left", i+1, n, size, len(b))
		}
		if want := 3 * min(1, n-1-i); int(b[0]) != want {
			return nil, fmt.Errorf("transform %d of %d says %d for whether it is the last, not %d", i+1, n, b[0], want)
		}
		t := Transform{Type: TransformType(b[4]), ID: binary.BigEndian.Uint16(b[6:])}
		if err := t.attributes(b[8:size]); err != nil {
			return nil, fmt.Errorf("transform %d of %d: %w", i+1, n, err)
		}
		out, b = append(out, t), b[size:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes after %d transforms", len(b), n)
	}
	return out, nil
}

func (t *Transform) attributes(b []byte) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errShort
		}
		kind, value := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		b = b[4:]
		switch {
		case kind == attributeFixed|attributeKeyLength && value != 0 && t.KeyBits == 0:
			t.KeyBits = value
		case kind&attributeFixed != 0:
			t.Strange = true
		case int(value) > len(b):
			return fmt.Errorf("an attribute of %d bytes, %d are left", value, len(b))
		default:
			t.Strange, b = true, b[value:]
		}
	}
	return nil
}

func (p SA) appendBody(b []byte) ([]byte, error) {
	if n := len(p.Proposals); n == 0 || n > MaxProposals {
		return nil, fmt.Errorf("%d proposals, not 1 to %d", n, MaxProposals)
	}
	for i, o := range p.Proposals {
		if len(o.SPI) > 255 || len(o.Transforms) > MaxTransforms {
			return nil, fmt.Errorf("proposal %d: an SPI of %d bytes, %d transforms", o.Number, len(o.SPI), len(o.Transforms))
		}
		at := len(b)
		b = append(b, byte(2*min(1, len(p.Proposals)-1-i)), 0, 0, 0, o.Number, byte(o.Protocol), byte(len(o.SPI)), byte(len(o.Transforms)))
		b = append(b, o.SPI...)
		for j, t := range o.Transforms {
			if t.Strange {
				return nil, fmt.Errorf("proposal %d: a transform with an unknown attribute", o.Number)
			}
			size := 8
			if t.KeyBits != 0 {
				size = 12
			}
			b = append(b, byte(3*min(1, len(o.Transforms)-1-j)), 0, 0, byte(size), byte(t.Type), 0)
			b = binary.BigEndian.AppendUint16(b, t.ID)
			if t.KeyBits != 0 {
				b = binary.BigEndian.AppendUint16(b, attributeFixed|attributeKeyLength)
				b = binary.BigEndian.AppendUint16(b, t.KeyBits)
			}
		}
		binary.BigEndian.PutUint16(b[at+2:], uint16(len(b)-at)) // at most 8 + 255 + 128*12
	}
	return b, nil
}
