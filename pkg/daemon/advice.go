package daemon

import (
	"fmt"
	"time"

	"github.com/transitd/transitd/bgp"
	"github.com/transitd/transitd/bgp/policy"
	"github.com/transitd/transitd/pkg/control"
)

// advice says for what is wrong which command tells more.
func (s *snapshot) advice() []control.Advice {
	list := []control.Advice{}
	add := func(warning, format string, args ...any) {
		if warning != "" {
			list = append(list, control.Advice{Warning: warning, Run: fmt.Sprintf(format, args...)})
		}
	}
	for _, t := range s.Tunnels {
		if w := keyLogWarning(t); w != "" {
			add(w, "systemctl restart transitd@%s # without --keylog, then delete the files", s.Node.Name)
		}
		list = append(list, certificateWarnings(t, time.Now())...)
		if w := rekeyWarning(t, time.Now()); w != "" {
			add(w, "%s", ipsecAdvice(t, s.Underlay, time.Now()))
		}
		switch w := s.tunnelWarning(t); {
		case w != "" && t.IPsec != nil && (!t.IPsec.Up || t.IPsec.Refusal(time.Now()) != ""):
			add(w, "%s", ipsecAdvice(t, s.Underlay, time.Now()))
		case w != "" && s.Symptoms[t.Plan.Name].CameBack > 0:
			add(w, "transitctl audit --live")
		case t.Err != nil || !t.Present:
			add(w, "ip -d link show %s", t.Plan.Name)
		default:
			add(w, "tcpdump -c 10 -ni %s host %s and %s", s.Underlay, t.Plan.Pump.Remote.Addr(), t.Plan.outer())
		}
	}
	for _, x := range loopsOf(s.Tunnels, s.Routes.Bests, s.Looping).Tunnels {
		add(loopWarning(x), "transitctl explain %s", x.Destination)
	}
	if w := s.drainWarning(); w != "" {
		add(w, "transitctl undrain")
	}
	for _, down := range downSessions(s.Sessions) {
		b := down.list[0]
		add(down.warning(), "nc -vz -w 3 %s 179", b.Peer)
	}
	named := s.Routes.Refused[:min(len(s.Routes.Refused), maxNamed)]
	for i, w := range routeWarnings(s.Routes) {
		if s.Routes.Err != nil {
			i-- // the first one is about the kernel
		}
		if i >= 0 && i < len(named) {
			add(w, "transitctl explain %s", named[i].Prefix)
		} else {
			add(w, "transitctl routes")
		}
	}
	for _, b := range s.Budgets {
		if w := budgetWarning(b); w != "" {
			add(w, "transitctl bgp routes --announced %s", b.Neighbor)
		}
	}
	for _, t := range s.Tunnels {
		add(mtuNote(t), "transitctl pmtu %s", t.Plan.Name)
		add(lossNote(t), "transitctl ping %s", t.Plan.Name)
	}
	for i, w := range overlapNotes(s.Routes.Overlap) {
		if i < maxNamed {
			add(w, "transitctl explain %s", s.Routes.Overlap[i].Inner.Prefix)
		}
	}
	for _, w := range s.Meddling {
		add(w, "transitctl doctor")
	}
	return list
}

// budgetWarning says what a Route Server is short of; nothing if all fits as it is.
func budgetWarning(b bgp.BudgetView) string {
	if b.Level == policy.BudgetOK && b.Aggregated == 0 {
		return ""
	}
	return fmt.Sprintf("route server %s: %s", b.Neighbor, b.Reason)
}
