// Package probe measures reachability between nodes of the lab: ping, UDP and
// TCP echo, traceroute, a steady flow that knows its gaps, and throughput. It
// needs no program on the machine.
//
// # Parts
//
//	ping.go    ICMP echo (RFC 792) with chosen size, DF and TTL
//	trace.go   which routers answer, hop by hop, from ICMP "time exceeded"
//	udp.go     UDP echo (RFC 862), and Flow: a steady stream that measures outages
//	tcp.go     TCP echo that compares every byte, and throughput to a discard service (RFC 863)
//	server.go  the services that the other end runs
//
// # Namespaces and goroutines
//
// A prober opens its socket inside the namespace that it is given and runs in
// the caller's goroutine; what it starts besides ends before it returns. The
// server runs in the namespace of its process.
//
// # Not here
//
// What a result means: the callers know what they expect. IPv6: the lab's
// fabric has none.
package probe
