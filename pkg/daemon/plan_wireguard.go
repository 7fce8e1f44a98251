package daemon

import (
	"net/netip"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// wireguard adds the keys and the ports of a WireGuard tunnel.
func (b *planner) wireguard(path string, t *config.Tunnel, local netip.Addr, p *TunnelPlan) {
	w := &t.WireGuard
	p.Endpoint.Local = netip.AddrPortFrom(local, w.ListenPort)
	p.Pump.Remote = netip.AddrPortFrom(t.Remote, w.PeerPort)
	p.Pump.SourcePorts, p.Pump.FromEndpoint = w.Paths, w.Paths == 1
	c := &wireguard.Config{
		MTU: t.MTU, Remote: t.Remote, PersistentKeepalive: w.PersistentKeepalive.Std(),
		PeerPublicKey: wireguard.PublicKey(w.PeerPublicKey), NextPeerPublicKey: wireguard.PublicKey(w.NextPeerPublicKey),
	}
	keys := true
	read := func(key, file string, into *wireguard.PrivateKey) {
		if file == "" {
			return
		}
		k, err := wireguard.ReadPrivateKey(file)
		if err != nil {
			b.fail(path+key, "transitctl keygen writes such a file", "%v", err)
			keys = false
		}
		*into = k
	}
	read(".private_key_file", w.PrivateKeyFile, &c.PrivateKey)
	read(".next_private_key_file", w.NextPrivateKeyFile, &c.NextPrivateKey)
	if w.PresharedKeyFile != "" {
		k, err := wireguard.ReadPresharedKey(w.PresharedKeyFile)
		if err != nil {
			b.fail(path+".preshared_key_file", "transitctl keygen --preshared writes such a file", "%v", err)
		}
		c.PresharedKey = k
	}
	if _, err := wireguard.New(*c); keys && err != nil {
		b.fail(path, "", "%v", err)
	}
	p.WireGuard = c
}
