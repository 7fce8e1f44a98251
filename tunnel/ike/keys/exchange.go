package keys

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"errors"
	"fmt"
	"io"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// Pending is the initiator's half of a key exchange, from its request to the answer.
type Pending struct {
	Method message.KeyExchange
	Public []byte // what the KE payload carries
	finish func(peer []byte) ([]byte, error)
}

// errPublic is a public value that is not one of the group.
var errPublic = errors.New("the peer's public value is not valid")

// Begin starts a key exchange. All randomness is read from random.
func Begin(method message.KeyExchange, random io.Reader) (*Pending, error) {
	p, err := begin(method, random)
	if err != nil {
		return nil, fmt.Errorf("beginning a key exchange by %s: %w", method, err)
	}
	return p, nil
}

func begin(method message.KeyExchange, random io.Reader) (*Pending, error) {
	if g, ok := groupOf(method); ok {
		x, err := g.private(random)
		if err != nil {
			return nil, err
		}
		return &Pending{method, g.public(x), func(peer []byte) ([]byte, error) { return g.secret(x, peer) }}, nil
	}
	if method == message.KEMLKEM768 {
		seed := make([]byte, mlkem.SeedSize)
		if _, err := io.ReadFull(random, seed); err != nil {
			return nil, err
		}
		key, err := mlkem.NewDecapsulationKey768(seed)
		clear(seed)
		if err != nil {
			return nil, err
		}
		return &Pending{method, key.EncapsulationKey().Bytes(), key.Decapsulate}, nil
	}
	c, err := curveOf(method)
	if err != nil {
		return nil, err
	}
	key, err := c.private(random)
	if err != nil {
		return nil, err
	}
	return &Pending{method, c.encode(key.PublicKey()), func(peer []byte) ([]byte, error) { return c.secret(key, peer) }}, nil
}

// Finish takes the responder's public value and returns the shared secret. It
// may be called again, so that a forged answer does not end the exchange.
func (p *Pending) Finish(peer []byte) ([]byte, error) {
	secret, err := p.finish(peer)
	if err != nil {
		return nil, fmt.Errorf("key exchange by %s: %w", p.Method, err)
	}
	return secret, nil
}

// Answer is the responder's whole part: from the initiator's public value to
// its own and the shared secret. With ML-KEM the randomness is the system's: the
// standard library takes no other for encapsulation.
func Answer(method message.KeyExchange, random io.Reader, peer []byte) (public, secret []byte, err error) {
	if method == message.KEMLKEM768 {
		key, err := mlkem.NewEncapsulationKey768(peer)
		if err != nil {
			return nil, nil, fmt.Errorf("key exchange by %s: %w (%w)", method, errPublic, err)
		}
		secret, public = key.Encapsulate()
		return public, secret, nil
	}
	p, err := Begin(method, random)
	if err != nil {
		return nil, nil, err
	}
	secret, err = p.Finish(peer)
	return p.Public, secret, err
}

// curve is an elliptic curve and how its points are sent.
type curve struct {
	ecdh.Curve
	scalarLen int
	topMask   byte // of a private key's first byte: the order of P-521 has 521 bits
	point     bool // x and y without the leading 4 (RFC 5903, section 7), not the bytes as they are
}

func curveOf(method message.KeyExchange) (curve, error) {
	switch method {
	case message.KEEcp256:
		return curve{ecdh.P256(), 32, 0xff, true}, nil
	case message.KEEcp384:
		return curve{ecdh.P384(), 48, 0xff, true}, nil
	case message.KEEcp521:
		return curve{ecdh.P521(), 66, 0x01, true}, nil
	case message.KEX25519:
		return curve{ecdh.X25519(), 32, 0xff, false}, nil
	default:
		return curve{}, fmt.Errorf("there is no method %s", method)
	}
}

// private draws a private key. crypto/ecdh's own way would not take its
// randomness from a reader. It is out of range less than once in 2^31 times.
func (c curve) private(random io.Reader) (*ecdh.PrivateKey, error) {
	b := make([]byte, c.scalarLen)
	defer clear(b)
	for range 100 {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, err
		}
		b[0] &= c.topMask
		if key, err := c.NewPrivateKey(b); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("the randomness gives no private key")
}

func (c curve) encode(p *ecdh.PublicKey) []byte {
	if c.point {
		return p.Bytes()[1:]
	}
	return p.Bytes()
}

// secret is x of the shared point. The library refuses what is not on the
// curve, and for X25519 a secret of zeros (RFC 8031, section 2).
func (c curve) secret(key *ecdh.PrivateKey, peer []byte) ([]byte, error) {
	if c.point {
		peer = append([]byte{4}, peer...)
	}
	p, err := c.NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errPublic, err)
	}
	secret, err := key.ECDH(p)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errPublic, err)
	}
	return secret, nil
}
