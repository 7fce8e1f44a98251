// Command transitbench measures tunnels side by side: the bare wire, the
// kernel's VXLAN, wireguard-go, strongSwan and transitd (docs/performance.md).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/version"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1 // something that should have worked did not
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	// The generator's threads hold their processors while they wait in the kernel (package load).
	runtime.GOMAXPROCS(runtime.NumCPU() + 6)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use: "transitbench", Short: "tunnels side by side on this machine, or between two",
		Version: version.Get().Version, SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(runCommand(), compareCommand(), serveCommand(), clientCommand())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "transitbench: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "transitbench: error:", err)
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

// beside is a program in the folder of this one.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}
