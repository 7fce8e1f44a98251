package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/diag/doctor"
	"github.com/transitd/transitd/pkg/diag/doctor/machine"
	"github.com/transitd/transitd/tunnel/udp"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	config string
	fix    bool
}

// doctorPause is between two looks at a daemon's counters, to see which ones rise.
const doctorPause = time.Second

func (a *app) doctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use: "doctor [--fix] [-c FILE]", Short: "Say what is wrong with this machine, and how to mend it; exit 0 if nothing is", Args: noArgs,
		Long: "Looks at the machine: kernel settings, the network card, MTUs, the firewall, other programs on our ports, what deletes\n" +
			"routes, what a dead daemon left behind, and at what the daemon drops. Works without a daemon. With a running one, or with\n" +
			"-c, it knows the ports, the card and the tables; without, it checks what holds for every node, and says so.\n\n" +
			"--fix makes the changes that harm nobody, now and for the next boot: kernel settings (in " + doctor.SysctlFile + ")\n" +
			"and the drop-in by which systemd-networkd leaves routes alone (" + doctor.NetworkdFile + ").\n" +
			"It touches neither firewalls nor other daemons. docs/doctor.md explains every finding.\n\n" +
			"Exit status: 0 nothing is wrong, 1 errors or warnings, 2 wrong usage or a configuration that is not valid.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDoctor(cmd.Context(), o) },
	}
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "the node's configuration `FILE`; of a running daemon, its own if left out")
	cmd.Flags().BoolVar(&o.fix, "fix", false, "mend what can be mended safely")
	return cmd
}

func (a *app) runDoctor(ctx context.Context, o doctorOptions) error {
	node, query, notes, err := a.patient(ctx, o.config)
	if err != nil {
		return err
	}
	query.Root, query.SelfTest = a.root, udp.SelfTest
	examine := func() doctor.Report {
		host := machine.Read(ctx, query)
		host.Unread = append(notes, host.Unread...)
		return doctor.Run(node, host)
	}
	report := examine()
	var failed error
	if fixes := report.Fixes(); o.fix && len(fixes) > 0 {
		var did []string
		did, failed = machine.Apply(a.root, fixes)
		report = examine()
		report.Fixed = append(report.Fixed, did...)
	}
	if err := a.show(report, func() { a.printDoctor(report, o.fix) }); err != nil {
		return err
	}
	if errors.Is(failed, os.ErrPermission) {
		a.hintf("--fix needs root: use sudo")
	}
	return errors.Join(failed, exitFor(report.OK))
}

// patient finds out what the node is to be: from the file, or from the running
// daemon and the file that it was started with. The notes say what is not known.
func (a *app) patient(ctx context.Context, file string) (n doctor.Node, q machine.Query, notes []doctor.Unchecked, err error) {
	var cfg *config.Config
	if file != "" {
		if cfg, err = config.Load(file); err != nil {
			return n, q, nil, &usageError{msg: err.Error(), hint: "transitd check -c " + file}
		}
	}
	client, err := a.doctorClient(cfg)
	if err != nil {
		return n, q, nil, err
	}
	first, second, why := observe(ctx, client)
	if why == "" {
		q.PID, _ = client.PID(ctx) // 0: the checks that need it are left out
	} else {
		notes = append(notes, doctor.Unchecked{Check: "the daemon", Why: why, Get: "systemctl status 'transitd@*'"})
	}
	if cfg == nil && q.PID != 0 {
		if cfg, err = runningConfig(q.PID); err != nil {
			notes = append(notes, doctor.Unchecked{Check: "the running daemon's configuration", Why: err.Error(), Get: "transitctl doctor -c FILE"})
		}
	}
	switch {
	case cfg != nil:
		n = doctor.FromConfig(cfg)
	case second != nil:
		routes, err := client.Routes(ctx)
		if err != nil {
			notes = append(notes, doctor.Unchecked{Check: "the daemon's routes", Why: err.Error(), Get: "transitctl routes"})
		}
		n = doctor.FromStatus(*second, routes)
	default:
		notes = append(notes, doctor.Unchecked{
			Check: "the card, the tunnels' ports, MTUs, tables and names", Why: "no daemon answers, and no configuration was given: only what holds for every node was checked",
			Get: "transitctl doctor -c /etc/transitd/NODE.yaml",
		})
	}
	n.Before, n.Status = first, second
	q.UDPPorts, q.Peers, q.Mark = n.ListenPorts(), n.Peers(), n.Mark
	return n, q, notes, nil
}

// doctorClient is the client for the daemon of a configuration, or for the only one; nil if there is none.
func (a *app) doctorClient(cfg *config.Config) (*control.Client, error) {
	if cfg != nil && a.socket == "" && a.env("TRANSITD_SOCKET") == "" {
		return a.clientOf(cfg.Control.Socket), nil
	}
	client, err := a.client()
	if _, none := errors.AsType[*control.UnreachableError](err); none {
		return nil, nil //nolint:nilnil // no daemon is a good answer here
	}
	return client, err
}

// observe asks for the status twice, and says why not if there is none.
func observe(ctx context.Context, client *control.Client) (first, second *control.Status, why string) {
	if client == nil {
		return nil, nil, "none runs"
	}
	x, err := client.Status(ctx)
	if err != nil {
		return nil, nil, err.Error()
	}
	pause := time.NewTimer(doctorPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	y, err := client.Status(ctx)
	if err != nil {
		return nil, nil, err.Error()
	}
	return &x, &y, ""
}

// runningConfig reads the file that a running daemon was started with.
func runningConfig(pid int) (*config.Config, error) {
	file, err := machine.ConfigOf(pid)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return nil, fmt.Errorf("it was changed since and is not valid: %w", err)
	}
	return cfg, nil
}

// printDoctor prints findings as blocks: their sentences are too long for columns.
func (a *app) printDoctor(r doctor.Report, fix bool) {
	styles := map[doctor.Severity]style{doctor.SeverityError: bad, doctor.SeverityWarning: warn}
	for _, s := range r.Fixed {
		a.printf("%s %s", a.paint(good, "fixed:"), s)
	}
	if len(r.Fixed) > 0 {
		a.printf("")
	}
	fixable := 0
	for _, f := range r.Findings {
		if f.Severity == doctor.SeverityOK {
			continue
		}
		a.printf("%s %s: %s", a.paint(styles[f.Severity], string(f.Severity)+":"), f.Subject, f.Sentence)
		a.printf("  breaks: %s", f.Breaks)
		a.printf("  mend:   %s", f.Mend)
		a.printf("  about:  docs/doctor.md#%s", f.ID)
		a.printf("")
		if f.Fixable {
			fixable++
		}
	}
	if len(r.Unread) > 0 {
		a.printf("not checked:")
		for _, u := range r.Unread {
			a.printf("  %s: %s", u.Check, u.Why)
			if u.Get != "" {
				a.printf("    %s", u.Get)
			}
		}
		a.printf("")
	}
	a.printf("%s", a.doctorVerdict(r))
	if fixable > 0 && !fix {
		a.printf("%d of these are mended by: transitctl doctor --fix", fixable)
	}
}

// doctorVerdict is the last line but for the hint.
func (a *app) doctorVerdict(r doctor.Report) string {
	of := "this machine"
	if r.Node != "" {
		of = r.Node
	}
	runs := map[bool]string{true: "the daemon runs", false: "no daemon answers"}[r.Running]
	with := map[doctor.Basis]string{
		doctor.BasisHost: "checks that hold for every node", doctor.BasisConfiguration: "checked against the configuration", doctor.BasisRunning: "checked against what runs",
	}[r.Compared]
	counts := []string{fmt.Sprintf("nothing wrong in %d checks", r.Count(doctor.SeverityOK))}
	if !r.OK {
		counts = []string{fmt.Sprintf("errors: %d", r.Count(doctor.SeverityError)), fmt.Sprintf("warnings: %d", r.Count(doctor.SeverityWarning)), fmt.Sprintf("ok: %d", r.Count(doctor.SeverityOK))}
	}
	if n := len(r.Unread); n > 0 {
		counts = append(counts, fmt.Sprintf("not checked: %d", n))
	}
	text := strings.Join(counts, ", ")
	if r.OK {
		text = a.paint(good, text)
	}
	return fmt.Sprintf("%s: %s; %s; %s", of, text, with, runs)
}
