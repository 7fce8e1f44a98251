package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/fib"
	"github.com/transitd/transitd/bgp/health"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/azure"
	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/stamp"
	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/pmtud"
	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/vxlan"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// Plan is a configuration translated for the components, and everything that a
// component could refuse has been refused. It is a value: two plans that are
// deeply equal run the same.
type Plan struct {
	Node     Identity
	Socket   string
	Log      config.Log
	Underlay Underlay
	Tunnels  []TunnelPlan
	BGP      bgp.Config
	FIB      fib.Node
	Sysctls  []Sysctl
	// Probes decide about originated prefixes; they are in BGP.Originate all the same.
	Probes []ProbePlan
	// HealthListen is where a load balancer asks; invalid: nowhere.
	HealthListen netip.AddrPort
	// Observe is where the web server listens; invalid: nowhere.
	Observe netip.AddrPort
}

// Identity is who the node is.
type Identity struct {
	Name string
	ASN  uint32
	Site string
}

// Underlay is the network card with what the configuration and the machine say
// about it. The fields for IPv6 are invalid if it has none.
type Underlay struct {
	Interface string
	MTU       int
	Address   netip.Addr
	Gateway   netip.Addr
	Subnet    netip.Prefix
	Address6  netip.Addr
	Gateway6  netip.Addr
	Subnet6   netip.Prefix
}

// TunnelPlan is one tunnel for the pump.
type TunnelPlan struct {
	Name          string
	Encapsulation string
	Endpoint      pump.EndpointConfig // shared by tunnels with the same Local; without a logger
	Pump          pump.TunnelConfig   // without a codec
	VXLAN         *vxlan.Config       // the codec: this one
	WireGuard     *wireguard.Config   // or this one, without a key log
	IPsec         *ike.Config         // or this one, without randomness and a key log
	Sibling       bool                // leads to another NVA of our own site
	BFD           *BFDTimers          // nil: not used
	Path          pmtud.Config        // without a log
	Quality       stamp.Path          // measured each ProbeInterval
	ProbeInterval time.Duration       // 0: never
}

// BFDTimers are those of a tunnel's BFD session.
type BFDTimers struct {
	Interval   time.Duration
	Multiplier uint8
}

// ProbePlan is a check on which the origination of prefixes depends.
type ProbePlan struct {
	Origins []bgp.Origination
	Check   health.Config // without what reports
}

// NewPlan translates a configuration for a machine. It touches nothing. The
// error is of type config.Errors; file is its file name.
func NewPlan(file string, c *config.Config, f Facts) (*Plan, error) {
	b := planner{file: file, c: c, p: &Plan{
		Node:   Identity{Name: c.Node.Name, ASN: c.Node.ASN, Site: c.Node.Site},
		Socket: c.Control.Socket, Log: c.Log, HealthListen: c.HA.ProbeListen, Observe: c.Observe.Listen.AddrPort,
	}}
	b.underlay(f)
	if len(b.errs) > 0 {
		return nil, b.errs // what follows stands on the card's address
	}
	b.overlaps(f)
	for i := range c.Tunnels {
		b.tunnel(i)
	}
	b.bgp()
	b.fib()
	b.sysctls()
	if len(b.errs) > 0 {
		b.errs.Locate(file)
		return nil, b.errs
	}
	return b.p, nil
}

// planner collects a plan and what is wrong with it.
type planner struct {
	file string
	c    *config.Config
	p    *Plan
	errs config.Errors
}

func (b *planner) fail(path, hint, format string, args ...any) {
	b.errs = append(b.errs, &config.Error{File: b.file, Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

// underlay merges what the file says about the card with what the card says.
func (b *planner) underlay(f Facts) {
	u := Underlay{Interface: f.Interface, MTU: f.MTU, Gateway: f.Gateway, Gateway6: f.Gateway6}
	if b.c.Underlay.MTU != 0 {
		u.MTU = b.c.Underlay.MTU
	}
	for _, a := range f.Addrs {
		switch given := b.c.Underlay.Address; {
		case given.IsValid() && given.Is4() == a.Addr().Is4() && given != a.Addr():
		case a.Addr().Is4() && !u.Address.IsValid():
			u.Address, u.Subnet = a.Addr(), a.Masked()
		case a.Addr().Is6() && !u.Address6.IsValid():
			u.Address6, u.Subnet6 = a.Addr(), a.Masked()
		}
	}
	if g := b.c.Underlay.Gateway; g.Is4() {
		u.Gateway = g
	} else if g.Is6() {
		u.Gateway6 = g
	}
	b.p.Underlay = u
	switch given := b.c.Underlay.Address; {
	case given.IsValid() && u.Address != given && u.Address6 != given:
		b.fail("underlay.address", "leave it out to take the card's own", "%s is no address of %s, which has %v", given, f.Interface, f.Addrs)
	case !u.Address.IsValid():
		b.fail("underlay.interface", "a Route Server and BGP's router id need an IPv4 address", "%s has no IPv4 address", f.Interface)
	case !u.Gateway.IsValid():
		b.fail("underlay.interface", "give underlay.gateway, the first address of an Azure subnet", "no default route leads through %s, so its gateway is not known", f.Interface)
	case !u.Subnet.Contains(u.Gateway) || u.Gateway == u.Address:
		b.fail("underlay.gateway", "", "%s is no other machine of the subnet %s", u.Gateway, u.Subnet)
	}
}

// overlaps finds what collides with the card's own subnet.
func (b *planner) overlaps(f Facts) {
	for _, e := range config.AsErrors(b.c.CheckUnderlay(f.Addrs...)) {
		e.File = b.file
		b.errs = append(b.errs, e)
	}
}

// tunnel translates one tunnel.
func (b *planner) tunnel(i int) {
	t, path := &b.c.Tunnels[i], fmt.Sprintf("tunnels[%d]", i)
	local := b.p.Underlay.Address
	if t.Remote.Is6() {
		local = b.p.Underlay.Address6
	}
	if !local.IsValid() {
		b.fail(path+".remote", "", "%s is an IPv6 address, but %s has none", t.Remote, b.p.Underlay.Interface)
		return
	}
	switch t.Remote {
	case local:
		return // overlaps has said so
	case b.p.Underlay.Gateway, b.p.Underlay.Gateway6:
		b.fail(path+".remote", "give the other NVA's address", "%s is the gateway of %s", t.Remote, b.p.Underlay.Interface)
		return
	}
	if outer := t.MTU + t.Overhead(); outer > b.p.Underlay.MTU {
		b.fail(path+".mtu", fmt.Sprintf("at most %d fits", b.p.Underlay.MTU-t.Overhead()),
			"%d and %d bytes of outer headers do not fit the underlay's MTU of %d", t.MTU, t.Overhead(), b.p.Underlay.MTU)
	}
	p := TunnelPlan{
		Name: t.Name, Encapsulation: string(t.Encapsulation), Sibling: b.sibling(t),
		Pump: pump.TunnelConfig{
			Name: t.Name, MTU: t.MTU, DSCP: dscp(t.DSCP), Addrs: []netip.Prefix{t.Address}, PeerAddrs: []netip.Addr{t.PeerAddress},
		},
		Endpoint: pump.EndpointConfig{
			Interface: b.p.Underlay.Interface, Mark: b.c.Routing.Mark, PlainSends: b.c.Underlay.UDPSegmentation == "never",
		},
	}
	if t.Address6.IsValid() {
		p.Pump.Addrs, p.Pump.PeerAddrs = append(p.Pump.Addrs, t.Address6), append(p.Pump.PeerAddrs, t.PeerAddress6)
	}
	p.Path = pmtud.Config{
		Device: t.Name, Local: t.Address.Addr(), Peer: t.PeerAddress, From: local, To: t.Remote, Card: b.p.Underlay.Interface, CardMTU: b.p.Underlay.MTU,
		Overhead: t.Overhead(), MTU: t.MTU, Fixed: !t.MTUDiscovery,
	}
	p.Quality, p.ProbeInterval = stamp.Path{Device: t.Name, Local: t.Address.Addr(), Peer: t.PeerAddress}, t.ProbeInterval.Std()
	if t.BFD.Enabled {
		p.BFD = &BFDTimers{Interval: t.BFD.Interval.Std(), Multiplier: t.BFD.Multiplier}
	}
	switch t.Encapsulation {
	case config.EncapsulationWireGuard:
		b.wireguard(path+".wireguard", t, local, &p)
	case config.EncapsulationIPsec:
		b.ipsec(path+".ipsec", t, local, &p)
	case config.EncapsulationVXLAN:
		b.vxlan(path, t, local, &p)
	}
	b.p.Tunnels = append(b.p.Tunnels, p)
}

// vxlan adds the codec and the ports of a VXLAN tunnel.
func (b *planner) vxlan(path string, t *config.Tunnel, local netip.Addr, p *TunnelPlan) {
	p.Endpoint.Local = netip.AddrPortFrom(local, t.VXLAN.Port)
	p.Pump.Remote = netip.AddrPortFrom(t.Remote, t.VXLAN.Port)
	p.VXLAN = &vxlan.Config{
		VNI: t.VXLAN.VNI, GPE: t.VXLAN.GPE, LocalMAC: t.VXLAN.MAC, PeerMAC: t.VXLAN.PeerMAC, Local: local, Peer: t.Remote,
		PeerAddrs: p.Pump.PeerAddrs,
	}
	for _, a := range p.Pump.Addrs {
		p.VXLAN.Addrs = append(p.VXLAN.Addrs, a.Addr())
	}
	if _, err := vxlan.New(*p.VXLAN); err != nil {
		b.fail(path, "", "%v", err)
	}
}

// bgp translates the neighbours and what the policy has to know.
func (b *planner) bgp() {
	u := b.p.Underlay
	c := bgp.Config{
		ASN: b.c.Node.ASN, RouterID: u.Address, Site: b.c.Node.Site, Priority: b.c.Node.Priority, LocalAddr: u.Address,
		Supernets: b.c.Policy.Aggregates,
		VNet:      b.c.Policy.VNet, AllowHostRoutes: b.c.Policy.AllowHostRoutes, Protected: b.protected(),
	}
	for i := range b.c.RouteServers {
		rs := &b.c.RouteServers[i]
		mode, err := policy.ParseDefaultRoute(string(rs.DefaultRoute))
		if err != nil {
			b.fail(fmt.Sprintf("route_servers[%d].default_route", i), "", "%v", err)
		}
		c.Neighbors = append(c.Neighbors, bgp.Neighbor{
			Name: rs.Name, Role: policy.RouteServer, Addrs: rs.Addresses, ASN: rs.ASN,
			LocalAddr: u.Address, DefaultRoute: mode, HoldTime: rs.HoldTime.Std(), NextHop: rs.NextHop, Cap: rs.MaxRoutes, GatewayCap: rs.MaxGatewayRoutes,
		})
	}
	for i := range b.c.Tunnels {
		t := &b.c.Tunnels[i]
		role := policy.Tunnel
		if b.sibling(t) {
			role = policy.Sibling
		}
		c.Neighbors = append(c.Neighbors, bgp.Neighbor{
			Name: t.Name, Role: role, Addrs: []netip.Addr{t.PeerAddress}, ASN: t.BGP.ASN,
			LocalAddr: t.Address.Addr(), LocalAddr6: t.Address6.Addr(), Interface: t.Name, HoldTime: t.BGP.HoldTime.Std(),
			Password: b.password(fmt.Sprintf("tunnels[%d].bgp.password_file", i), t.BGP.PasswordFile), TTLSecurity: t.BGP.TTLSecurity, MaxPrefixes: t.BGP.MaxPrefixes,
		})
	}
	c.Originate = b.originate()
	if _, err := bgp.New(c, bgp.Options{Log: zap.NewNop()}); err != nil {
		b.fail("", "", "%v", err)
	}
	b.p.BGP = c
}

// protected is what no route may cover more specifically: what the node stands on.
func (b *planner) protected() []netip.Prefix {
	u := b.p.Underlay
	list := []netip.Prefix{host(u.Address)}
	if u.Address6.IsValid() {
		list = append(list, host(u.Address6))
	}
	for _, a := range azure.ReservedAddresses() {
		list = append(list, host(a))
	}
	for _, rs := range b.c.RouteServers {
		list = append(list, rs.Subnet)
	}
	for _, t := range b.c.Tunnels {
		list = append(list, host(t.Remote))
	}
	return append(list, b.overlays()...)
}

func (b *planner) overlays() (list []netip.Prefix) {
	for _, t := range b.c.Tunnels {
		list = append(list, t.Address.Masked())
		if t.Address6.IsValid() {
			list = append(list, t.Address6.Masked())
		}
	}
	return list
}

// fib says where the node stands, for the kernel's tables.
func (b *planner) fib() {
	u, r := b.p.Underlay, b.c.Routing
	n := fib.Node{
		Interface: u.Interface, Address: u.Address, Gateway: u.Gateway, Subnet: u.Subnet, Overlays: b.overlays(),
		Address6: u.Address6, Gateway6: u.Gateway6, Subnet6: u.Subnet6,
		Tables: fib.Tables{Underlay: r.TableUnderlay, Site: r.TableSite, Remote: r.TableRemote, Relay: r.TableRelay},
		Mark:   r.Mark, Protocol: int(r.Protocol), RulePriority: r.RulePriority,
	}
	for _, a := range azure.ReservedAddresses() {
		n.Pins = append(n.Pins, host(a))
	}
	for _, rs := range b.c.RouteServers {
		n.Pins = append(n.Pins, rs.Subnet)
	}
	for i := range b.c.Tunnels {
		t := &b.c.Tunnels[i]
		n.Tunnels = append(n.Tunnels, t.Name)
		if b.sibling(t) {
			n.Siblings = append(n.Siblings, t.Name)
		}
		if pin := host(t.Remote); !slices.Contains(n.Pins, pin) {
			n.Pins = append(n.Pins, pin)
		}
	}
	b.p.FIB = n
}

func (b *planner) sysctls() {
	var tunnels []string
	ipv6 := false
	for _, t := range b.c.Tunnels {
		tunnels = append(tunnels, t.Name)
		ipv6 = ipv6 || t.Address6.IsValid()
	}
	b.p.Sysctls = wantedSysctls(b.p.Underlay.Interface, tunnels, ipv6)
}

// host is an address as a prefix of its full length.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
