// Package speaker is a small BGP speaker for the nodes of the lab: Azure Route
// Server instances, ExpressRoute edges (MSEE), customer and AVS edges, and the
// naive NVA of the "no encapsulation" demonstration.
//
// It is written from the RFCs and shares no code with GoBGP, which the daemon
// uses, so that one bug cannot hide on both ends of a session. It speaks
// BGP-4 (RFC 4271) for IPv4 unicast over IPv4 between autonomous systems, with
// capabilities (RFC 5492), multiprotocol (RFC 4760), route refresh (RFC 2918),
// four-octet AS numbers (RFC 6793), communities (RFC 1997), large communities
// (RFC 8092) and revised error handling (RFC 7606).
//
// # Layers
//
//	message.go open.go update.go attribute.go …   the codec: bytes in, bytes out
//	path.go aspath.go                             what a route is
//	rib.go outbox.go                              Adj-RIB-In, best path, Adj-RIB-Out
//	conn.go peer.go fsm.go                        one connection, one neighbour
//	speaker.go                                    all of it behind New and Run
//	routeserver.go msee.go naive.go edge.go       ready-made roles: they only make a Config
//
// # Goroutines
//
// [Speaker.Run] owns all goroutines and returns when they are gone: the
// listener, the notifier that calls OnBest, and one owner per neighbour. The
// owner alone holds the neighbour's state and timers. Each of its connections
// has a reader and a writer, so the owner never blocks on a socket. The RIB is
// a plain structure behind one mutex, which is never held while anything
// waits: what a neighbour is to be told is put into its outbox, and its writer
// packs the outbox into UPDATE messages.
//
// # Not here
//
// IBGP, graceful restart, ADD-PATH, extended messages, MD5, BFD, and any use
// of IPv6 routes (they are ignored and counted). Nothing here touches the
// kernel's routing: the lab does that from OnBest.
package speaker
