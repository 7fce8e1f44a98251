// Package config reads the one configuration file of a node: strict YAML in,
// a plain typed Config out, or every mistake at once.
//
// It works in three steps. The parser (github.com/goccy/go-yaml, its syntax
// tree only) gives nodes with positions. The decoder walks the tree and the
// types of types.go side by side: unknown and repeated keys, missing keys,
// wrong types, ranges and enumerations are found here, and defaults are filled
// in. The validator then looks at the meaning: reserved autonomous system
// numbers, overlapping prefixes, names that clash, what the policy would never
// announce. A key that the decoder refused is left out of the validator's
// sight, so one mistake is told once.
//
// All mistakes are collected as Errors, sorted by place, and printed as a
// compiler prints them (file:line:column: path: message, then a hint). So
// "transitd check", "transitd run" and a reload say the same.
//
// types.go is the only place for keys, ranges, defaults and their
// documentation. Schema and docs/configuration.md are made from it.
//
// Not here: reading the machine (the network card's address, routes, whether an
// interface exists) and applying anything; pkg/daemon does that. The checks
// that need the card's subnet are offered as CheckUnderlay. Secrets are never
// values of this file; this version has none. The package starts no goroutine
// and keeps no state.
package config
