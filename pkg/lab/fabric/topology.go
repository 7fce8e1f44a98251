package fabric

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// GatewayMAC is the address that the fabric answers every ARP request with, as Azure does.
func GatewayMAC() net.HardwareAddr { return net.HardwareAddr{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc} }

// VNet is a virtual network.
type VNet struct {
	Name     string         `json:"name"`
	Prefixes []netip.Prefix `json:"prefixes"`
	// Peers names the VNets that this one is peered with; a peering has to be named on both sides.
	Peers []string `json:"peers,omitempty"`
	// RouteServer names the Route Server whose routes the NICs of this VNet get:
	// its own, or with "use remote route server" that of a peered one. Empty: none.
	RouteServer string `json:"route_server,omitempty"`
}

// UDR is a user-defined route of a subnet.
type UDR struct {
	Prefix netip.Prefix `json:"prefix"`
	Type   NextHopType  `json:"type"`
	// NextHop is the appliance's address; only for VirtualAppliance.
	NextHop netip.Addr `json:"next_hop,omitzero"`
}

// NIC is one interface of a virtual machine or of a gateway, and the fabric's port for it.
type NIC struct {
	// Name is the node's name and the name of the fabric's end of the veth, so at most 15 bytes.
	Name string `json:"name"`
	// VNet is empty for the NIC that stands for the internet.
	VNet    string       `json:"vnet,omitempty"`
	Address netip.Addr   `json:"address"`
	Subnet  netip.Prefix `json:"subnet"`
	// Public: the NIC has a public address, so "Internet" leads somewhere and the internet can answer.
	Public bool  `json:"public,omitempty"`
	UDRs   []UDR `json:"udrs,omitempty"`
}

// Gateway is the first address of the NIC's subnet: where Azure's gateway seems to be.
func (n NIC) Gateway() netip.Addr { return n.Subnet.Masked().Addr().Next() }

// MAC is the guest's address: 02:00 and the IPv4 address.
func (n NIC) MAC() net.HardwareAddr {
	a := n.Address.As4()
	return net.HardwareAddr{0x02, 0x00, a[0], a[1], a[2], a[3]}
}

// Config is a whole fabric. It is plain data: the same file serves the agent and the command line.
type Config struct {
	VNets []VNet `json:"vnets"`
	NICs  []NIC  `json:"nics"`
}

// NIC finds a NIC by its name.
func (c Config) NIC(name string) (NIC, bool) {
	i := slices.IndexFunc(c.NICs, func(n NIC) bool { return n.Name == name })
	if i < 0 {
		return NIC{}, false
	}
	return c.NICs[i], true
}

// vnet finds a VNet by its name; the zero VNet has no prefix and no peer.
func (c Config) vnet(name string) VNet {
	for _, v := range c.VNets {
		if v.Name == name {
			return v
		}
	}
	return VNet{}
}

// at finds the NIC that has the address.
func (c Config) at(a netip.Addr) (NIC, bool) {
	i := slices.IndexFunc(c.NICs, func(n NIC) bool { return n.Address == a })
	if i < 0 {
		return NIC{}, false
	}
	return c.NICs[i], true
}

// internet is the NIC outside of every VNet.
func (c Config) internet() (NIC, bool) {
	i := slices.IndexFunc(c.NICs, func(n NIC) bool { return n.VNet == "" })
	if i < 0 {
		return NIC{}, false
	}
	return c.NICs[i], true
}

// Validate finds what Azure would refuse and what the kernel cannot hold: a NIC outside its subnet or VNet,
// a reserved address, an address twice, a name too long, a one-sided peering, overlapping VNets that are peered.
func (c Config) Validate() error {
	seen := map[netip.Addr]string{}
	names := map[string]bool{}
	for _, n := range c.NICs {
		if err := c.validateNIC(n); err != nil {
			return err
		}
		if other, ok := seen[n.Address]; ok {
			return fmt.Errorf("fabric: %s and %s have the same address %s", other, n.Name, n.Address)
		}
		if names[n.Name] {
			return fmt.Errorf("fabric: two NICs are named %q", n.Name)
		}
		seen[n.Address], names[n.Name] = n.Name, true
	}
	for _, v := range c.VNets {
		for _, peer := range v.Peers {
			p := c.vnet(peer)
			if !slices.Contains(p.Peers, v.Name) {
				return fmt.Errorf("fabric: VNet %q is peered with %q, but not the other way round", v.Name, peer)
			}
			if overlap(v.Prefixes, p.Prefixes) {
				return fmt.Errorf("fabric: VNets %q and %q are peered and overlap", v.Name, peer)
			}
		}
	}
	return nil
}

func (c Config) validateNIC(n NIC) error {
	switch {
	case n.Name == "" || len(n.Name) > 15:
		return fmt.Errorf("fabric: NIC name %q has to be 1 to 15 bytes long", n.Name)
	case !n.Address.Is4() || !n.Subnet.Contains(n.Address):
		return fmt.Errorf("fabric: NIC %s: address %s is not in its subnet %s", n.Name, n.Address, n.Subnet)
	case n.Address == n.Gateway():
		return fmt.Errorf("fabric: NIC %s: address %s is that of the subnet's gateway", n.Name, n.Address)
	case n.VNet == "":
		return nil
	case !slices.ContainsFunc(c.vnet(n.VNet).Prefixes, func(p netip.Prefix) bool { return covers(p, n.Subnet) }):
		return fmt.Errorf("fabric: NIC %s: subnet %s is not in VNet %q", n.Name, n.Subnet, n.VNet)
	}
	// Azure keeps the first four addresses of a subnet: network, gateway, two for DNS.
	reserved := n.Subnet.Masked().Addr()
	for range 4 {
		if n.Address == reserved {
			return fmt.Errorf("fabric: NIC %s: %s is one of the first four addresses of %s, which are Azure's", n.Name, n.Address, n.Subnet)
		}
		reserved = reserved.Next()
	}
	return nil
}

func overlap(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool {
		return slices.ContainsFunc(b, p.Overlaps)
	})
}

// covers reports whether p is q or a supernet of it.
func covers(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }
