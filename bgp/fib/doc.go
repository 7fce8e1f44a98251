// Package fib decides which routes and rules the kernel holds, and keeps them
// there. The decision makes a loop impossible:
//
//	7000  fwmark M           → table underlay    outer packets see the card's gateway and pinned peers only
//	7001  fwmark M           → unreachable       … and can never be routed into a tunnel
//	7010  iif TUNNEL         → table site        what came out of a tunnel goes to this side …
//	7011  iif TUNNEL         → unreachable       … or nowhere: never into a tunnel again
//	7020  everything         → main              without its default: connected networks stay local
//	7025  everything         → table underlay    without its default: the pins hold for everybody
//	7030  not iif lo         → table remote      forwarded: what the other side announced, by the tunnel
//	7040  not iif lo         → table site        forwarded: what our Route Server announced, by the gateway
//	7050  iif lo             → table remote      the box's own packets, above all its ICMP errors, without defaults
//	7060  iif lo             → table site
//
// The longest match wins over remote and site together: a route of this side
// that a shorter one of the other side would hide stands in both tables.
//
// What a sibling sent, another NVA of our own site whose tunnels are down, goes by
// table relay instead, which is remote without the ways to siblings.
//
// Rule 7011 is split horizon in the forwarding plane: whatever BGP says, a
// packet crosses the tunnel once. Nothing learned goes into the main table, so
// the box's own traffic is not drawn into a tunnel by a default route.
//
// Plan and Diff are pure. A Keeper writes: it touches only what carries its
// protocol number, adopts what a predecessor left and removes the rest when it
// is told that BGP has converged (mark and sweep), and repairs within a second
// what another program removed. Keeper.Run is the one goroutine, the caller's.
//
// What must not happen in between is taken care of by order: a route is there
// before the rule that leads to it, and a rule goes before its routes.
package fib
