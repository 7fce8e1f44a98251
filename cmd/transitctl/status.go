package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) statusCommand() *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use: "status", Short: "One screen about the node; exit 0 if it is healthy", Args: noArgs,
		Long: "Shows what works and what does not, and for each warning the command that tells more. With --watch the screen is\n" +
			"drawn again every second until it is interrupted, also while the daemon is away; with -o json that is one object a line.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if live {
				return a.watchStatus(cmd.Context(), time.Second)
			}
			return a.runStatus(cmd, args)
		},
	}
	cmd.Flags().BoolVarP(&live, "watch", "w", false, "draw it again every second")
	return cmd
}

// watchStatus shows the status again and again until ctx ends. A daemon that is
// away is waited for: it may be restarting.
func (a *app) watchStatus(ctx context.Context, every time.Duration) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		s, err := client.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := a.showLive(s, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// showLive draws one screen over the one before.
func (a *app) showLive(s control.Status, err error) error {
	if a.output == "json" {
		if err != nil {
			a.errorf("%v", err)
			return nil
		}
		if err := json.NewEncoder(a.stdout).Encode(s); err != nil {
			return fmt.Errorf("print the status: %w", err)
		}
		return nil
	}
	var screen bytes.Buffer
	b := *a
	b.stdout = &screen
	b.printf("%s  (Ctrl-C ends)\n", time.Now().Format(time.DateTime))
	if err != nil {
		b.printf("%s %v; trying again", b.paint(bad, "error:"), err)
	} else {
		b.printStatus(s)
	}
	if !a.terminal {
		_, err = fmt.Fprintln(a.stdout, screen.String())
		return err
	}
	// Home, then each line with what was right of it erased, then what was below: no flicker.
	text := strings.ReplaceAll(strings.TrimRight(screen.String(), "\n"), "\n", "\x1b[K\n")
	_, err = fmt.Fprint(a.stdout, "\x1b[H", text, "\x1b[K\x1b[J")
	return err
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
		if i := slices.IndexFunc(s.Advice, func(x control.Advice) bool { return x.Warning == w }); i >= 0 {
			a.printf("  %s %s", a.paint(header, "more:"), s.Advice[i].Run)
		}
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
		Use: "tunnel [TUNNEL]", Aliases: []string{"tunnels"}, Short: "The tunnels with their counters; exit 0 if all are up",
		Long:              "The tunnels with their counters, keys and SAs, or only TUNNEL. The exit status is about what is shown: 0 if all of it is up.",
		Args:              oneTunnel("tunnel"),
		ValidArgsFunction: a.complete(1, tunnels),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			t, err := client.Tunnels(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				if t.Tunnels, err = onlyTunnel(t.Tunnels, args[0]); err != nil {
					return err
				}
			}
			if err := a.show(t, func() { a.printTunnelDetails(t.Tunnels) }); err != nil {
				return err
			}
			return exitFor(!slices.ContainsFunc(t.Tunnels, func(t control.Tunnel) bool { return t.State != control.TunnelUp }))
		},
	}
}

// onlyTunnel is the tunnel with a name; that there is none is said as the daemon says it.
func onlyTunnel(all []control.Tunnel, name string) ([]control.Tunnel, error) {
	names := make([]string, len(all))
	for i, t := range all {
		if t.Name == name {
			return all[i : i+1], nil
		}
		names[i] = t.Name
	}
	e := &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("there is no tunnel %q; there are: %s", name, strings.Join(names, ", "))}
	if len(all) == 0 {
		e.Message = "this node has no tunnel"
	}
	return nil, e
}

func (a *app) printTunnels(tunnels []control.Tunnel) {
	rows := make([][]cell, len(tunnels))
	for i, t := range tunnels {
		rows[i] = []cell{
			c(t.Name), state(t.State, t.State == control.TunnelUp), c(t.Encapsulation), c(t.Remote), c(t.MTU), bfd(t),
			c(rtt(t)), c(loss(t)), c(size(t.TXBytes)), c(size(t.RXBytes)), c(dropSum(t)),
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
		if t.IPsec != nil {
			a.printIPsec(t.IPsec)
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
