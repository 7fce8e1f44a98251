// Command transitctl asks a running transitd, over its control socket.
//
// Data goes to standard output, everything else to standard error. The exit
// status is 0 if the answer is a healthy one, 1 if something is degraded or the
// daemon refused, 2 if the command line is wrong, 3 if no daemon answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/version"
)

// Exit statuses (design 8).
const (
	exitOK          = 0
	exitDegraded    = 1
	exitUsage       = 2
	exitUnreachable = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := newApp("/run/transitd").run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// app is one run of the program.
type app struct {
	stdout, stderr io.Writer
	env            func(string) string
	socketDir      string // where the daemons' sockets are
	colour         bool   // standard output is a terminal that wants colour
	terminal       bool   // standard output is a terminal that can be drawn on
	root           string // in front of the paths that doctor reads and writes below /etc; empty but for tests

	socket  string
	output  string
	timeout time.Duration
}

// newApp makes an app for the process' own terminal and environment.
func newApp(socketDir string) *app {
	terminal := os.Getenv("TERM") != "dumb" && term.IsTerminal(int(os.Stdout.Fd()))
	return &app{
		stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, socketDir: socketDir, terminal: terminal,
		// https://no-color.org: set and not empty means no colour.
		colour: os.Getenv("NO_COLOR") == "" && terminal,
	}
}

// degradedError ends the program with status 1 after its data was printed.
type degradedError struct{}

func (degradedError) Error() string { return "degraded" }

// usageError is a wrong command line.
type usageError struct {
	msg, hint string
}

func (e *usageError) Error() string { return e.msg }

// run executes the command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && !errors.Is(err, degradedError{}):
		a.errorf("interrupted")
		return exitDegraded
	}
	return a.report(err)
}

// command builds the tree of commands.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "transitctl",
		Short:         "Ask a running transitd",
		Version:       version.Get().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		// How many letters may differ for "did you mean"; cobra applies its default only to its own message.
		SuggestionsMinimumDistance: 2,
		Args:                       noArgs,
		RunE:                       a.runStatus,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return &usageError{msg: fmt.Sprintf("unknown output %q", a.output), hint: "use -o table or -o json"}
			}
			if a.timeout < 0 {
				return &usageError{msg: fmt.Sprintf("--timeout %s is negative", a.timeout)}
			}
			return nil
		},
	}
	root.SetVersionTemplate("transitctl {{.Version}}\n")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "output: table or json")
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "the daemon's control socket (default $TRANSITD_SOCKET, or the only one in /run/transitd)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{msg: err.Error()} })
	root.PersistentFlags().DurationVar(&a.timeout, "timeout", 0, "how long to wait for the daemon's answer (default 10s, or 70s for what changes something)")
	completeFlag(root, "output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.CompletionOptions.DisableDefaultCmd = true // ours has other words, and no PowerShell
	for _, e := range a.entries() {
		root.AddCommand(e.assemble())
	}
	return root
}

// noArgs refuses arguments; on a command with sub-commands that is an unknown command.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := &usageError{msg: fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())}
	if !cmd.HasSubCommands() {
		e.msg = fmt.Sprintf("%s takes no argument, not %q", cmd.CommandPath(), args[0])
	} else if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		e.hint = "did you mean " + strings.Join(s, " or ") + "?"
	}
	return e
}

// report tells what went wrong on standard error and returns the exit status.
func (a *app) report(err error) int {
	if errors.Is(err, degradedError{}) {
		return exitDegraded
	}
	if e, ok := errors.AsType[*usageError](err); ok {
		a.errorf("%s", e.msg)
		if e.hint != "" {
			a.hintf("%s", e.hint)
		} else {
			a.hintf("transitctl --help")
		}
		return exitUsage
	}
	if e, ok := errors.AsType[*control.UnreachableError](err); ok {
		a.errorf("%v", e)
		switch {
		case errors.Is(err, os.ErrPermission):
			a.hintf("the socket is for root and its group; use sudo")
		case errors.Is(err, control.ErrSilent):
			a.hintf("somebody took the connection: journalctl -u 'transitd@*' -e; transitctl bugreport; or wait longer with --timeout")
		default:
			a.hintf("is it running? systemctl status 'transitd@*'; journalctl -u 'transitd@*' -e")
		}
		return exitUnreachable
	}
	if e, ok := errors.AsType[*control.VersionError](err); ok {
		a.errorf("%v", e)
		a.hintf("this is transitctl %s; transitd and transitctl are upgraded together", version.Get().Version)
		return exitDegraded
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		return a.reportRefusal(e)
	}
	a.errorf("%v", err)
	return exitDegraded
}

// reportRefusal prints the daemon's own error; as JSON on standard output too, if that was asked for.
func (a *app) reportRefusal(e *control.Error) int {
	if a.output == "json" {
		_ = a.json(control.Failure{Version: control.V1(), Error: control.ErrorBody{Code: e.Code, Message: e.Message, Config: e.Config}})
	}
	a.errorf("%s", e.Message)
	for _, c := range e.Config {
		where := c.File
		if c.Line > 0 {
			where = fmt.Sprintf("%s:%d:%d", c.File, c.Line, c.Column)
		}
		if c.Path != "" {
			where += ": " + c.Path
		}
		fmt.Fprintf(a.stderr, "%s: %s\n", where, c.Message)
		if c.Hint != "" {
			fmt.Fprintf(a.stderr, "  hint: %s\n", c.Hint)
		}
	}
	switch e.Code {
	case control.CodeBadRequest, control.CodeNotFound:
		return exitUsage
	}
	return exitDegraded
}

// errorf and hintf are the program's voice for what is not data.
func (a *app) errorf(format string, args ...any) {
	fmt.Fprintf(a.stderr, "transitctl: error: "+format+"\n", args...)
}

func (a *app) hintf(format string, args ...any) {
	fmt.Fprintf(a.stderr, "transitctl: hint: "+format+"\n", args...)
}
