// Package packet reads and changes IP packets in place: headers (RFC 791,
// 8200, 9293, 768), checksums (RFC 1071, 1624), the MSS option, ECN through a
// tunnel (RFC 6040), and the ICMP errors of a router (RFC 1812, 4443).
//
// It is for the packet path: nothing allocates, nothing keeps a reference to
// its arguments, every length that a packet claims is held against the bytes
// that are there. It has no goroutine, no clock and no socket.
//
// What it is not: a general decoder. Diagnostics and tests use gopacket.
package packet
