// Package ike is IKEv2 (RFC 7296): one end of a tunnel's key exchange with one
// peer, as initiator and as responder, as a pure state machine. Messages, time
// and randomness go in; messages, pairs of SAs and events come out by Effects.
//
//	config.go    who we are and what we agree to; Effects
//	machine.go   the machine: where a message goes, what is due
//	sa.go        an IKE SA: its requests, one at a time
//	receive.go   what comes to it, and its answers, one at a time
//	initial.go   IKE_SA_INIT            cookie.go     against floods of them
//	authenticate.go  IKE_INTERMEDIATE and IKE_AUTH
//	child.go     CHILD SAs: offers, answers, keys     selectors.go  narrowing
//	rekey_child.go  replacing, making and deleting them, and what may cross
//	rekey_ike.go    the same for IKE SAs               settle.go     one of two
//	inform.go    INFORMATIONAL          status.go     what an operator sees
//	journal.go   what is logged, and how much of it
//
// There is one CHILD SA pair at a time, but for the moments in which it is
// replaced. What two ends do at the same moment is settled by the rules of RFC
// 7296, sections 2.8.1, 2.8.2 and 2.25; what those leave open (both ends begin,
// or both make a CHILD SA) by the same rule of the lowest nonce.
package ike
