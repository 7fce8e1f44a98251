package auth

import (
	"crypto/hmac"
	"encoding/binary"

	"github.com/transitd/transitd/tunnel/ike/keys"
	"github.com/transitd/transitd/tunnel/ike/message"
)

// Octets is what an end signs (RFC 7296, section 2.15): its own first message as
// it was on the wire (without the four zero bytes of port 4500), the peer's
// nonce, and its identity under its key, SK_pi or SK_pr. intermediate is what
// Intermediate returns, or nothing without IKE_INTERMEDIATE exchanges.
func Octets(prf keys.PRF, first, peerNonce, p []byte, id message.ID, intermediate []byte) []byte {
	b := append([]byte{}, first...)
	b = append(b, peerNonce...)
	b = append(b, prf.Sum(p, id.Body())...)
	return append(b, intermediate...)
}

// PSK is the AUTH payload of a pre-shared key.
func PSK(prf keys.PRF, secret, octets []byte) message.Auth {
	return message.Auth{Method: message.AuthPSK, Data: prf.Sum(prf.Sum(secret, []byte("Key Pad for IKEv2")), octets)}
}

// VerifyPSK reports whether the peer has the pre-shared key, in a time that says nothing of it.
func VerifyPSK(prf keys.PRF, secret, octets []byte, got message.Auth) bool {
	return got.Method == message.AuthPSK && hmac.Equal(PSK(prf, secret, octets).Data, got.Data)
}

// IntermediateStep adds a message of an IKE_INTERMEDIATE exchange to one
// direction's chain (RFC 9242, section 3.3.2): p is SK_pi or SK_pr as they are
// when the message is sent or received, before the exchange changes them; before
// is the chain so far. Of a fragmented message plain is the whole.
func IntermediateStep(prf keys.PRF, p, before []byte, h message.Header, first message.PayloadType, plain []byte) []byte {
	// The lengths are those without IV, padding and integrity check; how the
	// message was fragmented does not matter.
	b := h.Append(nil, message.TypeEncrypted, message.HeaderLen+4+len(plain))
	b = append(b, byte(first), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(plain)))
	return prf.Sum(p, before, b, plain)
}

// Intermediate is what both ends append to their octets after IKE_INTERMEDIATE
// exchanges: the chain of the initiator's messages, that of the responder's, and
// the message ID of the first IKE_AUTH.
func Intermediate(initiator, responder []byte, authID uint32) []byte {
	b := append(append([]byte{}, initiator...), responder...)
	return binary.BigEndian.AppendUint32(b, authID)
}
