// Package keys is IKEv2's cryptography: key exchanges, the keys that follow from
// them, and the protection of messages.
//
//	exchange.go  Diffie-Hellman (RFC 3526, 5903, 8031) and ML-KEM
//	modp.go      the groups modulo a prime
//	prf.go       prf and prf+ (RFC 7296, section 2.13)
//	schedule.go  SKEYSEED, the keys of an IKE SA and of a CHILD SA
//	cipher.go    one direction's Encrypted payloads and fragments
//	keylog.go    keys as tshark reads them
//
// Randomness is passed in, with one exception that exchange.go names. Nothing
// here is safe for use by several goroutines at once. Secrets are cleared by
// Wipe where they are in our hands; copies inside of the standard library and
// of math/big are the collector's.
package keys
