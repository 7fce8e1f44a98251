package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// docs is where the generated and the checked documents are.
const docs = "../../docs"

// TestGenerated compares docs/schema.json and docs/configuration.md with what
// the types say now; -update writes them.
func TestGenerated(t *testing.T) {
	t.Parallel()
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"schema.json": string(schema), "configuration.md": configurationMD(t)} {
		path := filepath.Join(docs, name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is stale, run: go test ./pkg/config -update\n(-want +file)\n%s", name, diff)
		}
	}
}

// TestDocumentsParse parses every configuration that the documentation shows, and holds it against the schema.
func TestDocumentsParse(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(docs, "examples", "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("found %d examples: %v", len(files), err)
	}
	schema := compiledSchema(t)
	for _, file := range append(files, filepath.Join(docs, "reference.yaml")) {
		if _, err := Load(file); err != nil {
			t.Errorf("%v", err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance(t, data)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestGuidesParse parses every block of YAML in the guides. What a block leaves
// out for brevity is added behind it, so that places are those of the guide.
func TestGuidesParse(t *testing.T) {
	t.Parallel()
	guides, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	schema, found := compiledSchema(t), 0
	for _, guide := range append(guides, "../../README.md") {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range yamlBlocks(string(text)) {
			found++
			for key, value := range map[string]string{"node": "{name: hub-nva, asn: 64512, site: hub}", "underlay": "{interface: eth0}"} {
				if !strings.Contains(block, "\n"+key+":") {
					block += key + ": " + value + "\n"
				}
			}
			block = strings.ReplaceAll(block, ": … ", ": AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= ") // a key that the reader fills in
			if _, err := Parse(guide, []byte(block)); err != nil {
				t.Errorf("%v", err)
			}
			if err := schema.Validate(instance(t, []byte(block))); err != nil {
				t.Errorf("%s: %v", guide, err)
			}
		}
	}
	if found < 4 {
		t.Errorf("found %d blocks of YAML", found)
	}
}

// yamlBlocks are the blocks of YAML in a guide, each after as many empty lines as are above it.
func yamlBlocks(text string) (blocks []string) {
	const open, end = "```yaml\n", "```\n"
	at := 0
	for {
		i := strings.Index(text[at:], open)
		if i < 0 {
			return blocks
		}
		at += i + len(open)
		block, _, _ := strings.Cut(text[at:], end)
		blocks = append(blocks, strings.Repeat("\n", strings.Count(text[:at], "\n"))+block)
		at += len(block)
	}
}

// TestSchemaAgrees holds every golden case against the schema: it accepts what
// Parse accepts, and refuses what is wrong by form alone.
func TestSchemaAgrees(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	formal := map[string]bool{
		"missing": true, "unknown_keys": true, "wrong_types": true, "out_of_range": true,
		"encapsulations": true, "not_a_mapping": true,
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, perr := Parse("in.yaml", ar.Files[0].Data)
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		switch {
		case perr == nil:
			if err := schema.Validate(instance(t, ar.Files[0].Data)); err != nil {
				t.Errorf("%s: the schema refuses what Parse accepts: %v", name, err)
			}
		case formal[name]:
			if err := schema.Validate(instance(t, ar.Files[0].Data)); err == nil {
				t.Errorf("%s: the schema accepts it", name)
			}
		}
	}
}

// TestReferenceComplete checks that docs/reference.yaml gives every key.
func TestReferenceComplete(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(docs, "reference.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	collect(instance(t, data), "", have)
	walkKeys(reflect.TypeFor[Config](), "", func(path string, _ field) {
		if !have[path] {
			t.Errorf("docs/reference.yaml does not give %s", path)
		}
	})
}

// collect notes the paths of all keys of a YAML value; list entries are all one path.
func collect(v any, path string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			into[join(path, k)] = true
			collect(sub, join(path, k), into)
		}
	case []any:
		for _, e := range v {
			collect(e, path+"[]", into)
		}
	}
}

// walkKeys calls f for every key of the format, in order.
func walkKeys(t reflect.Type, path string, f func(path string, fd field)) {
	for _, fd := range fields(t) {
		sub, typ := join(path, fd.key), fd.typ
		f(sub, fd)
		if typ.Kind() == reflect.Slice {
			typ, sub = typ.Elem(), sub+"[]"
		}
		if isMapping(typ) {
			walkKeys(typ, sub, f)
		}
	}
}

// instance turns YAML into what the schema library takes.
func instance(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// configurationMD renders docs/configuration.md.
func configurationMD(t *testing.T) string {
	t.Helper()
	comments, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`<!-- Generated from pkg/config/types.go by: go test ./pkg/config -update -->

# Configuration

One YAML file describes one node. It is strict: an unknown or repeated key, a wrong type, a value out of
range, anchors, aliases and tags are errors. ` + "`transitd check -c FILE`" + ` finds every mistake at once, before
anything starts, and says where it is and what would be right:

` + "```" + `
hub.yaml:14:17: tunnels[0].vxlan.vni: 16777216 is out of range (1 to 16777215)
  hint: a VNI has 24 bits, and 0 is not used
` + "```" + `

SIGHUP or ` + "`transitctl reload`" + ` reads the file again and applies the difference; a file with a mistake changes nothing.
Secrets are never values of this file: keys that end in _file name files with mode 0600, or 0640 where root gives them to a group; ` + "`cert_file` and `ca_file`" + `, which are public, may have any. Time spans are written as ` + "`300ms`, `9s`, `3m`" + `.

[reference.yaml](reference.yaml) has every key in one file, [examples](examples) the two files of the lab,
[schema.json](schema.json) is for editors (` + "`# yaml-language-server: $schema=schema.json`" + `; also ` + "`transitd schema`" + `).
`)
	section(&b, comments, "", reflect.TypeFor[Config](), "")
	b.WriteString(`
## What is refused beyond the single key

- An ASN that Azure or IANA reserves, of this node or a tunnel's peer; more than 16 bits, or a documentation number, with a
  Route Server; our own ASN for a Route Server.
- Overlays that overlap each other, the underlay, a RouteServerSubnet, the VNet or an Azure address (168.63.129.16,
  169.254.169.254); ` + "`address` and `peer_address`" + ` that are equal, of different subnets, or a network or broadcast address.
- Two neighbours of one name; two tunnels with the same VNI, peer and port; UDP port 65330, which Azure's host drops.
- A remote that is our own address, the gateway, inside a RouteServerSubnet or not of the underlay's family.
- Originated prefixes that policy would never announce: the overlay, RouteServerSubnets, endpoints, the VNet and its parts,
  link-local, loopback, multicast, host routes that are not listed; a default route to a Route Server that denies it.
- Tables that are the kernel's own or equal; a route protocol number that belongs to another routing program.
- WireGuard tunnels that share a UDP port, with each other or with VXLAN; a mapping wireguard without that encapsulation.
- IPsec tunnels to one peer with one port, a preshared key beside certificates or neither of them, certificates without their key or authority,
  one name for both ends, traffic selectors without the tunnel's own addresses.
`)
	return b.String()
}

// section renders one mapping and those inside it.
func section(b *strings.Builder, comments map[string]string, path string, t reflect.Type, about string) {
	if path != "" {
		fmt.Fprintf(b, "\n## `%s`\n\n%s\n", path, about)
		b.WriteString("\n| key | type | required, default | meaning |\n|---|---|---|---|\n")
	}
	for _, f := range fields(t) {
		typ := f.typ
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if path != "" {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.key, typeText(f), needText(f.rules), comments[t.Name()+"."+f.name])
		}
		if path == "" && !isMapping(typ) {
			t := typ.String()
			panic("a key of the top level that is no mapping needs a row somewhere: " + t)
		}
	}
	for _, f := range fields(t) {
		typ, sub := f.typ, join(path, f.key)
		if typ.Kind() == reflect.Slice {
			typ, sub = typ.Elem(), sub+"[]"
		}
		if isMapping(typ) {
			section(b, comments, sub, typ, comments[t.Name()+"."+f.name]+" "+requiredText(f.rules))
		}
	}
}

func requiredText(r rules) string {
	if r.required {
		return "Required."
	}
	return "Optional."
}

// typeText names a key's type and range.
func typeText(f field) string {
	typ, list := f.typ, ""
	if typ.Kind() == reflect.Slice {
		typ, list = typ.Elem(), "list of "
	}
	switch name := nameOf(typ); {
	case isMapping(typ):
		return list + "keys"
	case typ == reflect.TypeFor[DSCP]():
		return "`copy` or 0 to 63"
	case name != "a single value":
		if f.rules.hostBits {
			name = prefixNoun(true)
		}
		return list + strings.TrimPrefix(strings.TrimPrefix(name, "an "), "a ")
	case len(f.rules.enum) > 0:
		return "`" + strings.Join(f.rules.enum, "`, `") + "`"
	case typ.Kind() == reflect.Bool:
		return "true or false"
	case typ.Kind() == reflect.String:
		return list + "text"
	default:
		return fmt.Sprintf("%d to %d", f.rules.minimum, f.rules.maximum)
	}
}

func needText(r rules) string {
	switch {
	case r.required:
		return "required"
	case r.hasDefault:
		return "`" + r.defaultText + "`"
	default:
		return "–"
	}
}

// TestDocumentedDefaults checks that the number in the text about mark is the default.
func TestDocumentedDefaults(t *testing.T) {
	t.Parallel()
	text, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields(reflect.TypeFor[Routing]()) {
		if f.key != "mark" {
			continue
		}
		n, err := strconv.Atoi(f.rules.defaultText)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("0x%x", n); !strings.Contains(text["Routing.Mark"], want) {
			t.Errorf("the comment of mark does not name its default %s", want)
		}
	}
}

// TestEveryKeyDocumented checks that each key has a description that ends as a sentence.
func TestEveryKeyDocumented(t *testing.T) {
	t.Parallel()
	text, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	var visit func(typ reflect.Type)
	visit = func(typ reflect.Type) {
		for _, f := range fields(typ) {
			if d := text[typ.Name()+"."+f.name]; !strings.HasSuffix(d, ".") {
				t.Errorf("%s.%s: description %q", typ.Name(), f.name, d)
			}
			sub := f.typ
			if sub.Kind() == reflect.Slice {
				sub = sub.Elem()
			}
			if isMapping(sub) {
				visit(sub)
			}
		}
	}
	visit(reflect.TypeFor[Config]())
}
