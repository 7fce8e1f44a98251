package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) bgpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "bgp", Short: "BGP sessions and routes", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{msg: "bgp needs a command", hint: "transitctl bgp summary, or transitctl bgp routes"}
		},
	}
}

func (a *app) bgpSummaryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "summary", Short: "The BGP sessions; exit 0 if all are established", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Sessions(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.show(s, func() { a.printSessions(s.BGP) }); err != nil {
				return err
			}
			return exitFor(!slices.ContainsFunc(s.BGP, func(s control.Session) bool { return !established(s) }))
		},
	}
}

func established(s control.Session) bool { return s.State == control.SessionEstablished }

func (a *app) printSessions(sessions []control.Session) {
	rows := make([][]cell, len(sessions))
	for i, s := range sessions {
		uptime := ""
		if established(s) {
			uptime = duration(s.UptimeS)
		}
		rows[i] = []cell{
			c(s.Peer), c(s.Name), c(s.Role), c(s.ASN), state(s.State, established(s)),
			c(s.Received), c(s.Announced), c(uptime), c(s.LastError),
		}
	}
	a.table([]string{"PEER", "NAME", "ROLE", "ASN", "STATE", "RECEIVED", "ANNOUNCED", "UPTIME", "LAST ERROR"}, rows)
}

func (a *app) bgpRoutesCommand() *cobra.Command {
	var received, announced bool
	cmd := &cobra.Command{
		Use:   "routes [--received|--announced] [PEER]",
		Short: "The routes that neighbours told us, or that we tell them, with the policy's verdict",
		Long: "The routes that neighbours told us (--received, the default), or that we tell them (--announced),\n" +
			"with the policy's verdict. PEER is a neighbour's name or a session's address; without it all are shown.",
		ValidArgsFunction: a.complete(1, peers),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{msg: "bgp routes takes one PEER, not " + strings.Join(args, " ")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if received && announced {
				return &usageError{msg: "--received and --announced exclude each other"}
			}
			q := control.BGPRoutesQuery{Direction: control.DirectionReceived, Peer: strings.Join(args, "")}
			if announced {
				q.Direction = control.DirectionAnnounced
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			r, err := client.BGPRoutes(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.show(r, func() { a.printBGPRoutes(r.Direction, r.Routes) })
		},
	}
	cmd.Flags().BoolVar(&received, "received", false, "what neighbours told us")
	cmd.Flags().BoolVar(&announced, "announced", false, "what we tell neighbours")
	return cmd
}

func (a *app) printBGPRoutes(d control.Direction, routes []control.BGPRoute) {
	rows := make([][]cell, len(routes))
	for i, r := range routes {
		verdict := state("refused", false)
		switch {
		case r.Accepted && d == control.DirectionAnnounced:
			verdict = state("announced", true)
		case r.Best:
			verdict = state("best", true)
		case r.Accepted:
			verdict = c("accepted")
		}
		rows[i] = []cell{c(r.Prefix), c(r.Neighbor), c(r.Peer), verdict, c(path(r.ASPath)), c(r.NextHop), c(r.Rule), c(r.Reason)}
	}
	a.table([]string{"PREFIX", "NEIGHBOUR", "PEER", "VERDICT", "AS PATH", "NEXT HOP", "RULE", "REASON"}, rows)
}
