package message

import (
	"encoding/binary"
	"fmt"
)

// HeaderLen is the length of the header in bytes.
const HeaderLen = 28

// MaxLen is the longest message in bytes: what a UDP datagram may carry.
const MaxLen = 65535

// version is 2.0, in the header's one byte.
const version = 2 << 4

// Flags are the header's flags (RFC 7296, section 3.1).
type Flags uint8

// The flags that mean something.
const (
	FlagInitiator Flags = 1 << 3 // sent by the original initiator of the IKE SA
	FlagVersion   Flags = 1 << 4 // the sender could speak a higher major version
	FlagResponse  Flags = 1 << 5 // an answer to the request with the same message ID

	flagsKnown = FlagInitiator | FlagVersion | FlagResponse
)

// Header is a message's header. The next payload and the length follow from the
// payloads, the version is always 2.0.
type Header struct {
	InitiatorSPI uint64 // never 0
	ResponderSPI uint64 // 0 until the responder has chosen one
	Exchange     Exchange
	Flags        Flags
	ID           uint32 // message ID
}

// Response reports whether the message is an answer.
func (h Header) Response() bool { return h.Flags&FlagResponse != 0 }

// FromInitiator reports whether the original initiator of the IKE SA sent it.
func (h Header) FromInitiator() bool { return h.Flags&FlagInitiator != 0 }

func (h Header) String() string {
	kind := "request"
	if h.Response() {
		kind = "response"
	}
	return fmt.Sprintf("%s %s %d (SPIs %016x, %016x)", h.Exchange, kind, h.ID, h.InitiatorSPI, h.ResponderSPI)
}

// VersionError is a message of another major version (RFC 7296, section 2.5):
// its header is answered with INVALID_MAJOR_VERSION.
type VersionError struct{ Major, Minor uint8 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("IKE version %d.%d, not 2.0", e.Major, e.Minor)
}

// DecodeHeader reads the header of a whole datagram, without looking at the
// payloads. With a VersionError the header is valid, so that it can be answered.
func DecodeHeader(b []byte) (Header, error) {
	h, _, err := decodeHeader(b)
	return h, err
}

func decodeHeader(b []byte) (h Header, next PayloadType, err error) {
	if len(b) < HeaderLen {
		return h, 0, fmt.Errorf("%d bytes are too short for an IKE header", len(b))
	}
	h = Header{
		InitiatorSPI: binary.BigEndian.Uint64(b),
		ResponderSPI: binary.BigEndian.Uint64(b[8:]),
		Exchange:     Exchange(b[18]),
		Flags:        Flags(b[19]) & flagsKnown,
		ID:           binary.BigEndian.Uint32(b[20:]),
	}
	if n := binary.BigEndian.Uint32(b[24:]); uint64(n) != uint64(len(b)) || n > MaxLen {
		return h, 0, fmt.Errorf("the header says %d bytes, the datagram has %d", n, len(b))
	}
	if h.InitiatorSPI == 0 {
		return h, 0, fmt.Errorf("the initiator's SPI is 0")
	}
	if v := b[17]; v>>4 != version>>4 {
		return h, 0, &VersionError{v >> 4, v & 15}
	}
	return h, PayloadType(b[16]), nil
}

// Append appends the header of a message of length bytes in all, the first
// payload of which is next.
func (h Header) Append(b []byte, next PayloadType, length int) []byte {
	b = binary.BigEndian.AppendUint64(b, h.InitiatorSPI)
	b = binary.BigEndian.AppendUint64(b, h.ResponderSPI)
	b = append(b, byte(next), version, byte(h.Exchange), byte(h.Flags))
	b = binary.BigEndian.AppendUint32(b, h.ID)
	return binary.BigEndian.AppendUint32(b, uint32(length))
}
