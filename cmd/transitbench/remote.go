package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/bench"
)

func serveCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "serve", Short: "the far end of client, on another machine", Args: noArgs,
		Long: `Receive what "transitbench client" sends from another machine: TCP and UDP on one port. It asks nobody who they are and
only receives; stop it (Ctrl-C) when you have measured.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.Serve(cmd.Context(), listen, newProgress(cmd.ErrOrStderr()).say)
		},
	}
	c.Flags().StringVar(&listen, "listen", ":"+strconv.Itoa(bench.RemotePort), "address and port, TCP and UDP; IPv4")
	return c
}

func clientCommand() *cobra.Command {
	var output, report string
	o := bench.RemoteOptions{}
	c := &cobra.Command{
		Use: "client SERVER[:PORT]", Short: "measure the way to another machine",
		Long: `Measure the way to a machine where "transitbench serve" runs, through whatever route there is: with the server's address inside
a tunnel, the tunnel. Results have the profile "network". Tests: tcp (1 and 8 flows, no iperf3 needed) and pps (64 bytes).`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkClient(&o, args[0], output); err != nil {
				return usageError{err}
			}
			p := newProgress(cmd.ErrOrStderr())
			o.Progress = p.step
			r, err := bench.Client(cmd.Context(), o)
			p.end()
			if err != nil {
				return err
			}
			return deliver(cmd.OutOrStdout(), r, output, report)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Subject, "subject", "network", "what the results are called")
	f.StringSliceVar(&o.Tests, "tests", bench.RemoteTests(), "measurements")
	f.DurationVar(&o.Duration, "duration", 2*time.Second, "of one measurement, at most 1m")
	f.IntVar(&o.Rounds, "rounds", 5, "how often each is measured")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	f.StringVar(&report, "report", "", "write an HTML report to this file")
	return c
}

func checkClient(o *bench.RemoteOptions, server, output string) error {
	if output != "table" && output != "json" {
		return fmt.Errorf("--output %q: it is table or json", output)
	}
	if o.Rounds < 1 || o.Duration < 200*time.Millisecond || o.Duration > time.Minute {
		return fmt.Errorf("%d rounds of %s: at least 1 of 200ms to 1m", o.Rounds, o.Duration)
	}
	for _, t := range o.Tests {
		if !slices.Contains(bench.RemoteTests(), t) {
			return fmt.Errorf("there is no test %q between machines (there are %s)", t, strings.Join(bench.RemoteTests(), ", "))
		}
	}
	if len(o.Tests) == 0 || o.Subject == "" {
		return errors.New("nothing to measure: name at least one test, and the subject")
	}
	o.Server = server
	if _, _, err := net.SplitHostPort(server); err != nil {
		o.Server = net.JoinHostPort(server, strconv.Itoa(bench.RemotePort))
	}
	return nil
}

// noArgs is cobra.NoArgs as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}
