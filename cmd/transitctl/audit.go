package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/diag/audit"
	"github.com/transitd/transitd/pkg/diag/audit/live"
)

// auditOptions are the flags of audit.
type auditOptions struct {
	config string
	live   bool
}

func (a *app) auditCommand() *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "audit [--live] [-c FILE] [FILE...|-]",
		Short: "Compare what Azure says with what runs; exit 0 if nothing was found",
		Long: "Compares what Azure says with what the daemon does, or with -c with a configuration file: where the fabric sends the\n" +
			"tunnel's packets, whether the Route Server took what is announced, flags, limits, addresses and AS numbers.\n\n" +
			"Every FILE (- is standard input) has the JSON of one or more of\n\n" +
			"  az network nic show-effective-route-table -g GROUP -n NIC\n" +
			"  az network nic show -g GROUP -n NIC\n" +
			"  az network nsg show -g GROUP -n NSG\n" +
			"  az network vnet show -g GROUP -n VNET\n" +
			"  az network vnet peering list -g GROUP --vnet-name VNET\n" +
			"  az network routeserver show -g GROUP -n ROUTE-SERVER\n" +
			"  az network routeserver peering list -g GROUP --routeserver ROUTE-SERVER\n" +
			"  az network routeserver peering list-learned-routes -g GROUP --routeserver ROUTE-SERVER -n PEERING\n" +
			"  az network routeserver peering list-advertised-routes -g GROUP --routeserver ROUTE-SERVER -n PEERING\n\n" +
			"recognised by its shape; the more, the more is checked. --live asks Azure itself, as the machine's managed identity\n" +
			"($AZURE_CLIENT_ID chooses one of several). docs/audit.md explains every finding.\n\n" +
			"Exit status: 0 nothing found, 1 findings, 2 wrong usage or an input that cannot be read, 3 no daemon answers.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && !o.live {
				return &usageError{msg: "audit needs files, - for standard input, or --live", hint: "az network nic show-effective-route-table -g GROUP -n NIC | transitctl audit -"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runAudit(cmd.Context(), cmd.InOrStdin(), o, args)
		},
	}
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "compare with this configuration, without asking a daemon")
	cmd.Flags().BoolVar(&o.live, "live", false, "ask Azure itself; only on the NVA")
	return cmd
}

func (a *app) runAudit(ctx context.Context, stdin io.Reader, o auditOptions, files []string) error {
	var az audit.Azure
	for _, f := range files {
		if err := readInput(&az, stdin, f); err != nil {
			return err
		}
	}
	intent, err := a.intent(ctx, o.config)
	if err != nil {
		return err
	}
	if o.live {
		if err := a.askAzure(ctx, intent, &az); err != nil {
			return err
		}
	}
	report := audit.Run(intent, az)
	if err := a.show(report, func() { a.printAudit(report) }); err != nil {
		return err
	}
	return exitFor(report.OK)
}

// readInput reads one file or standard input.
func readInput(az *audit.Azure, stdin io.Reader, file string) error {
	name, in := file, stdin
	if file == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(file)
		if err != nil {
			return &usageError{msg: err.Error(), hint: "give files with the output of az, or - for standard input"}
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, audit.MaxDocument+1))
	if err != nil {
		return &usageError{msg: fmt.Sprintf("read %s: %v", name, err), hint: "give files with the output of az, or - for standard input"}
	}
	return inputError(az.Read(name, data))
}

// inputError makes an unreadable input a matter of usage.
func inputError(err error) error {
	if e, ok := errors.AsType[*audit.InputError](err); ok {
		return &usageError{msg: e.Error(), hint: e.Hint}
	}
	return err
}

// intent asks the daemon, or reads a configuration.
func (a *app) intent(ctx context.Context, file string) (audit.Intent, error) {
	if file != "" {
		c, err := config.Load(file)
		if err != nil {
			return audit.Intent{}, &usageError{msg: err.Error(), hint: "transitd check -c " + file}
		}
		return audit.FromConfig(c), nil
	}
	client, err := a.client()
	if err != nil {
		return audit.Intent{}, err
	}
	return audit.FromDaemon(ctx, client)
}

// askAzure reads what Azure answers now.
func (a *app) askAzure(ctx context.Context, intent audit.Intent, az *audit.Azure) error {
	q := live.Query{Own: intent.Addresses, ClientID: a.env("AZURE_CLIENT_ID")}
	for _, s := range intent.RouteServers {
		q.RouteServers = append(q.RouteServers, s.Addresses...)
	}
	fmt.Fprintln(a.stderr, "asking Azure; effective and learned routes take up to a minute")
	docs, notes, err := live.Fetch(ctx, live.NewClient(), q)
	if err != nil {
		return &usageError{msg: "ask Azure: " + err.Error(), hint: "--live works on the NVA, with a managed identity that may read; docs/audit.md"}
	}
	az.Notes = append(az.Notes, notes...)
	for _, d := range docs {
		if err := az.Read(d.Source, d.JSON); err != nil {
			return inputError(err)
		}
	}
	return nil
}

// printAudit prints findings as blocks: their sentences are too long for columns.
func (a *app) printAudit(r audit.Report) {
	styles := map[audit.Severity]style{audit.SeverityError: bad, audit.SeverityWarning: warn}
	for _, f := range r.Findings {
		a.printf("%s %s: %s", a.paint(styles[f.Severity], string(f.Severity)+":"), f.Subject, f.Sentence)
		a.printf("  breaks: %s", f.Breaks)
		a.printf("  mend:   %s", f.Mend)
		a.printf("  about:  docs/audit.md#%s", f.ID)
		a.printf("")
	}
	rows := make([][]cell, 0, len(r.Inputs))
	for _, i := range r.Inputs {
		rows = append(rows, []cell{c(i.Source), c(i.Kind), c(i.Items)})
	}
	a.table([]string{"INPUT", "TAKEN FOR", "ITEMS"}, rows)
	if len(r.Unchecked) > 0 {
		a.printf("")
		a.printf("not checked:")
		for _, u := range r.Unchecked {
			a.printf("  %s: %s", u.Check, u.Why)
			if u.Get != "" {
				a.printf("    %s", u.Get)
			}
		}
	}
	if len(r.Notes) > 0 {
		a.printf("")
		a.printf("not understood:")
		for _, n := range r.Notes {
			a.printf("  %s", n)
		}
	}
	a.printf("")
	a.printf("%s", a.verdict(r))
}

// verdict is the last line.
func (a *app) verdict(r audit.Report) string {
	with := map[string]string{"running": "what runs", "configuration": "the configuration"}[r.Compared]
	if r.OK {
		open := ""
		if n := len(r.Unchecked); n > 0 {
			open = fmt.Sprintf("; not checked: %d", n)
		}
		return fmt.Sprintf("%s: %s%s", r.Node, a.paint(good, "Azure agrees with "+with), open)
	}
	return fmt.Sprintf("%s: compared with %s; errors: %d, warnings: %d, not checked: %d", r.Node, with, r.Count(audit.SeverityError), r.Count(audit.SeverityWarning), len(r.Unchecked))
}
