// Package streamtest makes random packet streams, sends them through tunnels
// and judges what comes out. Tests use it, of the packet path as pure functions
// (tunnel/gso) and of whole tunnels in namespaces (tunnel/pump); it knows no
// encapsulation, only two devices and the wire between them.
//
//	flow.go     packets of one 5-tuple, built by hand; pure
//	stream.go   several flows mixed, some as super packets; pure
//	compare.go  flow by flow, what was sent is what arrived; pure
//	device.go   packet sockets and a TUN device that hands over what another one received
//	run.go      both directions through a tunnel at once
//	judge.go    tshark's opinion of what was captured
package streamtest
