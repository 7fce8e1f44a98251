package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

// completionTimeout bounds what a TAB may cost, whatever the daemon does.
const completionTimeout = time.Second

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print the completion script of a shell",
		Long: "Prints a script that completes commands, flags and, from the running daemon, names of tunnels, neighbours and prefixes.\n\n" +
			"  bash   transitctl completion bash > /usr/share/bash-completion/completions/transitctl\n" +
			"  zsh    transitctl completion zsh > /usr/share/zsh/vendor-completions/_transitctl\n" +
			"  fish   transitctl completion fish > /usr/share/fish/vendor_completions.d/transitctl.fish\n\n" +
			"bash needs the package bash-completion. For the shell that runs: source <(transitctl completion bash), the same with zsh,\n" +
			"or transitctl completion fish | source.",
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return &usageError{msg: "completion takes one shell: " + strings.Join(shells, ", ")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			switch args[0] {
			case "bash":
				err = cmd.Root().GenBashCompletionV2(a.stdout, true)
			case "zsh":
				err = cmd.Root().GenZshCompletion(a.stdout)
			case "fish":
				err = cmd.Root().GenFishCompletion(a.stdout, true)
			}
			if err != nil {
				return fmt.Errorf("print the completion script: %w", err)
			}
			return nil
		},
	}
}

// A lister asks the daemon for names; what follows a tab is what the shell shows beside one.
type lister func(context.Context, *control.Client) ([]string, error)

// complete completes the first max arguments with what listers have; 0 is for
// the value of a flag. Without a daemon there are no names: nobody wants an
// error message in the middle of a command line.
func (a *app) complete(max int, lists ...lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if max > 0 && len(args) >= max {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		client, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		var names []string
		for _, list := range lists {
			more, err := list(ctx, client)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			names = append(names, more...)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, typed) })
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag completes a flag's value.
func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag is not there: a mistake in this program, which every test finds
	}
}

// tunnels are the names of the tunnels.
func tunnels(ctx context.Context, c *control.Client) (names []string, err error) {
	s, err := c.Tunnels(ctx)
	for _, t := range s.Tunnels {
		names = append(names, fmt.Sprintf("%s\ttunnel to %s, %s", t.Name, t.Remote, t.State))
	}
	return names, err
}

// sides are the site and its Route Servers.
func sides(ctx context.Context, c *control.Client) (names []string, err error) {
	s, err := c.Status(ctx)
	for _, b := range s.BGP {
		if b.Role == "route-server" {
			names = append(names, fmt.Sprintf("%s\tRoute Server, AS %d", b.Name, b.ASN))
		}
	}
	if s.Node.Site != "" {
		names = append(names, s.Node.Site+"\tthis node's site")
	}
	return names, err
}

// peers are the names of the neighbours and the addresses of their sessions.
func peers(ctx context.Context, c *control.Client) (names []string, err error) {
	s, err := c.Sessions(ctx)
	for _, b := range s.BGP {
		names = append(names, fmt.Sprintf("%s\t%s, AS %d", b.Name, b.Role, b.ASN), fmt.Sprintf("%s\tsession of %s, %s", b.Peer, b.Name, b.State))
	}
	return names, err
}

// prefixes are those that neighbours told us.
func prefixes(ctx context.Context, c *control.Client) (names []string, err error) {
	r, err := c.BGPRoutes(ctx, control.BGPRoutesQuery{Direction: control.DirectionReceived})
	for _, b := range r.Routes {
		if !b.Best && b.Accepted {
			continue // another one of the same prefix is
		}
		names = append(names, fmt.Sprintf("%s\tfrom %s", b.Prefix, b.Neighbor))
	}
	return names, err
}
