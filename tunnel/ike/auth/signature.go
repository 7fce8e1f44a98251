package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// ErrSignature is a signature that the key did not make.
var ErrSignature = errors.New("the signature is wrong")

// Hashes are what we announce in SIGNATURE_HASH_ALGORITHMS, and take.
func Hashes() []message.Hash {
	return []message.Hash{message.HashSHA256, message.HashSHA384, message.HashSHA512, message.HashIdentity}
}

// Bounds of an RSA key in bits. Longer ones are for wasting somebody's time.
const (
	minRSA = 2048
	maxRSA = 8192
)

// CheckKey says why a public key is none that may sign.
func CheckKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("an RSA key of %d bits, %d to %d are allowed", n, minRSA, maxRSA)
		}
	case *ecdsa.PublicKey:
		if legacyECDSA(k) == 0 {
			return fmt.Errorf("an ECDSA key on %s; P-256, P-384 and P-521 are supported", k.Params().Name)
		}
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("an Ed25519 key of %d bytes", len(k))
		}
	default:
		return fmt.Errorf("a key of type %T; RSA, ECDSA and Ed25519 are supported", public)
	}
	return nil
}

// legacyECDSA is RFC 4754's authentication method for a key, or 0.
func legacyECDSA(k *ecdsa.PublicKey) message.AuthMethod {
	switch k.Curve {
	case elliptic.P256():
		return message.AuthECDSA256
	case elliptic.P384():
		return message.AuthECDSA384
	case elliptic.P521():
		return message.AuthECDSA521
	}
	return 0
}

// preferred are the hashes for a key, the one of its strength first.
func preferred(public crypto.PublicKey) []message.Hash {
	if k, ok := public.(*ecdsa.PublicKey); ok {
		switch k.Curve {
		case elliptic.P384():
			return []message.Hash{message.HashSHA384, message.HashSHA512, message.HashSHA256}
		case elliptic.P521():
			return []message.Hash{message.HashSHA512, message.HashSHA384, message.HashSHA256}
		}
	}
	return []message.Hash{message.HashSHA256, message.HashSHA384, message.HashSHA512}
}

// Sign makes the AUTH payload of a private key. theirs are the hashes that the
// peer announced; with none it knows only the methods before RFC 7427, which are
// ECDSA with the curve's hash, and RSA: that is signed with SHA-256, not with SHA-1.
func Sign(key crypto.Signer, octets []byte, theirs []message.Hash, random io.Reader) (message.Auth, error) {
	a, err := sign(key, octets, theirs, random)
	if err != nil {
		return a, fmt.Errorf("signing: %w", err)
	}
	return a, nil
}

func sign(key crypto.Signer, octets []byte, theirs []message.Hash, random io.Reader) (message.Auth, error) {
	if err := CheckKey(key.Public()); err != nil {
		return message.Auth{}, err
	}
	if len(theirs) == 0 {
		return signLegacy(key, octets, random)
	}
	alg, opts, err := chooseAlgorithm(key.Public(), theirs)
	if err != nil {
		return message.Auth{}, err
	}
	signature, err := key.Sign(random, digest(alg.hash, octets), opts)
	if err != nil {
		return message.Auth{}, err
	}
	id, err := alg.identifier()
	if err != nil {
		return message.Auth{}, err
	}
	// One byte of length, the identifier, the signature (RFC 7427, section 3).
	data := append([]byte{byte(len(id))}, id...)
	return message.Auth{Method: message.AuthSignature, Data: append(data, signature...)}, nil
}

func chooseAlgorithm(public crypto.PublicKey, theirs []message.Hash) (algorithm, crypto.SignerOpts, error) {
	if _, ok := public.(ed25519.PublicKey); ok {
		if !slices.Contains(theirs, message.HashIdentity) {
			return algorithm{}, nil, errors.New("the peer does not know Ed25519 (RFC 8420)")
		}
		return algorithm{scheme: schemeEd25519, hash: message.HashIdentity}, crypto.Hash(0), nil
	}
	for _, h := range preferred(public) {
		if !slices.Contains(theirs, h) {
			continue
		}
		info, _ := infoOf(h)
		if _, ok := public.(*rsa.PublicKey); ok {
			return algorithm{schemePSS, h, info.crypto.Size()}, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: info.crypto}, nil
		}
		return algorithm{scheme: schemeECDSA, hash: h}, info.crypto, nil
	}
	return algorithm{}, nil, fmt.Errorf("the peer knows the hashes %v, none of SHA-2", theirs)
}

func signLegacy(key crypto.Signer, octets []byte, random io.Reader) (message.Auth, error) {
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		s, err := key.Sign(random, digest(message.HashSHA256, octets), crypto.SHA256)
		return message.Auth{Method: message.AuthRSA, Data: s}, err
	case *ecdsa.PublicKey:
		h := preferred(k)[0]
		info, _ := infoOf(h)
		der, err := key.Sign(random, digest(h, octets), info.crypto)
		if err != nil {
			return message.Auth{}, err
		}
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &rs); err != nil {
			return message.Auth{}, err
		}
		n := (k.Params().BitSize + 7) / 8
		data := append(rs.R.FillBytes(make([]byte, n)), rs.S.FillBytes(make([]byte, n))...)
		return message.Auth{Method: legacyECDSA(k), Data: data}, nil
	}
	return message.Auth{}, errors.New("the peer announces no SIGNATURE_HASH_ALGORITHMS, and for Ed25519 there is no other way")
}

// digest is the hash of the octets, or the octets where the signature hashes by itself.
func digest(h message.Hash, octets []byte) []byte {
	info, ok := infoOf(h)
	if !ok {
		return octets
	}
	d := info.crypto.New()
	d.Write(octets)
	return d.Sum(nil)
}

// Verify checks a peer's AUTH payload by its public key. ours are the hashes that
// we announced: no other is taken.
func Verify(public crypto.PublicKey, a message.Auth, octets []byte, ours []message.Hash) error {
	if err := CheckKey(public); err != nil {
		return fmt.Errorf("verifying: %w", err)
	}
	if err := verify(public, a, octets, ours); err != nil {
		return fmt.Errorf("verifying a %s: %w", a.Method, err)
	}
	return nil
}

func verify(public crypto.PublicKey, a message.Auth, octets []byte, ours []message.Hash) error {
	switch a.Method {
	case message.AuthSignature:
	case message.AuthRSA:
		return verifyLegacyRSA(public, a.Data, octets, ours)
	case message.AuthECDSA256, message.AuthECDSA384, message.AuthECDSA521:
		return verifyLegacyECDSA(public, a, octets)
	default:
		return errors.New("it is no signature")
	}
	if len(a.Data) == 0 || len(a.Data) < 1+int(a.Data[0]) {
		return errors.New("it is cut off")
	}
	n := 1 + int(a.Data[0])
	alg, err := parseIdentifier(a.Data[1:n])
	if err != nil {
		return err
	}
	if !slices.Contains(ours, alg.hash) {
		return fmt.Errorf("its hash is %s, and %v were announced", alg.hash, ours)
	}
	signature, sum := a.Data[n:], digest(alg.hash, octets)
	info, _ := infoOf(alg.hash)
	ok := false
	switch k := public.(type) {
	case *rsa.PublicKey:
		switch alg.scheme {
		case schemePSS:
			ok = rsa.VerifyPSS(k, info.crypto, sum, signature, &rsa.PSSOptions{SaltLength: alg.salt, Hash: info.crypto}) == nil
		case schemePKCS1:
			ok = rsa.VerifyPKCS1v15(k, info.crypto, sum, signature) == nil
		default:
			return errOtherKey
		}
	case *ecdsa.PublicKey:
		if alg.scheme != schemeECDSA {
			return errOtherKey
		}
		ok = ecdsa.VerifyASN1(k, sum, signature)
	case ed25519.PublicKey:
		if alg.scheme != schemeEd25519 {
			return errOtherKey
		}
		ok = ed25519.Verify(k, octets, signature)
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

var errOtherKey = errors.New("its algorithm is not that of the certificate's key")

// verifyLegacyRSA takes any SHA-2, which the signature itself names; RFC 7296,
// section 3.8, would allow SHA-1, which RFC 8247, section 3, wants gone.
func verifyLegacyRSA(public crypto.PublicKey, signature, octets []byte, ours []message.Hash) error {
	k, ok := public.(*rsa.PublicKey)
	if !ok {
		return errOtherKey
	}
	for _, i := range hashInfos() {
		if slices.Contains(ours, i.hash) && rsa.VerifyPKCS1v15(k, i.crypto, digest(i.hash, octets), signature) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w, or it is one with SHA-1", ErrSignature)
}

// verifyLegacyECDSA checks r and s, one after the other (RFC 4754, section 7).
func verifyLegacyECDSA(public crypto.PublicKey, a message.Auth, octets []byte) error {
	k, ok := public.(*ecdsa.PublicKey)
	if !ok || legacyECDSA(k) != a.Method {
		return errOtherKey
	}
	n := (k.Params().BitSize + 7) / 8
	if len(a.Data) != 2*n {
		return fmt.Errorf("%d bytes, not %d", len(a.Data), 2*n)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(a.Data[:n]), new(big.Int).SetBytes(a.Data[n:])})
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(k, digest(preferred(k)[0], octets), der) {
		return ErrSignature
	}
	return nil
}
