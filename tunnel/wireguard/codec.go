package wireguard

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel"
	"github.com/transitd/transitd/tunnel/replay"
)

// The messages (paper, section 5.4): a type in one byte, three zero bytes, and
// what the type says. Numbers are little-endian.
const (
	typeInitiation = 1
	typeResponse   = 2
	typeCookie     = 3
	typeTransport  = 4

	initiationLen = 148
	responseLen   = 92
	cookieLen     = 64

	headerLen = 16 // type, receiver, counter
	tagLen    = 16
	padTo     = 16

	// rejectAfterMessages is where a session ends, in messages (paper, section 6.1).
	rejectAfterMessages = 1<<64 - 1<<13 - 1
)

// table is what the loops know of sessions: by the low bits of their local index,
// and the one to send by.
type table struct {
	slots   [slots]atomic.Pointer[session]
	current atomic.Pointer[session]
}

// slots is a power of two. One is for a handshake of ours, one for a session
// that is about to be added: so there is always a free one. The previous, the
// current and the next session are three; new keys may make two more.
const (
	slots       = 8
	maxSessions = slots - 3
)

func (t *table) find(index uint32) *session {
	s := t.slots[index%slots].Load()
	if s == nil || s.local != index {
		return nil
	}
	return s
}

// seal makes a transport message of the n bytes at buf[off:], in place; most is
// how long padding may make it.
func (t *table) seal(buf []byte, off, n, most int) (start, end int, r tunnel.DropReason) {
	s := t.current.Load()
	if s == nil {
		return off, off + n, tunnel.DropNoSession
	}
	start, end = s.seal(buf, off, n, most)
	if start < 0 {
		t.current.CompareAndSwap(s, nil) // before the counter comes round
		return off, off + n, tunnel.DropNoSession
	}
	s.usedData.set()
	return start, end, tunnel.DropNone
}

func (s *session) seal(buf []byte, off, n, most int) (start, end int) {
	counter := s.counter.Add(1) - 1
	if counter >= rejectAfterMessages {
		return -1, 0
	}
	padded := max(n, min((n+padTo-1)&^(padTo-1), most))
	clear(buf[off+n : off+padded])
	start = off - headerLen
	h := buf[start:off:off]
	binary.LittleEndian.PutUint32(h, typeTransport)
	// The nonce is four zero bytes and the counter. It lies in the header until the
	// receiver's index takes the place of the zeros: one on the stack would be
	// moved to the heap by the call through an interface.
	binary.LittleEndian.PutUint32(h[4:], 0)
	binary.LittleEndian.PutUint64(h[8:], counter)
	s.send.Seal(buf[off:off], h[4:16], buf[off:off+padded], nil)
	binary.LittleEndian.PutUint32(h[4:], s.remote)
	s.used.set()
	return start, off + padded + tagLen
}

// open decrypts a transport message in place. Of a keepalive plain is empty.
func (t *table) open(b []byte) (plain []byte, s *session, r tunnel.DropReason) {
	if len(b) < headerLen+tagLen {
		return nil, nil, tunnel.DropShort
	}
	s = t.find(binary.LittleEndian.Uint32(b[4:]))
	if s == nil {
		return nil, nil, tunnel.DropNoSession
	}
	counter := binary.LittleEndian.Uint64(b[8:])
	binary.LittleEndian.PutUint32(b[4:], 0) // the nonce, see seal
	plain, err := s.receive.Open(b[headerLen:headerLen], b[4:headerLen], b[headerLen:], nil)
	if err != nil || counter >= rejectAfterMessages {
		return nil, nil, tunnel.DropAuthFailed
	}
	switch s.window.Take(counter) {
	case replay.Fresh:
	case replay.Replayed:
		return nil, nil, tunnel.DropReplayed
	case replay.TooOld:
		return nil, nil, tunnel.DropTooOld
	}
	s.fresh.set()
	return plain, s, tunnel.DropNone
}

// promote makes a session the one to send by: the peer, which began the
// handshake, uses it. The machine may have forgotten it at this very moment.
func (t *table) promote(s *session) {
	t.current.Store(s)
	if t.find(s.local) != s {
		t.current.CompareAndSwap(s, nil)
	}
}

// Overhead is the header in front of a packet.
func (*Device) Overhead() int { return headerLen }

// Trailer is the most that lies behind a packet: padding and the tag.
func (*Device) Trailer() int { return padTo - 1 + tagLen }

// Seal encrypts the IP packet buf[off:off+n] in place.
func (d *Device) Seal(buf []byte, off, n int) (start, end int, r tunnel.DropReason) {
	return d.table.seal(buf, off, n, int(d.mtu.Load()))
}

// SealExactly is Seal without padding, so that a probe of the path is as long
// as it means to be.
func (d *Device) SealExactly(buf []byte, off, n int) (start, end int, r tunnel.DropReason) {
	return d.table.seal(buf, off, n, n)
}

// Open decrypts a datagram in place. What is part of a handshake is tunnel.Control.
func (d *Device) Open(b []byte) (inner []byte, info packet.Info, kind tunnel.Kind, r tunnel.DropReason) {
	if len(b) < 4 {
		return nil, info, tunnel.Packet, tunnel.DropShort
	}
	switch typ := binary.LittleEndian.Uint32(b); {
	case typ == typeTransport:
	case typ == typeInitiation && len(b) == initiationLen, typ == typeResponse && len(b) == responseLen, typ == typeCookie && len(b) == cookieLen:
		return b, info, tunnel.Control, tunnel.DropNone
	default:
		return nil, info, tunnel.Packet, tunnel.DropBadHeader
	}
	plain, s, r := d.table.open(b)
	if r != tunnel.DropNone {
		return nil, info, tunnel.Packet, r
	}
	if !s.heard.Load() && s.heard.CompareAndSwap(false, true) {
		d.table.promote(s)
	}
	if len(plain) == 0 {
		return nil, info, tunnel.Keepalive, tunnel.DropNone
	}
	info, fault := packet.Parse(plain)
	if fault != packet.None {
		return nil, info, tunnel.Packet, tunnel.DropBadInner
	}
	s.freshData.set()
	return plain[:info.Len], info, tunnel.Packet, tunnel.DropNone
}

// macLen is the length of each of the two MACs at a message's end.
const macLen = 16

// bare reports whether a message has no second MAC: its sender has no cookie.
func bare(message []byte) bool {
	return binary.LittleEndian.Uint64(message[len(message)-macLen:])|binary.LittleEndian.Uint64(message[len(message)-8:]) == 0 &&
		binary.LittleEndian.Uint32(message) != typeCookie
}

// Control takes a message of a handshake to the goroutine that has time for it.
func (d *Device) Control(dst, message []byte) (reply []byte, r tunnel.DropReason) {
	if until := d.shed.Load(); until > 0 && len(message) >= macLen && time.Now().UnixNano() < until && bare(message) {
		return dst, tunnel.DropHandshakeQueue
	}
	var m handshakeMessage
	m.n = copy(m.b[:], message)
	select {
	case d.queue <- m:
		return dst, tunnel.DropNone
	default:
		return dst, tunnel.DropHandshakeQueue
	}
}

// Resolved reports whether there is a session to send by.
func (d *Device) Resolved() bool { return d.table.current.Load() != nil }
