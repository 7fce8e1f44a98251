// Package udp has the outer sockets of the tunnels: Receivers, which share one
// address and port and read batches, and Lanes, which send to one peer from
// several source ports. ESP may do without UDP (RFC 4303): then there is one
// socket for its protocol, without ports, and the kernel neither joins nor
// segments, so each packet is one in a batch.
//
// All are bound to the underlay's network card and carry the mark by which the
// routing rules keep outer packets out of the tunnels. Outer packets are never
// fragmented: DF is set, and the kernel's idea of a path MTU, which anybody who
// can forge an ICMP message could lower, is not used (RFC 8899, section 3).
//
// Nothing blocks and the package starts no goroutine: tunnel/pump polls.
package udp
