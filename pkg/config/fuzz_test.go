package config

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzParse checks that no text stops the parser, that an error is a sorted list
// with positions, and that a good configuration written as JSON, which is YAML
// too, means the same.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ar.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("in.yaml", data)
		if err != nil {
			checkErrors(t, cfg, err)
			return
		}
		text, err := json.Marshal(cfg)
		if err != nil {
			t.Fatalf("cannot render %+v: %v", cfg, err)
		}
		again, err := Parse("again.json", text)
		if err != nil {
			t.Fatalf("a good configuration is refused as JSON: %v\n%s", err, text)
		}
		if diff := cmp.Diff(cfg, again, comparable, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("parsed again (-first +again):\n%s", diff)
		}
	})
}

// comparable lets cmp compare addresses by value.
var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// checkErrors checks what every refusal promises.
func checkErrors(t *testing.T, cfg *Config, err error) {
	t.Helper()
	list := AsErrors(err)
	if cfg != nil || len(list) == 0 {
		t.Fatalf("refused with cfg %v and %d errors", cfg, len(list))
	}
	for _, e := range list {
		if e.Line < 1 || e.Column < 1 || e.Msg == "" || strings.Contains(e.Msg, "gave up") {
			t.Errorf("bad error: %+v", e)
		}
	}
	if !slices.IsSortedFunc(list, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	}) {
		t.Errorf("not sorted: %v", list)
	}
}

// TestDeepNesting feeds nesting that would exhaust a recursive parser's stack, up to the size that is read at all.
func TestDeepNesting(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"[", "{a: ", "- ", "-\t", "[a, ", "{[", "? - ", "\r- "} {
		data := []byte("node:\n  " + strings.Repeat(unit, maxSize/len(unit)-8))
		if _, err := Parse("in.yaml", data); err == nil {
			t.Errorf("%d bytes of %q are accepted", len(data), unit)
		}
	}
	if _, err := Parse("in.yaml", make([]byte, maxSize+1)); err == nil {
		t.Error("a file over the limit is accepted")
	}
}
