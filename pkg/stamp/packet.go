package stamp

import (
	"encoding/binary"
	"time"
)

// Port is where reflectors listen (RFC 8762, section 4.1: IANA has it for TWAMP and STAMP).
const Port = 862

// PacketLen is the length of a test packet of either kind, in bytes.
const PacketLen = 44

// errorEstimate says that the clock is not known to agree with others, and may
// be a second off: S 0, Z 0 (NTP), scale 32, multiplier 1 (RFC 4656, section 4.1.2).
const errorEstimate = 32<<8 | 1

// request is what a sender says (RFC 8762, section 4.2.1).
type request struct {
	seq  uint32
	sent time.Time
}

// reply is what a reflector says (RFC 8762, section 4.3.1).
type reply struct {
	seq            uint32 // of the reflector
	sent, received time.Time
	senderSeq      uint32
	senderSent     time.Time
	senderTTL      uint8
}

// ntpEpoch is 1900-01-01 in seconds before 1970 (RFC 5905, section 6).
const ntpEpoch = 2208988800

// putTime writes an NTP timestamp: seconds and 2^-32 seconds.
func putTime(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+ntpEpoch))
	binary.BigEndian.PutUint32(b[4:], uint32(uint64(t.Nanosecond())<<32/1e9))
}

// getTime reads an NTP timestamp, which is of the era that began in 1900 or 2036.
func getTime(b []byte) time.Time {
	s, f := int64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
	if s < 1<<31 {
		s += 1 << 32
	}
	return time.Unix(s-ntpEpoch, int64((f*1e9+1<<31)>>32))
}

// append makes a test packet of at least PacketLen bytes.
func (r request) append(dst []byte, size int) []byte {
	b := make([]byte, max(size, PacketLen))
	binary.BigEndian.PutUint32(b, r.seq)
	putTime(b[4:], r.sent)
	binary.BigEndian.PutUint16(b[12:], errorEstimate)
	return append(dst, b...)
}

// reflect answers a test packet: as long as it was (RFC 8762, section 4.3). ok
// is false for what is no test packet. seq is the reflector's own number.
func reflect(dst, b []byte, seq uint32, ttl uint8, received, now time.Time) (answer []byte, ok bool) {
	if len(b) < PacketLen {
		return dst, false
	}
	a := make([]byte, len(b))
	copy(a[PacketLen:], b[PacketLen:])
	binary.BigEndian.PutUint32(a, seq)
	putTime(a[4:], now)
	binary.BigEndian.PutUint16(a[12:], errorEstimate)
	putTime(a[16:], received)
	copy(a[24:38], b[:14]) // the sender's number, time and error estimate
	a[40] = ttl
	return append(dst, a...), true
}

// parseReply reads a reflected packet; ok is false for anything else.
func parseReply(b []byte) (r reply, ok bool) {
	if len(b) < PacketLen {
		return r, false
	}
	return reply{
		seq: binary.BigEndian.Uint32(b), sent: getTime(b[4:]), received: getTime(b[16:]),
		senderSeq: binary.BigEndian.Uint32(b[24:]), senderSent: getTime(b[28:]), senderTTL: b[40],
	}, true
}
