package suite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// algorithm is a keyword of a proposal and the transform that it means.
type algorithm struct {
	word      string
	transform message.Transform
	aead      bool
	ikeOnly   bool
	espOnly   bool
}

// algorithms lists all that can be configured, the strong before the weak. Key
// exchanges stand here once; in an additional one the word is prefixed by ke1_ to ke7_.
func algorithms() []algorithm {
	encryption := func(word string, id, bits uint16, aead bool) algorithm {
		return algorithm{word: word, transform: message.Transform{Type: message.TransformEncryption, ID: id, KeyBits: bits}, aead: aead}
	}
	prf := func(word string, id uint16) algorithm {
		return algorithm{word: word, transform: message.Transform{Type: message.TransformPRF, ID: id}, ikeOnly: true}
	}
	integrity := func(word string, id uint16) algorithm {
		return algorithm{word: word, transform: message.Transform{Type: message.TransformIntegrity, ID: id}}
	}
	ke := func(k message.KeyExchange) algorithm {
		return algorithm{word: k.String(), transform: message.Transform{Type: message.TransformKeyExchange, ID: uint16(k)}}
	}
	esn := func(word string, id uint16) algorithm {
		return algorithm{word: word, transform: message.Transform{Type: message.TransformESN, ID: id}, espOnly: true}
	}
	return []algorithm{
		encryption("aes256gcm16", message.EncryptionAESGCM16, 256, true),
		encryption("aes192gcm16", message.EncryptionAESGCM16, 192, true),
		encryption("aes128gcm16", message.EncryptionAESGCM16, 128, true),
		encryption("chacha20poly1305", message.EncryptionChaCha20Poly1305, 0, true), // no Key Length attribute (RFC 7634, section 3)
		encryption("aes256", message.EncryptionAESCBC, 256, false),
		encryption("aes192", message.EncryptionAESCBC, 192, false),
		encryption("aes128", message.EncryptionAESCBC, 128, false),
		integrity("sha512", message.IntegrityHMACSHA512),
		integrity("sha384", message.IntegrityHMACSHA384),
		integrity("sha256", message.IntegrityHMACSHA256),
		prf("prfsha512", message.PRFHMACSHA512),
		prf("prfsha384", message.PRFHMACSHA384),
		prf("prfsha256", message.PRFHMACSHA256),
		ke(message.KEEcp521), ke(message.KEEcp384), ke(message.KEEcp256), ke(message.KEX25519),
		ke(message.KEModp4096), ke(message.KEModp3072), ke(message.KEModp2048),
		ke(message.KEMLKEM768), ke(message.KENone),
		esn("esn", message.ESNYes),
		esn("noesn", message.ESNNo),
	}
}

// alias gives strongSwan's other spellings.
func alias(word string) string {
	switch word {
	case "aes":
		return "aes128"
	case "aes128gcm", "aes192gcm", "aes256gcm":
		return word + "16"
	case "aes128gcm128", "aes192gcm128", "aes256gcm128":
		return strings.TrimSuffix(word, "128") + "16"
	case "chacha20poly1305compat":
		return "chacha20poly1305"
	case "sha2_256", "sha2_384", "sha2_512":
		return "sha" + word[len(word)-3:]
	case "curve25519":
		return "x25519"
	case "ecp256r1", "ecp384r1", "ecp521r1":
		return strings.TrimSuffix(word, "r1")
	}
	return word
}

// weak says of a known algorithm that is left out why.
func weak(word string) string {
	switch word {
	case "des", "3des", "null", "blowfish", "cast128", "rc5":
		return "it does not protect (RFC 8247, section 2.1)"
	case "md5", "sha1", "sha", "prfmd5", "prfsha1", "aesxcbc", "prfaesxcbc":
		return "it is weak or out of use; sha256 and prfsha256 are right for old peers"
	case "modp768", "modp1024", "modp1536", "ecp192", "ecp224", "modp1024s160", "modp2048s224", "modp2048s256":
		return "the group is weak (RFC 8247, section 2.4); modp2048 is right for old peers"
	}
	return ""
}

// lookup reads one word of a proposal.
func lookup(protocol message.Protocol, word string) (message.Transform, error) {
	name, additional := alias(word), message.TransformType(0)
	if n, rest, ok := strings.Cut(word, "_"); ok && len(n) == 3 && strings.HasPrefix(n, "ke") {
		if n[2] < '1' || n[2] > '7' {
			return message.Transform{}, fmt.Errorf("%q: additional key exchanges are ke1_ to ke7_", word)
		}
		name, additional = alias(rest), message.TransformAdditional1+message.TransformType(n[2]-'1')
	}
	for _, a := range algorithms() {
		if a.word != name {
			continue
		}
		t := a.transform
		ke := t.Type == message.TransformKeyExchange
		switch {
		case additional != 0 && !ke:
			return t, fmt.Errorf("%q: %s is no key exchange", word, name)
		case additional != 0:
			t.Type = additional
		case ke && t.ID == uint16(message.KEMLKEM768):
			// Its public value alone is as long as many a path takes, and IKE_SA_INIT cannot be fragmented (RFC 9370, section 2.2).
			return t, fmt.Errorf("%q is for an additional key exchange: ke1_%s after ecp384 or another", word, name)
		case a.ikeOnly && protocol != message.ProtocolIKE:
			return t, fmt.Errorf("%q is for IKE, not for %s", word, protocol)
		case a.espOnly && protocol != message.ProtocolESP:
			return t, fmt.Errorf("%q is for ESP, not for %s", word, protocol)
		case ke && t.ID == uint16(message.KENone) && protocol == message.ProtocolIKE:
			return t, fmt.Errorf("%q: IKE needs a key exchange", word)
		}
		return t, nil
	}
	if why := weak(word); why != "" {
		return message.Transform{}, fmt.Errorf("%q is not offered: %s", word, why)
	}
	if meant := suggestion(protocol, word); meant != "" {
		return message.Transform{}, fmt.Errorf("%q is no algorithm; did you mean %s?", word, meant)
	}
	return message.Transform{}, fmt.Errorf("%q is no algorithm; there are %s, ke1_mlkem768", word, words(protocol))
}

// words lists what can be configured for a protocol.
func words(protocol message.Protocol) string {
	var out []string
	for _, a := range algorithms() {
		mlkem := a.transform.Type == message.TransformKeyExchange && a.transform.ID == uint16(message.KEMLKEM768)
		if mlkem || a.ikeOnly && protocol != message.ProtocolIKE || a.espOnly && protocol != message.ProtocolESP || a.word == "none" {
			continue
		}
		out = append(out, a.word)
	}
	return strings.Join(out, ", ")
}

// Word is how a transform is spelled, also one that cannot be configured: then
// it is its type and number.
func Word(t message.Transform) string {
	if t.Strange {
		t.Strange = false
		return Word(t) + "(unknown attribute)"
	}
	prefix, search := "", t
	if t.Type.Additional() {
		prefix = "ke" + strconv.Itoa(int(t.Type-message.TransformAdditional1)+1) + "_"
		search.Type = message.TransformKeyExchange
	}
	all := algorithms()
	if i := slices.IndexFunc(all, func(a algorithm) bool { return a.transform == search }); i >= 0 {
		return prefix + all[i].word
	}
	text := ""
	switch t.Type {
	case message.TransformEncryption:
		text = "encr" + strconv.Itoa(int(t.ID))
		if known := map[uint16]string{2: "des", 3: "3des", 11: "null", 13: "aesctr", 14: "aesccm8", 15: "aesccm12", 16: "aesccm16", 18: "aesgcm8", 19: "aesgcm12"}[t.ID]; known != "" {
			text = known
		}
	case message.TransformPRF:
		text = "prf" + strconv.Itoa(int(t.ID))
		if known := map[uint16]string{1: "prfmd5", 2: "prfsha1", 4: "prfaesxcbc", 8: "prfaescmac"}[t.ID]; known != "" {
			text = known
		}
	case message.TransformIntegrity:
		text = "auth" + strconv.Itoa(int(t.ID))
		if known := map[uint16]string{0: "noauth", 1: "md5", 2: "sha1", 5: "aesxcbc", 8: "aescmac"}[t.ID]; known != "" {
			text = known
		}
	case message.TransformKeyExchange:
		text = message.KeyExchange(t.ID).String()
		if text[0] >= '0' && text[0] <= '9' {
			text = "group" + text
		}
	case message.TransformESN:
		text = "esn" + strconv.Itoa(int(t.ID))
	default:
		text = prefix + strconv.Itoa(int(t.ID))
		if prefix == "" {
			text = "type" + strconv.Itoa(int(t.Type)) + "id" + strconv.Itoa(int(t.ID))
		}
	}
	if t.KeyBits != 0 {
		text += "(" + strconv.Itoa(int(t.KeyBits)) + ")"
	}
	return text
}

// aead reports whether a transform is encryption that needs no integrity beside it.
func aead(t message.Transform) bool {
	if t.Type != message.TransformEncryption {
		return false
	}
	return t.ID >= 14 && t.ID <= 20 && t.ID != 17 || t.ID == message.EncryptionChaCha20Poly1305 || t.ID >= 25 && t.ID <= 31
}
