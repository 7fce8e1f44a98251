package wireguard

import (
	"fmt"
	"time"
)

// Status is what an operator wants to know of a tunnel. It has no secrets.
type Status struct {
	Up    bool
	Since time.Time // when the tunnel was made

	LastHandshake time.Time // zero: none yet
	LastHeard     time.Time // when the last authenticated message came; exact to a second
	Keys          pair      // of the last handshake
	OurKeys       []PublicKey
	TheirKeys     []PublicKey

	Handshakes   uint64 // finished, begun by either side: both ends have the keys
	Initiations  uint64 // sent
	Responses    uint64 // sent
	Unconfirmed  uint64 // of those, since the last handshake that was finished
	Unanswered   uint64 // initiations
	Refused      uint64 // messages of handshakes
	CookiesSent  uint64
	CookiesTaken uint64
	Loaded       time.Time // when a flood of handshakes was last seen; zero: never

	Problem   string // why the last message of a handshake was refused
	ProblemAt time.Time
	Stranger  PublicKey // a key that somebody with the peer's address has; zero: none
	KeyLogged bool      // secrets are being written to a file
}

// Ours is our public key of the last handshake, or the preferred one.
func (s *Status) Ours() PublicKey {
	if s.Keys != (pair{}) || len(s.OurKeys) == 0 {
		return s.Keys.ours
	}
	return s.OurKeys[0]
}

// Theirs is the peer's public key of the last handshake, or the preferred one.
func (s *Status) Theirs() PublicKey {
	if s.Keys != (pair{}) || len(s.TheirKeys) == 0 {
		return s.Keys.theirs
	}
	return s.TheirKeys[0]
}

// recent is how long a problem is taken for the reason.
const recent = 30 * time.Second

// Refusal says why messages of the peer's handshakes are refused, also while a
// session of before still stands; empty if none was lately.
func (s *Status) Refusal(now time.Time) string {
	if s.Problem == "" || now.Sub(s.ProblemAt) >= recent {
		return ""
	}
	return s.Problem
}

// Why says in words why the tunnel is not up, and what to look at; empty if it is.
func (s *Status) Why(now time.Time) string {
	switch {
	case s.Up:
		return ""
	case s.Refusal(now) != "":
		return s.Problem
	case s.Unconfirmed > 0:
		return fmt.Sprintf("the peer's handshakes are answered (%d times), and it does not go on: our datagrams do not reach it, or the preshared keys differ", s.Unconfirmed)
	case s.Initiations == 0:
		return "no handshake has begun yet"
	case s.LastHandshake.IsZero():
		return fmt.Sprintf("no answer to %d handshakes in %s: the peer is down, its UDP port is blocked, or it does not know our public key %s (WireGuard is silent then)",
			s.Initiations, now.Sub(s.Since).Round(time.Second), s.Ours())
	}
	return fmt.Sprintf("the last handshake was %s ago and the peer answers no more: it is down, its UDP port is blocked, or its keys were changed",
		now.Sub(s.LastHandshake).Round(time.Second))
}
