package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// unknownKeyHint says what a key that does not exist may have been meant to be;
// meant is that key, if it is one of this mapping.
func unknownKeyHint(name string, t reflect.Type) (hint, meant string) {
	if looksSecret(name) {
		return "secrets are never values of this file: name a file with mode 0600 in a key that ends in _file", ""
	}
	here := keys(t)
	if meant = nearest(name, here); meant != "" {
		return "did you mean " + meant + "?", meant
	}
	if places := elsewhere(name, reflect.TypeFor[Config](), ""); len(places) > 0 {
		return "this key belongs elsewhere: " + strings.Join(places, ", "), ""
	}
	return "the keys here are " + strings.Join(here, ", "), ""
}

// looksSecret reports whether a key's name asks for a secret.
func looksSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "secret", "psk", "private_key", "preshared", "token"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return strings.HasSuffix(name, "ppk") // ppk_id is none
}

// elsewhere lists the paths where a key of this name exists.
func elsewhere(name string, t reflect.Type, path string) []string {
	var out []string
	for _, f := range fields(t) {
		sub := join(path, f.key)
		if f.key == name {
			out = append(out, sub)
		}
		typ := f.typ
		if typ.Kind() == reflect.Slice {
			typ, sub = typ.Elem(), sub+"[]"
		}
		if isMapping(typ) {
			out = append(out, elsewhere(name, typ, sub)...)
		}
	}
	return out
}

// isMapping reports whether a type is written as keys and values.
func isMapping(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// didYouMean returns a hint with the nearest word, or nothing if none is near.
func didYouMean(word string, words []string) string {
	if w := nearest(word, words); w != "" {
		return "did you mean " + w + "?"
	}
	return ""
}

// nearest returns the word that is most like the given one, or nothing if none is near.
func nearest(word string, words []string) string {
	if len(word) > 64 { // no key is nearly that long, and the distance costs the square
		return ""
	}
	best, distance := "", max(1, len(word)/3)+1
	for _, w := range words {
		if n := editDistance(strings.ToLower(word), w); n < distance {
			best, distance = w, n
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment).
func editDistance(a, b string) int {
	before := make([]int, len(b)+1) // the row before the last one
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = slices.Clone(last), row
	}
	return last[len(b)]
}
