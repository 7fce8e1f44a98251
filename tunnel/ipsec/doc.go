// Package ipsec is an IPsec tunnel as the pump carries it: it gives the machine of
// tunnel/ike its messages, its clock and its randomness, and lets it key the data
// plane of tunnel/esp.
//
//	device.go  the codec, and the goroutine that speaks IKE
//	gate.go    which messages the loops let through to it
//	port500.go the socket for peers that begin there
//
// IKE and ESP share one UDP port, 4500 as a rule (RFC 3948). We begin there; a
// peer that begins at port 500 is answered there, and goes on at 4500, because
// NAT detection tells it that there is one. Raw ESP is a protocol of its own
// beside UDP: then all of IKE is at port 500.
package ipsec
