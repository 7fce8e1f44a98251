package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// position is a place in the file; both start at 1.
type position struct{ line, column int }

// at returns where a node begins: a block mapping begins at its first key, not at that key's colon.
func at(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return at(m.Values[0].Key)
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return at(m.Key)
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return position{1, 1}
	}
	return position{tk.Position.Line, tk.Position.Column}
}

// decoder walks a syntax tree and a Go value side by side and collects what does not fit.
type decoder struct {
	file string
	errs Errors
	// pos remembers where each value stood, by its path, for the validator.
	pos map[string]position
}

// fail notes a mistake.
func (d *decoder) fail(p position, path, hint, format string, args ...any) {
	d.errs = append(d.errs, &Error{
		File: d.file, Line: p.line, Column: p.column, Path: path,
		Msg: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// value decodes a node into v. What does not fit leaves v at its zero value, which the validator passes over.
func (d *decoder) value(n ast.Node, v reflect.Value, path string, r rules) {
	d.pos[path] = at(n)
	if !d.plain(n, path) {
		return
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, v, path, r)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.sequence(n, v, path, r)
	case reflect.String:
		d.str(n, v, path, r)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.fail(at(n), path, "write true or false", "want true or false, not %s", describe(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		d.integer(n, v, path, r)
	default:
		panic(fmt.Sprintf("config: %s has a type that the decoder does not know: %s", path, v.Type()))
	}
}

// plain refuses what YAML has beyond mappings, lists and scalars, and a key without a value.
func (d *decoder) plain(n ast.Node, path string) bool {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		d.fail(at(n), path, "write the value out where it is used", "anchors and aliases are not allowed")
	case *ast.TagNode:
		d.fail(at(n), path, "remove the tag", "tags are not allowed")
	case *ast.NullNode:
		d.fail(at(n), path, "give a value or remove the key", "has no value")
	default:
		return true
	}
	return false
}

// mapping decodes a mapping into a struct, key by key.
func (d *decoder) mapping(n ast.Node, v reflect.Value, path string) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(at(n), path, "its keys are "+strings.Join(keys(v.Type()), ", "), "want keys and values, not %s", describe(n))
		return
	}
	seen := map[string]position{}
	meant := map[string]bool{} // keys that an unknown key looks like
	for it := m.MapRange(); it.Next(); {
		d.key(it, v, path, seen, meant)
	}
	for _, f := range fields(v.Type()) {
		if _, ok := seen[f.key]; ok {
			continue
		}
		sub := v.FieldByIndex(f.index)
		if f.rules.required {
			if meant[f.key] {
				continue
			}
			d.fail(at(n), join(path, f.key), f.rules.hint, "missing")
			continue
		}
		fill(sub, f.rules)
	}
}

// key decodes one key of a mapping and its value.
func (d *decoder) key(it *ast.MapNodeIter, v reflect.Value, path string, seen map[string]position, meant map[string]bool) {
	name, p := it.Key().GetToken().Value, at(it.Key())
	if _, ok := it.Key().(*ast.MergeKeyNode); ok {
		d.fail(p, path, "write the keys out where they are used", "merge keys are not allowed")
		return
	}
	sub := join(path, name)
	if first, ok := seen[name]; ok {
		d.fail(p, sub, fmt.Sprintf("it is given first in line %d", first.line), "is given twice")
		return
	}
	seen[name] = p
	for _, f := range fields(v.Type()) {
		if f.key == name {
			d.value(it.Value(), v.FieldByIndex(f.index), sub, f.rules)
			return
		}
	}
	hint, key := unknownKeyHint(name, v.Type())
	meant[key] = true
	d.fail(p, sub, hint, "unknown key")
}

// sequence decodes a list into a slice.
func (d *decoder) sequence(n ast.Node, v reflect.Value, path string, r rules) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		hint := "write a list: a line with a dash for each entry"
		if sc, ok := n.(ast.ScalarNode); ok {
			hint = fmt.Sprintf("write a list: [%s]", sc.GetToken().Value)
		}
		d.fail(at(n), path, hint, "want a list, not %s", describe(n))
		return
	}
	if count := len(s.Values); !r.countOK(count) {
		d.fail(at(n), path, r.hint, "has %s, want %s", entries(count), r.counts())
	}
	v.Set(reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values)))
	for i, e := range s.Values {
		d.value(e, v.Index(i), fmt.Sprintf("%s[%d]", path, i), r.element())
	}
}

// str decodes a string and checks its length and enumeration.
func (d *decoder) str(n ast.Node, v reflect.Value, path string, r rules) {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	default:
		hint := ""
		if sc, ok := n.(ast.ScalarNode); ok {
			hint = fmt.Sprintf("put it in quotes: %q", sc.GetToken().Value)
		}
		d.fail(at(n), path, hint, "want text, not %s", describe(n))
		return
	}
	switch {
	case len(r.enum) > 0 && !r.allows(s):
		d.fail(at(n), path, didYouMean(s, r.enum), "%q is not one of %s", s, strings.Join(r.enum, ", "))
	case len(s) < r.minLength:
		d.fail(at(n), path, r.hint, "is empty")
	case r.maxLength > 0 && len(s) > r.maxLength:
		d.fail(at(n), path, r.hint, "%q has %d bytes, at most %d are allowed", s, len(s), r.maxLength)
	default:
		v.SetString(s)
	}
}

// integer decodes a whole number and checks its range.
func (d *decoder) integer(n ast.Node, v reflect.Value, path string, r rules) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		hint := r.hint
		if s, ok := n.(*ast.StringNode); ok {
			if _, err := strconv.ParseInt(s.Value, 10, 64); err == nil {
				hint = "write it without quotes: " + s.Value
			}
		}
		d.fail(at(n), path, hint, "want a whole number, not %s", describe(n))
		return
	}
	var x int64
	switch val := i.Value.(type) {
	case int64:
		x = val
	case uint64:
		x = int64(min(val, 1<<62)) // beyond every range here
	}
	if x < r.minimum || x > r.maximum {
		d.fail(at(n), path, r.hint, "%s is out of range (%d to %d)", i.GetToken().Value, r.minimum, r.maximum)
		return
	}
	if v.CanInt() {
		v.SetInt(x)
	} else {
		v.SetUint(uint64(x))
	}
}

// text decodes a scalar into a type that reads itself from text: addresses, prefixes, time spans.
func (d *decoder) text(n ast.Node, v reflect.Value, path string, r rules) {
	sc, ok := n.(ast.ScalarNode)
	if !ok {
		d.fail(at(n), path, r.hint, "want %s, not %s", nameOf(v.Type()), describe(n))
		return
	}
	s := sc.GetToken().Value
	if str, ok := n.(*ast.StringNode); ok {
		s = str.Value
	}
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		d.addr(at(n), p, path, s)
	case *netip.Prefix:
		d.prefix(at(n), p, path, s, r)
	case *netip.AddrPort:
		d.addrPort(at(n), p, path, s)
	case encoding.TextUnmarshaler:
		if err := p.UnmarshalText([]byte(s)); err != nil {
			v.SetZero()
			d.fail(at(n), path, textHint(v.Type()), "%v", err)
		}
	}
}

// describe names a node's kind for a person, with its value if it has a short one.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case ast.MapNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return fmt.Sprintf("text (%q)", shorten(n.Value))
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + shorten(n.GetToken().Value)
	default:
		return "this"
	}
}

// shorten keeps a value that is quoted in a message readable.
func shorten(s string) string {
	const limit = 40 // runes; longer values are cut, they are only there to be recognised
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return shorten(key)
	}
	return path + "." + shorten(key)
}

// entries counts list entries for a person.
func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
