package daemon

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/secret"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/ike/auth"
	"github.com/transitd/transitd/tunnel/ike/message"
	"github.com/transitd/transitd/tunnel/ike/suite"
)

const (
	// leastPSK is the least length of a preshared key in bytes: shorter ones are guessed.
	leastPSK = 16
	// maxPEM is more than any chain of certificates has, in bytes.
	maxPEM = 256 << 10
	// protocolESP is ESP's of IP.
	protocolESP = 50
)

// ipsec adds the keys and the ports of an IPsec tunnel.
func (b *planner) ipsec(path string, t *config.Tunnel, local netip.Addr, p *TunnelPlan) {
	x := &t.IPsec
	p.Endpoint.Local = netip.AddrPortFrom(local, x.Port)
	p.Pump.Remote = netip.AddrPortFrom(t.Remote, x.PeerPort)
	p.Pump.SourcePorts, p.Pump.FromEndpoint = x.Paths, x.Paths == 1
	before := len(b.errs)
	c := &ike.Config{
		Local: p.Endpoint.Local, Remote: p.Pump.Remote, Raw: !x.UDPEncapsulation, Initiate: x.Initiate, PPKID: x.PPKID,
		IKELifetime: x.IKELifetime.Std(), ChildLifetime: x.ChildLifetime.Std(), DPDDelay: x.DPDDelay.Std(),
		ChildPackets: uint64(x.ChildLifetimePackets), ChildBytes: uint64(x.ChildLifetimeBytes),
		LocalTS: b.selectors(x.LocalTS), RemoteTS: b.selectors(x.RemoteTS),
	}
	if c.Raw {
		c.Local, c.Remote = netip.AddrPortFrom(local, config.IKEPort), netip.AddrPortFrom(t.Remote, config.IKEPort)
		p.Endpoint.Local, p.Endpoint.Protocol, p.Pump.Remote = netip.AddrPortFrom(local, 0), protocolESP, netip.AddrPortFrom(t.Remote, 0)
	}
	c.LocalID = b.identity(path+".local_id", x.LocalID, local)
	c.RemoteID = b.identity(path+".remote_id", x.RemoteID, t.Remote)
	if len(b.errs) == before && c.LocalID.Equal(c.RemoteID) { // pkg/config knows neither the card's address nor what a name means
		b.fail(path+".remote_id", "local_id names this NVA, remote_id the other one, and there it is the other way round", "both ends would be %s", c.RemoteID)
	}
	c.IKE = b.proposals(path+".ike_proposals", message.ProtocolIKE, x.IKEProposals)
	c.ESP = b.proposals(path+".esp_proposals", message.ProtocolESP, x.ESPProposals)
	if x.PSKFile != "" {
		c.PSK = b.line(path+".psk_file", x.PSKFile)
	}
	if x.PPKFile != "" {
		c.PPK = b.line(path+".ppk_file", x.PPKFile)
	}
	if x.CertFile != "" {
		b.certificates(path, x, c)
	}
	if len(b.errs) == before {
		check := *c
		check.Random = rand.Reader
		if err := check.Check(); err != nil {
			b.fail(path, "", "%v", err)
		}
	}
	p.IPsec = c
}

// peer is where outer packets go, as people write it.
func (t TunnelPlan) peer() string {
	if t.Pump.Remote.Port() == 0 {
		return t.Pump.Remote.Addr().String()
	}
	return t.Pump.Remote.String()
}

// passage is what has to be let through to a port, as people write it.
func (t TunnelPlan) passage(port uint16) string {
	if t.Endpoint.Protocol == protocolESP {
		return "ESP (IP protocol 50)"
	}
	return fmt.Sprintf("UDP port %d", port)
}

// outer are the outer packets, and those of the key exchange, as tcpdump's filters write them.
func (t TunnelPlan) outer() string {
	ours, theirs := t.Endpoint.Local.Port(), t.Pump.Remote.Port()
	switch {
	case t.Endpoint.Protocol != 0:
		return fmt.Sprintf("(proto %d or udp port %d)", t.Endpoint.Protocol, config.IKEPort)
	case ours == theirs:
		return fmt.Sprintf("udp port %d", theirs)
	}
	return fmt.Sprintf("(udp port %d or udp port %d)", ours, theirs)
}

// selectors are those of prefixes; none are all.
func (b *planner) selectors(list []netip.Prefix) (out []message.Selector) {
	if len(list) == 0 {
		list = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	for _, p := range list {
		out = append(out, message.SelectorOf(p))
	}
	return out
}

// identity reads an identity; an empty one is the address. strongSwan's %any
// would be read as a host name, which no peer has.
func (b *planner) identity(path, text string, or netip.Addr) auth.Identity {
	if text == "" {
		text = or.String()
	}
	id, err := auth.ParseIdentity(text)
	if err == nil && strings.HasPrefix(text, "%") {
		err = fmt.Errorf("identity %q: it names nobody, and an end is one name", text)
	}
	if err != nil {
		b.fail(path, "an IP address, a host name, user@host, or a distinguished name as CN=hub-nva, O=Example", "%v", err)
	}
	return id
}

func (b *planner) proposals(path string, protocol message.Protocol, texts []string) []suite.Proposal {
	if len(texts) == 0 {
		texts = suite.DefaultTexts(protocol)
	}
	var list []suite.Proposal
	for i, text := range texts {
		p, err := suite.Parse(protocol, text)
		if err == nil && protocol == message.ProtocolESP {
			err = ike.Carries(p)
		}
		if err != nil {
			b.fail(fmt.Sprintf("%s[%d]", path, i), "as strongSwan spells them: "+suite.DefaultTexts(protocol)[0], "%v", err)
			continue
		}
		list = append(list, p)
	}
	return list
}

// line is the first line of a file with a secret.
func (b *planner) line(path, file string) []byte {
	line, err := readSecret(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.fail(path, "transitctl keygen --preshared "+file+", and copy it to the other end", "%v", err)
	case err != nil:
		b.fail(path, "chmod 0600 "+file, "%v", err)
	case isPEM(line):
		b.fail(path, "name another file, which transitctl keygen --preshared makes", "%s is in PEM: its first line is in every such file, and no secret", file)
	case len(line) < leastPSK:
		b.fail(path, "openssl rand -base64 32 makes a good one", "%s: the first line has %d bytes, %d are the least", file, len(line), leastPSK)
	default:
		return []byte(line)
	}
	return nil
}

// certificates reads our certificate, its key, and the authorities.
func (b *planner) certificates(path string, x *config.IPsec, c *ike.Config) {
	var err error
	if c.Certificates, err = readCertificates(x.CertFile); err != nil {
		b.fail(path+".cert_file", "", "%v", err)
	}
	if c.Authorities, err = readCertificates(x.CAFile); err != nil {
		b.fail(path+".ca_file", "", "%v", err)
	}
	if c.Key, err = readKey(x.KeyFile); err != nil {
		b.fail(path+".key_file", "", "%v", err)
	}
	if len(c.Certificates) == 0 || c.Key == nil {
		return
	}
	ours := c.Certificates[0]
	switch at := slices.IndexFunc(c.Certificates, func(cert *x509.Certificate) bool { return keyOf(cert, c.Key) }); {
	case at > 0:
		b.fail(path+".cert_file", "ours has to be first, then those between it and the authority", "the certificate of %s is number %d in %s", x.KeyFile, at+1, x.CertFile)
	case at < 0:
		b.fail(path+".key_file", "", "%s is not the key of the certificate in %s", x.KeyFile, x.CertFile)
	case c.LocalID.Names(ours) != nil:
		hint := "the peer will refuse it; its subject is " + auth.SubjectOf(ours).String()
		if len(ours.DNSNames) > 0 {
			hint = "the peer will refuse it; local_id: " + ours.DNSNames[0] + " would fit"
		}
		b.fail(path+".local_id", hint, "%v", c.LocalID.Names(ours))
	}
	if err := auth.CheckKey(ours.PublicKey); err != nil {
		b.fail(path+".cert_file", "", "%v", err)
	}
}

// keyOf reports whether a key is that of a certificate.
func keyOf(c *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}

func readCertificates(file string) (out []*x509.Certificate, err error) {
	text, err := readLimited(file)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no certificate (-----BEGIN CERTIFICATE-----)", file)
	}
	return out, nil
}

func readLimited(file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read certificates: %w", err)
	case info.Size() > maxPEM:
		return nil, fmt.Errorf("%s has %d bytes, %d are the most", file, info.Size(), maxPEM)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return text, nil
}

// readKey reads a private key: PKCS #8, or the older forms of RSA and EC keys.
func readKey(file string) (crypto.Signer, error) {
	text, err := secret.Read(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	for block != nil && block.Type == "EC PARAMETERS" {
		_, text, _ = bytes.Cut(text, []byte("-----END EC PARAMETERS-----"))
		block, _ = pem.Decode(text)
	}
	if block == nil {
		return nil, fmt.Errorf("%s has no private key in PEM", file)
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") { // the form of PKCS #8, and the older one
		return nil, fmt.Errorf("%s: the private key has a passphrase, which nobody types at start: openssl pkey takes it off", file)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%s begins with %s, not with a private key", file, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the private key cannot be read", file) // the error may have parts of it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New(file + ": the key cannot sign")
	}
	return signer, nil
}
