package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// rules are what the tags of a field in types.go say about its value.
type rules struct {
	required             bool
	hasDefault           bool
	defaultText          string
	minimum, maximum     int64
	minLength, maxLength int // bytes; maxLength 0 is no limit
	minItems, maxItems   int // maxItems 0 is no limit
	enum                 []string
	hostBits             bool   // a prefix that is an interface's address
	hint                 string // printed with a mistake in this key
}

// field is one key of a mapping.
type field struct {
	key   string
	index []int
	name  string // the Go name
	typ   reflect.Type
	rules rules
}

// fields lists the keys of a struct of types.go, in their order.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, field{key: key, index: f.Index, name: f.Name, typ: f.Type, rules: parseTags(f)})
	}
	return out
}

// keys lists the names of fields.
func keys(t reflect.Type) []string {
	var out []string
	for _, f := range fields(t) {
		out = append(out, f.key)
	}
	return out
}

// parseTags reads a field's rules. A tag that cannot be read is a mistake in types.go, so it panics.
func parseTags(f reflect.StructField) rules {
	r := rules{minimum: math.MinInt64, maximum: math.MaxInt64, hint: f.Tag.Get("hint"), hostBits: f.Tag.Get("prefix") == "interface"}
	for part := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
		name, val, _ := strings.Cut(part, "=")
		number := func() int64 {
			n, err := strconv.ParseInt(val, 10, 64)
			if err != nil {
				panic(fmt.Sprintf("config: tag of field %s: %v", f.Name, err))
			}
			return n
		}
		switch name {
		case "":
		case "required":
			r.required = true
		case "default":
			r.hasDefault, r.defaultText = true, val
		case "minimum":
			r.minimum = number()
		case "maximum":
			r.maximum = number()
		case "minLength":
			r.minLength = int(number())
		case "maxLength":
			r.maxLength = int(number())
		case "minItems":
			r.minItems = int(number())
		case "maxItems":
			r.maxItems = int(number())
		case "enum":
			r.enum = append(r.enum, val)
		default:
			panic(fmt.Sprintf("config: tag of field %s: %q is unknown", f.Name, name))
		}
	}
	return r
}

// element returns the rules of a list's entries.
func (r rules) element() rules {
	return rules{minimum: r.minimum, maximum: r.maximum, minLength: r.minLength, maxLength: r.maxLength, enum: r.enum, hint: r.hint}
}

// allows reports whether the enumeration has the value.
func (r rules) allows(s string) bool { return slices.Contains(r.enum, s) }

// countOK reports whether a list may have n entries.
func (r rules) countOK(n int) bool { return n >= r.minItems && (r.maxItems == 0 || n <= r.maxItems) }

// counts says how many entries a list may have.
func (r rules) counts() string {
	switch {
	case r.minItems == r.maxItems:
		return strconv.Itoa(r.minItems)
	case r.maxItems == 0:
		return fmt.Sprintf("at least %d", r.minItems)
	default:
		return fmt.Sprintf("%d to %d", r.minItems, r.maxItems)
	}
}

// fill sets the default of a key that is not given; a mapping gets the defaults of its keys.
func fill(v reflect.Value, r rules) {
	if r.hasDefault {
		setDefault(v, r.defaultText)
		return
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok || v.Kind() != reflect.Struct {
		return
	}
	for _, f := range fields(v.Type()) {
		fill(v.FieldByIndex(f.index), f.rules)
	}
}

// setDefault sets a default from its tag. One that cannot be read is a mistake in types.go, so it panics.
func setDefault(v reflect.Value, text string) {
	var err error
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		err = u.UnmarshalText([]byte(text))
	} else {
		switch v.Kind() {
		case reflect.String:
			v.SetString(text)
		case reflect.Bool:
			var b bool
			b, err = strconv.ParseBool(text)
			v.SetBool(b)
		case reflect.Int:
			var i int64
			i, err = strconv.ParseInt(text, 10, 64)
			v.SetInt(i)
		default:
			var u uint64
			u, err = strconv.ParseUint(text, 10, 64)
			v.SetUint(u)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("config: default %q: %v", text, err))
	}
}
