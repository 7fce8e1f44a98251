package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
)

func (a *app) pingCommand() *cobra.Command {
	q := control.PingQuery{}
	cmd := &cobra.Command{
		Use: "ping [TUNNEL]", Short: "Probe the other NVA inside the tunnel and on the underlay, side by side",
		Long: "The daemon sends a probe inside the tunnel and a ping beside it, round by round. What is lost inside only is the\n" +
			"tunnel's, what is lost in both the fabric's. If the other NVA speaks STAMP (RFC 8762), as transitd does, loss and\n" +
			"jitter are told for each direction. Exit status 0 if all came back inside the tunnel, 1 if not.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{msg: "ping takes one tunnel", hint: "transitctl ping tr0"}
			}
			return nil
		},
		ValidArgsFunction: a.complete(1, tunnels),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Tunnel = first(args)
			if err := checkPing(q); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			p, err := client.Ping(cmd.Context(), q, func(r control.PingRound) {
				if a.output != "json" {
					a.printf("%4d  tunnel %10s  underlay %10s", r.Number, trip(r.TunnelUS), trip(r.UnderlayUS))
				}
			})
			if err != nil {
				return err
			}
			if err := a.show(p, func() { a.printPing(p) }); err != nil {
				return err
			}
			return exitFor(p.OK)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&q.Count, "count", "c", control.DefaultPingCount, "how many rounds")
	f.DurationVarP(&q.Interval, "interval", "i", control.DefaultPingInterval, "time between rounds")
	f.IntVar(&q.Size, "size", 0, "bytes of each IP packet (default the smallest)")
	return cmd
}

func checkPing(q control.PingQuery) error {
	switch {
	case q.Count < 1 || q.Count > control.MaxPingCount:
		return &usageError{msg: fmt.Sprintf("--count is 1 to %d, not %d", control.MaxPingCount, q.Count)}
	case q.Interval < control.MinPingInterval || q.Interval > time.Minute:
		return &usageError{msg: fmt.Sprintf("--interval is %s to 1m0s, not %s", control.MinPingInterval, q.Interval)}
	case q.Size < 0 || q.Size > control.MaxPingSize:
		return &usageError{msg: fmt.Sprintf("--size is at most %d, not %d", control.MaxPingSize, q.Size)}
	}
	return nil
}

// trip is a round trip for people.
func trip(us *uint64) string {
	if us == nil {
		return "*"
	}
	return millis(*us)
}

func millis(us uint64) string { return fmt.Sprintf("%.2f ms", float64(us)/1000) }

func (a *app) printPing(p control.Pinged) {
	a.printf("")
	rows := [][]cell{}
	for _, x := range []struct {
		name string
		side control.PingSide
	}{{"tunnel " + p.Tunnel, p.Inside}, {"underlay", p.Underlay}} {
		q := x.side.Quality
		there, back := "", ""
		if q.There != nil {
			there = fmt.Sprintf("%.1f %%, %s", 100*q.There.Loss, millis(q.There.JitterUS))
			back = fmt.Sprintf("%.1f %%, %s", 100*q.Back.Loss, millis(q.Back.JitterUS))
		}
		rows = append(rows, []cell{
			c(x.name), c(x.side.Target), c(q.Method), c(q.Sent), c(q.Received), state(fmt.Sprintf("%.1f %%", 100*x.side.Loss), x.side.Loss == 0),
			c(millis(q.MinUS)), c(millis(x.side.MedianUS)), c(millis(q.P99US)), c(there), c(back),
		})
	}
	a.table([]string{"WAY", "TO", "BY", "SENT", "BACK", "LOSS", "MIN", "MEDIAN", "P99", "LOSS, JITTER THERE", "LOSS, JITTER BACK"}, rows)
	a.printf("")
	a.printf("%s", p.Verdict)
}
