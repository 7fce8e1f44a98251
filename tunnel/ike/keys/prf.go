package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// PRF is a pseudorandom function: HMAC with one of SHA-2 (RFC 4868).
type PRF struct {
	hash func() hash.Hash
	size int
}

// PRFOf is the function of a transform ID.
func PRFOf(id uint16) (PRF, error) {
	switch id {
	case message.PRFHMACSHA256:
		return PRF{sha256.New, sha256.Size}, nil
	case message.PRFHMACSHA384:
		return PRF{sha512.New384, sha512.Size384}, nil
	case message.PRFHMACSHA512:
		return PRF{sha512.New, sha512.Size}, nil
	}
	return PRF{}, fmt.Errorf("there is no pseudorandom function %d", id)
}

// Size is the length of the output in bytes, and of the keys SK_d, SK_pi and SK_pr.
func (p PRF) Size() int { return p.size }

// Sum is prf(key, parts one after the other).
func (p PRF) Sum(key []byte, parts ...[]byte) []byte {
	h := hmac.New(p.hash, key)
	for _, b := range parts {
		h.Write(b)
	}
	return h.Sum(nil)
}

// Plus is the first n bytes of prf+ (RFC 7296, section 2.13), which ends after
// 255 rounds: n is at most 255 times Size.
func (p PRF) Plus(key, seed []byte, n int) ([]byte, error) {
	if n < 0 || n > 255*p.size {
		return nil, fmt.Errorf("%d bytes of keys, prf+ has %d", n, 255*p.size)
	}
	var out, last []byte
	for i := byte(1); len(out) < n; i++ {
		last = p.Sum(key, last, seed, []byte{i})
		out = append(out, last...)
	}
	return out[:n], nil
}
