package esp

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/replay"
)

const (
	headerLen  = 16 // SPI, sequence number, initialization vector
	trailerLen = 2  // the padding's length, and what the packet is
	tagLen     = 16
	align      = 4
	aadLen     = 12

	nextIPv4  = 4
	nextIPv6  = 41
	nextDummy = 59 // RFC 4303, section 2.6
)

// Codec is the data half of an IPsec tunnel. Seal and Open are for the pump's
// loops, which call them from several goroutines at once.
type Codec struct {
	live atomic.Pointer[[]*pair] // in the order of their installation; never changed, but replaced
	out  atomic.Pointer[pair]    // what goes takes this one
	pool sync.Pool               // of *scratch
	raw  bool                    // there is no UDP, and so no IKE at the same port
	mu   sync.Mutex              // of those who install
}

// New makes a codec without any pair: nothing can be sent.
func New() *Codec { return newCodec(false) }

// NewRaw makes one for ESP that is in no UDP: all that comes is ESP.
func NewRaw() *Codec { return newCodec(true) }

func newCodec(raw bool) *Codec {
	c := &Codec{pool: sync.Pool{New: func() any { return new(scratch) }}, raw: raw}
	c.live.Store(new([]*pair))
	return c
}

// Overhead is the header in front of a packet.
func (*Codec) Overhead() int { return headerLen }

// Trailer is the most that is needed behind a packet: padding, trailer and tag;
// and behind those, while it is being sealed, what is authenticated beside it.
func (*Codec) Trailer() int { return align - 1 + trailerLen + tagLen + aadLen }

// Resolved reports whether there is a pair to send by.
func (c *Codec) Resolved() bool { return c.out.Load() != nil }

// Seal encrypts the IP packet buf[off:off+n] in place.
func (c *Codec) Seal(buf []byte, off, n int) (start, end int, r tunnel.DropReason) {
	p := c.out.Load()
	if p == nil {
		return off, off + n, tunnel.DropNoSession
	}
	pkt := buf[off : off+n]
	if p.selectors != nil && !p.selectors.out(pkt) {
		return off, off + n, tunnel.DropSelector
	}
	sequence := p.counter.Add(1)
	if sequence > p.most || p.expired(p.outBytes.Load()) {
		return off, off + n, tunnel.DropExpired
	}
	end = off + n
	pad := -(n + trailerLen) & (align - 1)
	for i := range pad {
		buf[end+i] = byte(i + 1)
	}
	end += pad
	buf[end] = byte(pad)
	buf[end+1] = nextIPv4
	if pkt[0]>>4 == 6 {
		buf[end+1] = nextIPv6
	}
	end += trailerLen
	start = off - headerLen
	h := buf[start:off:off]
	// The nonce lies in the header until the sequence number takes the place of
	// the salt, and what is authenticated beside the packet lies behind the tag.
	copy(h[4:8], p.sealSalt[:])
	binary.BigEndian.PutUint64(h[8:], sequence)
	aad := associate(buf[end+tagLen:end+tagLen+aadLen], p.esn, p.out, sequence)
	p.seal.Seal(buf[off:off], h[4:16], buf[off:end], aad)
	binary.BigEndian.PutUint32(h, p.out)
	binary.BigEndian.PutUint32(h[4:], uint32(sequence))
	p.outPackets.Add(1)
	p.outBytes.Add(uint64(n))
	return start, end + tagLen, tunnel.DropNone
}

// Open decrypts a datagram in place. What is IKE is tunnel.Control: in UDP it has
// four zero bytes in front (RFC 3948, section 2.2), which are cut off.
func (c *Codec) Open(b []byte) (inner []byte, info packet.Info, kind tunnel.Kind, r tunnel.DropReason) {
	if len(b) == 1 && b[0] == 0xff && !c.raw { // RFC 3948, section 2.3
		return nil, info, tunnel.Keepalive, tunnel.DropNone
	}
	if len(b) < 4 {
		return nil, info, tunnel.Packet, tunnel.DropShort
	}
	spi := binary.BigEndian.Uint32(b)
	switch {
	case spi != 0:
	case c.raw: // RFC 4303, section 2.1: it is never on the wire
		return nil, info, tunnel.Packet, tunnel.DropBadHeader
	default:
		return b[4:], info, tunnel.Control, tunnel.DropNone
	}
	if len(b) < headerLen+trailerLen+tagLen {
		return nil, info, tunnel.Packet, tunnel.DropShort
	}
	p := c.find(spi)
	if p == nil {
		return nil, info, tunnel.Packet, tunnel.DropNoSession
	}
	plain, r := c.decrypt(p, b)
	if r != tunnel.DropNone {
		return nil, info, tunnel.Packet, r
	}
	if p.waits.Load() {
		c.arrived(p)
	}
	return p.unwrap(plain)
}

// decrypt opens a packet and takes its sequence number, in this order: what is
// not authentic changes nothing (RFC 4303, section 3.4.3).
func (c *Codec) decrypt(p *pair, b []byte) ([]byte, tunnel.DropReason) {
	sequence := p.sequence(binary.BigEndian.Uint32(b[4:]))
	s := c.pool.Get().(*scratch)
	copy(s.nonce[:], p.openSalt[:])
	copy(s.nonce[4:], b[8:headerLen])
	plain, err := p.open.Open(b[headerLen:headerLen], s.nonce[:], b[headerLen:], associate(s.aad[:], p.esn, p.in, sequence))
	c.pool.Put(s)
	if err != nil {
		return nil, tunnel.DropAuthFailed
	}
	switch p.window.Take(sequence) {
	case replay.Fresh:
	case replay.Replayed:
		return nil, tunnel.DropReplayed
	case replay.TooOld:
		return nil, tunnel.DropTooOld
	}
	p.seen(sequence)
	if sequence > p.most || p.expired(p.inBytes.Load()) {
		return nil, tunnel.DropExpired
	}
	p.inPackets.Add(1)
	return plain, tunnel.DropNone
}

// unwrap takes the packet out of what was encrypted. Behind it there may be
// padding against traffic analysis (RFC 4303, section 2.7).
func (p *pair) unwrap(plain []byte) (inner []byte, info packet.Info, kind tunnel.Kind, r tunnel.DropReason) {
	pad, next := int(plain[len(plain)-trailerLen]), plain[len(plain)-1]
	if pad+trailerLen > len(plain) {
		return nil, info, tunnel.Packet, tunnel.DropBadPadding
	}
	end := len(plain) - trailerLen - pad
	for i, b := range plain[end : end+pad] {
		if b != byte(i+1) { // RFC 4303, section 2.4
			return nil, info, tunnel.Packet, tunnel.DropBadPadding
		}
	}
	var version uint8
	switch next {
	case nextIPv4:
		version = 4
	case nextIPv6:
		version = 6
	case nextDummy:
		return nil, info, tunnel.Keepalive, tunnel.DropNone
	default:
		return nil, info, tunnel.Packet, tunnel.DropNextHeader
	}
	info, fault := packet.Parse(plain[:end])
	if fault != packet.None || info.Version != version {
		return nil, info, tunnel.Packet, tunnel.DropBadInner
	}
	inner = plain[:info.Len]
	if p.selectors != nil && !p.selectors.in(inner, info) {
		return nil, info, tunnel.Packet, tunnel.DropSelector
	}
	p.inBytes.Add(uint64(info.Len))
	return inner, info, tunnel.Packet, tunnel.DropNone
}
