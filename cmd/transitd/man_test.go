package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/manpage"
)

var update = flag.Bool("update", false, "write docs/man anew")

// TestManPages: docs/man has what the commands say now; -update writes it.
func TestManPages(t *testing.T) {
	t.Parallel()
	book := manpage.Book{
		Section: "8", Date: "2026-11-23", Source: "transitd", Manual: "transitd",
		Root: []manpage.Section{
			{Title: "FILES", Text: "/etc/transitd/NODE.yaml\tThe configuration of a node, for the unit transitd@NODE.\n/run/transitd/NODE.sock\tWhere transitctl asks."},
			{Title: "SIGNALS", Text: "SIGHUP\tReads the configuration again and applies the difference.\nSIGTERM\tWithdraws what was announced and ends."},
		},
		More:    []manpage.Section{{Title: "EXIT STATUS", Text: "0\tAll is well.\n1\tThe file is not valid, or the daemon could not go on.\n2\tThe command line is wrong."}},
		SeeAlso: []string{"transitctl(1)"},
	}
	for name, want := range book.Pages(command()) {
		file := filepath.Join("../../docs/man", name)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s is stale, run: make generate\n(-want +file)\n%s", file, d)
		}
	}
}
