package esp

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/transitd/transitd/tunnel/esp/aesgcm"
	"github.com/transitd/transitd/tunnel/replay"
	"github.com/transitd/transitd/tunnel/sa"
)

// pair is a pair of SAs in use. The pump's loops use it all at once; what is not
// atomic does not change.
type pair struct {
	in, out    uint32 // SPIs
	seal, open cipher.AEAD
	sealSalt   [sa.SaltLen]byte
	openSalt   [sa.SaltLen]byte
	esn        bool
	most, soft uint64 // packets, in one direction
	mostBytes  uint64 // of inner packets
	softBytes  uint64
	selectors  *selectors // nil: everything may go
	counter    atomic.Uint64
	window     replay.Window
	newest     atomic.Uint64 // sequence number that was authentic
	waits      atomic.Bool   // for the first packet that comes, to be used
	inPackets  atomic.Uint64
	inBytes    atomic.Uint64
	outPackets atomic.Uint64
	outBytes   atomic.Uint64
}

// lastSequence are the last sequence numbers of the format (RFC 4303, section 3.3.3).
const (
	lastSequence   = 1<<32 - 1
	lastExtended   = 1<<64 - 1 - 1<<20 // with room for what several queues add at once
	firstUsableSPI = 256
)

func newPair(p sa.Pair) (*pair, error) {
	if p.In.SPI < firstUsableSPI || p.Out.SPI < firstUsableSPI {
		return nil, fmt.Errorf("SPIs %s and %s: those below %d are reserved", p.In, p.Out, firstUsableSPI)
	}
	n := p.Cipher.KeyLen()
	if n == 0 || len(p.In.Key) != n || len(p.Out.Key) != n {
		return nil, fmt.Errorf("keys of %d and %d bytes for %s", len(p.In.Key), len(p.Out.Key), p.Cipher)
	}
	out := &pair{
		in: p.In.SPI, out: p.Out.SPI, esn: p.ESN, soft: p.Limits.SoftPackets, softBytes: p.Limits.SoftBytes,
		most: lastSequence, mostBytes: p.Limits.HardBytes, selectors: newSelectors(p.Local, p.Remote),
	}
	if p.ESN {
		out.most = lastExtended
	}
	if hard := p.Limits.HardPackets; hard > 0 && hard < out.most {
		out.most = hard
	}
	n -= sa.SaltLen
	copy(out.openSalt[:], p.In.Key[n:])
	copy(out.sealSalt[:], p.Out.Key[n:])
	var err error
	if out.open, err = newAEAD(p.Cipher, p.In.Key[:n]); err != nil {
		return nil, err
	}
	out.seal, err = newAEAD(p.Cipher, p.Out.Key[:n])
	return out, err
}

func newAEAD(c sa.Cipher, key []byte) (cipher.AEAD, error) {
	if c == sa.ChaCha20Poly1305 {
		a, err := chacha20poly1305.New(key)
		if err != nil {
			return nil, fmt.Errorf("make a key of %s: %w", c, err)
		}
		return a, nil
	}
	a, err := aesgcm.New(key)
	if err != nil {
		return nil, fmt.Errorf("make a key of %s: %w", c, err)
	}
	return a, nil
}

// spent reports whether the soft limit has been reached. What comes is counted as the
// peer does, by its sequence numbers, because that is what the hard limit refuses by:
// what was lost on the way counts as well.
func (p *pair) spent() bool {
	over := func(n, limit uint64) bool { return limit > 0 && n >= limit }
	return over(p.counter.Load(), p.soft) || over(p.newest.Load(), p.soft) ||
		over(p.outBytes.Load(), p.softBytes) || over(p.inBytes.Load(), p.softBytes)
}

// expired reports whether a direction has carried all that it may.
func (p *pair) expired(bytes uint64) bool { return p.mostBytes > 0 && bytes >= p.mostBytes }

// late is how many packets behind the newest one may be and still be told from one
// that is ahead: far more than the window has, so that what a busy sender holds
// back is authentic and too old, not altered.
const late = 1 << 24

// sequence is the whole sequence number of a packet, of which the lower half is
// on the wire: the one near the newest, late at most or ahead of it (RFC 4303,
// appendix A2, with a window of that many). It is a guess until the packet is
// authentic. A gap of nearly 2^32 packets is not bridged (appendix A3): no pair
// that loses as many is still in use.
func (p *pair) sequence(low uint32) uint64 {
	if !p.esn {
		return uint64(low)
	}
	return guess(p.newest.Load(), low)
}

func guess(newest uint64, low uint32) uint64 {
	high, top := newest>>32, uint32(newest)
	bottom := top - (late - 1) // it may be in the half before
	switch {
	case top >= late-1 && low < bottom:
		high++
	case top < late-1 && low >= bottom:
		high-- // at the very beginning that is no number that was ever sent
	}
	return high<<32 | uint64(low)
}

// seen notes an authentic sequence number.
func (p *pair) seen(n uint64) {
	for {
		newest := p.newest.Load()
		if n <= newest || p.newest.CompareAndSwap(newest, n) {
			return
		}
	}
}

// scratch is what the decryption of one packet needs beside the packet: on the
// stack, the call through an interface would move it to the heap. Taking it from
// a pool costs less than 10 ns.
type scratch struct {
	nonce [12]byte // salt and initialization vector
	aad   [12]byte
}

// associate writes what is authenticated beside the packet (RFC 4106, section 5):
// the SPI and the sequence number, both halves of it if it is extended.
func associate(b []byte, esn bool, spi uint32, sequence uint64) []byte {
	binary.BigEndian.PutUint32(b, spi)
	if esn {
		binary.BigEndian.PutUint64(b[4:], sequence)
		return b[:12]
	}
	binary.BigEndian.PutUint32(b[4:], uint32(sequence))
	return b[:8]
}
