package main

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"transitbench": main}) }

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Geteuid() == 0 && !testing.Short(), nil
		},
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	r, err := readReport("../../pkg/bench/testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	table(&b, r)
	const name = "testdata/table.golden"
	if *update {
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s differs; if that is meant: go test ./cmd/transitbench -update\n%s", name, diff)
	}
}

// On a terminal the line is overwritten; elsewhere each step is a line.
func TestProgressInAPipe(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := newProgress(&b)
	p.say("about %s", "3m")
	p.step(1, 4, "wire, round 1 of 1: raw tcp")
	p.end()
	if want := "transitbench: about 3m\n 25 %    0s  wire, round 1 of 1: raw tcp\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
