// Package fabric is the lab's model of Azure's software-defined network: the
// part that forwards packets, and that decides where they go.
//
// # What makes it Azure
//
// Every NIC is a veth whose other end is in one namespace, the fabric. A
// packet is routed by the effective routes of the NIC that it came from,
// whatever next hop or MAC address the guest used: there is one kernel routing
// table per NIC, chosen by an iif rule, the fabric accepts frames for any MAC
// address, answers ARP for every address with 12:34:56:78:9a:bc, and hides the
// guests from each other below IP.
//
// # Parts
//
//	effective.go  pure: which routes a NIC has (longest prefix; user-defined,
//	              BGP, system; VNet and peering prefixes beat more specific BGP)
//	program.go    pure: the same as kernel routes, one table per NIC
//	agent.go      the "sdn" process: hears from the Route Server instances what
//	              they learned, waits as Azure does, programs all tables
//	kernel_*.go   netlink and nftables: devices, rules, routes, drops, counters
//	client.go     what the Route Servers and the command line say to the agent
//
// # Goroutines
//
// [Agent.Run] owns the listener, one goroutine per connection and the loop that
// programs; it returns when all are gone. Nothing else here starts any.
//
// # Not here
//
// BGP (package speaker), namespaces and processes (package lab). IPv6: a Route
// Server has none. Network address translation towards the internet: an NVA
// masquerades by its own rules, and the internet answers to the NIC's address.
// Security groups. Unlike Azure's, this fabric decrements the TTL and answers
// with "time exceeded" from the subnet's .1, so that a loop can be seen.
package fabric
