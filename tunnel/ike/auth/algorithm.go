package auth

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// scheme is a way of signing.
type scheme int

const (
	schemePKCS1 scheme = iota + 1
	schemePSS
	schemeECDSA
	schemeEd25519
)

// algorithm is what an algorithm identifier says.
type algorithm struct {
	scheme scheme
	hash   message.Hash
	salt   int // of PSS, in bytes
}

func oidPSS() asn1.ObjectIdentifier     { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10} }
func oidMGF1() asn1.ObjectIdentifier    { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8} }
func oidEd25519() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 101, 112} }

// hashInfo is a hash with its object identifiers: alone, with RSA PKCS #1 v1.5
// and with ECDSA (RFC 7427, appendix A).
type hashInfo struct {
	hash              message.Hash
	crypto            crypto.Hash
	alone, rsa, ecdsa asn1.ObjectIdentifier
}

func hashInfos() []hashInfo {
	return []hashInfo{
		{message.HashSHA256, crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		{message.HashSHA384, crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
		{message.HashSHA512, crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
	}
}

func infoOf(h message.Hash) (hashInfo, bool) {
	for _, i := range hashInfos() {
		if i.hash == h {
			return i, true
		}
	}
	return hashInfo{}, false
}

// pssParameters are RSASSA-PSS-params (RFC 4055, section 3.1). All are optional;
// their defaults mean SHA-1, which is refused.
type pssParameters struct {
	Hash    pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:0"`
	MGF     pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:1"`
	Salt    int                      `asn1:"optional,explicit,tag:2,default:20"`
	Trailer int                      `asn1:"optional,explicit,tag:3,default:1"`
}

// identifier is the DER of an AlgorithmIdentifier.
func (a algorithm) identifier() ([]byte, error) {
	info, _ := infoOf(a.hash)
	null := asn1.RawValue{Tag: asn1.TagNull}
	switch a.scheme {
	case schemePKCS1:
		return asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: info.rsa, Parameters: null})
	case schemeECDSA:
		return asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: info.ecdsa})
	case schemeEd25519:
		return asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: oidEd25519()})
	case schemePSS:
		hash := pkix.AlgorithmIdentifier{Algorithm: info.alone, Parameters: null}
		inner, err := asn1.Marshal(hash)
		if err != nil {
			return nil, err
		}
		params, err := asn1.Marshal(pssParameters{
			Hash: hash, MGF: pkix.AlgorithmIdentifier{Algorithm: oidMGF1(), Parameters: asn1.RawValue{FullBytes: inner}},
			Salt: a.salt, Trailer: 1,
		})
		if err != nil {
			return nil, err
		}
		return asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: oidPSS(), Parameters: asn1.RawValue{FullBytes: params}})
	}
	return nil, fmt.Errorf("there is no scheme %d", a.scheme)
}

// parseIdentifier reads the DER of an AlgorithmIdentifier that is good enough.
func parseIdentifier(der []byte) (algorithm, error) {
	var id pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(der, &id); err != nil || len(rest) != 0 {
		return algorithm{}, fmt.Errorf("the algorithm identifier %x is malformed", der)
	}
	if id.Algorithm.Equal(oidPSS()) {
		return parsePSS(id.Parameters.FullBytes)
	}
	if !empty(id.Parameters) {
		return algorithm{}, fmt.Errorf("the algorithm %s has parameters", id.Algorithm)
	}
	if id.Algorithm.Equal(oidEd25519()) {
		return algorithm{scheme: schemeEd25519, hash: message.HashIdentity}, nil
	}
	for _, i := range hashInfos() {
		switch {
		case id.Algorithm.Equal(i.rsa):
			return algorithm{scheme: schemePKCS1, hash: i.hash}, nil
		case id.Algorithm.Equal(i.ecdsa):
			return algorithm{scheme: schemeECDSA, hash: i.hash}, nil
		}
	}
	return algorithm{}, fmt.Errorf("the algorithm %s is not supported (RSA-PSS, RSA PKCS #1 v1.5 or ECDSA with SHA-2, or Ed25519 is)", id.Algorithm)
}

func empty(v asn1.RawValue) bool {
	return len(v.FullBytes) == 0 || v.Class == asn1.ClassUniversal && v.Tag == asn1.TagNull && len(v.Bytes) == 0
}

func parsePSS(der []byte) (algorithm, error) {
	var p pssParameters
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) != 0 {
		return algorithm{}, fmt.Errorf("the parameters of RSA-PSS, %x, are malformed", der)
	}
	var mgf pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(p.MGF.Parameters.FullBytes, &mgf); err != nil || len(rest) != 0 || !p.MGF.Algorithm.Equal(oidMGF1()) {
		return algorithm{}, fmt.Errorf("RSA-PSS with another mask generation than MGF1 with SHA-2")
	}
	for _, i := range hashInfos() {
		if !p.Hash.Algorithm.Equal(i.alone) {
			continue
		}
		// RFC 4055, section 3.1: the hash of the mask should be the same; the standard library can do no other.
		if !mgf.Algorithm.Equal(i.alone) || !empty(mgf.Parameters) || !empty(p.Hash.Parameters) {
			return algorithm{}, fmt.Errorf("RSA-PSS with %s, and with %s in its mask", i.hash, mgf.Algorithm)
		}
		if p.Trailer != 1 || p.Salt < 1 || p.Salt > 512 {
			return algorithm{}, fmt.Errorf("RSA-PSS with a salt of %d bytes and trailer %d", p.Salt, p.Trailer)
		}
		return algorithm{schemePSS, i.hash, p.Salt}, nil
	}
	return algorithm{}, fmt.Errorf("RSA-PSS with the hash %s, not SHA-2", p.Hash.Algorithm)
}
