package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span, written as Go writes it: "300ms", "9s", "3m".
type Duration time.Duration

// Std returns the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes the duration as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as Go writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration as Go writes it.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a time span", text)
	}
	*d = Duration(v)
	return nil
}

// Listen is an IP address and port to listen on; the zero value is nowhere.
type Listen struct {
	netip.AddrPort
}

// String writes the address and port; nowhere is the empty string.
func (l Listen) String() string {
	if !l.IsValid() {
		return ""
	}
	return l.AddrPort.String()
}

// MarshalText writes the address and port; nowhere is the empty string.
func (l Listen) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads "127.0.0.1:9477", "[::1]:9477", or "" for nowhere.
func (l *Listen) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = Listen{}
		return nil
	}
	v, err := netip.ParseAddrPort(string(text))
	if err != nil || v.Port() == 0 || v.Addr().Is4In6() || v.Addr().Zone() != "" {
		return fmt.Errorf("%q is not an IP address with a port", shorten(string(text)))
	}
	l.AddrPort = v
	return nil
}

// DSCP says which differentiated services code point (RFC 2474) the outer
// packets carry: a fixed one of 0 to 63, or DSCPCopy.
type DSCP int8

// DSCPCopy takes the code point of the inner packet.
const DSCPCopy DSCP = -1

// String returns "copy" or the number.
func (d DSCP) String() string {
	if d == DSCPCopy {
		return "copy"
	}
	return strconv.Itoa(int(d))
}

// MarshalJSON returns "copy" or the number, as the file has it.
func (d DSCP) MarshalJSON() ([]byte, error) {
	if d == DSCPCopy {
		return []byte(`"copy"`), nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads "copy" or a number of 0 to 63.
func (d *DSCP) UnmarshalText(text []byte) error {
	if string(text) == "copy" {
		*d = DSCPCopy
		return nil
	}
	v, err := strconv.ParseUint(string(text), 10, 8)
	if err != nil || v > 63 {
		return fmt.Errorf("%q is neither copy nor a number of 0 to 63", text)
	}
	*d = DSCP(v)
	return nil
}

// PublicKey is a Curve25519 public key; the zero value means that none is given.
type PublicKey [32]byte

// String writes the key in base64; the zero value is the empty string.
func (k PublicKey) String() string {
	if k == (PublicKey{}) {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k[:])
}

// MarshalText writes the key in base64.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads 32 bytes in base64, as `wg pubkey` writes them.
func (k *PublicKey) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(b) != len(k) {
		return fmt.Errorf("%q is not a public key: 32 bytes in base64, 44 characters", text)
	}
	if PublicKey(b) == (PublicKey{}) {
		return fmt.Errorf("%q is not a public key but all zero", text)
	}
	copy(k[:], b)
	return nil
}

// MAC is an Ethernet address; the zero value means that none is given.
type MAC [6]byte

// String writes the address with colons; the zero value is the empty string.
func (m MAC) String() string {
	if m == (MAC{}) {
		return ""
	}
	parts := make([]string, len(m))
	for i, b := range m {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}

// MarshalText writes the address with colons.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads six octets with colons: "02:00:0a:00:02:04".
func (m *MAC) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), ":")
	if len(parts) != len(m) {
		return fmt.Errorf("%q is not an Ethernet address", text)
	}
	var v MAC
	for i, p := range parts {
		b, err := hex.DecodeString(p)
		if err != nil || len(b) != 1 {
			return fmt.Errorf("%q is not an Ethernet address", text)
		}
		v[i] = b[0]
	}
	*m = v
	return nil
}
