// Package hops finds the routers on the way to an address: ICMP echo requests
// with a TTL of one, two, three, and whoever says that it ran out (RFC 792; RFC
// 4443, section 3.3).
//
//	message.go  pure: requests and what comes back
//	find.go     the socket and the clock
//
// There is no goroutine that outlives a call.
package hops
