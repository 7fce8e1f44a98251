// Package traffic is the benchmark's own packet generator and sink: UDP in
// batches, every packet numbered, so that what is measured is the path between
// two endpoints and not a system call per packet.
//
//	Run      sends a load and says what became of it
//	Search   finds the highest rate without loss, by RFC 2544, section 26.1
//	Latency  measures round trips at a fixed rate
//
// # Packets
//
// A payload is 16 bytes that say run, flow and sequence number, with a check,
// then a fixed pattern that the sink compares; so the smallest packet is 44
// bytes with IPv4 and 64 with IPv6. Sizes are always those of the whole IP
// packet. Packets are never fragmented: one that does not fit the path's MTU
// is an error.
//
// # Goroutines
//
// Functions return when all that they started has ended. Run has one thread that
// sends and one that receives, Latency has one that sends and receives and one
// that reflects; each is an operating system thread of its own. Sockets are
// opened inside their endpoint's namespace and used from these threads. A
// context that is done ends all of it within some tens of milliseconds.
//
//	load.go                what is to be sent: endpoints, sizes
//	packet.go, track.go    payloads; sequence numbers: loss, order, duplicates
//	pace.go, generate.go   when to send, sending
//	sink.go                receiving and counting
//	socket.go, mmsg.go     sockets, batched system calls
//	run.go, search.go, latency.go
//
// # Not here
//
// TCP (that is iperf3's), the path itself, CPU accounting, and pinning of threads
// to processors: the generator spins between bursts, so a machine with few processors
// takes that into account by comparing, not by absolute figures.
package traffic
