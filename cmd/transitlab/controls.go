package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/transitd/transitd/pkg/lab"
	"github.com/transitd/transitd/pkg/lab/fabric"
)

// newControls are the commands that change or look at a running lab.
func newControls() []*cobra.Command {
	var kill bool
	restart := simple("restart NODE", "end a node's program and start it again", 1, func(cmd *cobra.Command, l *lab.Lab, args []string) error {
		return l.Restart(cmd.Context(), args[0], kill)
	})
	restart.Flags().BoolVar(&kill, "kill", false, "end it with SIGKILL")
	return []*cobra.Command{
		restart,
		simple("stop NODE", "end a node's program; the node stays", 1, func(_ *cobra.Command, l *lab.Lab, args []string) error { return l.Stop(args[0]) }),
		simple("kill NODE", "end a node's program with SIGKILL", 1, func(_ *cobra.Command, l *lab.Lab, args []string) error { return l.Kill(args[0]) }),
		simple("start NODE", "start a node's program again", 1, func(cmd *cobra.Command, l *lab.Lab, args []string) error {
			return l.Start(cmd.Context(), args[0])
		}),
		simple("refresh ROUTE-SERVER", "a change of VNet peerings: ROUTE-REFRESH to all NVAs (hub-ars, or one instance: hub-ars-0)", 1,
			func(cmd *cobra.Command, l *lab.Lab, args []string) error { return l.Refresh(cmd.Context(), args[0]) }),
		newCut(), newMaintenance(), newAnnounce("announce", false), newAnnounce("withdraw", true), newFlap(), newStream(),
		newHeal(), newRoutes(), newEffective(),
	}
}

func simple(use, short string, args int, f func(*cobra.Command, *lab.Lab, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args), RunE: func(cmd *cobra.Command, args []string) error {
		l, err := open(cmd)
		if err != nil {
			return err
		}
		return f(cmd, l, args)
	}}
}

func newRoutes() *cobra.Command {
	var format string
	c := simple("routes NODE", "what a router of the lab learned by BGP, as its own program says", 1, func(cmd *cobra.Command, l *lab.Lab, args []string) error {
		known, err := l.Known(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return output(os.Stdout, format, map[string]any{"schema_version": 1, "routes": known}, func(w io.Writer) error {
			for _, r := range known {
				if _, err := fmt.Fprintf(w, "%s\t%s\t%s\n", r.Prefix, r.ASPath, r.From); err != nil {
					return err
				}
			}
			return nil
		})
	})
	addOutput(c, &format)
	return c
}

func newEffective() *cobra.Command {
	var format string
	c := simple("effective NIC", "effective routes of a NIC, as az network nic show-effective-route-table shows them", 1, func(cmd *cobra.Command, l *lab.Lab, args []string) error {
		routes, err := l.Effective(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return output(os.Stdout, format, map[string]any{"schema_version": 1, "routes": routes}, printEffective(routes))
	})
	addOutput(c, &format)
	return c
}

func printEffective(routes []fabric.Route) func(io.Writer) error {
	return func(w io.Writer) error {
		if _, err := fmt.Fprintln(w, "Source\tState\tAddress Prefix\tNext Hop Type\tNext Hop IP\t"); err != nil {
			return err
		}
		for _, r := range routes {
			state := "Active"
			if !r.Active {
				state = "Invalid"
			}
			var hops []string
			for _, h := range r.NextHops {
				hops = append(hops, h.String())
			}
			if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Source, state, r.Prefix, r.Type, strings.Join(hops, " "), r.Reason); err != nil {
				return err
			}
		}
		return nil
	}
}

func printStatus(st lab.Status) func(io.Writer) error {
	return func(w io.Writer) error {
		var b strings.Builder
		fmt.Fprintf(&b, "lab %s: %s, encapsulation %s, edges %s\n\nNODE\tPROGRAM\tPID\tSTATE\tSESSIONS\t\n", st.Name, st.Scenario, st.Encapsulation, st.Edge)
		for _, n := range st.Nodes {
			state := "ok"
			if !n.OK {
				state = "not ok"
			}
			var sessions []string
			for _, s := range n.Sessions {
				sessions = append(sessions, fmt.Sprintf("%s %s (in %d, out %d)", s.Peer, s.State, s.Received, s.Announced))
			}
			fmt.Fprintf(&b, "%s\t%s\t%d\t%s\t%s\t%s\n", n.Name, n.Program, n.PID, state, strings.Join(sessions, ", "), n.Note)
		}
		b.WriteString("\nthe fabric counted packets: ")
		for _, name := range slices.Sorted(maps.Keys(st.Counters)) {
			if v := st.Counters[name]; v > 0 {
				fmt.Fprintf(&b, " %s %d", name, v)
			}
		}
		_, err := fmt.Fprintln(w, b.String())
		return err
	}
}

// newNode is what the lab starts inside a node's namespace; nobody else calls it.
func newNode() *cobra.Command {
	var config string
	c := &cobra.Command{Use: "node KIND", Hidden: true, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		cfg := zap.NewProductionConfig()
		cfg.Level.SetLevel(zap.InfoLevel)
		log, err := cfg.Build()
		if err != nil {
			return err
		}
		defer log.Sync() //nolint:errcheck // standard error has no buffer
		return lab.RunNode(cmd.Context(), lab.Kind(args[0]), config, log)
	}}
	c.Flags().StringVar(&config, "config", "", "the node's configuration, written by the lab")
	return c
}
