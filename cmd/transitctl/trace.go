package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) traceCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "trace ADDRESS", Short: "The way to an address: the kernel's decision, the underlay, and the hops inside the tunnel",
		Long: "Says what this node's kernel decides, then finds the hops of the underlay to the tunnel's other end, then the hops\n" +
			"inside the tunnel to the address, and names those that the node knows. Exit status 0 if the address answers, 1 if not.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{msg: "trace takes one address", hint: "transitctl trace 172.16.1.10"}
			}
			if addr, err := netip.ParseAddr(args[0]); err != nil || addr.Zone() != "" {
				return &usageError{msg: fmt.Sprintf("%q is no address", args[0]), hint: "write 172.16.1.10; names are not resolved"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			part := ""
			each := func(s control.TraceStep) {
				if a.output != "json" {
					part = a.printStep(part, s)
				}
			}
			t, err := client.Trace(cmd.Context(), control.TraceQuery{Target: args[0], From: from}, each)
			if err != nil {
				return err
			}
			if err := a.show(t, func() { a.printf(""); a.printf("%s", t.Verdict) }); err != nil {
				return err
			}
			return exitFor(t.Reached)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "packets from there: a site, a tunnel or a Route Server; or one of the node's own addresses as source")
	completeFlag(cmd, "from", a.complete(0, tunnels, sides))
	return cmd
}

// printStep prints a line, and before the first one of a part its heading.
func (a *app) printStep(part string, s control.TraceStep) string {
	if s.Part != part {
		heading := map[string]string{control.TraceKernel: "kernel", control.TraceOuter: "underlay", control.TraceInner: "inside"}[s.Part]
		if part != "" {
			a.printf("")
		}
		a.printf("%s", a.paint(header, heading))
	}
	if s.TTL == 0 {
		a.printf("  %s", s.Text)
		return s.Part
	}
	line := fmt.Sprintf("  %2d  *", s.TTL)
	if s.Address != "" {
		line = fmt.Sprintf("  %2d  %-15s  %8s", s.TTL, s.Address, (time.Duration(s.RTTMicros) * time.Microsecond).Round(10*time.Microsecond))
	}
	for _, more := range []string{s.Name, s.Text} {
		if more != "" {
			line += "  " + more
		}
	}
	a.printf("%s", line)
	return s.Part
}
