// Package pmtud measures how long a packet may be on its way through a tunnel
// and lets the tunnel follow: Packetization Layer Path MTU Discovery for
// Datagram Transports (RFC 8899).
//
// Each end measures its own direction. It sends padded packets through the
// tunnel, past its device, and the other end says what arrived. Nothing depends
// on ICMP, which Azure's network does not send: what a router says is a hint
// that makes the next probe come sooner, and no more.
//
//	machine.go   pure: when to probe which size, and what the answers mean
//	ladder.go    pure: the search of a person who waits: many sizes at once
//	message.go   pure: probes and answers, in UDP on the overlay addresses
//	echo.go      pure: ICMP echo, for a peer that is not transitd
//	session.go   sockets, clock, and the tunnel that is told
//	respond.go   what the peer asks of us
//	measure.go   "transitctl pmtu": both directions, now
//
// Where we deviate from RFC 8899: a size takes effect when the peer has confirmed
// it, and only then (section 5.2 falls back to BASE_PLPMTU without asking, which
// would make an outage of the peer look like a narrow path); the probe timer is
// one second, as a probe's answer is the peer's only task (section 5.1.1 asks for
// 15 seconds where nothing is known of the peer), and the probes of one size do not
// wait for each other.
//
// A Session owns its goroutines: one for each socket, one for the machine. Close
// ends them and waits.
package pmtud
