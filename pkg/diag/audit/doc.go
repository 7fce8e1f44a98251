// Package audit compares what Azure says with what transitd does: it reads the
// JSON of the az commands that show routes, peerings and network cards, and
// tells what would loop, be dropped or be missing, why, and which command
// mends it.
//
// Three steps, each pure. Read takes bytes and gives Azure: every document is
// recognised by its shape, as the CLI prints it or as the REST API answers it.
// FromDaemon and FromConfig give the Intent: who the node is, where its tunnels
// lead, what it announces. Run takes both and gives the Report. What cannot be
// checked because an input or a field is missing is listed as such; it is never
// taken for a success.
//
// The facts that the checks rest on are in docs/audit.md, one section a finding.
//
// Not here: asking Azure (package live below this one) and printing
// (cmd/transitctl). The package starts no goroutine and keeps no state.
package audit
