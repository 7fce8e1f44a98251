package main

import (
	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) routesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "routes", Short: "The routes that transitd keeps in the kernel, and what it refused", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			r, err := client.Routes(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(r, func() { a.printRoutes(r) })
		},
	}
}

func (a *app) printRoutes(r control.Routes) {
	rows := make([][]cell, len(r.Routes))
	for i, k := range r.Routes {
		rows[i] = []cell{c(k.Table), c(k.Prefix), c(k.Type), c(k.Device), c(k.Gateway), c(k.Source), c(k.Neighbor)}
	}
	a.table([]string{"TABLE", "PREFIX", "TYPE", "DEVICE", "GATEWAY", "SOURCE", "NEIGHBOUR"}, rows)
	if len(r.Refused) == 0 {
		return
	}
	a.printf("")
	rows = make([][]cell, len(r.Refused))
	for i, k := range r.Refused {
		rows[i] = []cell{{k.Prefix, bad}, c(k.Rule), c(k.Reason)}
	}
	a.table([]string{"REFUSED", "RULE", "REASON"}, rows)
}

func (a *app) explainCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "explain PREFIX|ADDRESS", Short: "Why packets to a destination go where they go",
		ValidArgsFunction: a.complete(1, prefixes),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{msg: "explain takes one prefix or address", hint: "transitctl explain 172.16.0.0/16"}
			}
			if _, err := control.ParseTarget(args[0]); err != nil {
				return &usageError{msg: err.Error(), hint: "write 172.16.0.0/16 or 172.16.1.10"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			e, err := client.Explain(cmd.Context(), args[0], from)
			if err != nil {
				return err
			}
			return a.show(e, func() { a.printExplanation(e) })
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "only packets from there: a site, a tunnel or a Route Server")
	completeFlag(cmd, "from", a.complete(0, tunnels, sides))
	return cmd
}

func (a *app) printExplanation(e control.Explanation) {
	for _, line := range e.Story {
		a.printf("%s", line)
	}
	if len(e.Received) > 0 {
		a.printf("")
		a.printBGPRoutes(control.DirectionReceived, e.Received)
	}
	if len(e.Announced) > 0 {
		a.printf("")
		a.printBGPRoutes(control.DirectionAnnounced, e.Announced)
	}
	if len(e.Lookups) == 0 {
		return
	}
	a.printf("")
	lookups := e.Lookups
	rows := make([][]cell, 0, len(lookups)+len(e.Outer))
	for _, l := range lookups {
		rows = append(rows, lookupRow(l))
	}
	for _, o := range e.Outer {
		l := o.Lookup
		l.From = "outer packet of " + o.Tunnel
		rows = append(rows, lookupRow(l))
	}
	a.table([]string{"PACKET FROM", "RESULT", "TABLE", "PREFIX", "DEVICE", "GATEWAY", "SOURCE", "ERROR"}, rows)
}

func lookupRow(l control.Lookup) []cell {
	return []cell{c(l.From), c(l.Result), c(l.Table), c(l.Prefix), c(l.Device), c(l.Gateway), c(l.Source), c(l.Error)}
}
