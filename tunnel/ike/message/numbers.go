package message

import "strconv"

// name is a number's name in a table, or the number.
func name[T ~uint8 | ~uint16](names map[T]string, n T) string {
	if s, ok := names[n]; ok {
		return s
	}
	return strconv.Itoa(int(n))
}

// Exchange is an exchange type.
type Exchange uint8

// Exchange types, by the names of the RFCs.
const (
	IKESAInit       Exchange = 34
	IKEAuth         Exchange = 35
	CreateChildSA   Exchange = 36
	Informational   Exchange = 37
	IKEIntermediate Exchange = 43 // RFC 9242
	IKEFollowupKE   Exchange = 44 // RFC 9370
)

var exchangeNames = map[Exchange]string{
	IKESAInit: "IKE_SA_INIT", IKEAuth: "IKE_AUTH", CreateChildSA: "CREATE_CHILD_SA", Informational: "INFORMATIONAL",
	IKEIntermediate: "IKE_INTERMEDIATE", IKEFollowupKE: "IKE_FOLLOWUP_KE",
}

func (e Exchange) String() string { return name(exchangeNames, e) }

// PayloadType is the number of a payload's type (RFC 7296, section 3.2).
type PayloadType uint8

// Payload types. TypeNone ends the chain.
const (
	TypeNone              PayloadType = 0
	TypeSA                PayloadType = 33
	TypeKE                PayloadType = 34
	TypeIDi               PayloadType = 35
	TypeIDr               PayloadType = 36
	TypeCert              PayloadType = 37
	TypeCertReq           PayloadType = 38
	TypeAuth              PayloadType = 39
	TypeNonce             PayloadType = 40
	TypeNotify            PayloadType = 41
	TypeDelete            PayloadType = 42
	TypeVendor            PayloadType = 43
	TypeTSi               PayloadType = 44
	TypeTSr               PayloadType = 45
	TypeEncrypted         PayloadType = 46
	TypeConfiguration     PayloadType = 47
	TypeEAP               PayloadType = 48
	TypeEncryptedFragment PayloadType = 53 // RFC 7383
)

var payloadNames = map[PayloadType]string{
	TypeNone: "no", TypeSA: "SA", TypeKE: "KE", TypeIDi: "IDi", TypeIDr: "IDr", TypeCert: "CERT", TypeCertReq: "CERTREQ",
	TypeAuth: "AUTH", TypeNonce: "Nonce", TypeNotify: "N", TypeDelete: "D", TypeVendor: "V", TypeTSi: "TSi", TypeTSr: "TSr",
	TypeEncrypted: "SK", TypeConfiguration: "CP", TypeEAP: "EAP", TypeEncryptedFragment: "SKF",
}

func (t PayloadType) String() string { return name(payloadNames, t) }

// Protocol is what a proposal, an SPI or a Delete payload is about.
type Protocol uint8

// Protocols (RFC 7296, section 3.3.1).
const (
	ProtocolNone Protocol = 0
	ProtocolIKE  Protocol = 1
	ProtocolAH   Protocol = 2
	ProtocolESP  Protocol = 3
)

var protocolNames = map[Protocol]string{ProtocolNone: "none", ProtocolIKE: "IKE", ProtocolAH: "AH", ProtocolESP: "ESP"}

func (p Protocol) String() string { return name(protocolNames, p) }

// TransformType is what a transform is good for (RFC 7296, section 3.3.2).
type TransformType uint8

// Transform types. AdditionalKE1 to AdditionalKE7 are in a row (RFC 9370).
const (
	TransformEncryption  TransformType = 1
	TransformPRF         TransformType = 2
	TransformIntegrity   TransformType = 3
	TransformKeyExchange TransformType = 4
	TransformESN         TransformType = 5
	TransformAdditional1 TransformType = 6
	TransformAdditional7 TransformType = 12
)

var transformNames = map[TransformType]string{
	TransformEncryption: "encryption", TransformPRF: "pseudorandom function", TransformIntegrity: "integrity",
	TransformKeyExchange: "key exchange", TransformESN: "extended sequence numbers",
}

func (t TransformType) String() string {
	if t.Additional() {
		return "additional key exchange " + strconv.Itoa(int(t-TransformAdditional1)+1)
	}
	return name(transformNames, t)
}

// Additional reports whether the type is one of the seven additional key exchanges.
func (t TransformType) Additional() bool {
	return t >= TransformAdditional1 && t <= TransformAdditional7
}

// Transform IDs of encryption.
const (
	EncryptionAESCBC           uint16 = 12
	EncryptionAESGCM8          uint16 = 18
	EncryptionAESGCM12         uint16 = 19
	EncryptionAESGCM16         uint16 = 20
	EncryptionChaCha20Poly1305 uint16 = 28
)

// Transform IDs of pseudorandom functions.
const (
	PRFHMACSHA1   uint16 = 2
	PRFHMACSHA256 uint16 = 5
	PRFHMACSHA384 uint16 = 6
	PRFHMACSHA512 uint16 = 7
)

// Transform IDs of integrity.
const (
	IntegrityNone       uint16 = 0
	IntegrityHMACSHA196 uint16 = 2
	IntegrityHMACSHA256 uint16 = 12 // truncated to 128 bits
	IntegrityHMACSHA384 uint16 = 13 // 192
	IntegrityHMACSHA512 uint16 = 14 // 256
)

// Transform IDs of extended sequence numbers.
const (
	ESNNo  uint16 = 0
	ESNYes uint16 = 1
)

// KeyExchange is a key exchange method: a Diffie-Hellman group or a KEM. It is
// the transform ID of the types TransformKeyExchange and the additional ones.
type KeyExchange uint16

// Key exchange methods.
const (
	KENone     KeyExchange = 0
	KEModp1024 KeyExchange = 2
	KEModp2048 KeyExchange = 14
	KEModp3072 KeyExchange = 15
	KEModp4096 KeyExchange = 16
	KEEcp256   KeyExchange = 19
	KEEcp384   KeyExchange = 20
	KEEcp521   KeyExchange = 21
	KEX25519   KeyExchange = 31
	KEMLKEM768 KeyExchange = 36 // draft-ietf-ipsecme-ikev2-mlkem
)

var keNames = map[KeyExchange]string{
	KENone: "none", KEModp1024: "modp1024", KEModp2048: "modp2048", KEModp3072: "modp3072", KEModp4096: "modp4096",
	KEEcp256: "ecp256", KEEcp384: "ecp384", KEEcp521: "ecp521", KEX25519: "x25519", KEMLKEM768: "mlkem768",
}

// String is strongSwan's spelling.
func (k KeyExchange) String() string { return name(keNames, k) }

// IDKind is the type of an identity (RFC 7296, section 3.5).
type IDKind uint8

// Kinds of identities.
const (
	IDIPv4  IDKind = 1
	IDFQDN  IDKind = 2
	IDEmail IDKind = 3 // ID_RFC822_ADDR
	IDIPv6  IDKind = 5
	IDDN    IDKind = 9 // ID_DER_ASN1_DN
	IDGN    IDKind = 10
	IDKeyID IDKind = 11
)

var idNames = map[IDKind]string{
	IDIPv4: "ID_IPV4_ADDR", IDFQDN: "ID_FQDN", IDEmail: "ID_RFC822_ADDR", IDIPv6: "ID_IPV6_ADDR", IDDN: "ID_DER_ASN1_DN",
	IDGN: "ID_DER_ASN1_GN", IDKeyID: "ID_KEY_ID",
}

func (k IDKind) String() string { return name(idNames, k) }

// CertEncoding is how a certificate is encoded (RFC 7296, section 3.6).
type CertEncoding uint8

// CertX509 is a DER certificate whose key signs.
const CertX509 CertEncoding = 4

// AuthMethod is how an end authenticates itself (RFC 7296, section 3.8).
type AuthMethod uint8

// Authentication methods.
const (
	AuthRSA       AuthMethod = 1
	AuthPSK       AuthMethod = 2
	AuthECDSA256  AuthMethod = 9 // RFC 4754
	AuthECDSA384  AuthMethod = 10
	AuthECDSA521  AuthMethod = 11
	AuthNull      AuthMethod = 13
	AuthSignature AuthMethod = 14 // RFC 7427
)

var authNames = map[AuthMethod]string{
	AuthRSA: "RSA signature", AuthPSK: "pre-shared key", AuthECDSA256: "ECDSA P-256", AuthECDSA384: "ECDSA P-384",
	AuthECDSA521: "ECDSA P-521", AuthNull: "none", AuthSignature: "digital signature",
}

func (m AuthMethod) String() string { return name(authNames, m) }

// Hash is a hash algorithm of SIGNATURE_HASH_ALGORITHMS (RFC 7427, section 4).
type Hash uint16

// Hash algorithms.
const (
	HashSHA1     Hash = 1
	HashSHA256   Hash = 2
	HashSHA384   Hash = 3
	HashSHA512   Hash = 4
	HashIdentity Hash = 5 // RFC 8420: Ed25519 hashes by itself
)

var hashNames = map[Hash]string{
	HashSHA1: "SHA-1", HashSHA256: "SHA-256", HashSHA384: "SHA-384", HashSHA512: "SHA-512", HashIdentity: "identity",
}

func (h Hash) String() string { return name(hashNames, h) }
