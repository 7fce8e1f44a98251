package main

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/transitd/transitd/pkg/manpage"
)

// docs is where the generated documents are.
const docs = "../../docs"

// generatedFiles compares a folder with what it should hold; -update writes it.
func generatedFiles(t *testing.T, dir, pattern string, want map[string][]byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	there, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range there {
		if want[filepath.Base(file)] != nil {
			continue
		}
		if *update {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s is of a command that is not there, run: make generate", file)
	}
	for name, text := range want {
		file := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v; run: make generate", err)
			continue
		}
		if d := cmp.Diff(string(text), string(got)); d != "" {
			t.Errorf("%s is stale, run: make generate\n(-want +file)\n%s", file, d)
		}
	}
}

// book is what the manual pages say beside the commands' own descriptions.
func book() manpage.Book {
	return manpage.Book{
		Section: "1", Date: "2026-11-23", Source: "transitd", Manual: "transitd",
		Root: []manpage.Section{
			{Title: "FILES", Text: "/run/transitd/*.sock\tSockets of the daemons that run here; one is taken by itself.\n" +
				"/etc/transitd/NODE.yaml\tThe configuration of a node, which bugreport reads."},
			{Title: "ENVIRONMENT", Text: "TRANSITD_SOCKET\tThe socket, if --socket is not given.\n" +
				"NO_COLOR\tIf it is set and not empty, nothing is coloured.\nAZURE_CLIENT_ID\tThe managed identity that audit --live takes, if the machine has several."},
		},
		More: []manpage.Section{
			{Title: "EXIT STATUS", Text: "0\tThe answer is a healthy one.\n1\tSomething is degraded, was found, or the daemon refused.\n" +
				"2\tThe command line or an input is wrong.\n3\tNo daemon answers in time, or its socket may not be opened."},
		},
		SeeAlso: []string{"transitd(8)"},
	}
}

// TestManPages: docs/man is what the commands say now.
func TestManPages(t *testing.T) {
	t.Parallel()
	pages := book().Pages(newApp("/run/transitd").command())
	if len(pages) < 12 {
		t.Fatalf("only %d pages", len(pages))
	}
	generatedFiles(t, filepath.Join(docs, "man"), "*.1", pages)
}

// TestManPagesClean: neither groff nor mandoc has anything to say about a page.
func TestManPagesClean(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs man and mandoc: left out by -short")
	}
	pages, err := filepath.Glob(filepath.Join(docs, "man", "*.[18]"))
	if err != nil || len(pages) < 12 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	if out, err := exec.CommandContext(t.Context(), "mandoc", append([]string{"-T", "lint"}, pages...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "man", append([]string{"--warnings", "-l"}, pages...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANPAGER=cat", "MANROFFSEQ=")
	var warnings, text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &warnings
	if err := cmd.Run(); err != nil || warnings.Len() > 0 {
		t.Errorf("man: %v\n%s", err, warnings.String())
	}
	for _, want := range []string{"transitctl-bgp-routes", "EXIT STATUS", "--last", "show-effective-route-table"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the pages lack %q", want)
		}
	}
}

// schemaURL is where the schemas are published; nothing is fetched from there.
const schemaURL = "https://github.com/transitd/transitd/blob/main/docs/json/"

// schemaOf makes the JSON Schema of a command's answer from its Go type and
// the comments there. What comes later may have more fields, so more are allowed.
func schemaOf(t *testing.T, words []string, answer any) *jsonschema.Schema {
	t.Helper()
	r := jsonschema.Reflector{AllowAdditionalProperties: true, ExpandedStruct: true}
	for _, dir := range []string{"pkg/control", "pkg/events", "pkg/diag/audit", "pkg/diag/bugreport", "pkg/diag/doctor"} {
		if err := r.AddGoComments("github.com/transitd/transitd", "./"+dir); err != nil {
			t.Fatal(err)
		}
	}
	s := r.Reflect(answer)
	s.ID = jsonschema.ID(schemaURL + strings.Join(words, "-") + ".schema.json")
	s.Title = "transitctl " + strings.Join(words, " ") + " -o json"
	nullable(s, s.Definitions, reflect.TypeOf(answer), map[reflect.Type]bool{})
	if v, ok := s.Properties.Get("schema_version"); ok {
		v.Const = 1
	}
	return s
}

// nullable says which fields may be null: pointers that are not left out.
func nullable(s *jsonschema.Schema, defs jsonschema.Definitions, typ reflect.Type, seen map[reflect.Type]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() || seen[typ] {
		return
	}
	seen[typ] = true
	if d, ok := defs[typ.Name()]; ok {
		s = d
	}
	for f := range typ.Fields() {
		if f.Anonymous {
			continue // its fields have no pointers, and stand in s
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if p, ok := s.Properties.Get(name); ok && f.Type.Kind() == reflect.Pointer && !strings.Contains(options, "omit") {
			s.Properties.Set(name, &jsonschema.Schema{
				Description: p.Description,
				AnyOf:       []*jsonschema.Schema{{Ref: p.Ref, Type: p.Type, Minimum: p.Minimum}, {Type: "null"}},
			})
		}
		nullable(s, defs, f.Type, seen)
	}
}

// schemas makes all schemas, by file name, and gives the answers that they are of.
func schemas(t *testing.T) (files map[string][]byte, answers map[string]any) {
	t.Helper()
	files, answers = map[string][]byte{}, map[string]any{}
	// The reflector finds comments by the path from the module's root.
	t.Chdir("../..")
	walk(newApp("").entries(), func(words []string, e entry) {
		if e.answer == nil {
			return
		}
		name := strings.Join(words, "-") + ".schema.json"
		b, err := json.MarshalIndent(schemaOf(t, words, e.answer), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		files[name], answers[name] = append(b, '\n'), e.answer
	})
	t.Chdir("cmd/transitctl")
	return files, answers
}

// TestSchemas: docs/json is what the types say now; an answer in which
// everything is set fits, one without a required field does not.
func TestSchemas(t *testing.T) {
	files, answers := schemas(t)
	generatedFiles(t, filepath.Join(docs, "json"), "*.json", files)
	for name, text := range files {
		c := validator.NewCompiler()
		doc, err := validator.UnmarshalJSON(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(name, doc); err != nil {
			t.Fatal(err)
		}
		schema, err := c.Compile(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for what, set := range map[string]bool{"everything set": true, "empty": false} {
			v := reflect.New(reflect.TypeOf(answers[name]))
			fill(v.Elem(), set)
			b, err := json.Marshal(v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			instance, err := validator.UnmarshalJSON(strings.NewReader(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(instance); err != nil {
				t.Errorf("%s, %s: %v\n%s", name, what, err, b)
			}
			object := instance.(map[string]any)
			key := slices.Sorted(maps.Keys(object))[0]
			if delete(object, key); !set && schema.Validate(object) == nil {
				t.Errorf("%s: an answer without %s fits", name, key)
			}
		}
		if !strings.Contains(string(text), `"description"`) && name != "keygen.schema.json" {
			t.Errorf("%s describes nothing", name)
		}
	}
}

// fill gives every field a value, or with set unset only the lists that are never null.
func fill(v reflect.Value, set bool) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_800_000_000, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "SchemaVersion" {
				v.Field(i).SetInt(1)
				continue
			}
			if v.Field(i).CanSet() { // what is not exported is not printed
				fill(v.Field(i), set)
			}
		}
	case reflect.Slice:
		n := 0
		if set {
			n = 2
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), set)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		if set {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(value, set)
			v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), value)
		}
	case reflect.Pointer:
		if set {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), set)
		}
	case reflect.String:
		if set {
			v.SetString("x")
		}
	case reflect.Bool:
		v.SetBool(set)
	case reflect.Int, reflect.Int64:
		if set {
			v.SetInt(7)
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if set {
			v.SetUint(7)
		}
	case reflect.Float64:
		if set {
			v.SetFloat(0.5)
		}
	default:
		panic("no value for " + v.Kind().String())
	}
}
