package lab

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// paths is over how many source ports an encrypting tunnel of the lab spreads its flows.
const paths = 4

// encapsulation is what a template asks for each tunnel's keys.
type encapsulation struct {
	state state
	kind  Encapsulation
	node  string // whose configuration it is
}

// Keys are the lines that belong to the tunnel's encapsulation. Both ends of a
// tunnel have its VNI, from which WireGuard's port comes.
func (e encapsulation) Keys(remote string, vni int) (string, error) {
	switch e.kind {
	case IPsec:
		file, err := e.secret(vni)
		return fmt.Sprintf("encapsulation: ipsec\n    ipsec: {psk_file: %s, paths: %d}", file, paths), err
	case WireGuard:
		return e.wireguard(remote, vni)
	case None, VXLAN:
	}
	return fmt.Sprintf("vxlan: {vni: %d}", vni), nil
}

func (e encapsulation) wireguard(remote string, vni int) (string, error) {
	peer, err := nvaAt(remote)
	if err != nil {
		return "", err
	}
	public, err := e.publicKey(peer)
	if err != nil {
		return "", err
	}
	// The daemon reads its own as soon as it starts, which is before the peer's configuration is made.
	if _, err := e.publicKey(e.node); err != nil {
		return "", err
	}
	const indent = "\n    "
	return "encapsulation: wireguard" + indent + fmt.Sprintf(
		"wireguard: {private_key_file: %s, peer_public_key: %s, listen_port: %d, paths: %d}", e.keyFile(e.node), public, 51820+vni-7700, paths), nil
}

// secret is the file with what both ends of a tunnel know, which is made if it is not there.
func (e encapsulation) secret(vni int) (string, error) {
	file := e.state.file(fmt.Sprintf("%d.psk", vni))
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	return file, writeFile(file, []byte(rand.Text()+"\n"))
}

func (e encapsulation) keyFile(node string) string { return e.state.file(node + ".key") }

// publicKey is a node's, whose private key is made if it has none.
func (e encapsulation) publicKey(node string) (string, error) {
	file := e.keyFile(node)
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return "", fmt.Errorf("make the key of %s: %w", node, err)
		}
		text = []byte(base64.StdEncoding.EncodeToString(k.Bytes()) + "\n")
		if err := writeFile(file, text); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", fmt.Errorf("read the key of %s: %w", node, err)
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("read the key of %s: %w", node, err)
	}
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return "", fmt.Errorf("read the key of %s: %w", node, err)
	}
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes()), nil
}

// nvaAt is the NVA with an underlay address.
func nvaAt(remote string) (string, error) {
	a, err := netip.ParseAddr(remote)
	if err != nil {
		return "", fmt.Errorf("lab: a tunnel's remote: %w", err)
	}
	for _, vnet := range []string{"hub", "transit"} {
		for i := range maxNVAs {
			if nvaAddress(vnet, i) == a {
				return nvaName(vnet, i), nil
			}
		}
	}
	return "", fmt.Errorf("lab: no NVA has the address %s", a)
}
