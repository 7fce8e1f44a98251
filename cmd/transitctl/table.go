package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/diag/audit"
	"github.com/transitd/transitd/pkg/diag/doctor"
	"github.com/transitd/transitd/pkg/events"
)

// entry is a row of the table of commands: the command, and what the rest of
// the program has to know of it. Help, completion, manual pages, JSON schemas
// and bugreport are made from the table, so that a new command needs only a row.
type entry struct {
	command *cobra.Command
	// answer is a value of the type that -o json prints; nil if there is no JSON.
	// A command that prints one object a line has the type of a line.
	answer any
	// report are the arguments with which bugreport calls the command, one list a call; nil leaves it out.
	report [][]string
	sub    []entry
}

// once is for commands that bugreport calls without arguments.
func once() [][]string { return [][]string{{}} }

// entries is the table, in the order of the help.
func (a *app) entries() []entry {
	return []entry{
		{command: a.statusCommand(), answer: control.Status{}, report: once()},
		{command: a.tunnelCommand(), answer: control.Tunnels{}}, // status has them
		{command: a.bgpCommand(), sub: []entry{
			{command: a.bgpSummaryCommand(), answer: control.Sessions{}}, // status has them
			{command: a.bgpRoutesCommand(), answer: control.BGPRoutes{}, report: [][]string{{"--received"}, {"--announced"}}},
		}},
		{command: a.routesCommand(), answer: control.Routes{}, report: once()},
		{command: a.explainCommand(), answer: control.Explanation{}},
		{command: a.pingCommand(), answer: control.Pinged{}},
		{command: a.loopsCommand(), answer: control.LoopReport{}},
		{command: a.pmtuCommand(), answer: control.PMTU{}},
		{command: a.traceCommand(), answer: control.Trace{}},
		{command: a.captureCommand()},
		{command: a.watchCommand(), answer: events.Event{}, report: [][]string{{"--last=1000", "--follow=false"}}},
		{command: a.reloadCommand(), answer: control.Reload{}},
		{command: a.drainCommand(), answer: control.Drained{}},
		{command: a.undrainCommand(), answer: control.Drained{}},
		{command: a.ipsecCommand(), sub: []entry{
			{command: a.ipsecRekeyCommand(), answer: control.IPsecDone{}},
			{command: a.ipsecTerminateCommand(), answer: control.IPsecDone{}},
		}},
		{command: a.keygenCommand(), answer: generated{}},
		{command: a.auditCommand(), answer: audit.Report{}},
		{command: a.doctorCommand(), answer: doctor.Report{}, report: once()},
		{command: a.bugreportCommand(), answer: reported{}},
		{command: a.completionCommand()},
	}
}

// assemble puts a row's commands together.
func (e entry) assemble() *cobra.Command {
	for _, s := range e.sub {
		e.command.AddCommand(s.assemble())
	}
	if e.command.ValidArgsFunction == nil && !strings.Contains(e.command.Use, " ") {
		e.command.ValidArgsFunction = cobra.NoFileCompletions // it takes no argument
	}
	return e.command
}

// walk calls f for each row with a command's words, "bgp routes".
func walk(entries []entry, f func(words []string, e entry)) { walkUnder(nil, entries, f) }

func walkUnder(above []string, entries []entry, f func(words []string, e entry)) {
	for _, e := range entries {
		words := slices.Concat(above, []string{e.command.Name()})
		f(words, e)
		walkUnder(words, e.sub, f)
	}
}
