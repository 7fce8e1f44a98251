// Package doctor says what is wrong with the machine that transitd runs on, or
// is to run on: kernel settings, the network card, firewall rules, other
// programs that take ports or delete routes, what a dead daemon left behind.
//
// Everything here is pure. Host has what was found on the machine (package
// machine below this one reads it), Node what the node is to be: from its
// configuration, from the daemon that runs, or nothing. Run takes both and gives
// the Report. A finding says what it breaks, and the command that mends it;
// some carry a Fix, a change that is safe to make at once. What could not be
// looked at is listed as such, never taken for a success.
//
// Not here: what Azure does with the packets (package audit), and printing
// (cmd/transitctl). The package starts no goroutine and keeps no state.
package doctor
