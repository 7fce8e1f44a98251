package audit

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
)

var update = flag.Bool("update", false, "rewrite what the cases want")

// folder are the answers of a daemon, from the files of testdata/daemon or those in their place.
type folder map[string][]byte

func (f folder) read(name string, into any) error {
	b, ok := f[name]
	if !ok {
		return fmt.Errorf("no file %s", name)
	}
	return json.Unmarshal(b, into)
}

func (f folder) Status(context.Context) (s control.Status, err error) {
	return s, f.read("status.json", &s)
}

func (f folder) BGPRoutes(_ context.Context, q control.BGPRoutesQuery) (r control.BGPRoutes, err error) {
	err = f.read(string(q.Direction)+q.Peer+".json", &r)
	return r, err
}

func (f folder) Routes(context.Context) (r control.Routes, err error) {
	err = f.read("routes.json", &r)
	return r, err
}

// load reads all files of a folder.
func load(t testing.TB, dir string) folder {
	t.Helper()
	f := folder{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %d files", dir, err, len(files))
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f[filepath.Base(name)] = b
	}
	return f
}

// read gives a folder's documents to Azure.
func (f folder) azure(t testing.TB) Azure {
	t.Helper()
	var az Azure
	names := make([]string, 0, len(f))
	for n := range f {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := az.Read(n, f[n]); err != nil {
			t.Fatal(err)
		}
	}
	return az
}

func running(t testing.TB, daemon folder) Intent {
	t.Helper()
	in, err := FromDaemon(t.Context(), daemon)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// findings prints a report's findings for comparison.
func findings(r Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s %s\n  %s\n  %s\n", f.Severity, f.ID, f.Subject, f.Sentence, f.Mend)
	}
	return b.String()
}

// TestCases: a hub where all is well, one thing broken in each case. A case
// replaces files of testdata/hub (what Azure says) and testdata/daemon (what
// runs), or gives a configuration to compare with; "want" has its findings.
func TestCases(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(cases) < 40 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	seen := map[ID]bool{}
	for _, file := range cases {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hub, daemon := load(t, "testdata/hub"), load(t, "testdata/daemon")
		var in Intent
		want := ""
		for _, f := range ar.Files {
			switch name, isDaemon := strings.CutPrefix(f.Name, "daemon/"); {
			case isDaemon:
				daemon[name] = f.Data
			case f.Name == "config.yaml":
				c, err := config.Parse(file, f.Data)
				if err != nil {
					t.Fatal(err)
				}
				in = FromConfig(c)
			case f.Name == "want":
				want = string(f.Data)
			case hub[f.Name] == nil:
				t.Errorf("%s: there is no file %s to replace", file, f.Name)
			default:
				hub[f.Name] = f.Data
			}
		}
		if in.Node == "" {
			in = running(t, daemon)
		}
		report := Run(in, hub.azure(t))
		got := findings(report)
		for _, f := range report.Findings {
			seen[f.ID] = true
			if f.Sentence == "" || f.Breaks == "" || f.Mend == "" {
				t.Errorf("%s: %s lacks words: %+v", file, f.ID, f)
			}
		}
		if *update {
			ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return f.Name == "want" })
			ar.Files = append(ar.Files, txtar.File{Name: "want", Data: []byte(got)})
			if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
		// A case is named for its finding, where it is about one.
		name := ID(strings.TrimSuffix(filepath.Base(file), ".txtar"))
		if _, known := catalogue()[name]; known && !strings.Contains(got, " "+string(name)+" ") {
			t.Errorf("%s does not find %s", file, name)
		}
	}
	for id := range catalogue() {
		if !seen[id] {
			t.Errorf("no case finds %s", id)
		}
	}
}
