package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) pmtuCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pmtu [TUNNEL]", Short: "Measure how long packets may be on a tunnel's path, in both directions",
		Long: "The daemon probes the path now, for a few seconds, and says for each direction what gets through, who limits it\n" +
			"and what to do. The tunnel may be left out if there is only one. Exit status 0 if both directions carry the\n" +
			"configured MTU, 1 if not.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{msg: "pmtu takes one tunnel", hint: "transitctl pmtu tr0"}
			}
			return nil
		},
		ValidArgsFunction: a.complete(1, tunnels),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			p, err := client.MeasurePath(cmd.Context(), first(args), a.note)
			if err != nil {
				return err
			}
			if err := a.show(p, func() { a.printPMTU(p) }); err != nil {
				return err
			}
			return exitFor(p.OK)
		},
	}
}

// first is the first argument, or nothing.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// note tells a person how it goes on.
func (a *app) note(text string) { fmt.Fprintf(a.stderr, "%s\n", text) }

func (a *app) printPMTU(p control.PMTU) {
	rtt := ""
	if p.RTTMicros > 0 {
		rtt = fmt.Sprintf(", round trip %s", time.Duration(p.RTTMicros)*time.Microsecond)
	}
	a.printf("tunnel %s to %s: %s, %d bytes of outer headers, mtu %d configured%s", p.Tunnel, p.Peer, p.Encapsulation, p.Overhead, p.Configured, rtt)
	a.printf("")
	rows := make([][]cell, len(p.Directions))
	for i, d := range p.Directions {
		inUse := c("?")
		if d.InUse > 0 {
			inUse = c(d.InUse)
		}
		rows[i] = []cell{c(d.Direction), state(fmt.Sprint(d.Inner), d.Inner >= p.Configured), c(d.Outer), inUse, c(d.LimitedBy)}
	}
	a.table([]string{"DIRECTION", "INNER", "OUTER", "IN USE", "LIMITED BY"}, rows)
	a.printf("")
	a.printf("TCP gets segments of %d bytes (IPv4), %d (IPv6).", p.MSS.IPv4, p.MSS.IPv6)
	for _, line := range p.Advice {
		a.printf("%s", line)
	}
}
