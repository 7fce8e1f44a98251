package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/pkg/azure"
)

// The least that SAs may be allowed to carry: what is spent is seen once a second.
const (
	leastChildPackets = 1_000_000
	leastChildBytes   = 100_000_000
)

// ipsec checks the keys of the encapsulation. Whether proposals and identities
// can be understood is for who uses them.
func (v *validator) ipsec(path string, t Tunnel) {
	x := t.IPsec
	path += ".ipsec"
	switch is := t.Encapsulation == EncapsulationIPsec; {
	case !v.given(path):
		if is {
			v.errorf(path, "add ipsec: {psk_file: /etc/transitd/tr0.psk}, or certificates", "missing")
		}
		return
	case !is:
		v.errorf(path, "add encapsulation: ipsec, or remove it", "the tunnel's encapsulation is %s", t.Encapsulation)
		return
	}
	v.ipsecSecrets(path, x)
	v.identities(path, t)
	v.rawESP(path, x)
	for _, p := range []struct {
		key  string
		port uint16
	}{{".port", x.Port}, {".peer_port", x.PeerPort}} {
		switch {
		case p.port == azure.ReservedUDPPort && v.given(path+p.key):
			v.errorf(path+p.key, "4500 is the usual one", "Azure's host drops UDP port %d", p.port)
		case p.port == IKEPort: // RFC 3948, section 2.2: ESP in UDP needs the port that has the marker
			v.errorf(path+p.key, "4500 is the usual one", "500 carries IKE only, and this port carries ESP as well")
		}
	}
	v.span(path+".ike_lifetime", x.IKELifetime, 5*time.Minute, 24*time.Hour)
	v.span(path+".child_lifetime", x.ChildLifetime, time.Minute, 24*time.Hour)
	for _, l := range []struct {
		key, what    string
		value, least int
	}{
		{".child_lifetime_packets", "packets", x.ChildLifetimePackets, leastChildPackets},
		{".child_lifetime_bytes", "bytes", x.ChildLifetimeBytes, leastChildBytes},
	} {
		if l.value != 0 && l.value < l.least {
			v.errorf(path+l.key, "a fifth has to last until the SAs are replaced", "%d %s are too few: %d or more, or 0", l.value, l.what, l.least)
		}
	}
	if x.DPDDelay != 0 {
		v.span(path+".dpd_delay", x.DPDDelay, time.Second, 10*time.Minute)
	}
	v.selectors(path+".local_ts", x.LocalTS, "our", t.Address.Addr(), t.Address6.Addr())
	v.selectors(path+".remote_ts", x.RemoteTS, "the peer's", t.PeerAddress, t.PeerAddress6)
}

// identities refuses one name for both ends: with it a message of ours that comes
// back proves what the peer would have to (RFC 7296, section 2.15, signs the
// name). Names that only look different are for who reads them, as is the card's address.
func (v *validator) identities(path string, t Tunnel) {
	local, remote, key := t.IPsec.LocalID, t.IPsec.RemoteID, ".remote_id"
	switch {
	case local == "" && remote == "":
		return // the addresses, which have been compared
	case local == "" && v.cfg.Underlay.Address.IsValid():
		local = v.cfg.Underlay.Address.String()
	case remote == "" && t.Remote.IsValid():
		remote, key = t.Remote.String(), ".local_id"
	}
	a, errA := netip.ParseAddr(local)
	b, errB := netip.ParseAddr(remote)
	if local != "" && strings.EqualFold(local, remote) || errA == nil && errB == nil && a == b {
		v.errorf(path+key, "local_id names this NVA, remote_id the other one, and there it is the other way round", "both ends would be %s", remote)
	}
}

// rawESP refuses what is about UDP where there is none.
func (v *validator) rawESP(path string, x IPsec) {
	if x.UDPEncapsulation {
		return
	}
	for _, k := range []struct{ key, what string }{
		{".paths", "ESP without UDP has no source ports to spread flows over"},
		{".port", "ESP without UDP has no port, and IKE is at UDP port 500"},
		{".peer_port", "ESP without UDP has no port, and IKE is at UDP port 500"},
	} {
		if v.given(path + k.key) {
			v.errorf(path+k.key, "remove it, or udp_encapsulation: false", "%s", k.what)
		}
	}
}

// ipsecSecrets checks how the two ends prove who they are.
func (v *validator) ipsecSecrets(path string, x IPsec) {
	files := []struct{ key, name string }{
		{".psk_file", x.PSKFile}, {".cert_file", x.CertFile}, {".key_file", x.KeyFile}, {".ca_file", x.CAFile}, {".ppk_file", x.PPKFile},
	}
	for _, f := range files {
		v.secretFile(path+f.key, f.name)
	}
	certificates := 0
	for _, f := range files[1:4] {
		if f.name != "" {
			certificates++
		}
	}
	switch {
	case x.PSKFile == "" && certificates == 0:
		v.errorf(path, "add psk_file, or cert_file, key_file and ca_file", "there is nothing by which the two ends prove who they are")
	case x.PSKFile != "" && certificates > 0:
		v.errorf(path+".psk_file", "remove it, or the certificates", "there are certificates as well")
	case certificates > 0 && certificates < 3:
		v.errorf(path, "certificates need all of cert_file, key_file and ca_file", "one of cert_file, key_file and ca_file is missing")
	}
	switch {
	case x.PPKFile != "" && x.PPKID == "":
		v.errorf(path+".ppk_file", "add ppk_id, the same at both ends", "ppk_id is missing")
	case x.PPKFile == "" && x.PPKID != "":
		v.errorf(path+".ppk_id", "add ppk_file, or remove it", "ppk_file is missing")
	}
}

// selectors checks a list of prefixes that may go through. An end's own addresses
// inside the tunnel have to be among them: nothing else carries BGP and BFD.
func (v *validator) selectors(path string, list []netip.Prefix, whose string, inside ...netip.Addr) {
	for _, a := range inside {
		if len(list) > 0 && a.IsValid() && !slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) }) {
			v.errorf(path, fmt.Sprintf("add %s", netip.PrefixFrom(a, a.BitLen())),
				"%s, %s address in the tunnel, is in none of them: BGP and BFD could not go through", a, whose)
		}
	}
	seen := map[netip.Prefix]bool{}
	for _, p := range list {
		if seen[p] {
			v.errorf(path, "name each once", "%s stands there twice", p)
		}
		seen[p] = true
	}
}
