package wireguard

import (
	"crypto/ecdh"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/transitd/transitd/pkg/secret"
)

const keyLen = 32

// PrivateKey is a Curve25519 private key. It prints as "(hidden)"; the zero value is none.
type PrivateKey [keyLen]byte

// PublicKey is a Curve25519 public key; the zero value is none.
type PublicKey [keyLen]byte

// PresharedKey is mixed into each handshake. It prints as "(hidden)"; the zero value is none.
type PresharedKey [keyLen]byte

const hidden = "(hidden)"

// String is "(hidden)".
func (PrivateKey) String() string { return hidden }

// Format writes "(hidden)", whatever the verb.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText writes "(hidden)".
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// String is "(hidden)".
func (PresharedKey) String() string { return hidden }

// Format writes "(hidden)", whatever the verb.
func (PresharedKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText writes "(hidden)".
func (PresharedKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// String is the key in base64.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// NewPrivateKey makes a key of 32 random bytes.
func NewPrivateKey(random io.Reader) (k PrivateKey, err error) {
	if _, err := io.ReadFull(random, k[:]); err != nil {
		return k, fmt.Errorf("make a private key: %w", err)
	}
	k.clamp()
	return k, nil
}

// clamp makes of any 32 bytes the number that X25519 takes them for (RFC 7748, section 5).
func (k *PrivateKey) clamp() {
	k[0] &= 248
	k[31] = k[31]&127 | 64
}

// Public is the key that belongs to it.
func (k PrivateKey) Public() PublicKey {
	key, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic(err) // 32 bytes are always a key
	}
	return PublicKey(key.PublicKey().Bytes())
}

// Base64 is the secret itself, for the file that it is kept in.
func (k PrivateKey) Base64() string { return base64.StdEncoding.EncodeToString(k[:]) }

// ReadPrivateKey reads a file as "wg genkey" writes it. Others than its owner may not read it.
func ReadPrivateKey(file string) (PrivateKey, error) {
	b, err := readKey(file)
	k := PrivateKey(b)
	if err == nil && k == (PrivateKey{}) {
		err = fmt.Errorf("%s: the key is all zero", file)
	}
	k.clamp()
	return k, err
}

// ReadPresharedKey reads a file as "wg genpsk" writes it. Others than its owner may not read it.
func ReadPresharedKey(file string) (PresharedKey, error) {
	b, err := readKey(file)
	return PresharedKey(b), err
}

func readKey(file string) (key [keyLen]byte, err error) {
	text, err := secret.Read(file)
	if err != nil {
		return key, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != keyLen { // the error would quote the secret
		return key, fmt.Errorf("%s holds no key: 32 bytes in base64, 44 characters, are wanted", file)
	}
	copy(key[:], b)
	return key, nil
}
