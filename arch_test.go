// Package transitd_test holds the architecture in place: what may import what,
// and the few habits that a compiler does not check. CONTRIBUTING.md explains
// them; .golangci.yml has the same arrows for the editor.
package transitd_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is this module's path with the slash.
const module = "github.com/transitd/transitd/"

// source is one Go file of the repository.
type source struct {
	path string // from the root, with slashes
	dir  string
	test bool
	text []byte
	file *ast.File
	fset *token.FileSet
}

// sources parses every Go file of the repository.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != "." && (name == "testdata" || name == "bin" || strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		slash := filepath.ToSlash(p)
		out = append(out, source{slash, path.Dir(slash), strings.HasSuffix(name, "_test.go"), text, f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("found only %d files", len(out))
	}
	return out
}

// arrow is one forbidden import. Paths are from the root and match with all that is below them.
type arrow struct {
	from   []string // packages; empty is every package
	except []string // packages or files that may
	to     []string // imports; of this module without its path
	tests  bool     // tests are bound too
	why    string
}

// pure lists the packages of bytes in, bytes out.
func pure() []string {
	return []string{"pkg/packet", "tunnel/gso", "tunnel/vxlan", "tunnel/sa", "tunnel/ike", "tunnel/esp", "bgp/policy"}
}

func arrows() []arrow {
	above := []string{"pkg/daemon", "pkg/control", "pkg/lab", "cmd"}
	return []arrow{
		{from: []string{"tunnel"}, to: []string{"bgp"}, tests: true, why: "only pkg/daemon knows both"},
		{from: []string{"bgp"}, to: []string{"tunnel"}, tests: true, why: "only pkg/daemon knows both"},
		{from: []string{"tunnel", "bgp"}, to: []string{"pkg/config"}, tests: true, why: "a component declares its own Config, pkg/daemon translates"},
		{from: []string{"tunnel", "bgp"}, to: above, why: "arrows point downwards"},
		{from: []string{"pkg/packet", "pkg/azure", "pkg/version", "pkg/netns", "pkg/events", "pkg/sse", "pkg/secret", "pkg/manpage", "pkg/diag/bugreport", "tunnel/esp/aesgcm"}, except: []string{"pkg/netns/netnstest"}, to: []string{"bgp", "tunnel", "pkg", "cmd"}, why: "a leaf imports nothing of this module"},
		{from: []string{"pkg/config"}, to: []string{"bgp", "tunnel", "pkg/daemon", "pkg/control", "pkg/lab", "pkg/netns"}, why: "the configuration is plain values"},
		{from: []string{"pkg/control"}, to: []string{"bgp", "tunnel", "pkg/daemon", "pkg/lab"}, why: "the API is plain types, so that its client is small"},
		{from: []string{"pkg/diag/doctor"}, except: []string{"pkg/diag/doctor/machine"}, to: []string{"net", "os", "os/exec", "syscall", "golang.org/x/sys/unix", "github.com/safchain"}, why: "what is found is judged by pure functions; pkg/diag/doctor/machine reads"},
		{from: []string{"pkg/diag"}, to: []string{"bgp", "tunnel", "pkg/daemon", "pkg/lab"}, why: "what diagnoses asks the daemon over its socket, as anybody may"},
		{except: []string{"pkg/diag/audit/live"}, to: []string{"github.com/Azure"}, tests: true, why: "Azure's SDK is one package's alone"},
		{from: []string{"pkg/metrics", "pkg/observe"}, to: []string{"bgp", "tunnel", "pkg/daemon", "pkg/config", "pkg/lab"}, why: "what is shown is what the API says"},
		{except: []string{"pkg/metrics", "pkg/observe"}, to: []string{"github.com/prometheus"}, tests: true, why: "Prometheus' types stay in two packages"},
		{from: []string{"pkg/capture", "pkg/hops", "pkg/stamp"}, to: []string{"bgp", "tunnel", "pkg/daemon", "pkg/control", "pkg/config", "pkg/lab"}, tests: true, why: "they look at packets, whoever asks"},
		{except: []string{"cmd"}, to: []string{"cmd"}, tests: true, why: "main packages are wiring"},
		{except: []string{"pkg/config"}, to: []string{"github.com/goccy/go-yaml", "go.yaml.in", "gopkg.in/yaml"}, tests: true, why: "YAML is pkg/config's alone"},
		{except: []string{"bgp/gobgp.go"}, to: []string{"github.com/osrg/gobgp"}, why: "GoBGP's types stay in one file"},
		{except: []string{"bgp/fib", "tunnel/tun", "pkg/netns", "pkg/lab", "pkg/daemon", "pkg/diag/doctor/machine"}, to: []string{"github.com/vishvananda"}, why: "netlink is the business of few packages"},
		{from: pure(), to: []string{"net", "os", "log", "syscall", "golang.org/x/sys/unix", "go.uber.org/zap", "crypto/rand", "math/rand"}, why: "pure packages have no sockets, files, logs or randomness"},
		{to: []string{"github.com/stretchr/testify"}, tests: true, why: "go-cmp and plain ifs"},
	}
}

func TestImportDirections(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, imp := range s.file.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			name = strings.TrimPrefix(name, module)
			for _, a := range arrows() {
				if s.test && !a.tests || len(a.from) > 0 && !under(s.path, a.from) || under(s.path, a.except) || !imports(name, a.to) {
					continue
				}
				t.Errorf("%s imports %s: %s", s.path, name, a.why)
			}
		}
	}
}

// under reports whether a path is one of the roots or below it.
func under(p string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return p == r || strings.HasPrefix(p, r+"/") })
}

// imports reports whether an import is one of the list or below it. The package net has harmless ones below it (net/netip).
func imports(name string, list []string) bool {
	return slices.ContainsFunc(list, func(r string) bool {
		return name == r || r != "net" && strings.HasPrefix(name, r+"/")
	})
}

// TestPureHasNoClock checks that pure packages get the time passed in.
func TestPureHasNoClock(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test || !under(s.path, pure()) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "AfterFunc"}, sel.Sel.Name) {
				t.Errorf("%s: time.%s in a pure package", s.fset.Position(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}

// TestPackageDocs checks that each package says what it is.
func TestPackageDocs(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		lead := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			lead = "Command " + path.Base(s.dir) + " "
		}
		doc := s.file.Doc.Text()
		documented[s.dir] = documented[s.dir] || strings.HasPrefix(doc, lead)
		if doc != "" && !strings.HasPrefix(doc, lead) {
			t.Errorf("%s: the package comment does not begin with %q", s.path, lead)
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// TestNoInit checks that nothing happens because of an import.
func TestNoInit(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init", s.fset.Position(f.Pos()))
			}
		}
	}
}

// TestFileSizes checks that no file grows beyond what one can keep in the head.
func TestFileSizes(t *testing.T) {
	t.Parallel()
	const limit = 800 // lines
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n >= limit && !ast.IsGenerated(s.file) {
			t.Errorf("%s has %d lines, less than %d are allowed", s.path, n, limit)
		}
	}
}

// TestPackageNames refuses names that say nothing.
func TestPackageNames(t *testing.T) {
	t.Parallel()
	empty := []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "types", "shared", "lib", "manager"}
	for _, s := range sources(t) {
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		if slices.Contains(empty, name) || slices.Contains(empty, path.Base(s.dir)) {
			t.Errorf("%s: %q says nothing about what is inside", s.path, name)
		}
	}
}

// TestRFCsListed checks that docs/rfc-status.md has a row for every RFC that the code cites.
func TestRFCsListed(t *testing.T) {
	t.Parallel()
	status, err := os.ReadFile("docs/rfc-status.md")
	if err != nil {
		t.Fatal(err)
	}
	cite := regexp.MustCompile(`\bRFC (\d{3,5})\b`)
	listed := map[string]bool{}
	for _, cell := range regexp.MustCompile(`(?m)^\| ([\d, ]+) \|`).FindAllSubmatch(status, -1) {
		for n := range strings.SplitSeq(string(cell[1]), ", ") {
			listed[n] = true
		}
	}
	missing := map[string]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, m := range cite.FindAllSubmatch(s.text, -1) {
			if n := string(m[1]); !listed[n] {
				missing[n] = s.path
			}
		}
	}
	for n, where := range missing {
		t.Errorf("docs/rfc-status.md has no row for RFC %s, which %s cites", n, where)
	}
}
