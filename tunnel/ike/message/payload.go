package message

import (
	"encoding/binary"
	"fmt"
)

// KE is a Key Exchange payload (RFC 7296, section 3.4).
type KE struct {
	Method KeyExchange
	Data   []byte
}

// Type implements Payload.
func (KE) Type() PayloadType { return TypeKE }

func decodeKE(b []byte) (Payload, error) {
	if len(b) < 5 {
		return nil, errShort
	}
	return KE{KeyExchange(binary.BigEndian.Uint16(b)), b[4:]}, nil
}

func (p KE) appendBody(b []byte) ([]byte, error) {
	if len(p.Data) == 0 {
		return nil, errShort
	}
	b = binary.BigEndian.AppendUint16(b, uint16(p.Method))
	return append(append(b, 0, 0), p.Data...), nil
}

// ID is an Identification payload (RFC 7296, section 3.5).
type ID struct {
	Of   PayloadType // TypeIDi or TypeIDr
	Kind IDKind
	Data []byte
}

// Type implements Payload.
func (p ID) Type() PayloadType { return p.Of }

func decodeID(t PayloadType, b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, errShort
	}
	return ID{t, IDKind(b[0]), b[4:]}, nil
}

func (p ID) appendBody(b []byte) ([]byte, error) {
	if p.Of != TypeIDi && p.Of != TypeIDr {
		return nil, fmt.Errorf("an identity of %s", p.Of)
	}
	return append(b, p.Body()...), nil
}

// Body is the payload without its generic header: what AUTH covers (RFC 7296,
// section 2.15), as RestOfInitIDPayload and RestOfRespIDPayload.
func (p ID) Body() []byte {
	return append([]byte{byte(p.Kind), 0, 0, 0}, p.Data...)
}

// Cert is a Certificate payload (RFC 7296, section 3.6).
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

// Type implements Payload.
func (Cert) Type() PayloadType { return TypeCert }

func decodeCert(b []byte) (Payload, error) {
	if len(b) < 2 {
		return nil, errShort
	}
	return Cert{CertEncoding(b[0]), b[1:]}, nil
}

func (p Cert) appendBody(b []byte) ([]byte, error) {
	if len(p.Data) == 0 {
		return nil, errShort
	}
	return append(append(b, byte(p.Encoding)), p.Data...), nil
}

// CertReq is a Certificate Request payload (RFC 7296, section 3.7).
type CertReq struct {
	Encoding    CertEncoding
	Authorities []byte // SHA-1 hashes of authorities' public keys, one after the other
}

// Type implements Payload.
func (CertReq) Type() PayloadType { return TypeCertReq }

func decodeCertReq(b []byte) (Payload, error) {
	if len(b) < 1 {
		return nil, errShort
	}
	return CertReq{CertEncoding(b[0]), b[1:]}, nil
}

func (p CertReq) appendBody(b []byte) ([]byte, error) {
	return append(append(b, byte(p.Encoding)), p.Authorities...), nil
}

// Auth is an Authentication payload (RFC 7296, section 3.8).
type Auth struct {
	Method AuthMethod
	Data   []byte
}

// Type implements Payload.
func (Auth) Type() PayloadType { return TypeAuth }

func decodeAuth(b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, errShort
	}
	return Auth{AuthMethod(b[0]), b[4:]}, nil
}

func (p Auth) appendBody(b []byte) ([]byte, error) {
	return append(append(b, byte(p.Method), 0, 0, 0), p.Data...), nil
}

// Bounds of a nonce in bytes (RFC 7296, section 3.9).
const (
	MinNonce = 16
	MaxNonce = 256
)

// Nonce is a Nonce payload.
type Nonce struct{ Data []byte }

// Type implements Payload.
func (Nonce) Type() PayloadType { return TypeNonce }

func (p Nonce) check() error {
	if n := len(p.Data); n < MinNonce || n > MaxNonce {
		return fmt.Errorf("%d bytes, not %d to %d", n, MinNonce, MaxNonce)
	}
	return nil
}

func decodeNonce(b []byte) (Payload, error) {
	p := Nonce{b}
	return p, p.check()
}

func (p Nonce) appendBody(b []byte) ([]byte, error) { return append(b, p.Data...), p.check() }

// Notify is a Notify payload (RFC 7296, section 3.10).
type Notify struct {
	Protocol Protocol // of the SPI; ProtocolNone without one
	SPI      []byte
	Notify   NotifyType
	Data     []byte
}

// Type implements Payload.
func (Notify) Type() PayloadType { return TypeNotify }

func decodeNotify(b []byte) (Payload, error) {
	if len(b) < 4 || len(b) < 4+int(b[1]) {
		return nil, errShort
	}
	spi := 4 + int(b[1])
	return Notify{Protocol(b[0]), b[4:spi], NotifyType(binary.BigEndian.Uint16(b[2:])), b[spi:]}, nil
}

func (p Notify) appendBody(b []byte) ([]byte, error) {
	if len(p.SPI) > 255 {
		return nil, fmt.Errorf("an SPI of %d bytes", len(p.SPI))
	}
	b = append(b, byte(p.Protocol), byte(len(p.SPI)))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Notify))
	return append(append(b, p.SPI...), p.Data...), nil
}

// Delete is a Delete payload (RFC 7296, section 3.11). That of an IKE SA has no SPI.
type Delete struct {
	Protocol Protocol
	SPIs     [][]byte // all of one length
}

// Type implements Payload.
func (Delete) Type() PayloadType { return TypeDelete }

func decodeDelete(b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, errShort
	}
	p, size, n := Delete{Protocol: Protocol(b[0])}, int(b[1]), int(binary.BigEndian.Uint16(b[2:]))
	b = b[4:]
	switch {
	case size*n != len(b) || size == 0 && n != 0:
		return nil, fmt.Errorf("%d SPIs of %d bytes in %d bytes", n, size, len(b))
	case n > MaxSPIs:
		return nil, fmt.Errorf("%d SPIs, %d are allowed", n, MaxSPIs)
	}
	for ; len(b) > 0; b = b[size:] {
		p.SPIs = append(p.SPIs, b[:size])
	}
	return p, nil
}

func (p Delete) appendBody(b []byte) ([]byte, error) {
	size := 0
	if len(p.SPIs) > 0 {
		size = len(p.SPIs[0])
	}
	if len(p.SPIs) > MaxSPIs || size > 255 || size == 0 && len(p.SPIs) > 0 {
		return nil, fmt.Errorf("%d SPIs of %d bytes", len(p.SPIs), size)
	}
	b = binary.BigEndian.AppendUint16(append(b, byte(p.Protocol), byte(size)), uint16(len(p.SPIs)))
	for _, spi := range p.SPIs {
		if len(spi) != size {
			return nil, fmt.Errorf("SPIs of %d and of %d bytes", size, len(spi))
		}
		b = append(b, spi...)
	}
	return b, nil
}

// Vendor is a Vendor ID payload (RFC 7296, section 3.12).
type Vendor struct{ Data []byte }

// Type implements Payload.
func (Vendor) Type() PayloadType { return TypeVendor }

func (p Vendor) appendBody(b []byte) ([]byte, error) { return append(b, p.Data...), nil }

// Encrypted is an Encrypted payload as it is on the wire (RFC 7296, section 3.14).
type Encrypted struct {
	First PayloadType // of the payloads inside
	Body  []byte      // initialization vector, cipher text, integrity check
}

// Type implements Payload.
func (Encrypted) Type() PayloadType { return TypeEncrypted }

func (p Encrypted) appendBody(b []byte) ([]byte, error) { return append(b, p.Body...), nil }

// EncryptedFragment is an Encrypted Fragment payload (RFC 7383, section 2.5).
type EncryptedFragment struct {
	First         PayloadType // of the payloads inside; TypeNone in all but the first fragment
	Number, Total uint16      // 1 to Total
	Body          []byte
}

// Type implements Payload.
func (EncryptedFragment) Type() PayloadType { return TypeEncryptedFragment }

func (p EncryptedFragment) check() error {
	if p.Number == 0 || p.Number > p.Total {
		return fmt.Errorf("fragment %d of %d", p.Number, p.Total)
	}
	if p.Number > 1 && p.First != TypeNone {
		return fmt.Errorf("fragment %d names a next payload, %s", p.Number, p.First)
	}
	return nil
}

func decodeFragment(next PayloadType, b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, errShort
	}
	p := EncryptedFragment{next, binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[4:]}
	return p, p.check()
}

func (p EncryptedFragment) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint16(b, p.Number)
	b = binary.BigEndian.AppendUint16(b, p.Total)
	return append(b, p.Body...), p.check()
}

// Opaque is a payload that is known, allowed and not looked into: Configuration and EAP.
type Opaque struct {
	Of   PayloadType
	Data []byte
}

// Type implements Payload.
func (p Opaque) Type() PayloadType { return p.Of }

func (p Opaque) appendBody(b []byte) ([]byte, error) {
	if p.Of != TypeConfiguration && p.Of != TypeEAP {
		return nil, fmt.Errorf("opaque")
	}
	return append(b, p.Data...), nil
}
