package auth

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/transitd/transitd/tunnel/ike/message"
)

// Identity is who an end says it is (RFC 7296, section 3.5). Compare with Equal.
type Identity struct {
	Kind message.IDKind
	Data string // as on the wire; may be binary
}

// maxIdentity is far more than a name needs, and less than a datagram.
const maxIdentity = 1024

// ParseIdentity reads an identity as strongSwan does: an IP address, a name with
// "=" (C=DE, O=Example, CN=a) as DN, with "@" inside as email address, and all else
// as FQDN. "@name" is an FQDN whatever it looks like, "@#0a1b" a key ID.
func ParseIdentity(text string) (Identity, error) {
	id := Identity{message.IDFQDN, text}
	switch a, err := netip.ParseAddr(text); {
	case err == nil && a.Zone() == "" && a.Is4():
		id = Identity{message.IDIPv4, string(a.AsSlice())}
	case err == nil && a.Zone() == "":
		id = Identity{message.IDIPv6, string(a.AsSlice())}
	case strings.HasPrefix(text, "@#"):
		b, err := hex.DecodeString(text[2:])
		if err != nil {
			return id, fmt.Errorf("identity %q: after @# there are hexadecimal digits", text)
		}
		id = Identity{message.IDKeyID, string(b)}
	case strings.HasPrefix(text, "@"):
		id.Data = text[1:]
	case strings.Contains(text, "="):
		b, err := parseDN(text)
		if err != nil {
			return id, fmt.Errorf("identity %q: %w", text, err)
		}
		id = Identity{message.IDDN, string(b)}
	case strings.Contains(text, "@"):
		id.Kind = message.IDEmail
	}
	if err := id.check(); err != nil {
		return id, fmt.Errorf("identity %q: %w", text, err)
	}
	return id, nil
}

// IdentityOf reads what a peer sends.
func IdentityOf(p message.ID) (Identity, error) {
	id := Identity{p.Kind, string(p.Data)}
	if err := id.check(); err != nil {
		return id, fmt.Errorf("the peer's %s: %w", p.Kind, err)
	}
	return id, nil
}

// Payload is the identity as IDi or IDr.
func (id Identity) Payload(of message.PayloadType) message.ID {
	return message.ID{Of: of, Kind: id.Kind, Data: []byte(id.Data)}
}

func (id Identity) check() error {
	n, want := len(id.Data), 0
	switch id.Kind {
	case message.IDIPv4:
		want = 4
	case message.IDIPv6:
		want = 16
	case message.IDFQDN, message.IDEmail:
		for i := range id.Data {
			if c := id.Data[i]; c <= ' ' || c > '~' {
				return fmt.Errorf("byte %d (0x%02x) is no letter of a name", i, c)
			}
		}
	case message.IDDN:
		if _, err := readDN([]byte(id.Data)); err != nil {
			return err
		}
	case message.IDKeyID:
	default:
		return fmt.Errorf("identities of type %s are not supported", id.Kind)
	}
	switch {
	case want != 0 && n != want:
		return fmt.Errorf("%d bytes, not %d", n, want)
	case n == 0:
		return errors.New("it is empty")
	case n > maxIdentity:
		return fmt.Errorf("%d bytes, %d are allowed", n, maxIdentity)
	}
	return nil
}

// Equal compares as a person would: names without regard to case, DNs by their
// words whatever their encoding.
func (id Identity) Equal(other Identity) bool {
	if id.Kind != other.Kind {
		return false
	}
	switch id.Kind {
	case message.IDFQDN, message.IDEmail:
		return strings.EqualFold(id.Data, other.Data)
	case message.IDDN:
		return equalDN([]byte(id.Data), []byte(other.Data))
	default:
		return id.Data == other.Data
	}
}

func (id Identity) String() string {
	switch id.Kind {
	case message.IDIPv4, message.IDIPv6:
		if a, ok := netip.AddrFromSlice([]byte(id.Data)); ok {
			return a.String()
		}
	case message.IDDN:
		if dn, err := readDN([]byte(id.Data)); err == nil {
			return sayDN(dn)
		}
	case message.IDFQDN, message.IDEmail:
		return id.Data
	default:
	}
	return fmt.Sprintf("@#%x", id.Data)
}

// Names reports whether a certificate is for the identity: by its subject for a
// DN, else by its alternative names. A common name does not count, and a
// wildcard names nobody.
func (id Identity) Names(c *x509.Certificate) error {
	ok := false
	var has []string
	switch id.Kind {
	case message.IDIPv4, message.IDIPv6:
		for _, ip := range c.IPAddresses {
			a, _ := netip.AddrFromSlice(ip)
			b, _ := netip.AddrFromSlice([]byte(id.Data))
			ok = ok || a.Unmap() == b
			has = append(has, ip.String())
		}
	case message.IDFQDN:
		has = c.DNSNames
		ok = slices.ContainsFunc(has, func(s string) bool { return strings.EqualFold(s, id.Data) })
	case message.IDEmail:
		has = c.EmailAddresses
		ok = slices.ContainsFunc(has, func(s string) bool { return strings.EqualFold(s, id.Data) })
	case message.IDDN:
		has = []string{SubjectOf(c).String()}
		ok = equalDN([]byte(id.Data), c.RawSubject)
	default:
		return fmt.Errorf("an identity of type %s cannot stand in a certificate", id.Kind)
	}
	switch {
	case ok:
		return nil
	case len(has) == 0:
		return fmt.Errorf("the certificate has no name of type %s, so not %s", id.Kind, id)
	default:
		return fmt.Errorf("the certificate is for %s, not for %s", strings.Join(has[:min(len(has), 8)], ", "), id)
	}
}

// SubjectOf is a certificate's subject as an identity.
func SubjectOf(c *x509.Certificate) Identity { return Identity{message.IDDN, string(c.RawSubject)} }

// attribute is a kind of word in a DN.
type attribute struct {
	name string
	oid  asn1.ObjectIdentifier
}

func attributes() []attribute {
	return []attribute{
		{"C", asn1.ObjectIdentifier{2, 5, 4, 6}},
		{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}},
		{"L", asn1.ObjectIdentifier{2, 5, 4, 7}},
		{"O", asn1.ObjectIdentifier{2, 5, 4, 10}},
		{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}},
		{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}},
		{"serialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}},
		{"DC", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}},
		{"UID", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}},
		{"E", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}},
	}
}

func parseDN(text string) ([]byte, error) {
	var dn pkix.RDNSequence
	for _, part := range splitDN(text) {
		k, v, _ := strings.Cut(part, "=")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		if strings.EqualFold(k, "emailAddress") {
			k = "E"
		}
		all := attributes()
		i := slices.IndexFunc(all, func(a attribute) bool { return strings.EqualFold(a.name, k) })
		if i < 0 || v == "" {
			return nil, fmt.Errorf("%q is no part of a name; parts look like CN=a and begin with C, ST, L, O, OU, CN, DC, UID, E or serialNumber", part)
		}
		dn = append(dn, pkix.RelativeDistinguishedNameSET{{Type: all[i].oid, Value: v}})
	}
	return asn1.Marshal(dn)
}

// splitDN splits at commas, but for those after a backslash or between quotes.
func splitDN(text string) []string {
	var out []string
	var part strings.Builder
	quoted, escaped := false, false
	for _, r := range text {
		switch {
		case escaped:
			part.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case r == ',' && !quoted:
			out = append(out, part.String())
			part.Reset()
		default:
			part.WriteRune(r)
		}
	}
	return append(out, part.String())
}

func readDN(der []byte) (pkix.RDNSequence, error) {
	var dn pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &dn)
	if err != nil {
		return nil, fmt.Errorf("reading a DN: %w", err)
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("reading a DN: %d bytes after it", len(rest))
	}
	return dn, nil
}

func equalDN(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err := readDN(a)
	if err != nil {
		return false
	}
	y, err := readDN(b)
	if err != nil {
		return false
	}
	return slices.EqualFunc(x, y, func(p, q pkix.RelativeDistinguishedNameSET) bool {
		return slices.EqualFunc(p, q, func(v, w pkix.AttributeTypeAndValue) bool {
			s, ok := v.Value.(string)
			t, also := w.Value.(string)
			return v.Type.Equal(w.Type) && ok && also && strings.EqualFold(s, t)
		})
	})
}

func sayDN(dn pkix.RDNSequence) string {
	var parts []string
	for _, set := range dn {
		for _, a := range set {
			name := a.Type.String()
			for _, known := range attributes() {
				if known.oid.Equal(a.Type) {
					name = known.name
				}
			}
			value := strings.NewReplacer(`\`, `\\`, `,`, `\,`, `"`, `\"`).Replace(fmt.Sprint(a.Value))
			parts = append(parts, name+"="+strings.Map(visible, value))
		}
	}
	return strings.Join(parts, ", ")
}

// visible keeps a peer's name from writing to a terminal what is no name.
func visible(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
