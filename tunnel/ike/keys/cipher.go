package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// ErrIntegrity is a message that was altered, or made with other keys.
var ErrIntegrity = errors.New("the integrity check failed")

var errCounter = errors.New("the counter of initialization vectors is used up")

// Cipher protects the messages of one direction of an IKE SA, or opens them.
type Cipher struct {
	aead    cipher.AEAD // with an AEAD
	salt    []byte
	block   cipher.Block // else these
	hash    func() hash.Hash
	authKey []byte
	icvLen  int
	counter uint64 // of the next initialization vector
}

const (
	ivLen           = 8 // of an AEAD; the counter
	genericLen      = 4 // of a payload's generic header
	fragmentNumbers = 4 // behind it in a fragment: number and total
)

// NewCipher makes the cipher of one direction: with Ei and Ai that of what the
// original initiator sends, with Er and Ar the other. One that seals must be the
// only one ever made with its keys: it counts initialization vectors from 0.
func NewCipher(c suite.Choice, encryption, integrity []byte) (*Cipher, error) {
	e, a, err := lengths(c)
	if err != nil {
		return nil, err
	}
	if len(encryption) != e || len(integrity) != a {
		return nil, fmt.Errorf("keys of %d and %d bytes, not %d and %d", len(encryption), len(integrity), e, a)
	}
	if c.Encryption.ID == message.EncryptionAESCBC {
		block, err := aes.NewCipher(encryption)
		if err != nil {
			return nil, err
		}
		h, icv, err := integrityOf(c.Integrity)
		return &Cipher{block: block, hash: h, icvLen: icv, authKey: append([]byte{}, integrity...)}, err
	}
	key, salt := encryption[:e-saltLen], encryption[e-saltLen:]
	out := &Cipher{salt: append([]byte{}, salt...)}
	if c.Encryption.ID == message.EncryptionChaCha20Poly1305 {
		out.aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			out.aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		return nil, err
	}
	out.icvLen = out.aead.Overhead()
	return out, nil
}

// integrityOf is a hash and the length of its truncated HMAC (RFC 4868).
func integrityOf(id uint16) (h func() hash.Hash, icvLen int, err error) {
	switch id {
	case message.IntegrityHMACSHA256:
		return sha256.New, 16, nil
	case message.IntegrityHMACSHA384:
		return sha512.New384, 24, nil
	case message.IntegrityHMACSHA512:
		return sha512.New, 32, nil
	}
	return nil, 0, fmt.Errorf("there is no integrity %d", id)
}

// Seal makes a message the payloads of which are encrypted.
func (c *Cipher) Seal(h message.Header, ps []message.Payload) ([]byte, error) {
	out, err := c.SealFragments(h, ps, message.MaxLen)
	if err != nil {
		return nil, err
	}
	if len(out) != 1 {
		return nil, fmt.Errorf("sealing %s: the message is longer than %d bytes", h, message.MaxLen)
	}
	return out[0], nil
}

// SealFragments makes a message, or as many fragments as it takes to let none
// be longer than size bytes (RFC 7383, section 2.5.1). size is that of the IKE
// message: without IP, UDP and the four zero bytes of port 4500. To send a
// message once more, send the same bytes.
func (c *Cipher) SealFragments(h message.Header, ps []message.Payload, size int) ([][]byte, error) {
	first, plain, err := message.EncodePayloads(ps)
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", h, err)
	}
	out, err := c.SealPlain(h, first, plain, size)
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", h, err)
	}
	return out, nil
}

// SealPlain is SealFragments for payloads that are encoded already.
func (c *Cipher) SealPlain(h message.Header, first message.PayloadType, plain []byte, size int) ([][]byte, error) {
	if message.HeaderLen+genericLen+c.sealedLen(len(plain)) <= size {
		b, err := c.seal(h, message.EncryptedFragment{First: first}, plain)
		return [][]byte{b}, err
	}
	piece := c.room(size - message.HeaderLen - genericLen - fragmentNumbers)
	if piece < 1 {
		return nil, fmt.Errorf("nothing fits into fragments of %d bytes", size)
	}
	total := (len(plain) + piece - 1) / piece
	if total > message.MaxFragments {
		return nil, fmt.Errorf("%d bytes make %d fragments of %d, %d are allowed", len(plain), total, size, message.MaxFragments)
	}
	var out [][]byte
	for n := 1; n <= total; n++ {
		f := message.EncryptedFragment{First: first, Number: uint16(n), Total: uint16(total)}
		if n > 1 {
			f.First = message.TypeNone
		}
		b, err := c.seal(h, f, plain[:min(piece, len(plain))])
		if err != nil {
			return nil, err
		}
		out, plain = append(out, b), plain[min(piece, len(plain)):]
	}
	return out, nil
}

// sealedLen is how long n bytes of payloads become.
func (c *Cipher) sealedLen(n int) int {
	if c.aead != nil {
		return ivLen + n + 1 + c.icvLen
	}
	return aes.BlockSize + (n+1+aes.BlockSize-1)/aes.BlockSize*aes.BlockSize + c.icvLen
}

// room is how many bytes of payloads fit into n bytes.
func (c *Cipher) room(n int) int {
	if c.aead != nil {
		return n - ivLen - 1 - c.icvLen
	}
	return (n-aes.BlockSize-c.icvLen)/aes.BlockSize*aes.BlockSize - 1
}

// seal makes one message; f.Total is 0 for one that is whole.
func (c *Cipher) seal(h message.Header, f message.EncryptedFragment, plain []byte) ([]byte, error) {
	counter := c.counter
	if counter == 1<<64-1 {
		return nil, errCounter
	}
	c.counter++
	t, body := message.TypeEncrypted, genericLen
	if f.Total != 0 {
		t, body = message.TypeEncryptedFragment, genericLen+fragmentNumbers
	}
	length := message.HeaderLen + body + c.sealedLen(len(plain))
	if length > message.MaxLen {
		return nil, fmt.Errorf("a message of %d bytes is longer than %d", length, message.MaxLen)
	}
	b := h.Append(make([]byte, 0, length), t, length)
	b = append(b, byte(f.First), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length-message.HeaderLen))
	if f.Total != 0 {
		b = binary.BigEndian.AppendUint16(b, f.Number)
		b = binary.BigEndian.AppendUint16(b, f.Total)
	}
	ad := len(b)
	if c.aead != nil {
		// The associated data end before the IV (RFC 5282, section 5.1; RFC 7383, section 2.5).
		b = binary.BigEndian.AppendUint64(b, counter)
		nonce := concat(c.salt, b[ad:])
		b = append(append(b, plain...), 0) // no padding
		return c.aead.Seal(b[:ad+ivLen], nonce, b[ad+ivLen:], b[:ad]), nil
	}
	// The IV must not be predictable: it is the counter encrypted under the same
	// key (NIST SP 800-38A, appendix C).
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], counter)
	c.block.Encrypt(iv[:], iv[:])
	b = append(append(b, iv[:]...), plain...)
	pad := length - c.icvLen - len(b) - 1
	b = append(append(b, make([]byte, pad)...), byte(pad))
	text := b[ad+aes.BlockSize:]
	cipher.NewCBCEncrypter(c.block, iv[:]).CryptBlocks(text, text)
	return append(b, c.icv(b)...), nil
}

// icv covers the message from its header on (RFC 7296, section 3.14).
func (c *Cipher) icv(b []byte) []byte {
	h := hmac.New(c.hash, c.authKey)
	h.Write(b)
	return h.Sum(nil)[:c.icvLen]
}

// Opened is what an Encrypted payload held, or a fragment of it.
type Opened struct {
	message.Header
	First         message.PayloadType // of Plain; TypeNone in all but the first fragment
	Plain         []byte              // see message.DecodePayloads
	Number, Total uint16              // of a fragment; Total is 0 for a whole message
}

// Open decrypts a datagram, which stays as it is. The error is ErrIntegrity for
// whatever is not from the peer.
func (c *Cipher) Open(datagram []byte) (Opened, error) {
	m, err := message.Decode(datagram)
	if err != nil {
		return Opened{}, err
	}
	o := Opened{Header: m.Header}
	if len(m.Payloads) == 0 {
		return o, fmt.Errorf("%s without an encrypted payload", m.Header)
	}
	var body []byte
	switch p := m.Payloads[len(m.Payloads)-1].(type) {
	case message.Encrypted:
		o.First, body = p.First, p.Body
	case message.EncryptedFragment:
		o.First, o.Number, o.Total, body = p.First, p.Number, p.Total, p.Body
	default:
		return o, fmt.Errorf("%s without an encrypted payload", m.Header)
	}
	// The encrypted payload is the last, so all before its body is associated data.
	o.Plain, err = c.open(datagram, len(datagram)-len(body))
	return o, err
}

func (c *Cipher) open(b []byte, ad int) ([]byte, error) {
	body := b[ad:]
	var plain []byte
	if c.aead != nil {
		if len(body) < ivLen+1+c.icvLen {
			return nil, fmt.Errorf("%w: %d bytes are too short", ErrIntegrity, len(body))
		}
		var err error
		if plain, err = c.aead.Open(nil, concat(c.salt, body[:ivLen]), body[ivLen:], b[:ad]); err != nil {
			return nil, ErrIntegrity
		}
	} else {
		end := len(b) - c.icvLen
		text := len(body) - aes.BlockSize - c.icvLen
		if text < aes.BlockSize || text%aes.BlockSize != 0 {
			return nil, fmt.Errorf("%w: %d bytes are no blocks", ErrIntegrity, len(body))
		}
		// First the check, then the padding: nobody learns of the padding who has no key.
		if !hmac.Equal(c.icv(b[:end]), b[end:]) {
			return nil, ErrIntegrity
		}
		plain = make([]byte, text)
		cipher.NewCBCDecrypter(c.block, body[:aes.BlockSize]).CryptBlocks(plain, body[aes.BlockSize:aes.BlockSize+text])
	}
	pad := int(plain[len(plain)-1])
	if pad+1 > len(plain) {
		return nil, fmt.Errorf("%d bytes of padding in %d bytes", pad, len(plain))
	}
	return plain[:len(plain)-pad-1], nil
}
