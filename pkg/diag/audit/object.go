package audit

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// object is a JSON object whose fields are found without regard to case
// (the CLI has changed its mind between enableIpForwarding and
// enableIPForwarding) and whether they stand at the top, as the CLI prints
// them, or in "properties", as the REST API answers.
//
// A field of a wrong type is told once, as a note, and then is as one that is not there.
type object struct {
	where  string
	fields map[string]any
	note   func(format string, args ...any)
}

func newObject(where string, v map[string]any, note func(string, ...any)) object {
	o := object{where: where, fields: make(map[string]any, len(v)), note: note}
	for k, f := range v {
		o.fields[strings.ToLower(k)] = f
	}
	if inner, ok := o.fields["properties"].(map[string]any); ok {
		for k, f := range inner {
			if _, taken := o.fields[strings.ToLower(k)]; !taken {
				o.fields[strings.ToLower(k)] = f
			}
		}
	}
	return o
}

// has reports whether a field is there and not null.
func (o object) has(name string) bool { return o.fields[strings.ToLower(name)] != nil }

// wrong notes a field of a wrong type.
func (o object) wrong(name, want string, got any) {
	b, err := json.Marshal(got)
	if err != nil {
		b = []byte("?")
	}
	o.note("%s: %s is %.60s, want %s", o.where, name, b, want)
}

func (o object) text(name string) string {
	switch v := o.fields[strings.ToLower(name)].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		o.wrong(name, "text", v)
		return ""
	}
}

func (o object) flag(name string) *bool {
	switch v := o.fields[strings.ToLower(name)].(type) {
	case nil:
		return nil
	case bool:
		return &v
	default:
		o.wrong(name, "true or false", v)
		return nil
	}
}

func (o object) number(name string) *int64 {
	v := o.fields[strings.ToLower(name)]
	if v == nil {
		return nil
	}
	text := fmt.Sprint(v) // json.Number, or a number in quotes
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		o.wrong(name, "a whole number", v)
		return nil
	}
	return &n
}

// texts is a list of texts; a single one counts as a list.
func (o object) texts(name string) (out []string) {
	switch v := o.fields[strings.ToLower(name)].(type) {
	case nil:
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				o.wrong(name, "a list of texts", v)
				return nil
			}
			out = append(out, s)
		}
	default:
		o.wrong(name, "a list of texts", v)
	}
	return out
}

// objects is a list of objects.
func (o object) objects(name string) (out []object) {
	v := o.fields[strings.ToLower(name)]
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	for _, e := range list {
		m, is := e.(map[string]any)
		if !is {
			ok = false
			break
		}
		out = append(out, newObject(o.where, m, o.note))
	}
	if !ok {
		o.wrong(name, "a list of objects", v)
		return nil
	}
	return out
}

// child is an object in a field; without it, an empty one.
func (o object) child(name string) object {
	v := o.fields[strings.ToLower(name)]
	m, ok := v.(map[string]any)
	if v != nil && !ok {
		o.wrong(name, "an object", v)
	}
	return newObject(o.where, m, o.note)
}

// reference is the ID of another resource.
func (o object) reference(name string) resourceID { return resourceID(o.child(name).text("id")) }

func (o object) prefixes(name string) (out []netip.Prefix) {
	for _, s := range o.texts(name) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			o.note("%s: %s has %.60q, which is no prefix", o.where, name, s)
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

func (o object) addresses(name string) (out []netip.Addr) {
	for _, s := range o.texts(name) {
		if a, ok := o.parseAddress(name, s); ok {
			out = append(out, a)
		}
	}
	return out
}

func (o object) address(name string) netip.Addr {
	a, _ := o.parseAddress(name, o.text(name))
	return a
}

func (o object) parseAddress(name, s string) (netip.Addr, bool) {
	if s == "" {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		o.note("%s: %s has %.60q, which is no address", o.where, name, s)
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// asns reads an AS path as Azure writes it: numbers with dashes between.
func asns(path string) (out []uint32) {
	for f := range strings.FieldsFuncSeq(path, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.ParseUint(f, 10, 32); err == nil {
			out = append(out, uint32(n))
		}
	}
	return out
}
