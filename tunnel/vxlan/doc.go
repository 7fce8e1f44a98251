// Package vxlan turns IP packets into VXLAN payloads and back: RFC 7348, and
// VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe) as an option. It is pure: bytes in, bytes
// out; no sockets, no clock, no randomness, no logs, no allocation.
//
//	one UDP payload         | 8 VXLAN | 14 Ethernet | inner IP packet |      (VXLAN)
//	                        | 8 VXLAN-GPE           | inner IP packet |      (GPE)
//
// transitd routes, it does not bridge: the inner Ethernet header is synthesised
// (layer 3 over layer 2 VXLAN), between two MAC addresses that default to
// 02:00 followed by the IPv4 address of the endpoint. So that any RFC 7348 peer,
// above all `ip link add … type vxlan`, just works, the codec answers ARP (RFC 826)
// and Neighbor Discovery (RFC 4861) for our overlay addresses and learns the
// peer's MAC address from its messages, and only from those about the peer's own
// overlay addresses.
//
// Parts:
//
//	header.go    the eight octets, the Ethernet header, MAC addresses
//	codec.go     Config, New, Seal, Open: the path of every packet
//	neighbor.go  Control, Solicit: which message gets which answer
//	arp.go       the ARP message
//	nd.go        the ND messages and the checks of RFC 4861, section 7.1
//
// All reserved bits are sent as zero and ignored on receipt (RFC 7348, section 5).
//
// A Codec starts no goroutine. All its methods may be called at once from several:
// the only thing that changes, the peer's MAC address, is one atomic word, written
// by Control and read by Seal.
//
// Not here: the outer headers and their ECN, DSCP and source port (tunnel/pump and
// tunnel/udp, with pkg/packet), the check of the outer source address (the pump's
// table), when to solicit (the pump's timer), and multicast or any other replication:
// a tunnel has exactly two ends.
package vxlan
