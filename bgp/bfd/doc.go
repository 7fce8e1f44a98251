// Package bfd is Bidirectional Forwarding Detection in asynchronous mode: RFC
// 5880, over one hop as RFC 5881 has it (inside a tunnel) or over several as
// in RFC 5883. It tells within a second, where BGP's hold timer takes three
// minutes, that packets no longer get through a tunnel.
//
// The core is pure: packet.go is the codec, machine.go, transmit.go and
// receive.go are the session of RFC 5880 section 6.8. They get bytes, the time
// and randomness passed in, so that a test plays an hour in a millisecond.
// socket.go, loop.go and sched.go are the edge.
//
// Start gives each session one goroutine on a thread of its own, which owns
// the session's sockets and is the only one to move the machine. Shutdown and
// Close end it and wait for it.
//
// Not here: the echo function, demand mode, authentication (the tunnel is the
// place for that), the choice of what happens when a session goes down, and
// any memory of sessions: two of them never meet, so that one to port 3784 and
// one to port 4784 of the same neighbor cannot be mixed up.
package bfd
