// Package vxlan is the VXLAN codec of a tunnel between two IP hosts (RFC 7348)
// and its Ethernet-less relative VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe), with
// as much of ARP (RFC 826) and neighbor discovery (RFC 4861) as makes the other
// end's ordinary Ethernet device work.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|R|R|R|R|I|R|R|R|                    Reserved                   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|             VXLAN Network Identifier (VNI)    |    Reserved   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// Layer 3 mode: what is carried is IP. The Ethernet header between is made up:
// our MAC address and the peer's are 02:00 and the IPv4 address of the
// endpoint unless configured, and the peer's is corrected by what it answers.
//
// A Codec is pure but for one atomic word, the peer's MAC address, which
// Control writes and Seal reads. It starts no goroutine, reads no clock and
// never allocates. Not here: learning, flooding, several peers, VLANs.
package vxlan
