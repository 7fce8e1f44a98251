// Command transitlab is Azure in network namespaces on one Linux machine:
// fabric, Route Servers, ExpressRoute edges, AVS, on-prem, and both NVAs
// running the real transitd. See docs/lab.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/lab"
)

// Exit codes: 0 good, 1 the lab is not as it should be or the command failed, 2 usage, 3 no such lab.
const (
	exitFailed = 1
	exitUsage  = 2
	exitNotUp  = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	unix.Umask(0o022) // the edge daemons of FRR are another user's and read what the lab writes; secrets have a mode of their own
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var coded *exitError
	if errors.As(err, &coded) && coded.err == nil {
		return coded.code
	}
	fmt.Fprintf(os.Stderr, "transitlab: error: %v\n", err)
	switch {
	case coded != nil:
		return coded.code
	case errors.Is(err, lab.ErrNotUp):
		return exitNotUp
	}
	return exitFailed
}

// exitError carries an exit code; without a cause nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "transitlab",
		Short:         "Azure's two-VNet transit in network namespaces on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Without arguments: the help, not an error.
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().String("name", lab.DefaultName, "name of the lab; labs with different names coexist")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.AddCommand(newUp(), newDown(), newStatus(), newExec(), newDemo(), newNode())
	root.AddCommand(newControls()...)
	for _, c := range root.Commands() {
		usage(c)
	}
	return root
}

// usage makes a wrong number of arguments exit 2.
func usage(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.NoArgs
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &exitError{exitUsage, err}
		}
		return nil
	}
}

// open finds the lab that --name says; everything but --help needs root.
func open(cmd *cobra.Command) (*lab.Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("transitlab makes network namespaces and needs root")
	}
	name, err := cmd.Flags().GetString("name")
	if err != nil {
		return nil, err
	}
	l, err := lab.Open(name)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return l, nil
}
