package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/bfd"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/stamp"
	"github.com/transitd/transitd/pkg/version"
	"github.com/transitd/transitd/tunnel/pmtud"
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
	Underlay     string // the card's name
	Budgets      []bgp.BudgetView
	Problems     []string            // of the daemon itself: a reload that was half done, a sysctl
	Symptoms     map[string]symptoms // of the tunnels that do not work
	Looping      map[string]bool     // tunnels that are part of a loop now
	Meddling     []string            // what another program did lately and was put right; no reason to be degraded
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
		Budgets: make([]control.Budget, len(s.Budgets)),
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
			Received: b.Received, Accepted: b.Accepted, Announced: b.Announced, Flaps: b.Flaps, UptimeS: uint64(b.Uptime / time.Second), LastError: b.LastError, Malformed: b.Malformed,
		}
	}
	for i, b := range s.Budgets {
		st.Budgets[i] = control.Budget{
			RouteServer: b.Neighbor, Level: b.Level.String(), Used: b.Count, Limit: b.Limit, Aggregated: b.Aggregated, Held: b.Held, Reason: b.Reason,
		}
	}
	st.Loops = loopsOf(s.Tunnels, s.Routes.Bests, s.Looping)
	st.Health, st.Warnings = s.health()
	st.Advice = s.advice()
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
		Remote: t.Plan.Pump.Remote.Addr().String(), MTU: cmp.Or(t.Path.MTU, t.Plan.Pump.MTU), MTUConfigured: t.Plan.Pump.MTU,
		Path:      control.PathMTU{State: t.Path.Phase.String(), Method: cmp.Or(string(t.Path.Method), string(pmtud.MethodNone)), PeerMTU: t.Path.PeerMTU},
		TXPackets: t.Stats.TXPackets, TXBytes: t.Stats.TXBytes, RXPackets: t.Stats.RXPackets, RXBytes: t.Stats.RXBytes,
		Drops: t.Stats.Drops, Rebuilt: t.Rebuilt,
	}
	if t.Up {
		c.State = control.TunnelUp
	}
	if w := t.WireGuard; w != nil {
		c.WireGuard = wireguardStatus(w)
	}
	if x := t.IPsec; x != nil {
		c.IPsec = ipsecStatus(x)
	}
	if q := t.Quality; q.Received > 0 {
		rtt, loss := micros(q.Median), q.Loss
		c.RTTMicros, c.Loss, c.Quality = &rtt, &loss, qualityStatus(q)
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
		if w := keyLogWarning(t); w != "" {
			warnings = append(warnings, w)
		}
		for _, a := range certificateWarnings(t, time.Now()) {
			warnings = append(warnings, a.Warning)
		}
		if w := rekeyWarning(t, time.Now()); w != "" {
			warnings = append(warnings, w)
		}
		if w := s.tunnelWarning(t); w != "" {
			warnings = append(warnings, w)
		}
		if t.Up {
			tunnelsUp++
		}
	}
	for _, x := range loopsOf(s.Tunnels, s.Routes.Bests, s.Looping).Tunnels {
		if w := loopWarning(x); w != "" {
			warnings = append(warnings, w)
		}
	}
	if w := s.drainWarning(); w != "" {
		warnings = append(warnings, w)
	}
	sessionsUp := 0
	for _, b := range s.Sessions {
		if b.State == control.SessionEstablished {
			sessionsUp++
		}
	}
	for _, down := range downSessions(s.Sessions) {
		warnings = append(warnings, down.warning())
	}
	warnings = append(warnings, routeWarnings(s.Routes)...)
	for _, b := range s.Budgets {
		if w := budgetWarning(b); w != "" {
			warnings = append(warnings, w)
		}
	}
	warnings = append(warnings, s.Problems...)
	health := control.HealthOK
	switch {
	case len(s.Tunnels) > 0 && tunnelsUp == 0, len(s.Sessions) > 0 && sessionsUp == 0:
		health = control.HealthDown
	case len(warnings) > 0:
		health = control.HealthDegraded
	}
	// What follows need not be wrong, or was put right.
	for _, t := range s.Tunnels {
		for _, w := range []string{mtuNote(t), lossNote(t)} {
			if w != "" {
				warnings = append(warnings, w)
			}
		}
	}
	warnings = append(warnings, overlapNotes(s.Routes.Overlap)...)
	return health, append(warnings, s.Meddling...)
}

// tunnelWarning says what is wrong with a tunnel; nothing if it works.
func (s *snapshot) tunnelWarning(t TunnelView) string {
	switch {
	case t.Up && !s.doubtful(t):
		return ""
	case t.Err != nil:
		return fmt.Sprintf("tunnel %s: %v; tried again every second", t.Plan.Name, t.Err)
	case !t.Present:
		return fmt.Sprintf("tunnel %s: its device was removed by another program; it is made again", t.Plan.Name)
	}
	why := diagnosis(t, s.Symptoms[t.Plan.Name], s.BFD[t.Plan.Name])
	if why == "" {
		return ""
	}
	return fmt.Sprintf("tunnel %s: %s", t.Plan.Name, why)
}

func qualityStatus(q stamp.Stats) *control.Quality {
	c := &control.Quality{
		Method: string(q.Method), Sent: q.Sent, Received: q.Received,
		MinUS: micros(q.Min), P99US: micros(q.P99), LastUS: micros(q.Last),
	}
	if q.Method == stamp.STAMP {
		c.There = &control.OneWay{Loss: q.LossThere, JitterUS: micros(q.JitterThere)}
		c.Back = &control.OneWay{Loss: q.LossBack, JitterUS: micros(q.JitterBack)}
	}
	return c
}

func micros(d time.Duration) uint64 { return uint64(max(d, 0) / time.Microsecond) }

// lossy is the share of lost probes that is told, with enough of them to tell.
const (
	lossy      = 0.02
	enoughSent = 20
)

// lossNote says that packets are lost, and in which direction.
func lossNote(t TunnelView) string {
	q := t.Quality
	if !t.Up || q.Sent < enoughSent || q.Loss < lossy {
		return ""
	}
	where := "on the way there or back"
	switch {
	case q.Method != stamp.STAMP:
	case q.LossThere >= lossy && q.LossBack < lossy:
		where = "on the way there: what we send"
	case q.LossBack >= lossy && q.LossThere < lossy:
		where = "on the way back: what the peer sends"
	case q.LossBack >= lossy:
		where = "both ways"
	}
	return fmt.Sprintf("tunnel %s: %.0f %% of the last %d probes to %s were lost, %s", t.Plan.Name, 100*q.Loss, q.Sent, t.Plan.Pump.Remote.Addr(), where)
}

// mtuNote says that the path is narrower than what is configured; the tunnel has followed it.
func mtuNote(t TunnelView) string {
	if t.Path.MTU == 0 || t.Path.MTU >= t.Plan.Pump.MTU {
		return ""
	}
	return fmt.Sprintf("tunnel %s: the way to %s carries inner packets of %d bytes only, %d are configured: a hop on it has a smaller MTU",
		t.Plan.Name, t.Plan.Pump.Remote.Addr(), t.Path.MTU, t.Plan.Pump.MTU)
}

func keyLogWarning(t TunnelView) string {
	if (t.WireGuard == nil || !t.WireGuard.KeyLogged) && (t.IPsec == nil || !t.IPsec.KeyLogged) {
		return ""
	}
	return keyLogText(t.Plan.Name)
}

// drainWarning says that planned work is going on.
func (s *snapshot) drainWarning() string {
	if s.Drain.State == "" || s.Drain.State == control.DrainNone {
		return ""
	}
	return fmt.Sprintf("the node is being drained (%s): %s", s.Drain.State, s.Drain.Note)
}

// down are the sessions of one neighbour that are down.
type down struct {
	name  string
	list  []bgp.Session // at least one
	total int
}

// downSessions lists the neighbours that have sessions that are down.
func downSessions(sessions []bgp.Session) (all []down) {
	var names []string
	for _, b := range sessions {
		if !slices.Contains(names, b.Name) {
			names = append(names, b.Name)
		}
	}
	for _, name := range names {
		d := down{name: name}
		for _, b := range sessions {
			if b.Name != name {
				continue
			}
			d.total++
			if b.State != control.SessionEstablished {
				d.list = append(d.list, b)
			}
		}
		if len(d.list) > 0 {
			all = append(all, d)
		}
	}
	return all
}

func (d down) warning() string {
	peers := make([]string, len(d.list))
	for i, b := range d.list {
		peers[i] = b.Peer.String()
	}
	first, cause := d.list[0], ""
	if first.LastError != "" {
		cause = ": " + first.LastError
	}
	switch {
	case first.Role != policy.RouteServer:
		return fmt.Sprintf("tunnel %s: BGP session with %s is down (%s)%s", d.name, peers[0], first.State, cause)
	case len(d.list) == 1:
		return fmt.Sprintf("route server %s: instance %s is down (1 of %d)%s", d.name, peers[0], d.total, cause)
	default:
		return fmt.Sprintf("route server %s: instances %s are down (%d of %d)%s", d.name, strings.Join(peers, " and "), len(d.list), d.total, cause)
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
