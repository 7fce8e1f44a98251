package wireguard

import (
	"crypto/cipher"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/transitd/transitd/tunnel/replay"
)

// session is what a handshake agreed on. The pump's loops use it all at once;
// what is not atomic does not change.
type session struct {
	local, remote uint32 // the receiver index of what comes, of what goes
	send, receive cipher.AEAD
	keys          pair
	initiator     bool // we began the handshake
	born          time.Time
	early         time.Duration // if two handshakes crossed, so that the next two do not
	counted       bool          // the machine's: it took notice of heard

	counter atomic.Uint64 // of the next message
	window  replay.Window
	// heard says that a message came: the peer has the keys. The initiator knows it
	// from the response; a responder may not send before (paper, section 5.4.3).
	heard atomic.Bool
	// fresh and used are set by a message that came or went, and cleared by the
	// machine when it looks. Data is what is not a keepalive.
	fresh, freshData, used, usedData flag
}

// flag is set often and cleared rarely: a store only where it changes something
// keeps its cache line shared.
type flag struct{ b atomic.Bool }

func (f *flag) set() {
	if !f.b.Load() {
		f.b.Store(true)
	}
}

func (f *flag) take() bool { return f.b.Load() && f.b.Swap(false) }

// pair are the static keys of a handshake.
type pair struct {
	ours, theirs PublicKey
}

func newSession(send, receive [32]byte) (*session, error) {
	s := &session{}
	var err error
	if s.send, err = chacha20poly1305.New(send[:]); err != nil {
		return nil, fmt.Errorf("make a session's keys: %w", err)
	}
	if s.receive, err = chacha20poly1305.New(receive[:]); err != nil {
		return nil, fmt.Errorf("make a session's keys: %w", err)
	}
	return s, nil
}
