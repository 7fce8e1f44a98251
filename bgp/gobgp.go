package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
	"go.uber.org/zap"

	"github.com/transitd/transitd/bgp/policy"
)

const (
	// multihopTTL: Route Server instances are a few hops behind the fabric's
	// gateway. Recipes in use have 2 to 255; 8 is Cisco's (azure.md 1.1).
	multihopTTL = 8
	// connectRetry is GoBGP's floor. A Route Server or NVA that comes back is
	// found within 2 s, at the price of a SYN every 2 s while it is away.
	connectRetry = 2 * time.Second
	// tunnelKeepalive is shorter than a third of the hold time: a far NVA that
	// was killed and restarted answers the first keepalive with RST, and until
	// then it cannot come back (see session.go).
	tunnelKeepalive = time.Second
	// onLink is the TTL of a packet that no router has forwarded (RFC 5082).
	onLink = 255
	// tosNetworkControl is DSCP CS6, what routers mark BGP with (RFC 4594, section 3.1).
	tosNetworkControl = 0xc0
	// allowOwnASN lets paths with our ASN through to policy.Import, which
	// refuses them with a reason; GoBGP would hide them.
	allowOwnASN = 255
)

// gobgpEngines starts a GoBGP server per neighbor.
type gobgpEngines struct {
	log     *zap.Logger
	running []*gobgpEngine
	// listening has the neighbor whose server listens on an address: two
	// Route Servers on one NIC share the address, and the second server only
	// connects.
	listening map[netip.Addr]*gobgpEngine
}

// gobgpEngine is one GoBGP server.
type gobgpEngine struct {
	all     *gobgpEngines
	conf    Config
	n       Neighbor
	srv     *server.BgpServer
	unwatch context.CancelFunc // ends the watcher
}

func (g *gobgpEngines) start(c Config, n Neighbor, to sink) (engine, error) {
	level := &slog.LevelVar{}
	handler := newLogHandler(g.log.With(zap.String("neighbor", n.Name)), to)
	if g.log.Core().Enabled(zap.DebugLevel) {
		level.Set(slog.LevelDebug)
	}
	e := &gobgpEngine{all: g, conf: c, n: n, srv: server.NewBgpServer(server.LoggerOption(slog.New(handler), level))}
	go e.srv.Serve() // ended, and waited for, by srv.Stop in stop
	if err := e.configure(to); err != nil {
		e.stop()
		return nil, fmt.Errorf("start BGP with %q: %w", n.Name, err)
	}
	g.running = append(g.running, e)
	return e, nil
}

// configure starts the protocol, the watcher and the sessions, in the order in
// which nothing can leak and no event is missed.
func (e *gobgpEngine) configure(to sink) error {
	global := &api.Global{
		Asn: e.conf.ASN, RouterId: e.conf.RouterID.String(), ListenPort: -1, BindToDevice: e.n.Interface,
		Families: []uint32{ipv4Unicast, ipv6Unicast},
	}
	if e.all.listening[e.n.LocalAddr] == nil {
		global.ListenPort, global.ListenAddresses = int32(e.conf.ListenPort), []string{e.n.LocalAddr.String()}
	}
	others := make([]*server.BgpServer, len(e.all.running))
	for i, o := range e.all.running {
		others[i] = o.srv
	}
	start := func() error { return e.srv.StartBgp(context.Background(), &api.StartBgpRequest{Global: global}) }
	if err := frozen(others, start); err != nil {
		return fmt.Errorf("listen on %s port %d: %w", e.n.LocalAddr, e.conf.ListenPort, err)
	}
	if global.ListenPort > 0 {
		e.all.listening[e.n.LocalAddr] = e
	}
	if err := e.onlyLocal(); err != nil {
		return fmt.Errorf("set the policy: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.unwatch = cancel
	if err := e.watch(ctx, to); err != nil {
		return fmt.Errorf("watch events: %w", err)
	}
	for _, a := range e.n.Addrs {
		if err := e.addPeer(a); err != nil {
			return err
		}
	}
	return nil
}

// Families by GoBGP's numbers of them. Without a list it makes a table, 0.4 MB
// while empty, for each of the 23 that it knows.
const (
	ipv4Unicast uint32 = iota
	ipv6Unicast
)

// frozen calls f while none of the servers does anything. GoBGP keeps its
// best-path options in variables of the process, which StartBgp writes and
// every update reads; so the other servers are held at their lock meanwhile.
// A watch option runs under that lock.
func frozen(servers []*server.BgpServer, f func() error) error {
	if len(servers) == 0 {
		return f()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // only the option is wanted, no events
	var err error
	hold := underLock(server.WatchPeer(), func() { err = frozen(servers[1:], f) })
	if watchErr := servers[0].WatchEvent(ctx, server.WatchEventMessageCallbacks{}, hold); watchErr != nil {
		return fmt.Errorf("hold the other servers: %w", watchErr)
	}
	return err
}

// underLock makes a watch option, whose parameter type is not exported, out of f.
func underLock[T any](_ func(T), f func()) func(T) {
	return func(T) { f() }
}

// onlyLocal makes the server a mere sender: import accepts nothing that was
// received, so its table holds our own paths only; export passes nothing else.
func (e *gobgpEngine) onlyLocal() error {
	ctx := context.Background()
	p := &api.Policy{Name: "only-local", Statements: []*api.Statement{{
		Name:       "only-local",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}}}
	if err := e.srv.AddPolicy(ctx, &api.AddPolicyRequest{Policy: p}); err != nil {
		return err
	}
	for _, dir := range []api.PolicyDirection{api.PolicyDirection_POLICY_DIRECTION_IMPORT, api.PolicyDirection_POLICY_DIRECTION_EXPORT} {
		err := e.srv.AddPolicyAssignment(ctx, &api.AddPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: "global", Direction: dir,
			Policies:      []*api.Policy{{Name: p.Name}},
			DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *gobgpEngine) addPeer(addr netip.Addr) error {
	hold := uint64(e.n.HoldTime / time.Second)
	keepalive := hold / 3
	p := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: addr.String(), PeerAsn: e.n.ASN, AllowOwnAsn: allowOwnASN},
		Transport: &api.Transport{
			LocalAddress: e.n.LocalAddr.String(), RemotePort: uint32(e.conf.ListenPort),
			IpTos: tosNetworkControl, BindInterface: e.n.Interface,
		},
		AfiSafis: []*api.AfiSafi{afiSafi(api.Family_AFI_IP)},
	}
	switch e.n.Role {
	case policy.RouteServer:
		p.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: multihopTTL}
	case policy.Tunnel, policy.Sibling:
		keepalive = min(keepalive, uint64(tunnelKeepalive/time.Second))
		if e.n.LocalAddr6.IsValid() {
			p.AfiSafis = append(p.AfiSafis, afiSafi(api.Family_AFI_IP6))
		}
		// We keep the routes of a peer that restarts, and say so; what we do at a
		// restart of our own is to drain before.
		p.GracefulRestart = &api.GracefulRestart{Enabled: true, HelperOnly: true}
		p.Conf.AuthPassword = e.n.Password
		if e.n.TTLSecurity {
			p.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: onLink}
		}
		for _, family := range p.AfiSafis {
			if e.n.MaxPrefixes > 0 {
				family.PrefixLimits = &api.PrefixLimit{Family: family.Config.Family, MaxPrefixes: uint32(e.n.MaxPrefixes)}
			}
		}
	case policy.Local: // no neighbour
	}
	p.Timers = &api.Timers{Config: &api.TimersConfig{
		ConnectRetry: uint64(connectRetry / time.Second), HoldTime: hold,
		KeepaliveInterval: keepalive, IdleHoldTimeAfterReset: 1,
	}}
	if err := e.srv.AddPeer(context.Background(), &api.AddPeerRequest{Peer: p}); err != nil {
		return fmt.Errorf("add peer %s: %w", addr, err)
	}
	return nil
}

// restartTime reads how long a peer that can restart gracefully may be away, and
// whether it has gone on forwarding IPv4 over its last restart (the F bit of RFC
// 4724, section 3).
func restartTime(caps []gobgp.ParameterCapabilityInterface) (away time.Duration, forwarding bool) {
	const forwardingBit = 0x80
	for _, c := range caps {
		gr, ok := c.(*gobgp.CapGracefulRestart)
		if !ok {
			continue
		}
		for _, t := range gr.Tuples {
			if t.AFI == gobgp.AFI_IP && t.SAFI == gobgp.SAFI_UNICAST {
				return time.Duration(gr.Time) * time.Second, t.Flags&forwardingBit != 0
			}
		}
	}
	return 0, false
}

func afiSafi(afi api.Family_Afi) *api.AfiSafi {
	return &api.AfiSafi{Config: &api.AfiSafiConfig{Family: &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}, Enabled: true}}
}

func (e *gobgpEngine) watch(ctx context.Context, to sink) error {
	return e.srv.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnPathUpdate: func(paths []*apiutil.Path, _ time.Time) {
			if len(paths) == 0 {
				return
			}
			ev := event{peer: paths[0].PeerAddress.Unmap(), updates: make([]update, 0, len(paths))}
			for _, p := range paths {
				if u, ok := e.fromPath(p); ok {
					ev.updates = append(ev.updates, u)
				}
			}
			to.event(ev)
		},
		OnPathEor: func(p *apiutil.Path, _ time.Time) {
			to.event(event{peer: p.PeerAddress.Unmap(), eor: true})
		},
		OnPeerUpdate: func(ev *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			addr := ev.Peer.State.NeighborAddress.Unmap()
			if !addr.IsValid() { // the end of the initial list
				return
			}
			state := State(ev.Peer.State.SessionState) // both number them as RFC 4271 orders them
			restart, forwarding := restartTime(ev.Peer.State.RemoteCap)
			to.event(event{peer: addr, state: &stateChange{
				state: state, reason: ev.Peer.State.DisconnectMessage, restart: restart, forwarding: forwarding,
				limited:  ev.Peer.State.AdminState == api.PeerState_ADMIN_STATE_PFX_CT,
				notified: strings.Contains(ev.Peer.State.DisconnectMessage, "notification") || strings.Contains(ev.Peer.State.DisconnectMessage, "hold"),
			}})
		},
	}, server.WatchPeer(), server.WatchUpdate(false, "", ""), server.WatchEor(false))
}

func (e *gobgpEngine) announce(routes []policy.Route) error {
	paths := make([]*apiutil.Path, 0, len(routes))
	for _, r := range routes {
		p, err := toPath(r)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	if _, err := e.srv.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
		return fmt.Errorf("announce %d routes to %q: %w", len(routes), e.n.Name, err)
	}
	return nil
}

func (e *gobgpEngine) withdraw(prefixes []netip.Prefix) error {
	paths := make([]*apiutil.Path, 0, len(prefixes))
	for _, prefix := range prefixes {
		p, err := toPath(policy.Route{Prefix: prefix, NextHop: e.n.LocalAddr})
		if err != nil {
			return err
		}
		p.Withdrawal = true
		paths = append(paths, p)
	}
	if err := e.srv.DeletePath(apiutil.DeletePathRequest{Paths: paths}); err != nil {
		return fmt.Errorf("withdraw %d routes from %q: %w", len(prefixes), e.n.Name, err)
	}
	return nil
}

func (e *gobgpEngine) recycle(peer netip.Addr) error {
	if err := e.srv.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: peer.String()}); err != nil {
		return fmt.Errorf("reset session with %s: %w", peer, err)
	}
	return e.addPeer(peer)
}

func (e *gobgpEngine) refreshes() (n uint64) {
	// What cannot be asked has ended, and needs no care.
	_ = e.srv.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		n += p.GetState().GetMessages().GetReceived().GetRefresh()
	})
	return n
}

func (e *gobgpEngine) stop() {
	if e.unwatch != nil {
		e.unwatch()
	}
	e.srv.Stop() // Cease to every peer; waits for its sessions
	for i, o := range e.all.running {
		if o == e {
			e.all.running = append(e.all.running[:i:i], e.all.running[i+1:]...)
			break
		}
	}
	if e.all.listening[e.n.LocalAddr] == e {
		delete(e.all.listening, e.n.LocalAddr)
	}
}

func family(p netip.Prefix) gobgp.Family {
	if p.Addr().Is4() {
		return gobgp.RF_IPv4_UC
	}
	return gobgp.RF_IPv6_UC
}

func toPath(r policy.Route) (*apiutil.Path, error) {
	nlri, err := gobgp.NewIPAddrPrefix(r.Prefix)
	if err != nil {
		return nil, fmt.Errorf("encode prefix %s: %w", r.Prefix, err)
	}
	attrs := []gobgp.PathAttributeInterface{gobgp.NewPathAttributeOrigin(r.Origin)}
	var segments []gobgp.AsPathParamInterface
	for path := r.ASPath; len(path) > 0; { // RFC 4271, section 4.3: 255 ASNs in a segment
		n := min(len(path), 255)
		segments = append(segments, gobgp.NewAs4PathParam(gobgp.BGP_ASPATH_ATTR_TYPE_SEQ, path[:n]))
		path = path[n:]
	}
	attrs = append(attrs, gobgp.NewPathAttributeAsPath(segments))
	if r.Prefix.Addr().Is4() {
		nh, err := gobgp.NewPathAttributeNextHop(r.NextHop)
		if err != nil {
			return nil, fmt.Errorf("encode next hop %q of %s: %w", r.NextHop, r.Prefix, err)
		}
		attrs = append(attrs, nh)
	} else {
		mp, err := gobgp.NewPathAttributeMpReachNLRI(gobgp.RF_IPv6_UC, []gobgp.PathNLRI{{NLRI: nlri}}, r.NextHop)
		if err != nil {
			return nil, fmt.Errorf("encode next hop %q of %s: %w", r.NextHop, r.Prefix, err)
		}
		attrs = append(attrs, mp)
	}
	if r.HasMED {
		attrs = append(attrs, gobgp.NewPathAttributeMultiExitDisc(r.MED))
	}
	if len(r.Communities) > 0 {
		attrs = append(attrs, gobgp.NewPathAttributeCommunities(r.Communities))
	}
	if len(r.Large) > 0 {
		large := make([]*gobgp.LargeCommunity, len(r.Large))
		for i, c := range r.Large {
			large[i] = gobgp.NewLargeCommunity(c.Global, c.Local1, c.Local2)
		}
		attrs = append(attrs, gobgp.NewPathAttributeLargeCommunities(large))
	}
	return &apiutil.Path{Family: family(r.Prefix), Nlri: nlri, Attrs: attrs, Age: time.Now().Unix()}, nil
}

// fromPath reads a received path; ok is false for an address family that is not ours.
func (e *gobgpEngine) fromPath(p *apiutil.Path) (update, bool) {
	nlri, ok := p.Nlri.(*gobgp.IPAddrPrefix)
	if !ok {
		return update{}, false
	}
	r := policy.Route{
		Prefix: nlri.Prefix.Masked(),
		From:   policy.Source{Neighbor: e.n.Name, Role: e.n.Role, ASN: e.n.ASN, Peer: p.PeerAddress.Unmap()},
	}
	if p.Withdrawal {
		return update{route: r, withdrawn: true}, true
	}
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *gobgp.PathAttributeOrigin:
			r.Origin = a.Value
		case *gobgp.PathAttributeAsPath:
			for _, seg := range a.Value {
				r.ASPath = append(r.ASPath, seg.GetAS()...)
				r.ASSet = r.ASSet || seg.GetType() != gobgp.BGP_ASPATH_ATTR_TYPE_SEQ
			}
		case *gobgp.PathAttributeNextHop:
			r.NextHop = a.Value
		case *gobgp.PathAttributeMpReachNLRI:
			r.NextHop = a.Nexthop
		case *gobgp.PathAttributeMultiExitDisc:
			r.MED, r.HasMED = a.Value, true
		case *gobgp.PathAttributeCommunities:
			r.Communities = append(r.Communities, a.Value...)
		case *gobgp.PathAttributeLargeCommunities:
			for _, c := range a.Values {
				r.Large = append(r.Large, policy.LargeCommunity{Global: c.ASN, Local1: c.LocalData1, Local2: c.LocalData2})
			}
		}
	}
	return update{route: r}, true
}
