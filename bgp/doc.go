// Package bgp speaks BGP-4 (RFC 4271, 4760, 6793, 1997, 8092, 2918) with the
// node's Route Servers and with the NVAs at the far ends of its tunnels, and
// carries routes from one side to the other by the rules of bgp/policy.
//
// # How a route goes through
//
//	Route Server instance ─┐                              ┌─ NVA behind tr0
//	                       │ GoBGP server "hub-ars"       │ GoBGP server "tr0"
//	                       │   refuses to pass anything   │   the same
//	                       ▼   on, only reports it        ▼
//	               Adj-RIB-In (ours, by session, from events only)
//	                       │ policy.Import                │ policy.Import
//	                       └──────────► policy.Select ◄───┘
//	                                      │       └──► OnRoutes: what the kernel should hold
//	                      policy.Export per neighbor
//	                                      │ difference to what was announced
//	               GoBGP server of that neighbor: local paths, to all its sessions
//
// GoBGP speaks the protocol and nothing else. Every configured neighbor has a
// GoBGP server of its own (a Route Server's two instances are two sessions of
// one server, so they get the same routes by construction; they cannot drift).
// Its import policy rejects everything that is not originated locally, its
// export policy passes nothing else: no route can go from one session to
// another inside GoBGP, whatever it holds. What is announced is originated
// anew from our pipeline, with a clean AS path. A server per neighbor also lets
// a tunnel come and go by reload with its own listening address, without a
// byte on the other sessions: GoBGP fixes its listening addresses at start.
//
// GoBGP's tables are never asked (that blocks its sessions): the Adj-RIB-In
// here is kept from its events, and flushed when a session leaves Established.
//
// # A session comes back quickly
//
// GoBGP waits 5 s in Idle after every loss and refuses connections meanwhile,
// and it refuses the new connection of a peer that lost its state without a
// FIN (killed behind a tunnel). Both are cut short by taking the peer out and
// in again, see session.go. Graceful restart is never negotiated: a Route
// Server has none, and towards an NVA a stale route is worse than none.
//
// # Goroutines
//
// Run is the owner: it alone changes the state, calls GoBGP, and calls
// Options.OnRoutes. GoBGP's watchers hand it events through one channel and
// block while it is busy (GoBGP queues without bound, so the owner does no
// slow work). Views (Sessions, Received, …) read under a mutex that is never
// held across a call into GoBGP. Run returns when its servers have stopped.
//
// # What is not here
//
// The kernel's tables (bgp/fib), tunnels, the configuration file. Route
// budget and pacing (between the difference and GoBGP), BFD, several NVAs a
// side, MD5 and GTSM are not built yet.
package bgp
