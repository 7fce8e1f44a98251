package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/transitd/transitd/pkg/lab"
)

// addOptions adds the flags that say what is built.
func addOptions(c *cobra.Command, o *lab.Options) {
	c.Flags().StringVar((*string)(&o.Encapsulation), "encapsulation", string(lab.VXLAN), "between the NVAs: none, vxlan, wireguard or ipsec")
	c.Flags().StringVar((*string)(&o.Edge), "edge", string(lab.Embedded), "AVS' and the customer's router: gobgp (embedded, needs nothing), bird, frr")
	c.Flags().StringVar(&o.Transitd, "transitd", "", "the daemon's binary (default: beside transitlab, then PATH)")
	c.Flags().DurationVar(&o.SDNDelay, "sdn-delay", lab.DefaultSDNDelay, "from a Route Server's change to programmed NICs; 24 to 39 s in Azure")
}

func newUp() *cobra.Command {
	var o lab.Options
	var wait time.Duration
	var more string
	c := &cobra.Command{
		Use:   "up",
		Short: "build the lab and wait until its sessions and routes are there",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if more != "" {
				text, err := os.ReadFile(more)
				if err != nil {
					return fmt.Errorf("read what is appended to the NVAs' configuration: %w", err)
				}
				o.NVAConfig = string(text)
			}
			if err := o.Check(); err != nil {
				return &exitError{exitUsage, err}
			}
			l, err := open(cmd)
			if err != nil {
				return err
			}
			if err := l.Up(cmd.Context(), o, wait, terminal(os.Stderr)); err != nil {
				return fmt.Errorf("%w\ntransitlab: hint: transitlab down --name %s removes what is there", err, cmd.Flag("name").Value)
			}
			return nil
		},
	}
	addOptions(c, &o)
	c.Flags().StringVar((*string)(&o.Scenario), "scenario", string(lab.AVSTransit), "avs-transit (two VNets) or default-route (one)")
	c.Flags().BoolVar(&o.FilterDefault, "filter-default", false, "on-prem refuses a default route from Azure")
	c.Flags().IntVar(&o.NVAs, "nvas", 1, "NVAs on each side, 1 to 3")
	c.Flags().StringVar((*string)(&o.HA), "ha", string(lab.ActiveStandby), "several NVAs: active-standby or ecmp")
	c.Flags().IntVar(&o.Cap, "cap", 0, "routes that a Route Server takes of an NVA, counted as Azure does (default 4000)")
	c.Flags().DurationVar(&o.Burst, "burst", 0, "pause that ends a burst of updates for the cap (default 1s); negative: each update is one")
	c.Flags().StringVar(&more, "nva-config", "", "a file that is appended to every NVA's configuration")
	c.Flags().DurationVar(&wait, "timeout", time.Minute, "how long to wait for sessions and routes")
	return c
}

func newDown() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "remove the lab, whatever state it is in",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := open(cmd)
			if err != nil {
				return err
			}
			return l.Down()
		},
	}
}

func newStatus() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "status",
		Short: "nodes, processes, sessions and what the fabric counted; exit 0 if all is well",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := open(cmd)
			if err != nil {
				return err
			}
			st, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := output(os.Stdout, format, st, printStatus(st)); err != nil {
				return err
			}
			if !st.OK {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	addOutput(c, &format)
	return c
}

func newExec() *cobra.Command {
	c := &cobra.Command{
		Use:   "exec NODE -- CMD [ARG…]",
		Short: "run a command inside a node; transitctl, birdc and vtysh find the node's daemon",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open(cmd)
			if err != nil {
				return err
			}
			argv := args[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			return l.Exec(args[0], argv, os.Environ())
		},
	}
	c.Flags().SetInterspersed(false) // flags after NODE are the command's, "--" or not
	return c
}

func newDemo() *cobra.Command {
	var o lab.Options
	var format string
	c := &cobra.Command{
		Use:   "demo",
		Short: "show the loop, and how transitd solves it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return &exitError{exitUsage, err}
			}
			l, err := open(cmd)
			if err != nil {
				return err
			}
			return demo(cmd.Context(), l, o, format)
		},
	}
	addOptions(c, &o)
	addOutput(c, &format)
	return c
}

func demo(ctx context.Context, l *lab.Lab, o lab.Options, format string) error {
	// "demo | head": the reader leaves, but the lab is taken down all the same.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	if format == "json" {
		r, err := l.Demo(ctx, o, lab.Silent{})
		if err != nil {
			return err
		}
		return errors.Join(output(os.Stdout, format, r, nil), failed(r))
	}
	if format != "table" {
		return unknownFormat(format)
	}
	t := terminal(os.Stdout)
	r, err := l.Demo(ctx, o, t)
	if err != nil {
		return err
	}
	t.Table(r)
	return failed(r)
}

func failed(r lab.Report) error {
	if r.OK {
		return nil
	}
	return &exitError{code: exitFailed}
}

// terminal shows progress on a file; NO_COLOR (no-color.org) and a pipe get plain text.
func terminal(f *os.File) *lab.Terminal {
	tty := term.IsTerminal(int(f.Fd()))
	return lab.NewTerminal(f, tty && os.Getenv("NO_COLOR") == "", tty)
}

func addOutput(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "output", "o", "table", "table or json")
}

func unknownFormat(format string) error {
	return &exitError{exitUsage, fmt.Errorf("output format %q is unknown: table or json", format)}
}

// output writes v as JSON, or the table that print makes.
func output(w io.Writer, format string, v any, print func(io.Writer) error) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "table":
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		if err := print(tw); err != nil {
			return err
		}
		return tw.Flush()
	default:
		return unknownFormat(format)
	}
}
