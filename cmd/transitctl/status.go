package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "One screen about the node; exit 0 if it is healthy", Args: noArgs,
		RunE: a.runStatus,
	}
}

func (a *app) runStatus(cmd *cobra.Command, _ []string) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	s, err := client.Status(cmd.Context())
	if err != nil {
		return err
	}
	if err := a.show(s, func() { a.printStatus(s) }); err != nil {
		return err
	}
	return exitFor(s.Health == control.HealthOK)
}

func (a *app) printStatus(s control.Status) {
	styles := map[control.Health]style{control.HealthOK: good, control.HealthDegraded: warn, control.HealthDown: bad}
	a.printf("%s: %s  AS %d, site %s, up %s, transitd %s", s.Node.Name, a.paint(styles[s.Health], string(s.Health)),
		s.Node.ASN, s.Node.Site, duration(s.Node.UptimeS), s.Node.Version)
	for _, w := range s.Warnings {
		a.printf("%s %s", a.paint(warn, "warning:"), w)
	}
	if len(s.Tunnels) > 0 {
		a.printf("")
		a.printTunnels(s.Tunnels)
	}
	if len(s.BGP) > 0 {
		a.printf("")
		a.printSessions(s.BGP)
	}
	a.printf("")
	a.printf("routes: %d site, %d remote, %d repaired; loops: %d", s.Routes.Site, s.Routes.Remote, s.Routes.Repaired, s.Loops.Detected)
}

func (a *app) tunnelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tunnel", Aliases: []string{"tunnels"}, Short: "The tunnels with their counters; exit 0 if all are up", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			t, err := client.Tunnels(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.show(t, func() { a.printTunnelDetails(t.Tunnels) }); err != nil {
				return err
			}
			return exitFor(!slices.ContainsFunc(t.Tunnels, func(t control.Tunnel) bool { return t.State != control.TunnelUp }))
		},
	}
}

func (a *app) printTunnels(tunnels []control.Tunnel) {
	rows := make([][]cell, len(tunnels))
	for i, t := range tunnels {
		rows[i] = []cell{
			c(t.Name), state(t.State, t.State == control.TunnelUp), c(t.Encapsulation), c(t.Remote), c(t.MTU), bfd(t),
			c(rtt(t)), c(loss(t)), c(bytes(t.TXBytes)), c(bytes(t.RXBytes)), c(dropSum(t)),
		}
	}
	a.table([]string{"TUNNEL", "STATE", "ENCAPSULATION", "REMOTE", "MTU", "BFD", "RTT", "LOSS", "SENT", "RECEIVED", "DROPS"}, rows)
}

// printTunnelDetails adds packets and the reasons of drops to the overview.
func (a *app) printTunnelDetails(tunnels []control.Tunnel) {
	a.printTunnels(tunnels)
	for _, t := range tunnels {
		a.printf("")
		a.printf("%s: %d packets sent, %d received, device rebuilt %d times", t.Name, t.TXPackets, t.RXPackets, t.Rebuilt)
		if t.WireGuard != nil {
			a.printWireGuard(t.WireGuard)
		}
		if len(t.Drops) == 0 {
			a.printf("  no drops")
		}
		for _, reason := range slices.Sorted(maps.Keys(t.Drops)) {
			a.printf("  dropped %d: %s", t.Drops[reason], strings.ReplaceAll(reason, "_", " "))
		}
	}
}

func (a *app) printWireGuard(w *control.WireGuard) {
	a.printf("  our public key %s, the peer's %s", w.PublicKey, w.PeerPublicKey)
	if w.HandshakeAgeS == nil {
		a.printf("  no handshake yet")
	} else {
		a.printf("  last handshake %d s ago (a new one after %d s, nothing is carried after %d s); %d in all", *w.HandshakeAgeS, w.RekeyAfterS, w.RejectAfterS, w.Handshakes)
	}
	if n := w.Unanswered + w.Refused; n > 0 {
		a.printf("  %d handshakes of ours not answered, %d messages of handshakes refused", w.Unanswered, w.Refused)
	}
	if w.Why != "" {
		a.printf("  not up: %s", w.Why)
	}
}

func bfd(t control.Tunnel) cell {
	if t.BFD == nil {
		return c("")
	}
	return state(t.BFD.State, t.BFD.State == "up")
}

func rtt(t control.Tunnel) string {
	if t.RTTMicros == nil {
		return ""
	}
	return fmt.Sprintf("%.2f ms", float64(*t.RTTMicros)/1000)
}

func loss(t control.Tunnel) string {
	if t.Loss == nil {
		return ""
	}
	return fmt.Sprintf("%.1f %%", *t.Loss*100)
}

func dropSum(t control.Tunnel) (sum uint64) {
	for _, n := range t.Drops {
		sum += n
	}
	return sum
}
