// Package bugreport packs what a person needs to understand a node from afar
// into one tar.gz: answers of the daemon, facts of the kernel, the
// configuration. It leaves secrets out.
//
// A configuration names files for secrets and never holds them; still, whatever
// goes into the archive passes a Scrubber, which knows the contents of those
// files and removes them wherever they stand, and what looks like a secret in a
// configuration that is not valid. What cannot be collected is written down in
// the archive, and the rest goes on: a node in trouble is what this is for.
//
// There is no goroutine here, and nothing is kept between calls.
package bugreport
