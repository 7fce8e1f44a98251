package keys

import (
	"encoding/binary"
	"fmt"

	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

// Seed is SKEYSEED of a new IKE SA: prf(Ni | Nr, g^ir) (RFC 7296, section 2.14).
func Seed(prf PRF, ni, nr, secret []byte) []byte {
	return prf.Sum(concat(ni, nr), secret)
}

// NextSeed is SKEYSEED of keys that follow from others. At an IKE SA's rekeying
// (RFC 7296, section 2.18) the function and SK_d are the old SA's, the nonces are
// those of CREATE_CHILD_SA, and the secrets are those of its key exchange and of
// the additional ones that follow. After an IKE_INTERMEDIATE with an additional
// key exchange (RFC 9370, section 2.2.2) it is called with that one secret, the
// SK_d before, and the nonces of IKE_SA_INIT.
func NextSeed(prf PRF, d, ni, nr []byte, secrets ...[]byte) []byte {
	return prf.Sum(d, order(ni, nr, secrets))
}

// order is SK(0) | Ni | Nr | SK(1) | … (RFC 9370, sections 2.2.2 and 2.2.4), which
// without additional key exchanges is that of RFC 7296.
func order(ni, nr []byte, secrets [][]byte) []byte {
	var b []byte
	if len(secrets) > 0 {
		b = append(b, secrets[0]...)
		secrets = secrets[1:]
	}
	b = append(append(b, ni...), nr...)
	for _, s := range secrets {
		b = append(b, s...)
	}
	return b
}

// IKE holds the keys of an IKE SA: the initiator's end with i. With an AEAD Ei
// and Er end in the salt, and Ai and Ar are empty.
type IKE struct {
	D, Ai, Ar, Ei, Er, Pi, Pr []byte
}

// String hides the keys from logs.
func (k *IKE) String() string { return "keys" }

// GoString hides the keys from %#v too.
func (k *IKE) GoString() string { return "keys" }

// Derive makes the keys of an IKE SA (RFC 7296, section 2.14): by prf+ from
// SKEYSEED, the nonces and the SPIs of the new SA.
func Derive(c suite.Choice, seed, ni, nr []byte, spii, spir uint64) (*IKE, error) {
	prf, err := PRFOf(c.PRF)
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	e, a, err := lengths(c)
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	spis := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, spii), spir)
	sizes := []int{prf.size, a, a, e, e, prf.size, prf.size}
	parts, err := split(prf, seed, concat(ni, nr, spis), sizes)
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	return &IKE{parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]}, nil
}

// split cuts prf+'s output into keys that do not share memory.
func split(prf PRF, key, seed []byte, sizes []int) ([][]byte, error) {
	n := 0
	for _, s := range sizes {
		n += s
	}
	all, err := prf.Plus(key, seed, n)
	if err != nil {
		return nil, err
	}
	defer clear(all)
	out, rest := make([][]byte, len(sizes)), all
	for i, s := range sizes {
		out[i] = append(make([]byte, 0, s), rest[:s]...)
		rest = rest[s:]
	}
	return out, nil
}

// AddPPK mixes a postquantum pre-shared key into the keys that AUTH and all
// later ones come from (RFC 8784, section 3). Those that protect the messages of
// this IKE SA stay.
func (k *IKE) AddPPK(prf PRF, ppk []byte) error {
	if len(ppk) == 0 {
		return fmt.Errorf("an empty postquantum pre-shared key")
	}
	for _, key := range []*[]byte{&k.D, &k.Pi, &k.Pr} {
		mixed, err := prf.Plus(ppk, *key, len(*key))
		if err != nil {
			return err
		}
		clear(*key)
		*key = mixed
	}
	return nil
}

// Clone is a copy with memory of its own: RFC 8784 needs the keys before and
// after AddPPK while it is open whether the peer has the PPK.
func (k *IKE) Clone() *IKE {
	c := func(b []byte) []byte { return append([]byte{}, b...) }
	return &IKE{c(k.D), c(k.Ai), c(k.Ar), c(k.Ei), c(k.Er), c(k.Pi), c(k.Pr)}
}

// Wipe overwrites the keys with zeros.
func (k *IKE) Wipe() {
	for _, b := range [][]byte{k.D, k.Ai, k.Ar, k.Ei, k.Er, k.Pi, k.Pr} {
		clear(b)
	}
}

// Child holds the keys of a CHILD SA: what the initiator of its exchange sends
// with is i. With an AEAD Ei and Er end in the salt (RFC 4106, section 8.1), and
// Ai and Ar are empty.
type Child struct {
	Ei, Ai, Er, Ar []byte
}

// String hides the keys from logs.
func (k *Child) String() string { return "keys" }

// GoString hides the keys from %#v too.
func (k *Child) GoString() string { return "keys" }

// DeriveChild makes the keys of a CHILD SA (RFC 7296, section 2.17) from the IKE
// SA's function and SK_d. The nonces are those of the exchange that made the
// CHILD SA; secrets are none for the first one and without PFS.
func DeriveChild(ike PRF, d []byte, c suite.Choice, ni, nr []byte, secrets ...[]byte) (*Child, error) {
	e, a, err := lengths(c)
	if err != nil {
		return nil, fmt.Errorf("deriving keys of a CHILD SA: %w", err)
	}
	seed := order(ni, nr, secrets)
	defer clear(seed)
	parts, err := split(ike, d, seed, []int{e, a, e, a})
	if err != nil {
		return nil, fmt.Errorf("deriving keys of a CHILD SA: %w", err)
	}
	return &Child{parts[0], parts[1], parts[2], parts[3]}, nil
}

// Wipe overwrites the keys with zeros.
func (k *Child) Wipe() {
	for _, b := range [][]byte{k.Ei, k.Ai, k.Er, k.Ar} {
		clear(b)
	}
}

// saltLen is what an AEAD's key has at its end (RFC 5282, section 7.1; RFC 7634, section 2).
const saltLen = 4

// lengths are those of the encryption's and the integrity's keys in bytes.
func lengths(c suite.Choice) (e, a int, err error) {
	bits := int(c.Encryption.KeyBits)
	switch c.Encryption.ID {
	case message.EncryptionAESGCM16:
		e = bits/8 + saltLen
	case message.EncryptionAESCBC:
		e = bits / 8
	case message.EncryptionChaCha20Poly1305:
		return 32 + saltLen, 0, noKeyLength(bits)
	default:
		return 0, 0, fmt.Errorf("there is no encryption %d", c.Encryption.ID)
	}
	if bits != 128 && bits != 192 && bits != 256 {
		return 0, 0, fmt.Errorf("AES with %d bits", bits)
	}
	if c.Encryption.ID == message.EncryptionAESCBC {
		h, _, err := integrityOf(c.Integrity)
		if err != nil {
			return 0, 0, err
		}
		a = h().Size()
	}
	return e, a, nil
}

func noKeyLength(bits int) error {
	if bits != 0 {
		return fmt.Errorf("ChaCha20-Poly1305 with a key length, %d bits", bits)
	}
	return nil
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
