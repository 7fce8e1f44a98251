package manpage

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func program() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "tool", Short: "Do things", Run: run}
	root.PersistentFlags().StringP("output", "o", "table", "output: `FORMAT` is table or json")
	sub := &cobra.Command{
		Use: "send-it [--dry-run] FILE", Short: "BGP's way of sending", Run: run,
		Long: "Sends FILE. '.' is a \\ backslash and ~user.\nIt goes on.\n\n  $ tool send-it x\n  .hidden\n\nThe end.",
	}
	sub.Flags().Bool("dry-run", false, "say what would be done")
	sub.Flags().Duration("wait", 0, "how long")
	secret := &cobra.Command{Use: "secret", Short: "x", Run: run, Hidden: true}
	root.AddCommand(sub, secret)
	return root
}

func TestPages(t *testing.T) {
	t.Parallel()
	b := Book{
		Section: "1", Date: "2026-11-23", Source: "tool", Manual: `the "manual"`,
		More:    []Section{{"EXIT STATUS", "0\tall is well\n1\tit is not"}},
		Root:    []Section{{"FILES", "One file."}},
		SeeAlso: []string{"other(8)"},
	}
	pages := b.Pages(program())
	var names []string
	for n := range pages {
		names = append(names, n)
	}
	slices.Sort(names)
	if d := cmp.Diff([]string{"tool-send-it.1", "tool.1"}, names); d != "" {
		t.Fatalf("pages (-want +got):\n%s", d)
	}
	want := `.TH "TOOL-SEND-IT" "1" "2026-11-23" "tool" "the \(dqmanual\(dq"
.SH NAME
tool\-send\-it \- BGP\(aqs way of sending
.SH SYNOPSIS
\fBtool send\-it\fR [\-\-dry\-run] \fIFILE\fR [flags]
.SH DESCRIPTION
Sends FILE. \(aq.\(aq is a \e backslash and \(tiuser. It goes on.
.PP
.RS 2
.nf
$ tool send\-it x
\&.hidden
.fi
.RE
.PP
The end.
.SH OPTIONS
.TP
\fB\-\-dry\-run\fR
Say what would be done.
.TP
\fB\-\-wait\fR \fIDURATION\fR
How long.
.SH COMMON OPTIONS
.TP
\fB\-o\fR, \fB\-\-output\fR \fIFORMAT\fR
Output: FORMAT is table or json (default table).
.SH EXIT STATUS
.TP
\fB0\fR
all is well
.TP
\fB1\fR
it is not
.SH SEE ALSO
tool(1), other(8)
`
	if d := cmp.Diff(want, string(pages["tool-send-it.1"])); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, part := range []string{"tool \\- do things", `\fBtool\fR \fICOMMAND\fR [\fIARGUMENT\fR...]`, ".SH COMMANDS\n.TP\n\\fBsend\\-it\\fR\n", ".SH FILES\nOne file.\n.SH EXIT", "tool\\-send\\-it(1), other(8)"} {
		if !strings.Contains(string(pages["tool.1"]), part) {
			t.Errorf("tool.1 lacks %q:\n%s", part, pages["tool.1"])
		}
	}
	for name, page := range pages {
		for line := range strings.SplitSeq(string(page), "\n") {
			if len(line) > 120 || line != strings.TrimRight(line, " ") {
				t.Errorf("%s: %q", name, line)
			}
		}
	}
}
