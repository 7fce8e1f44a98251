// Package health probes whether something beyond the node works, so that a
// route is originated only while it does: a node tells its site 0.0.0.0/0 only
// as long as the firewall or the exit behind it answers.
//
// A Probe checks one thing (an HTTP URL, a TCP port or an address that answers
// to ping) at an interval, and calls OnChange when it goes up or down. One good
// or bad check changes nothing: Successes good ones in a row make it up,
// Failures bad ones in a row make it down. It starts as down, because a default
// route that leads nowhere does more harm than one that comes a little later.
//
// The package decides nothing about routes: who owns the probe does that. It
// also knows no BGP, and the checks have no state between them: every one has a
// connection or socket of its own, since an old connection may live on through
// a path that no new one would find.
package health
