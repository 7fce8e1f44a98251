package config

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// typesSource is types.go, whose comments describe the keys.
//
//go:embed types.go
var typesSource string

// schemaID names the schema; editors show it, nothing is fetched from there.
const schemaID = "https://github.com/transitd/transitd/blob/main/docs/schema.json"

// Schema returns the JSON Schema (2020-12) of the configuration file, for
// editors and other programs. It has every key, range, enumeration and default;
// the rules between keys are Parse's alone.
func Schema() ([]byte, error) {
	docs, err := comments()
	if err != nil {
		return nil, err
	}
	r := jsonschema.Reflector{
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Mapper:                     textSchema,
		LookupComment: func(t reflect.Type, field string) string {
			if field == "" {
				return docs[t.Name()]
			}
			return docs[t.Name()+"."+field]
		},
	}
	s := r.Reflect(&Config{})
	s.ID = schemaID
	s.Title = "transitd configuration"
	addDefaults(s.Definitions, reflect.TypeFor[Config]())
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("render the JSON Schema: %w", err)
	}
	return append(out, '\n'), nil
}

// textSchema describes the types that read themselves from text.
func textSchema(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return &jsonschema.Schema{Type: "string", AnyOf: []*jsonschema.Schema{{Format: "ipv4"}, {Format: "ipv6"}}}
	case reflect.TypeFor[netip.Prefix]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[0-9a-fA-F.:]+/[0-9]{1,3}$`}
	case reflect.TypeFor[netip.AddrPort]():
		return &jsonschema.Schema{Type: "string", Pattern: `^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]{1,5}$`}
	case reflect.TypeFor[Listen]():
		return &jsonschema.Schema{Type: "string", Pattern: `^((\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]{1,5})?$`}
	case reflect.TypeFor[Duration]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`},
			{Type: "integer", Const: 0},
		}}
	case reflect.TypeFor[MAC]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$`}
	case reflect.TypeFor[PublicKey]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[A-Za-z0-9+/]{43}=$`}
	case reflect.TypeFor[DSCP]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Enum: []any{DSCPCopy.String()}},
			{Type: "integer", Minimum: json.Number("0"), Maximum: json.Number("63")},
		}}
	default:
		return nil
	}
}

// addDefaults adds the defaults that the reflector passes over: those of keys with more than one type.
func addDefaults(defs jsonschema.Definitions, t reflect.Type) {
	for _, f := range fields(t) {
		if def, ok := defs[t.Name()]; ok && f.rules.hasDefault {
			if p, ok := def.Properties.Get(f.key); ok && p.Default == nil {
				p.Default = f.rules.defaultText
			}
		}
		if f.typ.Kind() == reflect.Slice {
			f.typ = f.typ.Elem()
		}
		if isMapping(f.typ) {
			addDefaults(defs, f.typ)
		}
	}
}

// comments reads the doc comments of types.go, by type and by "Type.Field".
// The leading name, which Go wants, is removed: "Remote is the …" becomes "The …".
func comments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", typesSource, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read the comments of types.go: %w", err)
	}
	docs := map[string]string{}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		spec := gen.Specs[0].(*ast.TypeSpec)
		docs[spec.Name.Name] = plainText(spec.Name.Name, gen.Doc)
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range st.Fields.List {
			name := f.Names[0].Name
			docs[spec.Name.Name+"."+name] = plainText(name, f.Doc)
		}
	}
	return docs, nil
}

// plainText turns a Go doc comment into the description of a key.
func plainText(name string, doc *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(doc.Text()), " ")
	rest, ok := strings.CutPrefix(text, name+" ")
	if !ok {
		return text
	}
	switch verb, after, _ := strings.Cut(rest, " "); verb {
	case "is", "are":
		text = after
	case "says", "holds", "lists", "names", "sends":
		text = rest
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
