package message

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of what is read from one message. A datagram of 64 KiB could hold far
// more of each; nobody sends that.
const (
	MaxPayloads   = 64  // in a message, those inside the encrypted payload counted apart
	MaxProposals  = 64  // in an SA payload
	MaxTransforms = 128 // in a proposal
	MaxSPIs       = 512 // in a Delete payload

	payloadHeaderLen = 4
	criticalBit      = 0x80
)

// Message is a message outside of encryption: its last payload is an Encrypted
// or EncryptedFragment, or there is neither.
type Message struct {
	Header
	Payloads []Payload
}

// Payload is one of the payload types of this package, as a value.
type Payload interface {
	// Type is the number by which the payload before names it.
	Type() PayloadType
	// appendBody appends what comes after the generic header.
	appendBody(b []byte) ([]byte, error)
}

// CriticalError is an unknown payload with its critical bit set (RFC 7296,
// section 2.5): the request is answered with UNSUPPORTED_CRITICAL_PAYLOAD and
// the type as the notification's one byte of data.
type CriticalError struct{ Payload PayloadType }

func (e *CriticalError) Error() string {
	return fmt.Sprintf("payload %d is unknown and critical", uint8(e.Payload))
}

// Decode reads a datagram, without the four zero bytes that are before it on
// UDP port 4500. Errors are a *VersionError, a *CriticalError, or anything for
// bytes that are no message. With the first two the header is valid.
func Decode(b []byte) (Message, error) {
	h, next, err := decodeHeader(b)
	m := Message{Header: h}
	if err != nil {
		return m, fmt.Errorf("decoding the header: %w", err)
	}
	m.Payloads, err = decodeChain(next, b[HeaderLen:], true)
	return m, err
}

// DecodePayloads reads the payloads that an Encrypted payload holds. first is
// the type of the first one. No fragment and no further Encrypted payload is among them.
func DecodePayloads(first PayloadType, plain []byte) ([]Payload, error) {
	return decodeChain(first, plain, false)
}

func decodeChain(next PayloadType, b []byte, outer bool) ([]Payload, error) {
	var out []Payload
	for n := 0; next != TypeNone; n++ {
		if n == MaxPayloads {
			return nil, fmt.Errorf("more than %d payloads", MaxPayloads)
		}
		if len(b) < payloadHeaderLen {
			return nil, fmt.Errorf("%s payload: %d bytes are left for its header", next, len(b))
		}
		size := int(binary.BigEndian.Uint16(b[2:]))
		if size < payloadHeaderLen || size > len(b) {
			return nil, fmt.Errorf("%s payload: its length is %d, %d bytes are left", next, size, len(b))
		}
		this, critical, body := next, b[1]&criticalBit != 0, b[payloadHeaderLen:size]
		next, b = PayloadType(b[0]), b[size:]
		p, err := decodePayload(this, next, body)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s payload: %w", this, err)
		case p == nil && critical:
			return nil, &CriticalError{this}
		case p == nil:
			continue
		}
		out = append(out, p)
		if this == TypeEncrypted || this == TypeEncryptedFragment {
			// Its next payload is the first one inside; behind it is nothing (RFC 7296, section 3.14).
			if !outer {
				return nil, fmt.Errorf("%s payload inside of an encrypted one", this)
			}
			next = TypeNone
		}
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes after the last payload", len(b))
	}
	return out, nil
}

// decodePayload returns nil and no error for a type that is not known.
func decodePayload(t, next PayloadType, body []byte) (Payload, error) {
	switch t {
	case TypeSA:
		return decodeSA(body)
	case TypeKE:
		return decodeKE(body)
	case TypeIDi, TypeIDr:
		return decodeID(t, body)
	case TypeCert:
		return decodeCert(body)
	case TypeCertReq:
		return decodeCertReq(body)
	case TypeAuth:
		return decodeAuth(body)
	case TypeNonce:
		return decodeNonce(body)
	case TypeNotify:
		return decodeNotify(body)
	case TypeDelete:
		return decodeDelete(body)
	case TypeVendor:
		return Vendor{body}, nil
	case TypeTSi, TypeTSr:
		return decodeTS(t, body)
	case TypeEncrypted:
		return Encrypted{next, body}, nil
	case TypeEncryptedFragment:
		return decodeFragment(next, body)
	case TypeConfiguration, TypeEAP:
		return Opaque{t, body}, nil
	case TypeNone:
	}
	return nil, nil
}

// Encode makes the datagram.
func (m Message) Encode() ([]byte, error) {
	first, body, err := EncodePayloads(m.Payloads)
	if err != nil {
		return nil, err
	}
	if HeaderLen+len(body) > MaxLen {
		return nil, fmt.Errorf("a message of %d bytes is longer than %d", HeaderLen+len(body), MaxLen)
	}
	b := m.Append(make([]byte, 0, HeaderLen+len(body)), first, HeaderLen+len(body))
	return append(b, body...), nil
}

// EncodePayloads makes the chain of payloads and names the type of the first:
// what an Encrypted payload holds in clear text.
func EncodePayloads(ps []Payload) (first PayloadType, b []byte, err error) {
	if len(ps) > MaxPayloads {
		return 0, nil, fmt.Errorf("%d payloads, %d are allowed", len(ps), MaxPayloads)
	}
	for i, p := range ps {
		next := TypeNone
		if i+1 < len(ps) {
			next = ps[i+1].Type()
		}
		switch e := p.(type) {
		case Encrypted:
			next = e.First
		case EncryptedFragment:
			next = e.First
		}
		if t := p.Type(); i+1 < len(ps) && (t == TypeEncrypted || t == TypeEncryptedFragment) {
			return 0, nil, fmt.Errorf("%s payload before the last", t)
		}
		at := len(b)
		b = append(b, byte(next), 0, 0, 0)
		b, err = p.appendBody(b)
		if err != nil {
			return 0, nil, fmt.Errorf("%s payload: %w", p.Type(), err)
		}
		size := len(b) - at
		if size > MaxLen {
			return 0, nil, fmt.Errorf("%s payload: %d bytes are longer than %d", p.Type(), size, MaxLen)
		}
		binary.BigEndian.PutUint16(b[at+2:], uint16(size))
	}
	if len(ps) > 0 {
		first = ps[0].Type()
	}
	return first, b, nil
}

// First returns the first payload of a Go type, as in First[KE](payloads).
func First[T Payload](ps []Payload) (T, bool) {
	for _, p := range ps {
		if v, ok := p.(T); ok {
			return v, true
		}
	}
	var zero T
	return zero, false
}

// All returns the payloads of a Go type in their order.
func All[T Payload](ps []Payload) []T {
	var out []T
	for _, p := range ps {
		if v, ok := p.(T); ok {
			out = append(out, v)
		}
	}
	return out
}

// FindNotify returns the first notification of a type.
func FindNotify(ps []Payload, t NotifyType) (Notify, bool) {
	for _, n := range All[Notify](ps) {
		if n.Notify == t {
			return n, true
		}
	}
	return Notify{}, false
}

// FindID returns the ID payload of one end: TypeIDi or TypeIDr.
func FindID(ps []Payload, of PayloadType) (ID, bool) {
	for _, id := range All[ID](ps) {
		if id.Of == of {
			return id, true
		}
	}
	return ID{}, false
}

// FindTS returns the selectors of one end: TypeTSi or TypeTSr.
func FindTS(ps []Payload, of PayloadType) (TS, bool) {
	for _, ts := range All[TS](ps) {
		if ts.Of == of {
			return ts, true
		}
	}
	return TS{}, false
}

var errShort = errors.New("too short")
