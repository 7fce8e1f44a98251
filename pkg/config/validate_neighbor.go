package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/transitd/transitd/pkg/azure"
)

// routeServers checks the Route Servers.
func (v *validator) routeServers() {
	owner := map[netip.Addr]string{}
	for i, rs := range v.cfg.RouteServers {
		path := fmt.Sprintf("route_servers[%d]", i)
		v.word(path+".name", rs.Name)
		if rs.ASN != 0 && rs.ASN == v.cfg.Node.ASN && rs.ASN != azure.ASNRouteServer {
			v.errorf(path+".asn", "a Route Server's is 65515", "%d is this node's own ASN, but the session is external BGP", rs.ASN)
		}
		v.holdTime(path+".hold_time", rs.HoldTime)
		if v.hostAddress(path+".next_hop", rs.NextHop) && !rs.NextHop.Is4() {
			v.errorf(path+".next_hop", "", "%s is IPv6, but a Route Server has IPv4 only", rs.NextHop)
		}
		v.routeServerSubnet(path, i)
		for j, a := range rs.Addresses {
			v.routeServerAddress(fmt.Sprintf("%s.addresses[%d]", path, j), a, rs.Subnet, owner)
		}
	}
}

// routeServerSubnet checks one RouteServerSubnet against the node and the others.
func (v *validator) routeServerSubnet(path string, i int) {
	subnet := v.cfg.RouteServers[i].Subnet
	if !subnet.IsValid() {
		return
	}
	if !subnet.Addr().Is4() {
		v.errorf(path+".subnet", "", "%s is IPv6, but a Route Server has IPv4 only", subnet)
		return
	}
	if a := v.cfg.Underlay.Address; a.IsValid() && subnet.Contains(a) {
		v.errorf(path+".subnet", "an NVA has a subnet of its own", "%s contains underlay.address (%s)", subnet, a)
	}
	for j, other := range v.cfg.RouteServers[:i] {
		if other.Subnet.IsValid() && other.Subnet.Overlaps(subnet) {
			v.errorf(path+".subnet", "", "%s overlaps route_servers[%d].subnet (%s)", subnet, j, other.Subnet)
		}
	}
}

// routeServerAddress checks one instance's address; owner collects those seen.
func (v *validator) routeServerAddress(path string, a netip.Addr, subnet netip.Prefix, owner map[netip.Addr]string) {
	if !v.hostAddress(path, a) {
		return
	}
	if first, taken := owner[a]; taken {
		v.errorf(path, "each instance has an address of its own", "%s is %s already", a, first)
		return
	}
	owner[a] = path
	switch {
	case !a.Is4():
		v.errorf(path, "", "%s is IPv6, but a Route Server has IPv4 only", a)
	case !subnet.IsValid() || !subnet.Addr().Is4():
	case !subnet.Contains(a):
		v.errorf(path, "", "%s is not inside subnet %s", a, subnet)
	default:
		if what := notHost(a, subnet); what != "" {
			v.errorf(path, "", "%s is the %s of %s", a, what, subnet)
		}
	}
}

// tunnels checks the tunnels one by one and against each other.
func (v *validator) tunnels() {
	w := wires{vxlan: map[vxlanWire]int{}, ipsec: map[netip.AddrPort]int{}, ports: map[uint16]portUse{}}
	for i, t := range v.cfg.Tunnels {
		path := fmt.Sprintf("tunnels[%d]", i)
		v.tunnelName(path+".name", t.Name)
		v.remote(path+".remote", t.Remote)
		if t.BGP.ASN != 0 {
			v.reservedASN(path+".bgp.asn", t.BGP.ASN)
		}
		v.secretFile(path+".bgp.password_file", t.BGP.PasswordFile)
		v.span(path+".bfd.interval", t.BFD.Interval, 10*time.Millisecond, time.Minute)
		v.holdTime(path+".bgp.hold_time", t.BGP.HoldTime)
		if t.ProbeInterval != 0 {
			v.span(path+".probe_interval", t.ProbeInterval, 100*time.Millisecond, time.Minute)
		}
		v.mtu(path, t)
		v.vxlan(path, t)
		v.wireguard(path, t)
		v.ipsec(path, t)
		v.wire(w, i, path, t)
	}
}

// wires are what tunnels are told apart by on the wire, and whose each is.
type wires struct {
	vxlan map[vxlanWire]int
	ipsec map[netip.AddrPort]int // by peer and our port
	ports map[uint16]portUse     // of ours
}

// portUse is the first tunnel that has a UDP port of ours.
type portUse struct {
	tunnel int
	kind   Encapsulation
}

// port notes that a tunnel has a port. Tunnels of one kind share it, but
// WireGuard's, of which each has its own.
func (v *validator) port(w wires, i int, path string, port uint16, kind Encapsulation) {
	first, taken := w.ports[port]
	if taken && (first.kind != kind || kind == EncapsulationWireGuard) {
		v.errorf(path, "give each tunnel a port of its own", "%d is the port of tunnels[%d] already", port, first.tunnel)
		return
	}
	if !taken {
		w.ports[port] = portUse{i, kind}
	}
}

type vxlanWire struct {
	vni    uint32
	remote netip.Addr
	port   uint16
}

// wire checks that a tunnel cannot be taken for another.
func (v *validator) wire(w wires, i int, path string, t Tunnel) {
	switch t.Encapsulation {
	case EncapsulationWireGuard:
		v.port(w, i, path+".wireguard.listen_port", t.WireGuard.ListenPort, t.Encapsulation)
		return
	case EncapsulationIPsec:
		v.ipsecWire(w, i, path+".ipsec", t)
		return
	case EncapsulationVXLAN:
	}
	x := vxlanWire{t.VXLAN.VNI, t.Remote, t.VXLAN.Port}
	if x.vni == 0 || !x.remote.IsValid() || x.port == 0 {
		return
	}
	if first, taken := w.vxlan[x]; taken {
		v.errorf(path+".vxlan.vni", "tunnels to one peer differ by VNI or port", "VNI %d to %s on port %d is tunnels[%d] already", x.vni, x.remote, x.port, first)
		return
	}
	w.vxlan[x] = i
	v.port(w, i, path+".vxlan.port", x.port, EncapsulationVXLAN)
}

// ipsecWire checks that an IPsec tunnel is the only one of its peer by which IKE
// can be meant: on our port, or on port 500, which raw ESP has to itself and ESP
// in UDP at port 4500 listens on as well.
func (v *validator) ipsecWire(w wires, i int, path string, t Tunnel) {
	const natPort = 4500
	key, port, at := path+".port", t.IPsec.Port, netip.AddrPortFrom(t.Remote, t.IPsec.Port)
	if !t.IPsec.UDPEncapsulation {
		key, port, at = path+".udp_encapsulation", IKEPort, netip.AddrPortFrom(t.Remote, natPort)
	}
	first, taken := w.ipsec[at]
	switch {
	case !taken || !t.Remote.IsValid():
		w.ipsec[at] = i
		v.port(w, i, key, port, t.Encapsulation)
	case t.IPsec.UDPEncapsulation && v.cfg.Tunnels[first].IPsec.UDPEncapsulation:
		v.errorf(key, "tunnels to one peer differ by port", "%s on port %d is tunnels[%d] already", t.Remote, port, first)
	default:
		v.errorf(key, "one of them may be in UDP at another port than 4500, at both ends", "IKE with %s at UDP port 500 is that of tunnels[%d] already", t.Remote, first)
	}
}

// tunnelName checks a tunnel's name, which becomes an interface's.
func (v *validator) tunnelName(path, name string) {
	if v.interfaceName(path, name) && name == v.cfg.Underlay.Interface {
		v.errorf(path, "the tunnel gets an interface of its own", "%q is the underlay's interface", name)
	}
}

// remote checks a tunnel's outer destination.
func (v *validator) remote(path string, a netip.Addr) {
	if !v.hostAddress(path, a) {
		return
	}
	own := v.cfg.Underlay.Address
	switch {
	case a == own:
		v.errorf(path, "give the other NVA's address", "%s is underlay.address, this node's own", a)
	case own.IsValid() && own.Is4() != a.Is4():
		v.errorf(path, "without underlay.address, the card's address of the right family is used", "%s and underlay.address (%s) are not of one family", a, own)
	}
	if a == v.cfg.Underlay.Gateway {
		v.errorf(path, "give the other NVA's address", "%s is underlay.gateway", a)
	}
	for j, rs := range v.cfg.RouteServers {
		if rs.Subnet.IsValid() && rs.Subnet.Contains(a) {
			v.errorf(path, "give the other NVA's address", "%s is inside route_servers[%d].subnet (%s)", a, j, rs.Subnet)
		}
	}
}

// secretFile checks the name of a file that holds a secret; what is in it is read when it is used.
func (v *validator) secretFile(path, name string) {
	if name != "" && !filepath.IsAbs(name) {
		v.errorf(path, "write it as /etc/transitd/…", "%q is not an absolute path", name)
	}
}

// mtu checks a tunnel's MTU against IPv6 and the underlay's.
func (v *validator) mtu(path string, t Tunnel) {
	if t.MTU == 0 {
		return
	}
	const ipv6MinMTU = 1280 // RFC 8200, section 5
	if t.Address6.IsValid() && t.MTU < ipv6MinMTU {
		v.errorf(path+".mtu", "give at least 1280, or remove address6", "%d is too small for IPv6", t.MTU)
	}
	under := v.cfg.Underlay.MTU
	if under == 0 || !t.Remote.IsValid() {
		return
	}
	if most := under - t.Overhead(); t.MTU > most {
		v.errorf(path+".mtu", fmt.Sprintf("at most %d fit", most), "%d and %d bytes of encapsulation do not fit underlay.mtu (%d)", t.MTU, t.Overhead(), under)
	}
}

// Overhead is how many bytes the outer packet is larger than the largest inner
// one: the outer IP and UDP headers, and VXLAN with, but for GPE, the inner
// Ethernet header, or WireGuard's header and tag (its padding never goes beyond
// the tunnel's MTU), or ESP's header, counter, longest padding, trailer and tag,
// which may do without UDP.
func (t Tunnel) Overhead() int {
	n := 20 + 8
	if t.Remote.Is6() {
		n = 40 + 8
	}
	const esp = 8 + 8 + 3 + 2 + 16
	switch {
	case t.Encapsulation == EncapsulationWireGuard:
		return n + 16 + 16
	case t.Encapsulation == EncapsulationIPsec && !t.IPsec.UDPEncapsulation:
		return n - 8 + esp
	case t.Encapsulation == EncapsulationIPsec:
		return n + esp
	case t.VXLAN.GPE:
		return n + 8
	}
	return n + 8 + 14
}

// wireguard checks the keys of the encapsulation.
func (v *validator) wireguard(path string, t Tunnel) {
	w := t.WireGuard
	path += ".wireguard"
	switch is := t.Encapsulation == EncapsulationWireGuard; {
	case !v.given(path):
		if is {
			v.errorf(path, "add wireguard: {private_key_file: /etc/transitd/wg.key, peer_public_key: …}; transitctl keygen makes keys", "missing")
		}
		return
	case !is:
		v.errorf(path, "add encapsulation: wireguard, or remove it", "the tunnel's encapsulation is %s", t.Encapsulation)
		return
	}
	v.secretFile(path+".private_key_file", w.PrivateKeyFile)
	v.secretFile(path+".preshared_key_file", w.PresharedKeyFile)
	v.secretFile(path+".next_private_key_file", w.NextPrivateKeyFile)
	if w.NextPrivateKeyFile != "" && w.NextPrivateKeyFile == w.PrivateKeyFile {
		v.errorf(path+".next_private_key_file", "make a new key with transitctl keygen", "%s is private_key_file already", w.NextPrivateKeyFile)
	}
	if w.NextPeerPublicKey != (PublicKey{}) && w.NextPeerPublicKey == w.PeerPublicKey {
		v.errorf(path+".next_peer_public_key", "give the key that will replace it", "it is peer_public_key already")
	}
	for _, p := range []struct {
		key  string
		port uint16
	}{{".listen_port", w.ListenPort}, {".peer_port", w.PeerPort}} {
		if p.port == azure.ReservedUDPPort && v.given(path+p.key) {
			v.errorf(path+p.key, "51820 is the usual one", "Azure's host drops UDP port %d", p.port)
		}
	}
	if w.PersistentKeepalive != 0 {
		v.span(path+".persistent_keepalive", w.PersistentKeepalive, time.Second, 65535*time.Second)
	}
}

// vxlan checks the keys of the encapsulation.
func (v *validator) vxlan(path string, t Tunnel) {
	x := t.VXLAN
	if t.Encapsulation == EncapsulationWireGuard || t.Encapsulation == EncapsulationIPsec {
		if v.given(path + ".vxlan") {
			v.errorf(path+".vxlan", "remove it, or give encapsulation: vxlan", "the tunnel's encapsulation is %s", t.Encapsulation)
		}
		return
	}
	if t.Encapsulation == EncapsulationVXLAN && !v.given(path+".vxlan") {
		v.errorf(path+".vxlan", "add vxlan: {vni: 7700}, with the same number at both ends", "missing")
	}
	if x.Port == azure.ReservedUDPPort {
		v.errorf(path+".vxlan.port", "4789 is the usual one", "Azure's host drops UDP port %d", x.Port)
	}
	v.mac(path+".vxlan.mac", x.MAC, x.GPE)
	v.mac(path+".vxlan.peer_mac", x.PeerMAC, x.GPE)
	if x.MAC != (MAC{}) && x.MAC == x.PeerMAC {
		v.errorf(path+".vxlan.peer_mac", "the two ends have addresses of their own", "%s is mac already", x.PeerMAC)
	}
}

// mac checks an inner Ethernet address.
func (v *validator) mac(path string, m MAC, gpe bool) {
	switch {
	case !v.given(path):
	case gpe:
		v.errorf(path, "remove it", "VXLAN-GPE has no inner Ethernet header")
	case m[0]&1 != 0:
		v.errorf(path, "the first octet has to be even", "%s is a group address", m)
	}
}

// notHost says what an address of an IPv4 or IPv6 subnet is if no machine can have it.
func notHost(a netip.Addr, subnet netip.Prefix) string {
	hostBits := a.BitLen() - subnet.Bits()
	if hostBits < 2 { // /31, RFC 3021; /127, RFC 6164; and single addresses
		return ""
	}
	if a == subnet.Masked().Addr() {
		if a.Is6() {
			return "subnet-router anycast address" // RFC 4291, section 2.6.1
		}
		return "network address"
	}
	if a.Is4() && a == lastAddr(subnet) {
		return "broadcast address"
	}
	return ""
}

// lastAddr returns the last address of an IPv4 prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
