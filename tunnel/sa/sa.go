// Package sa is what a key exchange and a data plane have to say to each other:
// pairs of ESP security associations (RFC 4301, section 4), as values, and the
// interface of whoever carries packets by them.
package sa

import (
	"fmt"
	"net/netip"
)

// Cipher is how the packets of a pair are encrypted and authenticated.
type Cipher uint8

// The ciphers. Each has a tag of 16 bytes, and an initialization vector of 8
// bytes in the packet.
const (
	AES128GCM16      Cipher = iota + 1 // RFC 4106
	AES256GCM16                        // RFC 4106
	ChaCha20Poly1305                   // RFC 7634
)

// SaltLen is how many bytes of a key are the nonce's first bytes.
const SaltLen = 4

// KeyLen is how long the keying material of one direction is, in bytes, the
// salt at its end included; 0 for what is no cipher.
func (c Cipher) KeyLen() int {
	switch c {
	case AES128GCM16:
		return 16 + SaltLen
	case AES256GCM16, ChaCha20Poly1305:
		return 32 + SaltLen
	}
	return 0
}

// String is strongSwan's spelling.
func (c Cipher) String() string {
	switch c {
	case AES128GCM16:
		return "aes128gcm16"
	case AES256GCM16:
		return "aes256gcm16"
	case ChaCha20Poly1305:
		return "chacha20poly1305"
	}
	return fmt.Sprintf("cipher(%d)", uint8(c))
}

// Direction is one of the two associations of a pair.
type Direction struct {
	SPI uint32 // chosen by the receiver; 256 or more
	Key []byte // of the cipher, and the salt
}

// String hides the key from logs.
func (d Direction) String() string { return fmt.Sprintf("%08x", d.SPI) }

// GoString hides the key from %#v too.
func (d Direction) GoString() string { return d.String() }

// Selector is a range of addresses, all IPv4 or all IPv6, for a protocol and a
// range of ports (RFC 4301, section 4.4.1.1).
type Selector struct {
	Protocol           uint8  // 0: any
	StartPort, EndPort uint16 // 0 to 65535: any
	Start, End         netip.Addr
}

// Limits are when a pair has to be replaced: soft, at which the data plane asks
// for it, and hard, from which on it carries nothing more. 0 is no limit but
// that of the format: a sequence number never comes round.
type Limits struct {
	SoftPackets, HardPackets uint64 // in one direction
	SoftBytes, HardBytes     uint64 // of inner packets, in one direction
}

// Pair is what one exchange agreed on: an association for what comes and one for
// what goes. It is known by the SPI of In.
type Pair struct {
	In, Out Direction
	Cipher  Cipher
	ESN     bool // extended sequence numbers (RFC 4303, section 2.2.1)
	Limits  Limits
	// Local and Remote are which addresses may be on our side and on the peer's;
	// all, if both are empty.
	Local, Remote []Selector
}

// Usage is what a pair carried.
type Usage struct {
	InPackets, InBytes   uint64
	OutPackets, OutBytes uint64
	// Spent says that the soft limit has been reached.
	Spent bool
}

// Installer is a data plane that is keyed.
type Installer interface {
	// Install accepts what comes by a pair from now on. What goes takes the pair
	// from now on if use is true; otherwise from Use on, or from the first packet
	// that comes by it: the peer is ready then.
	Install(p Pair, use bool) error
	// Use lets what goes take the pair known by the SPI. No other one waits for its
	// first packet any more.
	Use(in uint32)
	// Remove forgets a pair, both directions.
	Remove(in uint32)
	// Usage is what a pair has carried; false if there is none.
	Usage(in uint32) (Usage, bool)
}
