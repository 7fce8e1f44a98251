// Package load is the benchmark's own packet generator and sink: UDP in
// batches, numbered, so that what is measured is the tunnel and not one system
// call a packet.
//
//	Run      sends at a rate, or as fast as it can, and counts what arrives
//	Search   finds the highest rate without loss (RFC 2544, section 26.1)
//	Latency  measures round trips at a steady rate
//	Send, Sink are the two halves of Run, for two machines
//
// A payload starts with a magic number, the flow, a sequence number and the time
// at which it should have been sent, 24 bytes; so the smallest IPv4 packet
// is 52 bytes.
//
// Sockets are opened inside the namespaces of their ends. Every function runs
// its goroutines, each on a thread of its own, to the end before it returns.
// Not here: TCP (iperf3 does that), what the packets go through.
package load
