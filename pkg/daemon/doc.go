// Package daemon assembles a node from a configuration: it translates the file
// for the parts (bgp, bgp/fib, tunnel/pump, pkg/control), starts them in the right
// order, changes them while they run, and takes everything back at the end.
//
//	pkg/config ──► Plan (plan.go, pure) ──► apply.go, reload.go ──► parts
//	                 │                            │
//	                 └── compare (diff.go, pure): what a reload has to do
//
// Everything that can refuse a configuration happens in the plan, which touches
// nothing; everything that changes the machine happens in apply and reload. A
// Plan is a value, so a reload is the difference of two plans: what is deeply
// equal is not touched. The log level, tunnels, BGP neighbours, originations,
// the policy, the own ASN and the site change while running; the node's name,
// the socket, the underlay's card and addresses, the tables, the mark, the
// protocol number, the rules' priority and the log's format do not: such a reload is
// refused as a whole and says so.
//
// # Goroutines
//
// Run owns an errgroup with one task a part: the FIB keeper, the BGP speaker,
// the control server, the web server, the signal loop and the supervisor, which once a second
// retries what failed, sweeps stale routes once BGP has converged, and makes
// tunnels again whose device somebody deleted. The first error stops all. Run
// returns when all have ended and all that was made is removed. Tunnels have
// loops of their own, which Tunnel.Close waits for.
//
// Locks, in the order in which they are taken: Daemon.change (reload, rebuild,
// stop), tunnelSet.mu, endpoints.mu; and routeTable.mu, which the speaker's
// goroutine takes in OnRoutes, so nobody who holds it may call the speaker
// except for Converged, which does not wait for that goroutine.
//
// # Stop and crash
//
// SIGTERM: routes are withdrawn and sessions ended while packets still flow,
// then the control socket closes, the tunnels go, sysctls get their old values,
// routes and rules go, and last the lock's file. After kill -9 the kernel has removed the
// tunnels; rules and routes out of the card stay and are adopted or swept by
// the next start. The old values of sysctls stand in the lock's file
// meanwhile.
//
// Capabilities are given up after the start except for CAP_NET_ADMIN,
// CAP_NET_RAW and CAP_NET_BIND_SERVICE, on all threads, with no_new_privs.
//
// Not here: protocols, packets and netlink (except for the facts of the card,
// underlay.go). What happens is told to pkg/events in words (chronicle.go); the web
// server (pkg/observe, kept where the configuration wants it by observe.go) only asks.
package daemon
