package keys

import (
	"fmt"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// LogLine is a line of tshark's ikev2_decryption_table for an IKE SA: with it a
// capture can be read. It gives the keys away: it is for a file that an
// operator has asked for. tshark knows no ChaCha20-Poly1305 in IKE; then ok is false.
func LogLine(spii, spir uint64, c suite.Choice, k *IKE) (line string, ok bool) {
	encryption, integrity := "", "NONE [RFC4306]"
	switch c.Encryption.ID {
	case message.EncryptionAESGCM16:
		encryption = fmt.Sprintf("AES-GCM-%d with 16 octet ICV [RFC5282]", c.Encryption.KeyBits)
	case message.EncryptionAESCBC:
		encryption = fmt.Sprintf("AES-CBC-%d [RFC3602]", c.Encryption.KeyBits)
		switch c.Integrity {
		case message.IntegrityHMACSHA256:
			integrity = "HMAC_SHA2_256_128 [RFC4868]"
		case message.IntegrityHMACSHA384:
			integrity = "HMAC_SHA2_384_192 [RFC4868]"
		case message.IntegrityHMACSHA512:
			integrity = "HMAC_SHA2_512_256 [RFC4868]"
		default:
			return "", false
		}
	default:
		return "", false
	}
	return fmt.Sprintf("%016x,%016x,%x,%x,%q,%x,%x,%q", spii, spir, k.Ei, k.Er, encryption, k.Ai, k.Ar, integrity), true
}
