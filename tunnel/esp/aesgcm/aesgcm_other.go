//go:build !amd64

package aesgcm

import "crypto/cipher"

// capable reports whether newFast works here.
func capable() bool { return false }

func newFast(_ []byte, _ cipher.Block, std cipher.AEAD) cipher.AEAD { return std }
