// Package manpage makes manual pages from the commands of a program: the same
// descriptions that --help prints, in man(7).
//
// Commands' Long texts are taken as they are: paragraphs are filled, indented
// lines are kept as examples. There is nothing here but text in and text out.
package manpage

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Book is what all pages of a program have in common.
type Book struct {
	Section string // "1"
	Date    string // "2026-11-23"; pages do not change without need
	Source  string // "transitd"
	Manual  string // the line at the top
	// More are sections for every page, such as EXIT STATUS.
	More []Section
	// Root are sections for the program's own page.
	Root []Section
	// SeeAlso are other pages, "transitd(8)".
	SeeAlso []string
}

// Section is a heading with text: paragraphs, and lines "TERM<tab>text" for a list.
type Section struct{ Title, Text string }

// Pages makes a page for a program and one for each command that can be called,
// by file name: "transitctl.1", "transitctl-bgp-routes.1".
func (b Book) Pages(root *cobra.Command) map[string][]byte {
	pages := map[string][]byte{}
	for _, c := range all(root) {
		pages[pageName(c)+"."+b.Section] = b.page(c, root)
	}
	return pages
}

// all are a command and those below it, without hidden ones and help.
func all(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			list = append(list, all(sub)...)
		}
	}
	return list
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func (b Book) page(c, root *cobra.Command) []byte {
	w := &writer{}
	w.line(".TH %s %s %s %s %s", quote(strings.ToUpper(pageName(c))), quote(b.Section), quote(b.Date), quote(b.Source), quote(b.Manual))
	w.section("NAME")
	w.fill(pageName(c) + " - " + lowerFirst(c.Short))
	w.section("SYNOPSIS")
	w.synopsis(c)
	w.section("DESCRIPTION")
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	w.text(long)
	if subs := all(c)[1:]; len(subs) > 0 {
		w.section("COMMANDS")
		for _, s := range subs {
			if s.HasAvailableSubCommands() {
				continue
			}
			w.line(".TP")
			w.line(`\fB%s\fR`, escape(strings.TrimPrefix(s.CommandPath(), c.CommandPath()+" ")))
			w.fill(s.Short + ".")
		}
	}
	w.flags("OPTIONS", c.LocalNonPersistentFlags(), c.PersistentFlags())
	if c != root {
		w.flags("COMMON OPTIONS", root.PersistentFlags())
	}
	sections := b.More
	if c == root {
		sections = append(append([]Section{}, b.Root...), b.More...)
	}
	for _, s := range sections {
		w.section(s.Title)
		w.text(s.Text)
	}
	w.section("SEE ALSO")
	w.fill(strings.Join(b.seeAlso(c, root), ", "))
	return []byte(w.b.String())
}

// seeAlso names the pages above and beside a page.
func (b Book) seeAlso(c, root *cobra.Command) (list []string) {
	if c == root {
		for _, s := range all(root)[1:] {
			list = append(list, pageName(s)+"("+b.Section+")")
		}
		return append(list, b.SeeAlso...)
	}
	return append([]string{pageName(root) + "(" + b.Section + ")"}, b.SeeAlso...)
}

// writer writes man(7).
type writer struct{ b strings.Builder }

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

func (w *writer) section(title string) { w.line(".SH %s", escape(title)) }

// synopsis is a command's use, its name in bold and its placeholders in italics.
func (w *writer) synopsis(c *cobra.Command) {
	use := strings.TrimPrefix(c.UseLine(), c.CommandPath())
	if c.HasAvailableSubCommands() {
		use += " COMMAND [ARGUMENT...]"
	}
	var b strings.Builder
	word := ""
	flush := func() {
		if word != "" && word == strings.ToUpper(word) {
			b.WriteString(`\fI` + escape(word) + `\fR`)
		} else {
			b.WriteString(escape(word))
		}
		word = ""
	}
	for _, r := range use {
		if r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			word += string(r)
			continue
		}
		flush()
		b.WriteString(escape(string(r)))
	}
	flush()
	w.line(`\fB%s\fR%s`, escape(c.CommandPath()), b.String())
}

// text writes paragraphs, examples and lists.
func (w *writer) text(text string) {
	first := true
	for block := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		lines := strings.Split(block, "\n")
		term, _, list := strings.Cut(lines[0], "\t")
		switch {
		case strings.HasPrefix(block, " "):
			if !first {
				w.line(".PP")
			}
			w.line(".RS 2")
			w.line(".nf")
			for _, l := range lines {
				w.line("%s", control(escape(strings.TrimPrefix(l, "  "))))
			}
			w.line(".fi")
			w.line(".RE")
		case list && term != "":
			for _, l := range lines {
				term, what, _ := strings.Cut(l, "\t")
				w.line(".TP")
				w.line(`\fB%s\fR`, escape(term))
				w.fill(what)
			}
		default:
			if !first {
				w.line(".PP")
			}
			w.fill(strings.Join(lines, " "))
		}
		first = false
	}
}

// fill writes a paragraph in lines of less than 80 bytes.
func (w *writer) fill(text string) {
	const width = 76
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			w.line("%s", control(line))
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += escape(word)
	}
	if line != "" {
		w.line("%s", control(line))
	}
}

// flags lists options.
func (w *writer) flags(title string, sets ...*pflag.FlagSet) {
	told := false
	for _, set := range sets {
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" || f.Name == "version" {
				return
			}
			if !told {
				w.section(title)
				told = true
			}
			kind, usage := pflag.UnquoteUsage(f)
			name := `\fB` + escape("--"+f.Name) + `\fR`
			if f.Shorthand != "" {
				name = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + name
			}
			if kind != "" {
				name += ` \fI` + escape(strings.ToUpper(kind)) + `\fR`
			}
			w.line(".TP")
			w.line("%s", name)
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" && !strings.Contains(usage, "(default ") {
				usage += " (default " + f.DefValue + ")"
			}
			w.fill(strings.ToUpper(usage[:1]) + usage[1:] + ".")
		})
	}
}

// escape makes text literal: backslashes, and dashes that are to be copied to a shell.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
}

// control protects a line that would begin a request.
func control(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

// quote makes an argument of .TH, where a dash is a dash.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\e`, `"`, `\(dq`).Replace(s) + `"`
}

// lowerFirst is for the NAME line; names and abbreviations keep their capitals.
func lowerFirst(s string) string {
	if len(s) > 1 && (s[1] < 'a' || s[1] > 'z') && s[1] != ' ' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
