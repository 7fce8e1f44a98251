// Package aesgcm is AES-GCM (NIST SP 800-38D) for packets: with 128 or 256 bits,
// nonces of 12 bytes, tags of 16, fast where the processor has AES and carry-less
// multiplication for 64 bytes at a time, which the standard library does not use.
// Anything else is left to the standard library: other processors, long
// additional data. A key is used by any number of goroutines at once; there are
// none in here. It has no randomness and does not know which nonces were used.
package aesgcm

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
)

// New is the AEAD of a key of 16 or 32 bytes. Its Seal and Open do not allocate
// if dst has room. They work in place if dst is the beginning of their input. New
// itself takes 20 µs and 2 KiB, for the powers of the hash key.
func New(key []byte) (cipher.AEAD, error) {
	if len(key) != 16 && len(key) != 32 {
		return nil, fmt.Errorf("AES-GCM with a key of %d bytes, not 16 or 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("AES: %w", err)
	}
	std, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("GCM: %w", err)
	}
	if !capable() {
		return std, nil
	}
	return newFast(key, block, std), nil
}
