// Command transitd is the daemon of an NVA: tunnels, BGP and routes.
//
//	transitd run -c FILE       run until SIGTERM; SIGHUP reads the file again
//	transitd check -c FILE     say everything that is wrong with the file
//	transitd schema            print the file's JSON Schema
//	transitd version
//
// The exit status is 0 if all is well, 1 if the file is not valid or the daemon
// could not go on, 2 if the command line is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/daemon"
	"github.com/transitd/transitd/pkg/version"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// usageError is a wrong command line.
type usageError struct{ error }

// run executes a command line and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	root := command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	if list := config.AsErrors(err); list != nil {
		fmt.Fprintln(stderr, list) // file:line:column first, so that editors can jump
		return exitFailed
	}
	if errors.Is(err, errInvalid) {
		return exitFailed // said as JSON
	}
	fmt.Fprintf(stderr, "transitd: error: %v\n", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintln(stderr, "transitd: hint: transitd --help")
		return exitUsage
	}
	return exitFailed
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "transitd", Short: "Tunnels, BGP and routes of a network virtual appliance",
		SilenceErrors: true, SilenceUsage: true,
		Version: version.Get().String(),
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{errors.New("a command is missing: run, check, schema or version")}
		},
	}
	root.SetVersionTemplate("transitd {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(runCommand(), checkCommand(), schemaCommand(), versionCommand())
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return &usageError{fmt.Errorf("unknown command %q", args[0])}
	}
	return &usageError{fmt.Errorf("%s takes no argument, not %q", cmd.CommandPath(), args[0])}
}

// fileFlag adds -c FILE to a command.
func fileFlag(cmd *cobra.Command) *string {
	file := cmd.Flags().StringP("config", "c", "", "the configuration `FILE`")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *file == "" {
			return &usageError{errors.New("which configuration? use -c FILE")}
		}
		return nil
	}
	return file
}

func runCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "run -c FILE", Short: "Run until SIGTERM; SIGHUP reads the file again", Args: noArgs}
	file := fileFlag(cmd)
	keyLogs := cmd.Flags().String("keylog", "", "write the secrets of all tunnels to files in `DIR`, for tshark: whoever has them can read the traffic")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*file)
		if err != nil {
			return err
		}
		log, level, err := newLogger(cfg.Log, os.Stderr)
		if err != nil {
			return err
		}
		defer func() { _ = log.Sync() }() // a terminal cannot be synced and says so

		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		// A second SIGTERM ends the process without cleaning up.
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		context.AfterFunc(ctx, stop)

		// The packet loops keep their Ps while they wait in the kernel (tunnel/pump); BGP and the API need some too.
		runtime.GOMAXPROCS(2 * runtime.NumCPU())
		d, err := daemon.New(cfg, daemon.Options{File: *file, Log: log, Level: &level, Hangup: hangup, DropPrivileges: true, KeyLogs: *keyLogs})
		if err != nil {
			return err
		}
		return d.Run(ctx)
	}
	return cmd
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the configuration's JSON Schema", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(s)
			return err
		},
	}
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print which build this is", Args: noArgs}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), struct {
				SchemaVersion int `json:"schema_version"`
				version.Info
			}{1, version.Get()})
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "transitd %s\n", version.Get())
		return err
	}
	return cmd
}
