// Package pump moves packets between TUN devices and UDP sockets.
//
//	out, one goroutine per TUN queue:      TUN read → parse → MSS → segment → Codec.Seal → sendmmsg
//	in, one goroutine per receive socket:  recvmmsg → peer table → Codec.Open → ECN, MSS → TUN write
//
// Both run to completion: what reads a packet also writes it. On that way
// nothing allocates, locks, logs or hands a packet to another goroutine, and
// each packet that goes no further is counted under a tunnel.DropReason.
//
// An Endpoint is one underlay address and port. Its receivers are shared by all
// tunnels there; which one a datagram belongs to is looked up in an immutable
// table behind an atomic pointer. A Tunnel is a TUN device, the lanes by which
// it sends, and a codec.
//
// Goroutines: an Endpoint owns one per receiver, a Tunnel one per TUN queue and
// one that asks for the peer's link-layer address. Close ends them and waits.
package pump
