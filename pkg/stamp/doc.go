// Package stamp measures the quality of a path: round trip, loss and jitter, each
// direction by itself where that can be known. It speaks the Simple Two-Way
// Active Measurement Protocol (RFC 8762), unauthenticated mode, to a peer that
// does, and ICMP echo to one that does not.
//
//	packet.go   pure: the test packets of RFC 8762, and reflecting them
//	window.go   pure: what the last probes say
//	prober.go   sockets that send probes and take answers
//	session.go  one tunnel: a prober that never ends, and the reflector
//
// The reflector is stateful (RFC 8762, section 4): it numbers what it sends, so
// the sender sees in which direction a packet was lost. Delays of one direction
// are not claimed, because clocks differ; jitter does not need them to agree.
//
// Not here: authentication (the tunnel encrypts, or its peer is trusted), the TLVs of RFC 8972.
package stamp
