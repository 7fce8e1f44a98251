package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab/fabric"
	"github.com/transitd/transitd/pkg/netns"
)

// guestSysctls make a node forward as a router or an NVA does, and keep the kernel from being cleverer than that.
// An operator of an NVA sets the same.
func guestSysctls() map[string]string {
	return map[string]string{
		"ipv4/ip_forward":                    "1",
		"ipv6/conf/all/forwarding":           "1",
		"ipv4/conf/all/rp_filter":            "0",
		"ipv4/conf/default/rp_filter":        "0",
		"ipv4/conf/all/accept_redirects":     "0",
		"ipv4/conf/default/accept_redirects": "0",
		"ipv4/conf/all/send_redirects":       "0",
		"ipv4/conf/default/send_redirects":   "0",
		"ipv4/icmp_ratelimit":                "0", // traceroute is asked faster here than by people
		"ipv4/fib_multipath_hash_policy":     "1",
	}
}

// build makes all namespaces, the fabric, the wires and what an operator or DHCP would set on them.
func (s state) build(p Plan) error {
	for _, n := range p.Nodes {
		if _, err := netns.New(s.ns(n.Name).Name); err != nil {
			return err
		}
		if n.Role != RoleFabric {
			if err := fabric.SetSysctls(s.ns(n.Name), guestSysctls()); err != nil {
				return err
			}
		}
	}
	if err := fabric.Build(s.ns("fabric")); err != nil {
		return err
	}
	for _, nic := range p.Fabric.NICs {
		if err := fabric.Plug(s.ns("fabric"), s.ns(nic.Name), nic); err != nil {
			return err
		}
	}
	for _, l := range p.Links {
		if err := s.wire(l); err != nil {
			return fmt.Errorf("wire %s to %s: %w", l.A.Node, l.B.Node, err)
		}
	}
	for _, n := range p.Nodes {
		if err := s.furnish(n); err != nil {
			return fmt.Errorf("furnish %s: %w", n.Name, err)
		}
	}
	return s.masquerade(p)
}

// wire makes a veth between two nodes.
func (s state) wire(l Link) error {
	h, err := s.ns(l.A.Node).Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	fd, err := vnetns.GetFromPath(s.ns(l.B.Node).Path())
	if err != nil {
		return fmt.Errorf("open the namespace of %s: %w", l.B.Node, err)
	}
	defer fd.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = l.A.Device, fabric.DefaultMTU
	err = h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: l.B.Device, PeerNamespace: netlink.NsFd(int(fd))})
	if err != nil {
		return err
	}
	for _, e := range []End{l.A, l.B} {
		// A circuit's addresses on the customer's side are of link scope: a router answers from an address that the
		// other side has a route to, and so does what runs on it.
		scope := netlink.SCOPE_UNIVERSE
		if l.Circuit && e == l.B {
			scope = netlink.SCOPE_LINK
		}
		if err := s.raise(e, scope); err != nil {
			return err
		}
	}
	return nil
}

func (s state) raise(e End, scope netlink.Scope) error {
	h, err := s.ns(e.Node).Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(e.Device)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", e.Device, e.Node, err)
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(e.Address), Scope: int(scope)}); err != nil {
		return fmt.Errorf("add %s to %s of %s: %w", e.Address, e.Device, e.Node, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s of %s up: %w", e.Device, e.Node, err)
	}
	return nil
}

// furnish gives a node its loopback addresses and static routes.
func (s state) furnish(n Node) error {
	h, err := s.ns(n.Name).Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, a := range n.Loopback {
		if err := h.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(a)}); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	if n.Role == RoleMSEE { // it is no guest: what it does not know is dropped, not given to the fabric
		if err := h.RouteDel(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))}); err != nil {
			return fmt.Errorf("remove the default route: %w", err)
		}
	}
	for _, r := range n.Statics {
		nr := &netlink.Route{Dst: ipNet(r.Prefix), Protocol: unix.RTPROT_STATIC}
		if r.Via.IsValid() {
			nr.Gw = r.Via.AsSlice()
		} else {
			nr.Type = unix.RTN_UNREACHABLE
		}
		if err := h.RouteAdd(nr); err != nil {
			return fmt.Errorf("add route %s: %w", r.Prefix, err)
		}
	}
	return nil
}

// masqueradeTable is the name of the hub NVA's own NAT table; transitd never touches it.
const masqueradeTable = "operator"

// masquerade lets every public NVA hide what it sends to the internet behind its own address, as its operator would:
//
//	table ip operator { chain postrouting { type nat hook postrouting priority srcnat;
//	    oifname "eth0" ip daddr != { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 } masquerade } }
func (s state) masquerade(p Plan) error {
	for _, nic := range p.Fabric.NICs {
		if n, ok := p.Node(nic.Name); !ok || n.Role != RoleNVA || !nic.Public {
			continue
		}
		if err := addMasquerade(s.ns(nic.Name)); err != nil {
			return fmt.Errorf("let %s masquerade: %w", nic.Name, err)
		}
	}
	return nil
}

func addMasquerade(ns netns.NS) error {
	fd, err := vnetns.GetFromPath(ns.Path())
	if err != nil {
		return err
	}
	defer fd.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(fd)))
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: masqueradeTable, Family: nftables.TableFamilyIPv4})
	private := &nftables.Set{Table: table, Name: "private", Interval: true, KeyType: nftables.TypeIPAddr}
	elements := []nftables.SetElement{}
	for _, r := range [][2]string{{"10.0.0.0", "11.0.0.0"}, {"172.16.0.0", "172.32.0.0"}, {"192.168.0.0", "192.169.0.0"}} {
		elements = append(elements, nftables.SetElement{Key: netip.MustParseAddr(r[0]).AsSlice()},
			nftables.SetElement{Key: netip.MustParseAddr(r[1]).AsSlice(), IntervalEnd: true})
	}
	if err := c.AddSet(private, elements); err != nil {
		return err
	}
	chain := c.AddChain(&nftables.Chain{
		Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "eth0")
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: private.Name, SetID: private.ID, Invert: true},
		&expr.Masq{},
	}})
	return c.Flush()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
