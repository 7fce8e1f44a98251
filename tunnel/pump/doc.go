// Package pump moves packets between TUN devices and UDP sockets, or sockets of
// another protocol of IP.
//
//	out:  TUN read → parse → MSS → segment → Codec.Seal → sendmmsg
//	in:   recvmmsg → peer table → Codec.Open → ECN, MSS → coalesce → TUN write
//
// A loop, one for each queue, does both and runs to completion: what reads a
// packet also writes it. On that way nothing allocates, locks, logs or hands a
// packet to another goroutine, and each packet that goes no further is counted
// under a tunnel.DropReason.
//
//	endpoint.go  an underlay address and port: receivers, loops, the table of tunnels
//	tunnel.go    a TUN device, the lanes by which it sends, a codec
//	loop.go      one queue; in.go and out.go are its halves, bell.go its sleep
//	toobig.go    what does not fit
//	loopwatch.go packets that come round again
//	mtu.go       the MTU while it runs, and probes of the path
//
// The table is immutable and behind an atomic pointer. Who removes a tunnel
// publishes a new one and waits until every loop has adopted it: then nobody
// touches the tunnel any more.
//
// Goroutines: an Endpoint owns its loops, a Tunnel the one that asks for the
// peer's link-layer address. Close ends them and waits. Loops wait in system
// calls that the Go scheduler does not know of while packets flow; a process with
// many loops should have as many Ps as loops (GOMAXPROCS).
package pump
