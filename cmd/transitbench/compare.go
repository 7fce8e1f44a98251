package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/bench"
)

func compareCommand() *cobra.Command {
	return &cobra.Command{
		Use: "compare A.json B.json", Short: "what changed from one run to another",
		Long: `Compare the JSON of two runs. A change is named better or WORSE if it is beyond the spread: if all rounds of B are
above, or all below, all rounds of A. Compare runs of one machine.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(2)(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := readReport(args[0])
			if err != nil {
				return err
			}
			b, err := readReport(args[1])
			if err != nil {
				return err
			}
			if a.Machine.CPU != b.Machine.CPU || a.Machine.Cores != b.Machine.Cores || a.Machine.Kernel != b.Machine.Kernel {
				fmt.Fprintf(cmd.ErrOrStderr(), "transitbench: not the same machine: %s, %d processors, Linux %s against %s, %d processors, Linux %s\n",
					a.Machine.CPU, a.Machine.Cores, a.Machine.Kernel, b.Machine.CPU, b.Machine.Cores, b.Machine.Kernel)
			}
			changes(cmd.OutOrStdout(), bench.Compare(a, b))
			return nil
		},
	}
}

func readReport(name string) (*bench.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	defer f.Close()
	r, err := bench.ReadReport(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func changes(w io.Writer, list []bench.Change) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROFILE\tTEST\tSUBJECT\tA\tB\tUNIT\tCHANGE\tBEYOND THE SPREAD")
	median := func(r *bench.Result) string {
		if r == nil {
			return "-"
		}
		return number(r.Median)
	}
	for _, c := range list {
		change := "-"
		if c.A != nil && c.B != nil {
			change = fmt.Sprintf("%+.1f %%", c.Percent())
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Profile, c.Test, c.Subject, median(c.A), median(c.B), c.Unit, change, c.Verdict())
	}
	_ = t.Flush() // to a terminal or a pipe: nobody is left to tell
}
