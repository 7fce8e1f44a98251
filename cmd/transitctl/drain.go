package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

// drainLook is how often the daemon is asked how far it is.
const drainLook = 250 * time.Millisecond

func (a *app) drainCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "drain", Short: "Take the node out of the traffic, and say when it is safe to stop", Args: noArgs,
		Long: "Announces every route as the worst way, waits until nothing is forwarded, withdraws everything, and waits again.\n" +
			"Exit status 0: nothing is forwarded any more. The node stays drained, also after a restart, until undrain.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			d, err := client.Drain(cmd.Context(), false)
			if err != nil {
				return err
			}
			d, err = a.follow(cmd.Context(), client, d, wait)
			if err != nil {
				return err
			}
			return a.showDrain(d)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to wait; 0 only begins")
	return cmd
}

func (a *app) undrainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "undrain", Short: "Bring a drained node back into the traffic", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			d, err := client.Drain(cmd.Context(), true)
			if err != nil {
				return err
			}
			return a.show(d, func() { a.printf("not draining: routes are announced as ever") })
		},
	}
}

// follow waits until the node is drained, and says each step on standard error.
func (a *app) follow(ctx context.Context, client *control.Client, d control.Drained, wait time.Duration) (control.Drained, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ticker := time.NewTicker(drainLook)
	defer ticker.Stop()
	said := ""
	for {
		if said != d.Drain.State {
			said = d.Drain.State
			_, _ = fmt.Fprintf(a.stderr, "%s: %s\n", d.Drain.State, d.Drain.Note)
		}
		if d.Drain.State == control.DrainDone || d.Drain.State == control.DrainNone {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return d, nil
		case <-ticker.C:
		}
		s, err := client.Status(context.WithoutCancel(ctx))
		if err != nil {
			return d, err
		}
		d.Drain = s.Drain
	}
}

func (a *app) showDrain(d control.Drained) error {
	err := a.show(d, func() {
		if d.Drain.Safe {
			a.printf("safe: nothing is forwarded any more")
		} else {
			a.printf("not safe yet: %s", d.Drain.Note)
		}
	})
	if err == nil && !d.Drain.Safe {
		return degradedError{}
	}
	return err
}
