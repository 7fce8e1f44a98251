package main

import (
	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) loopsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "loops", Short: "Packets that entered a tunnel again and again, and the route that led them there", Args: noArgs,
		Long: "The daemon remembers a fingerprint of one packet in sixteen. A packet that comes a third time, each time with a lower\n" +
			"TTL, goes round: the tunnel is part of a loop. Exit status 0 if there is none now, 1 if there is.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			now := false
			for _, t := range s.Loops.Tunnels {
				now = now || t.Now
			}
			if err := a.show(control.LoopReport{Version: control.V1(), Loops: s.Loops}, func() { a.printLoops(s.Loops) }); err != nil {
				return err
			}
			return exitFor(!now)
		},
	}
}

func (a *app) printLoops(l control.Loops) {
	if len(l.Tunnels) == 0 {
		a.printf("no packet has gone round")
		return
	}
	rows := make([][]cell, len(l.Tunnels))
	for i, t := range l.Tunnels {
		when := state("before", true)
		if t.Now {
			when = state("now", false)
		}
		rows[i] = []cell{c(t.Tunnel), c(t.Detected), when, c(t.Source), c(t.Destination), c(t.Route), c(t.Neighbor)}
	}
	a.table([]string{"TUNNEL", "PACKETS", "WHEN", "LAST FROM", "TO", "BY ROUTE", "OF"}, rows)
}
