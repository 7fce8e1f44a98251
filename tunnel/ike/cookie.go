package ike

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// cookieLife is how long a secret makes cookies; those of the one before still count.
const cookieLife = 2 * time.Minute

// crowd is how many requests to begin are looked at in a second without a cookie.
const crowd = 8

// cookieJar makes cookies that need no memory (RFC 7296, section 2.6): a keyed
// hash of what the initiator has to send again.
type cookieJar struct {
	version uint32
	secrets [2][]byte // by version
	since   time.Time
}

func (j *cookieJar) turn(m *Machine) {
	if j.secrets[0] != nil && m.now.Sub(j.since) < cookieLife {
		return
	}
	if j.secrets[0] == nil {
		j.secrets[1] = m.random(32)
	}
	j.version++
	j.secrets[j.version%2] = m.random(32)
	if j.secrets[0] == nil {
		j.secrets[0] = m.random(32)
	}
	j.since = m.now
}

func (j *cookieJar) of(version uint32, from netip.AddrPort, spii uint64, nonce []byte) []byte {
	h := hmac.New(sha256.New, j.secrets[version%2])
	b := binary.BigEndian.AppendUint64(from.Addr().AsSlice(), spii)
	h.Write(binary.BigEndian.AppendUint16(b, from.Port()))
	h.Write(nonce)
	return h.Sum(binary.BigEndian.AppendUint32(nil, version))
}

// bake is the cookie of a request.
func (j *cookieJar) bake(m *Machine, from netip.AddrPort, spii uint64, nonce []byte) []byte {
	j.turn(m)
	return j.of(j.version, from, spii, nonce)
}

// good reports whether we made the cookie for this request, lately.
func (j *cookieJar) good(m *Machine, from netip.AddrPort, spii uint64, nonce, cookie []byte) bool {
	j.turn(m)
	if len(cookie) != 4+sha256.Size {
		return false
	}
	version := binary.BigEndian.Uint32(cookie)
	return j.version-version < 2 && hmac.Equal(cookie, j.of(version, from, spii, nonce))
}

// crowded counts requests to begin, and reports whether there are so many in this
// second that even those to be refused have to prove by a cookie where they come from.
func (m *Machine) crowded() bool {
	if m.now.Sub(m.begunSince) >= time.Second {
		m.begunSince, m.begun = m.now, 0
	}
	m.begun++
	return m.begun > crowd
}

// Bare reports whether an IKE message is an IKE_SA_INIT request without a
// cookie, as a flood has it. It is cheap, and safe to call by anybody.
func Bare(datagram []byte) bool {
	const generic = 4 + 4 // of a Notify payload, up to its type
	if len(datagram) < message.HeaderLen || datagram[18] != byte(message.IKESAInit) || datagram[19]&byte(message.FlagResponse) != 0 {
		return false
	}
	// The cookie is the first payload (RFC 7296, section 2.6).
	return datagram[16] != byte(message.TypeNotify) || len(datagram) < message.HeaderLen+generic ||
		binary.BigEndian.Uint16(datagram[message.HeaderLen+6:]) != uint16(message.Cookie)
}
