package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/bfd"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/version"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// snapshot is everything that a status is made of, at one moment.
type snapshot struct {
	Node         Identity
	Uptime       time.Duration
	Tunnels      []TunnelView
	Sessions     []bgp.Session
	Routes       routeView
	Site, Remote int // routes in the kernel
	Repaired     uint64
	Strangers    uint64
	BFD          map[string]bfd.Status
	Drain        control.Drain
	Problems     []string // of the daemon itself: a reload that was half done, a sysctl
}

// status makes the API's answer.
func (s *snapshot) status() control.Status {
	st := control.Status{
		Version: control.V1(),
		Node: control.Node{
			Name: s.Node.Name, ASN: s.Node.ASN, Site: s.Node.Site,
			Version: version.Get().Version, UptimeS: uint64(s.Uptime / time.Second),
		},
		Tunnels: make([]control.Tunnel, len(s.Tunnels)),
		BGP:     make([]control.Session, len(s.Sessions)),
		Routes:  control.RouteCounts{Site: s.Site, Remote: s.Remote, Repaired: s.Repaired},
		Refused: control.Refused{BGP: s.Strangers}, Drain: s.Drain,
	}
	for i, t := range s.Tunnels {
		st.Tunnels[i] = tunnelStatus(t)
		if b, ok := s.BFD[t.Plan.Name]; ok {
			st.Tunnels[i].BFD = bfdStatus(b)
		}
	}
	for i, b := range s.Sessions {
		st.BGP[i] = control.Session{
			Peer: b.Peer.String(), Name: b.Name, Role: b.Role.String(), ASN: b.ASN, State: b.State,
			Received: b.Received, Announced: b.Announced, UptimeS: uint64(b.Uptime / time.Second), LastError: b.LastError, Malformed: b.Malformed,
		}
	}
	st.Health, st.Warnings = s.health()
	return st
}

func bfdStatus(b bfd.Status) *control.BFD {
	return &control.BFD{
		State: b.State.String(), IntervalUS: uint64(b.TxInterval / time.Microsecond),
		DetectUS: uint64(b.DetectionTime / time.Microsecond), Flaps: b.Flaps,
	}
}

func wireguardStatus(w *wireguard.Status) *control.WireGuard {
	c := &control.WireGuard{
		PublicKey: w.Ours().String(), PeerPublicKey: w.Theirs().String(),
		Handshakes: w.Handshakes, Unanswered: w.Unanswered, Refused: w.Refused, CookiesSent: w.CookiesSent, CookiesReceived: w.CookiesTaken,
		KeyLogged: w.KeyLogged,
	}
	if now := time.Now(); !w.LastHandshake.IsZero() {
		age := uint64(now.Sub(w.LastHandshake) / time.Second)
		c.HandshakeAgeS = &age
		c.RekeyAfterS, c.RejectAfterS = uint64(wireguard.RekeyAfter/time.Second), uint64(wireguard.RejectAfter/time.Second)
	}
	c.Why = w.Why(time.Now())
	return c
}

func tunnelStatus(t TunnelView) control.Tunnel {
	c := control.Tunnel{
		Name: t.Plan.Name, Encapsulation: t.Plan.Encapsulation, State: control.TunnelDown,
		Remote: t.Plan.Pump.Remote.Addr().String(), MTU: t.Plan.Pump.MTU,
		TXPackets: t.Stats.TXPackets, TXBytes: t.Stats.TXBytes, RXPackets: t.Stats.RXPackets, RXBytes: t.Stats.RXBytes,
		Drops: t.Stats.Drops, Rebuilt: t.Rebuilt,
	}
	if t.Up {
		c.State = control.TunnelUp
	}
	if w := t.WireGuard; w != nil {
		c.WireGuard = wireguardStatus(w)
	}
	if c.Drops == nil {
		c.Drops = map[string]uint64{}
	}
	return c
}

// health judges the node: down if no tunnel or no BGP session works at all,
// degraded if anything that is configured does not.
func (s *snapshot) health() (control.Health, []string) {
	warnings := []string{}
	tunnelsUp := 0
	for _, t := range s.Tunnels {
		b, watched := s.BFD[t.Plan.Name]
		if t.WireGuard != nil && t.WireGuard.KeyLogged {
			warnings = append(warnings, fmt.Sprintf("tunnel %s: its secrets are being written to a file (--keylog): whoever has it can read the traffic", t.Plan.Name))
		}
		switch {
		case !t.Up:
			warnings = append(warnings, tunnelWarning(t))
			continue
		case watched && b.State != bfd.Up && b.Flaps > 0 && b.RemoteState != bfd.AdminDown: // it was up once
			warnings = append(warnings, fmt.Sprintf("tunnel %s: BFD is %s (%s): nothing gets through", t.Plan.Name, b.State, b.Diagnostic))
		}
		tunnelsUp++
	}
	if s.Drain.State != "" && s.Drain.State != control.DrainNone {
		warnings = append(warnings, fmt.Sprintf("the node is being drained (%s): %s", s.Drain.State, s.Drain.Note))
	}
	sessionsUp := 0
	for _, b := range s.Sessions {
		if b.State == control.SessionEstablished {
			sessionsUp++
		}
	}
	warnings = append(warnings, sessionWarnings(s.Sessions)...)
	warnings = append(warnings, routeWarnings(s.Routes)...)
	warnings = append(warnings, s.Problems...)
	switch {
	case len(s.Tunnels) > 0 && tunnelsUp == 0, len(s.Sessions) > 0 && sessionsUp == 0:
		return control.HealthDown, warnings
	case len(warnings) > 0:
		return control.HealthDegraded, warnings
	}
	return control.HealthOK, warnings
}

func tunnelWarning(t TunnelView) string {
	switch {
	case t.Err != nil:
		return fmt.Sprintf("tunnel %s: %v; tried again every second", t.Plan.Name, t.Err)
	case !t.Present:
		return fmt.Sprintf("tunnel %s: its device was removed by another program; it is made again", t.Plan.Name)
	case t.WireGuard != nil:
		return fmt.Sprintf("tunnel %s: %s", t.Plan.Name, t.WireGuard.Why(time.Now()))
	default:
		return fmt.Sprintf("tunnel %s: peer MAC not resolved: %s does not answer inside the tunnel", t.Plan.Name, t.Plan.Pump.PeerAddrs[0])
	}
}

// sessionWarnings says for each neighbour which of its sessions are down.
func sessionWarnings(sessions []bgp.Session) (warnings []string) {
	var names []string
	for _, b := range sessions {
		if !slices.Contains(names, b.Name) {
			names = append(names, b.Name)
		}
	}
	for _, name := range names {
		var down []bgp.Session
		total := 0
		for _, b := range sessions {
			if b.Name != name {
				continue
			}
			total++
			if b.State != control.SessionEstablished {
				down = append(down, b)
			}
		}
		if len(down) > 0 {
			warnings = append(warnings, downWarning(name, down, total))
		}
	}
	return warnings
}

func downWarning(name string, down []bgp.Session, total int) string {
	peers := make([]string, len(down))
	for i, b := range down {
		peers[i] = b.Peer.String()
	}
	cause := ""
	if down[0].LastError != "" {
		cause = ": " + down[0].LastError
	}
	switch {
	case down[0].Role == policy.Tunnel:
		return fmt.Sprintf("tunnel %s: BGP session with %s is down (%s)%s", name, peers[0], down[0].State, cause)
	case len(down) == 1:
		return fmt.Sprintf("route server %s: instance %s is down (1 of %d)%s", name, peers[0], total, cause)
	default:
		return fmt.Sprintf("route server %s: instances %s are down (%d of %d)%s", name, strings.Join(peers, " and "), len(down), total, cause)
	}
}

// maxNamed is how many refused routes a status names one by one.
const maxNamed = 3

func routeWarnings(v routeView) (warnings []string) {
	if v.Err != nil {
		warnings = append(warnings, fmt.Sprintf("kernel: %v", v.Err))
	}
	for i, x := range v.Refused {
		if i == maxNamed {
			warnings = append(warnings, fmt.Sprintf("and %d more routes are not put into the kernel: transitctl routes", len(v.Refused)-maxNamed))
			break
		}
		warnings = append(warnings, fmt.Sprintf("route %s is not put into the kernel (%s): %s", x.Prefix, x.Rule, x.Reason))
	}
	return warnings
}
