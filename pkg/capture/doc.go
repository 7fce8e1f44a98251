// Package capture records packets of a network device as pcapng.
//
//	filter.go   pure: the words of tcpdump's filter language that are understood
//	program.go  pure: a filter as a classic BPF program, which the kernel runs
//	socket.go   a packet socket (packet(7)): what comes, when, by which direction
//	run.go      the bounds, and pcapng
//
// Nothing here needs libpcap. The kernel filters before it copies, a packet is
// taken once, and what nobody takes in time is counted as dropped.
package capture
