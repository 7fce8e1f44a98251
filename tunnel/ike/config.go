package ike

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
	"github.com/transitd/transitd/tunnel/sa"
)

// Config is one end of a tunnel: who we are, who the peer has to be, and what we
// agree to.
type Config struct {
	// Local and Remote are the ends of the underlay. The ports are those at which
	// ESP is carried in UDP, and IKE with the non-ESP marker (RFC 3948).
	Local, Remote netip.AddrPort
	// Raw says that ESP is in no UDP. Then IKE is spoken at port 500, which both
	// addresses have, and there must be no NAT.
	Raw               bool
	LocalID, RemoteID auth.Identity

	PSK []byte // by which both ends prove who they are; or:

	Certificates []*x509.Certificate // ours, and those between it and the authority
	Key          crypto.Signer       // of the first of them
	Authorities  []*x509.Certificate // one of which the peer's has to come from

	PPK   []byte // mixed into the keys (RFC 8784); nil: none
	PPKID string

	IKE, ESP          []suite.Proposal // best first
	LocalTS, RemoteTS []message.Selector
	Initiate          bool // we begin; else the peer has to

	IKELifetime   time.Duration // an IKE SA is replaced before that
	ChildLifetime time.Duration // so is a pair of CHILD SAs
	ChildPackets  uint64        // that a pair carries in one direction; 0: what the format and the cipher allow
	ChildBytes    uint64        // the same, of the packets inside; 0: any
	DPDDelay      time.Duration // the peer's silence before it is asked; 0: never

	Random io.Reader
	// KeyLog is given the lines of tshark's ikev2_decryption_table; nil: none.
	KeyLog func(line string)
}

// String hides the secrets from logs.
func (c Config) String() string { return fmt.Sprintf("IKE of %s with %s", c.Local, c.Remote) }

// GoString hides the secrets from %#v too.
func (c Config) GoString() string { return c.String() }

// Port is by which of our ports a message goes or came.
type Port uint8

// The ports.
const (
	PortESP Port = iota // the one that ESP is carried by, 4500 as a rule
	PortIKE             // 500, for peers that begin there, and where ESP is raw
)

// port is by which we begin.
func (c *Config) port() Port {
	if c.Raw {
		return PortIKE
	}
	return PortESP
}

// Effects is the world of a machine: what it does, in the order it does it.
type Effects interface {
	sa.Installer
	// Send sends an IKE message, without the non-ESP marker.
	Send(port Port, to netip.AddrPort, datagram []byte)
	// Log tells an operator what happened.
	Log(e Event)
}

// Event is something worth a line in the log.
type Event struct {
	Problem bool   // something an operator has to look at
	Text    string // without secrets
}

// Check refuses what cannot work.
func (c *Config) Check() error {
	switch {
	case !c.Local.IsValid() || !c.Remote.IsValid():
		return errors.New("ike: both addresses are needed")
	case len(c.PSK) == 0 && (len(c.Certificates) == 0 || c.Key == nil || len(c.Authorities) == 0):
		return errors.New("ike: a preshared key, or certificates, their key and the authorities are needed")
	case len(c.PSK) > 0 && len(c.Certificates) > 0:
		return errors.New("ike: a preshared key and certificates are both given")
	case len(c.IKE) == 0 || len(c.ESP) == 0:
		return errors.New("ike: proposals for IKE and ESP are needed")
	case len(c.LocalTS) == 0 || len(c.RemoteTS) == 0:
		return errors.New("ike: traffic selectors are needed")
	case c.IKELifetime <= 0 || c.ChildLifetime <= 0:
		return errors.New("ike: lifetimes are needed")
	case c.Random == nil:
		return errors.New("ike: a source of randomness is needed")
	case (len(c.PPK) == 0) != (c.PPKID == ""):
		return errors.New("ike: a postquantum preshared key has an identifier")
	}
	for _, p := range c.ESP {
		for _, t := range p.Transforms {
			if t.Type == message.TransformEncryption && cipherOf(t) == 0 {
				return fmt.Errorf("ike: ESP proposal %s: %s is not carried here: use aes256gcm16, aes128gcm16 or chacha20poly1305", p, suite.Word(t))
			}
			if t.Type.Additional() {
				return fmt.Errorf("ike: ESP proposal %s: additional key exchanges are for IKE's proposals: their strength is inherited", p)
			}
		}
	}
	return nil
}

// cipherOf is the data plane's name of a transform; 0 if it has none.
func cipherOf(t message.Transform) sa.Cipher {
	switch {
	case t.ID == message.EncryptionAESGCM16 && t.KeyBits == 128:
		return sa.AES128GCM16
	case t.ID == message.EncryptionAESGCM16 && t.KeyBits == 256:
		return sa.AES256GCM16
	case t.ID == message.EncryptionChaCha20Poly1305:
		return sa.ChaCha20Poly1305
	}
	return 0
}

// differs reports whether what another configuration agrees to, or who it is,
// is not the same: then SAs have to be made anew.
func (c *Config) differs(d *Config) bool {
	certificates := func(a, b []*x509.Certificate) bool {
		return slices.EqualFunc(a, b, func(x, y *x509.Certificate) bool { return x.Equal(y) })
	}
	return c.Local != d.Local || c.Remote != d.Remote || c.Raw != d.Raw || !c.LocalID.Equal(d.LocalID) || !c.RemoteID.Equal(d.RemoteID) ||
		!bytes.Equal(c.PSK, d.PSK) || !bytes.Equal(c.PPK, d.PPK) || c.PPKID != d.PPKID ||
		!certificates(c.Certificates, d.Certificates) || !certificates(c.Authorities, d.Authorities) ||
		spell(c.IKE) != spell(d.IKE) || spell(c.ESP) != spell(d.ESP) ||
		!slices.Equal(c.LocalTS, d.LocalTS) || !slices.Equal(c.RemoteTS, d.RemoteTS)
}
