package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files and the generated documentation")

// TestGolden parses in.yaml of each archive and compares with want.json or want.err.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			golden(t, file)
		})
	}
}

func golden(t *testing.T, file string) {
	t.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(ar.Files) == 0 || ar.Files[0].Name != "in.yaml" {
		t.Fatalf("%s does not begin with in.yaml", file)
	}
	got := outcome(t, ar.Files[0].Data)
	if *update {
		ar.Files = []txtar.File{ar.Files[0], got}
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if len(ar.Files) != 2 {
		t.Fatalf("%s has %d files, want in.yaml and want.json or want.err", file, len(ar.Files))
	}
	want := ar.Files[1]
	if want.Name != got.Name {
		t.Fatalf("got %s, want %s:\n%s", got.Name, want.Name, got.Data)
	}
	if diff := cmp.Diff(string(want.Data), string(got.Data)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", want.Name, diff)
	}
}

// outcome parses a configuration and renders what came out.
func outcome(t *testing.T, in []byte) txtar.File {
	t.Helper()
	cfg, err := Parse("in.yaml", in)
	if err != nil {
		if cfg != nil {
			t.Error("Parse returned a Config and an error")
		}
		return txtar.File{Name: "want.err", Data: []byte(err.Error() + "\n")}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(cfg); err != nil {
		t.Fatal(err)
	}
	return txtar.File{Name: "want.json", Data: b.Bytes()}
}
