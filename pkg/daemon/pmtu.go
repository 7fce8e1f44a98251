package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/packet"
	"github.com/transitd/transitd/tunnel/pmtud"
)

// tunnelPlan finds a tunnel by name; an empty name is the only one.
func (d *Daemon) tunnelPlan(name string) (TunnelPlan, error) {
	return findTunnel(d.plan.Load().Tunnels, name)
}

func findTunnel(all []TunnelPlan, name string) (TunnelPlan, error) {
	if name == "" && len(all) == 1 {
		return all[0], nil
	}
	if i := slices.IndexFunc(all, func(t TunnelPlan) bool { return t.Name == name }); i >= 0 {
		return all[i], nil
	}
	var names []string
	for _, t := range all {
		names = append(names, t.Name)
	}
	e := &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("there is no tunnel %q; there are: %s", name, strings.Join(names, ", "))}
	switch {
	case len(all) == 0:
		e.Message = "this node has no tunnel"
	case name == "":
		e.Message = "there are several tunnels, choose one: " + strings.Join(names, ", ")
	}
	return TunnelPlan{}, e
}

// device is the running device of a tunnel, nil if there is none.
func (s *tunnelSet) device(name string) device {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.list {
		if sl.plan.Name == name && sl.dev != nil {
			return sl.dev
		}
	}
	return nil
}

// MeasurePath measures now what a tunnel's path carries in both directions.
func (d *Daemon) MeasurePath(ctx context.Context, name string, progress func(string)) (control.PMTU, error) {
	t, err := d.tunnelPlan(name)
	if err != nil {
		return control.PMTU{}, err
	}
	dev := d.machine.tunnels.device(t.Name)
	if dev == nil {
		return control.PMTU{}, &control.Error{Code: control.CodeStopping, Message: fmt.Sprintf("tunnel %s is not there now", t.Name)}
	}
	r, err := dev.Measure(ctx, progress)
	switch {
	case errors.Is(err, pmtud.ErrBusy):
		return control.PMTU{}, &control.Error{Code: control.CodeBusy, Message: fmt.Sprintf("tunnel %s: %v", t.Name, err)}
	case errors.Is(err, pmtud.ErrDown):
		return control.PMTU{}, &control.Error{Code: control.CodeDown, Message: fmt.Sprintf("tunnel %s is down: transitctl status says why", t.Name)}
	case err != nil:
		return control.PMTU{}, fmt.Errorf("tunnel %s: %w", t.Name, err)
	}
	return pathAnswer(t, dev.Path(), r), nil
}

// pathAnswer says a measurement in the API's words.
func pathAnswer(t TunnelPlan, now pmtud.Status, r pmtud.Result) control.PMTU {
	a := control.PMTU{
		Version: control.V1(), Tunnel: t.Name, Peer: t.Path.To.String(), Encapsulation: t.Encapsulation, Overhead: t.Path.Overhead,
		Method: string(r.Method), RTTMicros: uint64(r.RTT / time.Microsecond), Configured: t.Path.MTU, Advice: []string{},
	}
	us, peer := t.Path.From.String(), t.Path.To.String()
	there := control.PathDirection{Direction: "there", From: us, To: peer, InUse: now.MTU}
	back := control.PathDirection{Direction: "back", From: peer, To: us, InUse: r.PeerMTU}
	w := limitWords{t: t, r: r}
	w.describe(&there, r.There)
	w.describe(&back, r.Back)
	a.Directions = []control.PathDirection{there, back}
	a.OK = r.Method != pmtud.MethodNone && r.There.Inner >= t.Path.MTU && r.Back.Inner >= t.Path.MTU
	// The MSS is clamped at both ends, in both directions: the smaller one counts.
	mtu := now.MTU
	if r.PeerMTU > 0 {
		mtu = min(mtu, r.PeerMTU)
	}
	for _, direction := range []pmtud.Direction{r.There, r.Back} {
		if direction.Inner > 0 && !t.Path.Fixed {
			mtu = min(mtu, direction.Inner)
		}
	}
	a.MSS = control.PathMSS{IPv4: int(packet.MSS(mtu, 4)), IPv6: int(packet.MSS(mtu, 6))}
	a.Advice = w.advice()
	return a
}

// limitWords says a measurement in sentences.
type limitWords struct {
	t TunnelPlan
	r pmtud.Result
}

func (w limitWords) describe(d *control.PathDirection, m pmtud.Direction) {
	d.Inner, d.Outer, d.Limit = m.Inner, m.Outer, string(m.Limit)
	switch m.Limit {
	case pmtud.LimitOwnCard:
		d.LimitedBy = fmt.Sprintf("our card %s, MTU %d", w.t.Path.Card, w.t.Path.CardMTU)
	case pmtud.LimitPeerCard:
		d.LimitedBy = fmt.Sprintf("the peer's card, MTU %d", w.r.PeerCard)
	case pmtud.LimitPath:
		d.LimitedBy = fmt.Sprintf("the path from %s to %s", d.From, d.To)
		if m.Hop.Addr.IsValid() {
			d.HopAddress, d.HopMTU = m.Hop.Addr.String(), m.Hop.MTU
			d.LimitedBy += fmt.Sprintf(": %s says %d", d.HopAddress, d.HopMTU)
		}
	default:
		d.Limit, d.LimitedBy = string(pmtud.LimitUnknown), "the path there or back, or the peer: it only answers echo requests"
		if w.r.Method == pmtud.MethodNone {
			d.LimitedBy = "nothing answers"
		}
	}
}

// advice says what to do.
func (w limitWords) advice() []string {
	list := []string{}
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	t, r := w.t, w.r
	least := min(r.There.Inner, r.Back.Inner)
	switch {
	case r.Method == pmtud.MethodNone:
		say("The peer answers neither probes (UDP port %d inside the tunnel) nor echo requests: look whether anything gets through with transitctl status, and whether a firewall of the peer drops them.", pmtud.Port)
	case least < t.Path.MTU && t.Path.Fixed:
		say("Packets of more than %d bytes are lost: set mtu: %d for tunnel %s, or mtu_discovery: true.", least, least, t.Name)
	case least < t.Path.MTU:
		say("Nothing has to be done: the tunnel uses what gets through. mtu: %d at both ends saves the search at each start; or widen the path to outer packets of %d bytes.", least, t.Path.MTU+t.Path.Overhead)
	case least > t.Path.MTU:
		say("The path carries more than is configured: mtu: %d at both ends is fewer packets for the same data.", least)
	}
	if r.PeerMost > 0 && r.PeerMost != t.Path.MTU {
		say("The two ends differ: mtu is %d here and %d at the peer.", t.Path.MTU, r.PeerMost)
	}
	if r.Method == pmtud.MethodEcho {
		say("The peer does not answer transitd's probes, so the two directions cannot be told apart.")
	}
	return list
}
