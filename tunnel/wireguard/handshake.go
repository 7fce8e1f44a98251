package wireguard

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/crypto/curve25519"
)

// prologue is WireGuard's identifier (paper, section 5.4). The name of the
// construction, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, the library makes itself.
const prologue = "WireGuard v1 zx2c4 Jason@zx2c4.com"

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)

// Where the parts of the messages lie.
const (
	initiationSender = 4 // index of the sender's session
	initiationNoise  = 8 // ephemeral, static, timestamp
	initiationMAC1   = 116
	responseSender   = 4
	responseReceiver = 8
	responseNoise    = 12 // ephemeral, nothing
	responseMAC1     = 60
	cookieReceiver   = 4
	timestampLen     = 12
)

// identity is one of our key pairs.
type identity struct {
	private PrivateKey
	public  PublicKey
}

// noiseState begins a handshake. theirs is zero for a responder.
func noiseState(random io.Reader, ours identity, theirs PublicKey, psk PresharedKey) (*noise.HandshakeState, error) {
	c := noise.Config{
		CipherSuite: suite, Random: random, Pattern: noise.HandshakeIK, Prologue: []byte(prologue),
		PresharedKey: psk[:], PresharedKeyPlacement: 2,
		StaticKeypair: noise.DHKey{Private: ours.private[:], Public: ours.public[:]},
	}
	if theirs != (PublicKey{}) {
		c.Initiator, c.PeerStatic = true, theirs[:]
	}
	hs, err := noise.NewHandshakeState(c)
	if err != nil {
		return nil, fmt.Errorf("begin a handshake: %w", err)
	}
	return hs, nil
}

// initiation is a handshake that we began.
type initiation struct {
	keys  pair
	local uint32
	state *noise.HandshakeState
}

// newInitiation makes the message, without its MACs.
func newInitiation(random io.Reader, now time.Time, ours identity, theirs PublicKey, psk PresharedKey, local uint32) (*initiation, []byte, error) {
	hs, err := noiseState(random, ours, theirs, psk)
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, initiationNoise, initiationLen)
	binary.LittleEndian.PutUint32(b, typeInitiation)
	binary.LittleEndian.PutUint32(b[initiationSender:], local)
	stamp := timestamp(now)
	b, _, _, err = hs.WriteMessage(b, stamp[:])
	if err != nil {
		return nil, nil, fmt.Errorf("write an initiation: %w", err)
	}
	return &initiation{keys: pair{ours.public, theirs}, local: local, state: hs}, b[:initiationLen], nil
}

// finish reads the response. It may be called again after an error: that of
// somebody else must not spoil the peer's.
func (i *initiation) finish(b []byte) (*session, error) {
	// The library goes back to where it was if a message does not decrypt, but not
	// if its ephemeral key is a point of low order. Those are so for every private key.
	if _, err := curve25519.X25519(i.state.LocalEphemeral().Private, b[responseNoise:responseNoise+keyLen]); err != nil {
		return nil, fmt.Errorf("read a response: %w", err)
	}
	_, out, in, err := i.state.ReadMessage(nil, b[responseNoise:responseMAC1])
	if err != nil {
		return nil, fmt.Errorf("read a response: %w", err)
	}
	s, err := newSession(out.UnsafeKey(), in.UnsafeKey())
	if err != nil {
		return nil, err
	}
	s.local, s.remote, s.keys, s.initiator = i.local, binary.LittleEndian.Uint32(b[responseSender:]), i.keys, true
	s.heard.Store(true)
	return s, nil
}

var errNotForKey = errors.New("the initiation does not decrypt with this key")

// received is an initiation of the peer's.
type received struct {
	theirs    PublicKey
	timestamp [timestampLen]byte
	remote    uint32
	state     *noise.HandshakeState
}

// readInitiation reads one that is meant for ours. Who sent it is known afterwards.
func readInitiation(random io.Reader, b []byte, ours identity, psk PresharedKey) (*received, error) {
	hs, err := noiseState(random, ours, PublicKey{}, psk)
	if err != nil {
		return nil, err
	}
	payload, _, _, err := hs.ReadMessage(nil, b[initiationNoise:initiationMAC1])
	if err != nil || len(payload) != timestampLen || len(hs.PeerStatic()) != keyLen {
		return nil, errNotForKey
	}
	return &received{
		theirs: PublicKey(hs.PeerStatic()), timestamp: [timestampLen]byte(payload),
		remote: binary.LittleEndian.Uint32(b[initiationSender:]), state: hs,
	}, nil
}

// respond makes the response, without its MACs, and the session.
func (r *received) respond(ours identity, local uint32) (*session, []byte, error) {
	b := make([]byte, responseNoise, responseLen)
	binary.LittleEndian.PutUint32(b, typeResponse)
	binary.LittleEndian.PutUint32(b[responseSender:], local)
	binary.LittleEndian.PutUint32(b[responseReceiver:], r.remote)
	b, in, out, err := r.state.WriteMessage(b, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("write a response: %w", err)
	}
	s, err := newSession(out.UnsafeKey(), in.UnsafeKey())
	if err != nil {
		return nil, nil, err
	}
	s.local, s.remote, s.keys = local, r.remote, pair{ours.public, r.theirs}
	return s, b[:responseLen], nil
}

const (
	tai64Base  = 1<<62 + 10 // what 1970 is, with the leap seconds of then
	stampGrain = 1 << 24 * time.Nanosecond
)

// timestamp is a TAI64N label (cr.yp.to/libtai/tai64.html), as coarse as upstream
// has it, so that it does not tell how fast we are.
func timestamp(now time.Time) (b [timestampLen]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(tai64Base+now.Unix()))
	binary.BigEndian.PutUint32(b[8:], uint32(now.Nanosecond())&^uint32(stampGrain-1))
	return b
}

func stampTime(b [timestampLen]byte) time.Time {
	return time.Unix(int64(binary.BigEndian.Uint64(b[:])-tai64Base), int64(binary.BigEndian.Uint32(b[8:])))
}

// keyLog writes what tshark needs to decrypt a handshake's sessions, in the
// order in which it has to have it (wireshark.org/docs/dfref/w/wg.html).
func keyLog(w io.Writer, hs *noise.HandshakeState, ours identity, theirs PublicKey, psk PresharedKey) error {
	b64 := base64.StdEncoding.EncodeToString
	ephemeral := hs.LocalEphemeral()
	_, err := fmt.Fprintf(w, "LOCAL_STATIC_PRIVATE_KEY = %s\nREMOTE_STATIC_PUBLIC_KEY = %s\nLOCAL_EPHEMERAL_PRIVATE_KEY = %s\nPRESHARED_KEY = %s\n",
		ours.private.Base64(), theirs, b64(ephemeral.Private), b64(psk[:]))
	if err != nil {
		return fmt.Errorf("write the key log: %w", err)
	}
	return nil
}
