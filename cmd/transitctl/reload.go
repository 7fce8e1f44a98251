package main

import (
	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) reloadCommand() *cobra.Command {
	var req control.ReloadRequest
	cmd := &cobra.Command{
		Use: "reload", Short: "Make the daemon read its configuration and apply the difference", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			r, err := client.Reload(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.show(r, func() { a.printReload(r) })
		},
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "say what would change and change nothing")
	return cmd
}

func (a *app) printReload(r control.Reload) {
	if !r.Changed {
		a.printf("no difference: nothing was touched")
		return
	}
	for _, line := range r.Changes {
		a.printf("%s", line)
	}
	for _, n := range r.Routes {
		if n.Reset {
			a.printf("%s: its sessions would start anew", n.Neighbor)
		}
		for _, p := range n.Withdraw {
			a.printf("%s: would withdraw %s", n.Neighbor, p)
		}
		for _, b := range n.Announce {
			a.printf("%s: would announce %s, AS path %s", n.Neighbor, b.Prefix, path(b.ASPath))
		}
	}
	if r.DryRun {
		a.printf("dry run: nothing was touched")
	}
}
