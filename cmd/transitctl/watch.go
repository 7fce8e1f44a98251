package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/events"
)

func (a *app) watchCommand() *cobra.Command {
	var last int
	var follow bool
	cmd := &cobra.Command{
		Use: "watch", Short: "What happens to the node and why, as it happens", Args: noArgs,
		Long: "Shows the last events, then each new one until it is interrupted. With -o json there is one object a line.\n" +
			"Exit status 0 after an interrupt, 3 if the daemon is gone.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if last < 0 {
				return &usageError{msg: fmt.Sprintf("--last %d is negative", last)}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			answer, err := client.Events(cmd.Context(), 0)
			if err != nil {
				return err
			}
			var seq uint64
			if n := len(answer.Events); n > 0 {
				seq = answer.Events[n-1].Seq
			}
			for _, e := range events.Last(answer.Events, last) {
				if err := a.printEvent(e); err != nil {
					return err
				}
			}
			if !follow {
				return nil
			}
			return client.Follow(cmd.Context(), seq, a.printEvent)
		},
	}
	cmd.Flags().IntVarP(&last, "last", "n", 10, "how many past events to show first")
	cmd.Flags().BoolVarP(&follow, "follow", "f", true, "go on with new events")
	return cmd
}

// printEvent prints one event on a line.
func (a *app) printEvent(e events.Event) error {
	if a.output == "json" {
		if err := json.NewEncoder(a.stdout).Encode(e); err != nil {
			return fmt.Errorf("print an event: %w", err)
		}
		return nil
	}
	look := map[events.Severity]style{events.Warning: warn, events.Error: bad}[e.Severity]
	_, err := fmt.Fprintf(a.stdout, "%s  %s  %-6s  %s\n", e.Time.Local().Format(time.DateTime), a.paint(look, fmt.Sprintf("%-7s", e.Severity)), e.Kind, e.Text)
	if err != nil {
		return fmt.Errorf("print an event: %w", err)
	}
	return nil
}
