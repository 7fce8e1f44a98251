// Package auth is how the ends of an IKE SA prove who they are: by a pre-shared
// key, by a signature and a certificate, and what it is that they sign.
//
//	identity.go     identities: as text, on the wire, in a certificate
//	octets.go       what AUTH covers (RFC 7296, section 2.15; RFC 9242)
//	signature.go    signing and verifying (RFC 7427, and the methods before it)
//	algorithm.go    the algorithm identifiers that RFC 7427 sends
//	certificate.go  chains, up to given authorities, at a given time
//
// Files, clocks and what to do when a proof fails are the caller's.
package auth
